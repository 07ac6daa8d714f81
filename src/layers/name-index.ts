/**
 * Which names directories have that are merged with others below them: so that a name of the bottom one is not looked for
 * in each of the many above it, again and again.
 */
import { LRUCache } from 'lru-cache';
import type { LowerLayer, Name } from './layer.ts';

/** Names looked for in vain before all are read: a listing costs as much as some of these. */
const MISSES = 8;
/** Names that are kept, of all directories together; a directory with more than half of them is not read for it. */
const NAMES_MAX = 200_000;

export class NameIndex {
  readonly #names: LRUCache<object, ReadonlySet<Name>> = new LRUCache({
    maxSize: NAMES_MAX,
    sizeCalculation: ({ size }) => size + 16,
  });
  /** How often a directory was asked in vain. */
  readonly #misses: WeakMap<object, number> = new WeakMap();

  /** Whether a directory is known to have no such name, not even a whiteout. */
  lacks(dir: object, name: Name): boolean {
    return this.#names.get(dir)?.has(name) === false;
  }

  /** A name was not there. */
  missed(layer: LowerLayer<object>, dir: object): void {
    const misses = (this.#misses.get(dir) ?? 0) + 1;
    this.#misses.set(dir, misses);
    if (misses === MISSES) this.keep(dir, layer.entries(dir).names);
  }

  /** All names of a directory. */
  keep(dir: object, names: readonly Name[]): void {
    if (names.length <= NAMES_MAX / 2) this.#names.set(dir, new Set(names));
    else this.#misses.set(dir, Number.NEGATIVE_INFINITY);
  }
}
