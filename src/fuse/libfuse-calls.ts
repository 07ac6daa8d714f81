/** Calls that libfuse makes through the npm package `fuse-native`: each is counted, and answered whatever happens in it. */
import { errnoOf, NotYet } from '../errors.ts';
import { EIO } from './abi.ts';

/** The first argument is an errno, negative, or what read and write have moved. */
export type Done = (result: number, ...values: unknown[]) => void;

export type Operation = (...args: never[]) => unknown;

/** Operations that change nothing; counted apart, so that `mutations` stands still without a change. */
const LOOKING = new Set([
  'getattr',
  'readdir',
  'readlink',
  'open',
  'release',
  'read',
  'statfs',
  'fsync',
  'fsyncdir',
  'getxattr',
  'listxattr',
]);

export class Calls {
  readonly #counts: Map<string, number> = new Map();
  readonly #log: (message: string) => void;
  #taint: string | undefined;

  /** @param log  One line for the session's log. */
  constructor(log: (message: string) => void) {
    this.#log = log;
  }

  /** The first bug met, in one line. */
  get taint(): string | undefined {
    return this.#taint;
  }

  /** Requests served, by operation. */
  get requests(): Record<string, number> {
    return Object.fromEntries(
      [...this.#counts].map(([name, count]) => [name.toUpperCase(), count]),
    );
  }

  /** Requests served that may have changed something. */
  get mutations(): number {
    return [...this.#counts].reduce((sum, [name, n]) => (LOOKING.has(name) ? sum : sum + n), 0);
  }

  /** Carries out one operation. @returns its result, or a negative errno, never throws. */
  run<T>(name: string, operation: () => T): { value: T } | { errno: number } {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    for (;;) {
      try {
        return { value: operation() };
      } catch (error) {
        if (error instanceof NotYet) {
          error.job.wait();
          continue;
        }
        const errno = errnoOf(error);
        if (errno !== undefined) return { errno: -errno };
        this.#report(name, error);
        return { errno: -EIO };
      }
    }
  }

  /** The same operations with a callback as their last argument, which gets what they return, or their errno. */
  answered(table: Record<string, Operation>): Record<string, (...args: unknown[]) => void> {
    return Object.fromEntries(
      Object.entries(table).map(([name, operation]) => [
        name,
        (...args: unknown[]) => {
          const done = args.pop() as Done;
          const outcome = this.run(name, () => operation(...(args as never[])));
          if ('errno' in outcome) done(outcome.errno);
          // What read and write have moved takes the place of the errno.
          else if (name === 'read' || name === 'write') done(outcome.value as number);
          else if (Array.isArray(outcome.value)) done(0, ...(outcome.value as unknown[]));
          else done(0, outcome.value);
        },
      ]),
    );
  }

  #report(name: string, error: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    if (this.#taint === undefined) {
      this.#log(`bug in ${name.toUpperCase()}, answered EIO: ${stack}`);
    }
    this.#taint ??= `${name.toUpperCase()} met a bug: ${stack.split('\n', 1)[0]}`;
  }
}
