/** What went wrong, as words and an exit code, for all programs of this package; and which version of it this is. */
import { readFileSync } from 'node:fs';
import { SessionError, UsageError } from '../errors.ts';
import type { BusyError, Holder } from '../index.ts';

/** Done; refused or failed; called wrongly. */
export const EXIT = { done: 0, failed: 1, misused: 2 } as const;

export interface Failure {
  message: string;
  remedy?: string | undefined;
  code: number;
  /** Of a busy session: who holds it; the message names them for people. */
  holders?: Holder[];
}

/** One line of what and why, one of remedy. */
export function explainError(error: unknown): Failure {
  if (error instanceof SessionError) {
    const { message, remedy } = error;
    const code = error instanceof UsageError ? EXIT.misused : EXIT.failed;
    // By its shape: its class comes with the library, which may be the very thing that cannot be loaded.
    return 'holders' in error
      ? { message, remedy, code, holders: (error as BusyError).holders }
      : { message, remedy, code };
  }
  const bug = error instanceof Error ? error : new Error(String(error));
  const isDebugging = process.env['OSTREE_TS_DEBUG'] !== undefined;
  return {
    message: `unexpected: ${bug.message}`,
    remedy: isDebugging ? bug.stack : 'this is a bug in ostree-ts; OSTREE_TS_DEBUG=1 shows where',
    code: EXIT.failed,
  };
}

/** package.json lies beside build/, wherever the package lies. */
export function version(): string {
  const url = new URL('../../../package.json', import.meta.url);
  const parsed: unknown = JSON.parse(readFileSync(url, 'utf8'));
  return typeof parsed === 'object' && parsed !== null && 'version' in parsed
    ? String(parsed.version)
    : 'unknown';
}
