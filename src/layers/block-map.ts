/**
 * Which arena block holds each block of a file: a sparse page table.
 *
 * A file's blocks are grouped in regions of 512 (2 MiB), each a plain array that is as long as it needs to be, so that a
 * small file costs little and a huge sparse one costs what it holds.
 */
const REGION = 512;

/** The block is not here: it is the lower file's, or a hole beyond what the lower file gives. */
export const ABSENT = 0;
/** The block reads as zeros whatever the lower file has there. */
export const HOLE = -1;

export class BlockMap {
  readonly #regions: Map<number, number[]> = new Map();
  /** Blocks of the arena that are held. */
  held = 0;

  /** ABSENT, HOLE, or the number of an arena block. */
  get(index: number): number {
    const region = this.#regions.get(Math.floor(index / REGION));
    return region?.[index % REGION] ?? ABSENT;
  }

  set(index: number, value: number): void {
    const at = Math.floor(index / REGION);
    let region = this.#regions.get(at);
    if (region === undefined) {
      if (value === ABSENT) return;
      region = [];
      this.#regions.set(at, region);
    }
    const slot = index % REGION;
    while (region.length < slot) region.push(ABSENT);
    const before = region[slot] ?? ABSENT;
    if (before > 0) this.held--;
    if (value > 0) this.held++;
    region[slot] = value;
  }

  clone(): BlockMap {
    const copy = new BlockMap();
    for (const [at, region] of this.#regions) copy.#regions.set(at, [...region]);
    copy.held = this.held;
    return copy;
  }

  /** The first block at or after `from`, and before `to`, that is not ABSENT; `to` when there is none. */
  nextPresent(from: number, to: number): number {
    let index = from;
    while (index < to) {
      const at = Math.floor(index / REGION);
      const region = this.#regions.get(at);
      const end = Math.min(to, (at + 1) * REGION);
      if (region === undefined) {
        // A sparse file may have a very long way to the next region: ask the regions themselves.
        if (end < to && this.#regions.size < (to - index) / REGION) {
          return this.#nextBySearch(index, to);
        }
        index = end;
        continue;
      }
      for (; index < end; index++) {
        if ((region[index % REGION] ?? ABSENT) !== ABSENT) return index;
      }
    }
    return to;
  }

  /** Drops every block from `from` on, telling `free` the arena blocks among them, in file order. */
  truncate(from: number, free: (block: number) => void): void {
    const first = Math.floor(from / REGION);
    for (const at of this.#sortedRegions()) {
      if (at < first) continue;
      const region = this.#regions.get(at) ?? [];
      const keep = at === first ? from % REGION : 0;
      for (const block of region.slice(keep)) {
        if (block <= 0) continue;
        this.held--;
        free(block);
      }
      if (keep === 0) this.#regions.delete(at);
      else region.length = Math.min(region.length, keep);
    }
  }

  /** Every arena block held, with its place in the file, in file order. */
  *blocks(): Generator<readonly [index: number, block: number]> {
    for (const at of this.#sortedRegions()) {
      const region = this.#regions.get(at) ?? [];
      for (let slot = 0; slot < region.length; slot++) {
        const block = region[slot] ?? ABSENT;
        if (block !== ABSENT) yield [at * REGION + slot, block];
      }
    }
  }

  #sortedRegions(): number[] {
    return [...this.#regions.keys()].sort((a, b) => a - b);
  }

  #nextBySearch(from: number, to: number): number {
    for (const at of this.#sortedRegions()) {
      if ((at + 1) * REGION <= from) continue;
      const region = this.#regions.get(at) ?? [];
      for (let slot = Math.max(0, from - at * REGION); slot < region.length; slot++) {
        if (at * REGION + slot >= to) return to;
        if ((region[slot] ?? ABSENT) !== ABSENT) return at * REGION + slot;
      }
    }
    return to;
  }
}
