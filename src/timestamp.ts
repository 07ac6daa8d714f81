/** Times that are given instead of now. */
import { UsageError } from './errors.ts';

/** The last second of the year 9999: later ones OSTree and the dates of images cannot say. */
const SECONDS_MAX = 253_402_300_799;

/**
 * Seconds since 1970, as a number or in digits.
 *
 * @throws UsageError it is none, or beyond the year 9999.
 */
export function parseTimestamp(given: string | number): number {
  const seconds = /^\d+$/.test(String(given)) ? Number(given) : Number.NaN;
  if (seconds <= SECONDS_MAX) return seconds;
  throw new UsageError(
    Number.isNaN(seconds)
      ? `'${given}' is no number of seconds since 1970`
      : `${given} seconds after 1970 is beyond the year 9999`,
    'give seconds since 1970, such as the output of: date +%s',
  );
}
