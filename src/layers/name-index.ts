/**
 * Which of several merged directories have a name: so that it is not looked for in each of the many above the bottom one,
 * again and again.
 */
import { LRUCache } from 'lru-cache';
import type { Name } from './layer.ts';

/** Names looked for in vain before all are read: a listing costs as much as some of these. */
const MISSES = 8;
/** Names that are kept, of all directories together; directories with more than half of them are not read for it. */
const NAMES_MAX = 200_000;

/** One of several merged directories that has a name. */
export interface Holder {
  /** Which one. */
  readonly index: number;
  /** It has a directory there: no whiteout, and nothing else that ends what is merged. */
  readonly isDirectory: boolean;
}

/** What a directory has, as it was listed. */
export interface Listed {
  readonly names: readonly Name[];
  /** DT_* of each name. */
  readonly types: Uint8Array;
}

const DT_DIR = 4;
const NONE: readonly Holder[] = [];

/** Directories that are merged are told apart from others by the topmost. */
export class NameIndex {
  /** Of each name who has it, with a whiteout too, topmost first. */
  readonly #holders: LRUCache<object, ReadonlyMap<Name, readonly Holder[]>> = new LRUCache({
    maxSize: NAMES_MAX,
    sizeCalculation: ({ size }) => size + 16,
  });
  /** How often a name was looked for in vain; not a number: it is not worth it. */
  readonly #misses: WeakMap<object, number> = new WeakMap();

  /** Those above the bottom one that have a name; undefined when that is not known. */
  holders(top: object, name: Name): readonly Holder[] | undefined {
    const holders = this.#holders.get(top);
    return holders === undefined ? undefined : (holders.get(name) ?? NONE);
  }

  /** A name was not in all of the directories above the bottom one. @returns whether to `keep` theirs. */
  missed(top: object): boolean {
    const misses = (this.#misses.get(top) ?? 0) + 1;
    this.#misses.set(top, misses);
    return misses === MISSES;
  }

  /** @param listings  of all directories above the bottom one, topmost first. */
  keep(top: object, listings: readonly Listed[]): void {
    if (listings.reduce((sum, { names }) => sum + names.length, 0) > NAMES_MAX / 2) {
      this.#misses.set(top, Number.NaN);
      return;
    }
    const holders = new Map<Name, Holder[]>();
    for (const [index, { names, types }] of listings.entries()) {
      const other: Holder = { index, isDirectory: false };
      const directory: Holder = { index, isDirectory: true };
      for (const [i, name] of names.entries()) {
        const holder = types[i] === DT_DIR ? directory : other;
        const above = holders.get(name);
        if (above === undefined) holders.set(name, [holder]);
        else above.push(holder);
      }
    }
    this.#holders.set(top, holders);
  }
}
