/**
 * The memory that file contents live in: one memfd, handed out in blocks of 4 KiB.
 *
 * Blocks are numbered from 1, so that 0 can mean "none" to whoever keeps them. Runs that are given back are used again
 * first; when many are unused, their memory goes back to the system.
 */
import { check } from '../errors.ts';
import type { Native } from '../native.ts';

export const BLOCK_BYTES = 4096;

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Given-back blocks that are kept as they are, ready for use; beyond these (64 MiB) all are punched out. */
const DIRTY_BLOCKS_MAX = 16_384;

/** The memfd grows by this many blocks (256 MiB) at a time; what is not written takes no memory. */
const GROWTH_BLOCKS = 65_536;

interface Run {
  start: number;
  count: number;
}

export class Arena {
  readonly fd: number;
  readonly #native: Native;
  #end = 1;
  /** Blocks that the memfd is long enough for. */
  #fileEnd = 0;
  /** Given back and not yet punched: their old bytes are still there. */
  #dirty: Run[] = [];
  #dirtyBlocks = 0;
  /** Given back and punched: they read as zeros. */
  #clean: Run[] = [];
  /** Blocks that must stay as they are, with how often that was asked; true ones have been given back meanwhile. */
  readonly #pins: Map<number, { count: number; isReleased: boolean }> = new Map();
  readonly #run: { start: number; count: number; zeroed: boolean } = {
    start: 0,
    count: 0,
    zeroed: false,
  };

  constructor(native: Native, fd: number) {
    this.#native = native;
    this.fd = fd;
  }

  /** Where a block's bytes begin in `fd`. */
  static offsetOf(block: number): number {
    return block * BLOCK_BYTES;
  }

  /**
   * Takes up to `wanted` blocks that lie in a row; the record is reused by the next call.
   *
   * @returns `zeroed` says whether they read as zeros; otherwise they hold old bytes that must be written over.
   */
  take(wanted: number): {
    readonly start: number;
    readonly count: number;
    readonly zeroed: boolean;
  } {
    const runs = this.#dirty.length > 0 ? this.#dirty : this.#clean;
    const last = runs.at(-1);
    if (last === undefined) {
      this.#reach(this.#end + wanted);
      this.#run.start = this.#end;
      this.#run.count = wanted;
      this.#run.zeroed = true;
      this.#end += wanted;
      return this.#run;
    }
    const count = Math.min(wanted, last.count);
    this.#run.start = last.start;
    this.#run.count = count;
    this.#run.zeroed = runs === this.#clean;
    last.start += count;
    last.count -= count;
    if (last.count === 0) runs.pop();
    if (runs === this.#dirty) this.#dirtyBlocks -= count;
    return this.#run;
  }

  /** Keeps a block's bytes as they are until `unpin`, even when it is given back. */
  pin(block: number): void {
    const pin = this.#pins.get(block);
    if (pin === undefined) this.#pins.set(block, { count: 1, isReleased: false });
    else pin.count++;
  }

  unpin(block: number): void {
    const pin = this.#pins.get(block);
    if (pin === undefined || --pin.count > 0) return;
    this.#pins.delete(block);
    if (pin.isReleased) this.release(block, 1);
  }

  isPinned(block: number): boolean {
    return this.#pins.size > 0 && this.#pins.has(block);
  }

  /** Gives blocks back. */
  release(start: number, count: number): void {
    if (this.#pins.size > 0) {
      for (let block = start; block < start + count; block++) this.#releaseOne(block);
    } else this.#release(start, count);
  }

  #releaseOne(block: number): void {
    const pin = this.#pins.get(block);
    if (pin === undefined) this.#release(block, 1);
    else pin.isReleased = true;
  }

  #release(start: number, count: number): void {
    const last = this.#dirty.at(-1);
    if (last !== undefined && last.start + last.count === start) last.count += count;
    else this.#dirty.push({ start, count });
    this.#dirtyBlocks += count;
    if (this.#dirtyBlocks > DIRTY_BLOCKS_MAX) this.#punch();
  }

  /** Makes blocks that were just taken read as zeros. */
  zero(start: number, count: number): void {
    check(
      this.#native.fallocate(
        this.fd,
        FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
        Arena.offsetOf(start),
        count * BLOCK_BYTES,
      ),
    );
  }

  /** Makes the memfd long enough: a block that was never written must still read as zeros, not as the end of the file. */
  #reach(end: number): void {
    if (end <= this.#fileEnd) return;
    const fileEnd = end + GROWTH_BLOCKS;
    check(this.#native.ftruncate(this.fd, fileEnd * BLOCK_BYTES));
    this.#fileEnd = fileEnd;
  }

  #punch(): void {
    for (const run of this.#dirty) {
      this.zero(run.start, run.count);
      this.#clean.push(run);
    }
    this.#dirty = [];
    this.#dirtyBlocks = 0;
  }
}
