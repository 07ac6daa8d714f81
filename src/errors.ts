/**
 * What may go wrong, in three kinds.
 *
 * A *refusal* is part of the filesystem's contract: a program asked for something POSIX says no to. It is an
 * `FsError`, it becomes an errno, and nobody logs it. A `UsageError` or `SessionError` is for the person at the
 * terminal: one line of what and why, one line of remedy. Anything else that is thrown is a *bug*: it is logged
 * once, answered with EIO, and taints the session.
 */
import { constants } from 'node:os';

export type ErrnoName = keyof typeof constants.errno;

const NAMES = new Map<number, ErrnoName>(
  Object.entries(constants.errno).map(([name, value]) => [value, name as ErrnoName]),
);

/** A refusal, named as errno(3) names it. */
export class FsError extends Error {
  override readonly name: string = 'FsError';
  readonly code: ErrnoName;

  constructor(code: ErrnoName, detail?: string) {
    // A stack costs microseconds and a refusal has no reader, so none is taken.
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(detail === undefined ? code : `${code}: ${detail}`);
    Error.stackTraceLimit = limit;
    this.code = code;
  }

  /** Positive, as in `errno.h`; the wire wants it negated. */
  get errno(): number {
    return constants.errno[this.code];
  }
}

/** What the message of an `UpperError` begins with, also where only that is left of it. */
export const UNUSABLE_UPPER = 'the upper cannot be used: ';

/** An upper is damaged, or on a filesystem that cannot hold one. */
export class UpperError extends FsError {
  constructor(code: ErrnoName, detail: string) {
    super(code, detail);
    this.message = `${UNUSABLE_UPPER}${detail}`;
  }
}

/**
 * Nothing is wrong, but what was asked for is still being made on another thread, which writes to the session's eventfd
 * when `isOver`. Whoever meets this has changed nothing, and asks again.
 */
export class NotYet extends Error {
  override readonly name: string = 'NotYet';
  readonly job: { readonly isOver: boolean; wait(): void };

  constructor(job: { readonly isOver: boolean; wait(): void }) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super('it is being made ready');
    Error.stackTraceLimit = limit;
    this.job = job;
  }
}

/** The result of a native call: passes what is >= 0 through and turns -errno into a refusal. */
export function check(result: number, detail?: string): number {
  if (result >= 0) return result;
  throw new FsError(NAMES.get(-result) ?? 'EIO', detail);
}

/** The positive errno a thrown value stands for, or `undefined` when it is a bug. */
export function errnoOf(thrown: unknown): number | undefined {
  return thrown instanceof FsError ? thrown.errno : undefined;
}

/** The command cannot do what was asked: exit code 1. `remedy` says in one line what to do about it. */
export class SessionError extends Error {
  override readonly name: string = 'SessionError';
  readonly remedy: string | undefined;

  constructor(message: string, remedy?: string, options?: ErrorOptions) {
    super(message, options);
    this.remedy = remedy;
  }
}

/** The command was called wrongly: exit code 2. */
export class UsageError extends SessionError {
  override readonly name: string = 'UsageError';
}
