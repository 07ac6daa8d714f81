/**
 * The contents of one regular file of the memory upper: blocks in the arena over what its origin has.
 *
 * A block is the file's own, a hole, or absent; absent blocks show the origin up to `#originEnd` and zeros beyond it. A
 * block of one's own is always whole: bytes beyond the end of the file in it are zero, so a growing file gains zeros.
 */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { Arena, BLOCK_BYTES } from './arena.ts';
import { ABSENT, BlockMap, HOLE } from './block-map.ts';
import type { LateStores } from './late-stores.ts';
import type { Segments } from './layer.ts';
import { fetchOrigin, readOrigin, seekOrigin } from './memory-origin.ts';
import type { LowerRef } from './upper.ts';

const SEEK_DATA = 3;

/** One block, for putting a partial one together. Only ever used within a call. */
const scratch: Uint8Array = new Uint8Array(BLOCK_BYTES);
const other: Uint8Array = new Uint8Array(BLOCK_BYTES);
const zeros: Uint8Array = new Uint8Array(BLOCK_BYTES);

/** A part of one block: offsets in the file. */
interface Part {
  readonly from: number;
  readonly to: number;
}

function indexOf(offset: number): number {
  return Math.floor(offset / BLOCK_BYTES);
}

export class FileContents {
  readonly #native: Native;
  readonly #arena: Arena;
  /** Takes bytes from the limit, or gives them back when negative. @throws FsError ENOSPC. */
  readonly #charge: (bytes: number) => void;
  readonly #copied: { bytes: number };
  readonly #origin: LowerRef | undefined;
  /** Bytes of the origin that can still be seen: the smallest size the file has had. */
  #originEnd: number;
  #map: BlockMap = new BlockMap();
  readonly #late: LateStores | undefined;

  constructor(
    native: Native,
    arena: Arena,
    charge: (bytes: number) => void,
    copied: { bytes: number },
    origin: LowerRef | undefined,
    size: number,
    late?: LateStores,
  ) {
    this.#native = native;
    this.#arena = arena;
    this.#charge = charge;
    this.#copied = copied;
    this.#origin = origin;
    this.#originEnd = origin === undefined ? 0 : size;
    this.#late = late;
  }

  /**
   * 512-byte units, as st_blocks: the file's own blocks and what the origin still shows, which is known only as a whole,
   * so that the sum may be too large, but never larger than the file.
   *
   * @param originBlocks  what the origin occupies: it may be sparse.
   */
  blocks(size: number, originBlocks: number): number {
    const own = this.#map.held * (BLOCK_BYTES / 512);
    const shown = Math.min(originBlocks, Math.ceil(Math.min(this.#originEnd, size) / 512));
    const whole = Math.ceil(size / BLOCK_BYTES) * (BLOCK_BYTES / 512);
    return Math.max(own, Math.min(own + shown, whole));
  }

  /** The contents as they are now, for reading only, until `thaw`. */
  frozen(): FileContents {
    const arena = this.#arena;
    const copy = new FileContents(
      this.#native,
      arena,
      this.#charge,
      this.#copied,
      this.#origin,
      this.#originEnd,
    );
    copy.#map = this.#map.clone();
    for (const [, block] of copy.#map.blocks()) if (block > 0) arena.pin(block);
    return copy;
  }

  /** Ends what `frozen` began. */
  thaw(): void {
    for (const [, block] of this.#map.blocks()) if (block > 0) this.#arena.unpin(block);
    this.#map = new BlockMap();
  }

  /** The caller has clipped the range to the file's size. */
  read(offset: number, length: number, into: Segments): void {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const index = Math.floor(at / BLOCK_BYTES);
      const block = this.#map.get(index);
      if (block === ABSENT) {
        const present = this.#map.nextPresent(index + 1, Math.ceil(end / BLOCK_BYTES));
        const stop = Math.min(end, present * BLOCK_BYTES);
        readOrigin(this.#origin, this.#originEnd, at, stop - at, into);
        at = stop;
        continue;
      }
      const within = at - index * BLOCK_BYTES;
      const count = Math.min(BLOCK_BYTES - within, end - at);
      if (block === HOLE) into.add(-1, 0, count);
      else into.add(this.#arena.fd, Arena.offsetOf(block) + within, count);
      at += count;
    }
  }

  write(offset: number, data: Uint8Array, start: number, length: number): void {
    if (length === 0) return;
    const end = offset + length;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    this.#charge(this.#missing(first, last) * BLOCK_BYTES);
    let index = first;
    try {
      while (index <= last) {
        const at = Math.max(offset, index * BLOCK_BYTES);
        const from = start + (at - offset);
        const block = this.#map.get(index);
        const room = Math.min(end, (index + 1) * BLOCK_BYTES) - at;
        if (block > 0) index += this.#overwrite(index, last, at, data, from, end - at);
        else if (room < BLOCK_BYTES) {
          this.#writePartial(index, at, data, from, room);
          index++;
        } else index += this.#writeWhole(index, Math.floor(end / BLOCK_BYTES), data, from);
      }
    } catch (error) {
      // What was written before the failure stays; what was charged and not used is given back.
      this.#charge(-this.#missing(index, last) * BLOCK_BYTES);
      throw error;
    }
  }

  /** Drops everything from `size` on. The file may be any length before. */
  truncate(size: number): void {
    this.#originEnd = Math.min(this.#originEnd, size);
    const whole = Math.ceil(size / BLOCK_BYTES);
    this.#letGo((free) => this.#map.clear(whole, Infinity, free));
    const tail = size % BLOCK_BYTES;
    if (tail > 0 && this.#map.get(whole - 1) > 0) {
      this.#store(this.#own(whole - 1), tail, zeros, 0, BLOCK_BYTES - tail);
    }
  }

  allocate(offset: number, length: number): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
    this.#charge(this.#missing(first, last) * BLOCK_BYTES);
    let index = first;
    try {
      while (index <= last) {
        if (this.#map.get(index) > 0) index++;
        else if (this.#showsOrigin(index)) {
          this.#compose(index);
          this.#place(index, scratch);
          index++;
        } else index += this.#allocateZeros(index, last);
      }
    } catch (error) {
      this.#charge(-this.#missing(index, last) * BLOCK_BYTES);
      throw error;
    }
  }

  punch(offset: number, length: number): void {
    const end = offset + length;
    const firstWhole = Math.ceil(offset / BLOCK_BYTES);
    const endWhole = Math.floor(end / BLOCK_BYTES);
    const parts: Part[] =
      firstWhole > endWhole
        ? [{ from: offset, to: end }]
        : [
            { from: offset, to: firstWhole * BLOCK_BYTES },
            { from: endWhole * BLOCK_BYTES, to: end },
          ];
    const isLast = end >= this.#originEnd;
    // Nothing of the origin comes after it: what is absent is zeros.
    if (isLast) this.#originEnd = Math.min(offset, this.#originEnd);
    this.#zeroParts(
      parts.filter(({ from, to }) => from < to && !(isLast && this.#map.get(indexOf(from)) <= 0)),
    );
    const shown = Math.min(Math.ceil(this.#originEnd / BLOCK_BYTES), endWhole);
    this.#letGo((free) => {
      this.#map.punch(firstWhole, shown, free);
      this.#map.clear(Math.max(firstWhole, shown), endWhole, free);
    });
  }

  /** Gives back what `drop` frees. */
  #letGo(drop: (free: (block: number) => void) => void): void {
    const before = this.#map.held;
    drop((block) => this.#arena.release(block, 1));
    this.#charge((this.#map.held - before) * BLOCK_BYTES);
  }

  /** @throws FsError ENXIO when there is no data after `offset`. */
  seek(offset: number, whence: number, size: number): number {
    const blocks = Math.ceil(size / BLOCK_BYTES);
    let at = offset;
    while (at < size) {
      const index = Math.floor(at / BLOCK_BYTES);
      const block = this.#map.get(index);
      let stop = (index + 1) * BLOCK_BYTES;
      if (block === ABSENT) {
        stop = Math.min(size, this.#map.nextPresent(index + 1, blocks) * BLOCK_BYTES);
        const found = seekOrigin(this.#origin, this.#originEnd, at, stop, whence);
        if (found < stop) return found;
      } else if (block > 0 === (whence === SEEK_DATA)) return at;
      else if (block === HOLE) stop = this.#map.endOfHole(index, blocks) * BLOCK_BYTES;
      at = stop;
    }
    if (whence === SEEK_DATA) throw new FsError('ENXIO');
    return size;
  }

  /**
   * Whether the bytes are other than the origin's, which is `size` long as well. Only blocks of the file's own are read, and
   * what was cut or punched out of the origin.
   *
   * @param mustStop  asked now and then: to say no without having looked at everything.
   */
  differs(size: number, mustStop?: () => boolean): boolean {
    for (const [index, block] of this.#map.blocks()) {
      if (mustStop?.() === true) return false;
      if (this.#blockDiffers(index, block, size)) return true;
    }
    for (let at = this.#map.hasHoles ? 0 : this.#originEnd; at < size;) {
      if (mustStop?.() === true) return false;
      at = seekOrigin(this.#origin, size, at, size, SEEK_DATA);
      if (at >= size) break;
      const index = Math.floor(at / BLOCK_BYTES);
      const block = this.#map.get(index);
      let next = index + 1;
      if (block === ABSENT && next * BLOCK_BYTES <= this.#originEnd) {
        const shown = Math.floor(this.#originEnd / BLOCK_BYTES);
        next = Math.min(this.#map.nextPresent(next, shown), shown);
      } else if (block <= 0 && this.#blockDiffers(index, block, size)) return true;
      at = next * BLOCK_BYTES;
    }
    return false;
  }

  #blockDiffers(index: number, block: number, size: number): boolean {
    if (block > 0) check(this.#native.pread(this.#arena.fd, other, Arena.offsetOf(block)));
    else if (block === ABSENT) {
      this.#fetchOrigin(index, this.#originEnd);
      other.set(scratch);
    } else other.fill(0);
    this.#fetchOrigin(index, size);
    return Buffer.compare(scratch, other) !== 0;
  }

  /** Blocks of a range that are not yet the file's own. */
  #missing(first: number, last: number): number {
    return last - first + 1 - this.#map.heldIn(first, last + 1);
  }

  /** The file's own block, which may be written over: another with the same bytes, when a frozen copy needs the old one. */
  #own(index: number): number {
    const block = this.#map.get(index);
    if (!this.#arena.isPinned(block)) return block;
    const { fd } = this.#arena;
    const { start } = this.#arena.take(1);
    const to = Arena.offsetOf(start);
    check(this.#native.copyRange(fd, Arena.offsetOf(block), fd, to, BLOCK_BYTES));
    this.#map.set(index, start);
    this.#arena.release(block, 1);
    return start;
  }

  /** Writes into blocks that are the file's own and lie in a row; returns how many. */
  #overwrite(
    index: number,
    last: number,
    at: number,
    data: Uint8Array,
    from: number,
    rest: number,
  ): number {
    const block = this.#own(index);
    let count = 1;
    while (index + count <= last && this.#map.get(index + count) === block + count) {
      if (this.#arena.isPinned(block + count)) break;
      count++;
    }
    const within = at - index * BLOCK_BYTES;
    this.#store(block, within, data, from, Math.min(rest, count * BLOCK_BYTES - within));
    return count;
  }

  #writePartial(index: number, at: number, data: Uint8Array, from: number, room: number): void {
    this.#compose(index);
    scratch.set(data.subarray(from, from + room), at - index * BLOCK_BYTES);
    this.#place(index, scratch);
  }

  /** Writes whole new blocks, as many as lie in a row; returns how many. */
  #writeWhole(index: number, end: number, data: Uint8Array, from: number): number {
    let wanted = 1;
    while (index + wanted < end && this.#map.get(index + wanted) <= 0) wanted++;
    const { start, count } = this.#arena.take(wanted);
    this.#storeNew(start, count, data, from);
    for (let i = 0; i < count; i++) this.#map.set(index + i, start + i);
    return count;
  }

  /** Gives the file a block of its own with these bytes; it has been charged. */
  #place(index: number, bytes: Uint8Array): void {
    const { start } = this.#arena.take(1);
    this.#storeNew(start, 1, bytes, 0);
    this.#map.set(index, start);
  }

  #allocateZeros(index: number, last: number): number {
    let wanted = 1;
    while (
      index + wanted <= last &&
      this.#map.get(index + wanted) <= 0 &&
      !this.#showsOrigin(index + wanted)
    ) {
      wanted++;
    }
    const { start, count, zeroed } = this.#arena.take(wanted);
    if (!zeroed) this.#arena.zero(start, count);
    for (let i = 0; i < count; i++) this.#map.set(index + i, start + i);
    return count;
  }

  /** Makes all of them zeros, or none when there is no room. */
  #zeroParts(parts: readonly Part[]): void {
    let charged = parts.filter(({ from }) => this.#showsOrigin(indexOf(from))).length;
    this.#charge(charged * BLOCK_BYTES);
    try {
      for (const { from, to } of parts) {
        const index = indexOf(from);
        const within = from - index * BLOCK_BYTES;
        if (this.#map.get(index) > 0) this.#store(this.#own(index), within, zeros, 0, to - from);
        else if (this.#showsOrigin(index)) {
          this.#compose(index);
          scratch.fill(0, within, within + (to - from));
          this.#place(index, scratch);
          charged--;
        }
      }
    } catch (error) {
      this.#charge(-charged * BLOCK_BYTES);
      throw error;
    }
  }

  #showsOrigin(index: number): boolean {
    return this.#map.get(index) === ABSENT && index * BLOCK_BYTES < this.#originEnd;
  }

  /** Puts what a block that is not the file's own shows into `scratch`. */
  #compose(index: number): void {
    if (!this.#showsOrigin(index)) {
      scratch.fill(0);
      return;
    }
    this.#fetchOrigin(index);
    this.#copied.bytes += BLOCK_BYTES;
  }

  /** Puts the origin's bytes of a block, up to `end`, into `scratch`. */
  #fetchOrigin(index: number, end: number = this.#originEnd): void {
    fetchOrigin(this.#native, this.#origin, end, index * BLOCK_BYTES, scratch);
  }

  #storeNew(start: number, count: number, data: Uint8Array, from: number): void {
    try {
      this.#store(start, 0, data, from, count * BLOCK_BYTES);
    } catch (error) {
      this.#arena.release(start, count);
      throw error;
    }
  }

  #store(block: number, within: number, data: Uint8Array, from: number, length: number): void {
    const { fd } = this.#arena;
    const offset = Arena.offsetOf(block) + within;
    if (this.#late?.add(fd, data, from, length, offset) === true) return;
    check(this.#native.pwriteRange(fd, data, from, length, offset));
  }
}
