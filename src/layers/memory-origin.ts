/** What a changed file of the memory upper still shows of the file that it was: the first bytes of it, up to an end. */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { Segments } from './layer.ts';
import type { LowerRef } from './upper.ts';

const SEEK_DATA = 3;

/** Only ever used within a call. */
const segments: Segments = new Segments();

/** What is to be seen of a range: the origin's bytes before `end`, and zeros from there on. */
export function readOrigin(
  origin: LowerRef | undefined,
  end: number,
  offset: number,
  length: number,
  into: Segments,
): void {
  const visible = Math.max(0, Math.min(length, end - offset));
  if (visible > 0) origin?.layer.read(origin.node, offset, visible, into);
  into.add(-1, 0, length - visible);
}

/** The same, as bytes: fills `into`. */
export function fetchOrigin(
  native: Native,
  origin: LowerRef | undefined,
  end: number,
  offset: number,
  into: Uint8Array,
): void {
  segments.clear();
  readOrigin(origin, end, offset, into.length, segments);
  into.fill(0);
  let filled = 0;
  for (let i = 0; i < segments.count; i++) {
    const fd = segments.values[3 * i] ?? -1;
    const from = segments.values[3 * i + 1] ?? 0;
    const length = segments.values[3 * i + 2] ?? 0;
    if (fd >= 0) check(native.pread(fd, into.subarray(filled, filled + length), from));
    filled += length;
  }
}

/** The first data or hole of what is shown in [at, stop); `stop` when there is none. */
export function seekOrigin(
  origin: LowerRef | undefined,
  end: number,
  at: number,
  stop: number,
  whence: number,
): number {
  const shown = Math.min(stop, end);
  if (at >= shown || origin === undefined) return whence === SEEK_DATA ? stop : at;
  let found: number;
  try {
    found = origin.layer.seek(origin.node, at, whence);
  } catch (error) {
    if (!(error instanceof FsError) || error.code !== 'ENXIO') throw error;
    found = stop;
  }
  if (found < shown) return found;
  // Beyond what the origin shows there are only zeros.
  return whence === SEEK_DATA ? stop : shown;
}
