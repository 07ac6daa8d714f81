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

/** Every region that is nothing but holes: a huge sparse file may have millions of them. */
const HOLES: readonly number[] = Array.from({ length: REGION }, () => HOLE);

type Free = (block: number) => void;

export class BlockMap {
  readonly #regions: Map<number, readonly number[]> = new Map();
  /** Blocks of the arena that are held. */
  held = 0;
  /** There may be holes. */
  hasHoles = false;

  /** ABSENT, HOLE, or the number of an arena block. */
  get(index: number): number {
    const region = this.#regions.get(Math.floor(index / REGION));
    return region?.[index % REGION] ?? ABSENT;
  }

  set(index: number, value: number): void {
    const region = this.#own(Math.floor(index / REGION));
    const slot = index % REGION;
    while (region.length < slot) region.push(ABSENT);
    const before = region[slot] ?? ABSENT;
    if (before > 0) this.held--;
    if (value > 0) this.held++;
    region[slot] = value;
  }

  /** A region that can be written to. */
  #own(at: number): number[] {
    const region = this.#regions.get(at);
    if (region !== undefined && region !== HOLES) return region as number[];
    const own = region === undefined ? [] : [...region];
    this.#regions.set(at, own);
    return own;
  }

  clone(): BlockMap {
    const copy = new BlockMap();
    for (const [at, region] of this.#regions) {
      copy.#regions.set(at, region === HOLES ? HOLES : [...region]);
    }
    copy.held = this.held;
    copy.hasHoles = this.hasHoles;
    return copy;
  }

  /** How many blocks from `from` on, and before `to`, are blocks of the arena. */
  heldIn(from: number, to: number): number {
    if (this.held === 0) return 0;
    let held = 0;
    if (to - from <= REGION) {
      for (let index = from; index < to; index++) if (this.get(index) > 0) held++;
      return held;
    }
    for (const at of this.#regionsIn(from, to)) {
      const region = this.#regions.get(at) ?? HOLES;
      if (region === HOLES) continue;
      const end = Math.min(region.length, to - at * REGION);
      for (let slot = Math.max(0, from - at * REGION); slot < end; slot++) {
        if (region[slot]! > 0) held++;
      }
    }
    return held;
  }

  /** The first block at or after `from`, and before `to`, that is no HOLE; `to` when there is none. */
  endOfHole(from: number, to: number): number {
    let index = from;
    while (index < to && this.get(index) === HOLE) {
      const at = Math.floor(index / REGION);
      index = this.#regions.get(at) === HOLES ? (at + 1) * REGION : index + 1;
    }
    return Math.min(index, to);
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

  /** Makes every block from `from` on, and before `to`, ABSENT, telling `free` the arena blocks among them, in file order. */
  clear(from: number, to: number, free: Free): void {
    for (const at of this.#regionsIn(from, to)) {
      this.#free(at, from, to, free);
      const first = at * REGION;
      if (from <= first && first + REGION <= to) {
        this.#regions.delete(at);
        continue;
      }
      const region = this.#own(at);
      const start = Math.max(0, from - first);
      if (region.length <= to - first) region.length = Math.min(region.length, start);
      else region.fill(ABSENT, start, to - first);
    }
  }

  /** As `clear`, but HOLE. */
  punch(from: number, to: number, free: Free): void {
    this.hasHoles ||= from < to;
    for (let at = Math.floor(from / REGION); at * REGION < to; at++) {
      this.#free(at, from, to, free);
      const first = at * REGION;
      if (from <= first && first + REGION <= to) {
        this.#regions.set(at, HOLES);
        continue;
      }
      const region = this.#own(at);
      const end = Math.min(REGION, to - first);
      while (region.length < end) region.push(ABSENT);
      region.fill(HOLE, Math.max(0, from - first), end);
    }
  }

  /** Tells of the arena blocks of a part of a region, which are not held any more. */
  #free(at: number, from: number, to: number, free: Free): void {
    const region = this.#regions.get(at) ?? HOLES;
    if (region === HOLES) return;
    const end = Math.min(region.length, to - at * REGION);
    for (let slot = Math.max(0, from - at * REGION); slot < end; slot++) {
      const block = region[slot]!;
      if (block <= 0) continue;
      this.held--;
      free(block);
    }
  }

  /** Every arena block held, with its place in the file, in file order. */
  *blocks(): Generator<readonly [index: number, block: number]> {
    for (const at of this.#sortedRegions()) {
      const region = this.#regions.get(at) ?? HOLES;
      if (region === HOLES) continue;
      for (const [slot, block] of region.entries())
        if (block > 0) yield [at * REGION + slot, block];
    }
  }

  /** The regions that there are with blocks in [from, to), in file order. */
  #regionsIn(from: number, to: number): number[] {
    const first = Math.floor(from / REGION);
    const end = from < to ? Math.ceil(to / REGION) : first;
    if (end - first > this.#regions.size) {
      return this.#sortedRegions().filter((at) => at >= first && at < end);
    }
    const found: number[] = [];
    for (let at = first; at < end; at++) if (this.#regions.has(at)) found.push(at);
    return found;
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
