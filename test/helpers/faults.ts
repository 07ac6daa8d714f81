/** A host that fails where it is told to: the addon, with every call that changes something counted, named and refusable. */
import { native } from '../../src/native.ts';
import type { Native } from '../../src/native.ts';

const O_CREAT = 0o100;

/** Calls that change something on the host. */
const CHANGING = new Set<string | symbol>([
  'cloneFile',
  'copyRange',
  'fallocate',
  'fchmodat',
  'fchownat',
  'fsync',
  'ftruncate',
  'linkat',
  'mkdirat',
  'mknodat',
  'openBeneath',
  'pwriteRange',
  'removexattr',
  'renameat2',
  'setxattr',
  'symlinkat',
  'unlinkat',
  'utimensat',
]);

export class FaultyHost {
  /** The addon, as layers use it. */
  readonly native: Native;
  /** What changed something since the last `arm`, in order: `renameat2 a -> b`. */
  steps: string[] = [];
  #at = 0;
  #strike: () => number = () => 0;
  #ended: string | undefined;

  constructor() {
    this.native = new Proxy(native, {
      get: (addon, name) => {
        const call = addon[name as keyof Native] as (...args: unknown[]) => unknown;
        if (!CHANGING.has(name)) return call;
        return (...args: unknown[]) => {
          if (name === 'openBeneath' && (Number(args[2]) & O_CREAT) === 0) return call(...args);
          if (this.#ended !== undefined) throw new Error(this.#ended);
          const words = args.filter((arg) => typeof arg === 'string');
          this.steps.push([String(name), ...words].join(' '));
          return this.steps.length === this.#at ? this.#strike() : call(...args);
        };
      },
    });
  }

  /** Lets the step of this number, from 1 on, do `strike` instead, which gives its result; 0 for none. */
  arm(at: number, strike: () => number = () => 0): void {
    this.steps = [];
    this.#at = at;
    this.#strike = strike;
  }

  /** Lets nothing happen any more from this step on, as if the process had ended: every step throws. */
  end(at: number, message: string): void {
    this.arm(at, () => {
      this.#ended = message;
      throw new Error(message);
    });
  }
}
