/**
 * Bytes of a request that are stored when it has been answered: who writes goes on to his next megabyte meanwhile. They are
 * stored before another request is read, so nobody can tell; but for what cannot be stored at all, of which room has been
 * taken already. Only memory files are written like this, which fail when the machine has no memory left.
 */
import type { Native } from '../native.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

interface Store {
  readonly fd: number;
  readonly data: Uint8Array;
  readonly from: number;
  readonly length: number;
  readonly offset: number;
}

export class LateStores {
  readonly #native: Native;
  #stores: Store[] = [];
  /** The memory that requests come in, whose bytes stay until the next is read. */
  #source: ArrayBufferLike | undefined;

  /** Bytes could not be stored, once at least. */
  hasLost = false;

  constructor(native: Native) {
    this.#native = native;
  }

  /** From now on bytes of this memory may be stored late; without it none are. */
  open(source: ArrayBufferLike): void {
    this.#source = source;
  }

  /** Whether there are any. */
  get isPending(): boolean {
    return this.#stores.length > 0;
  }

  /** @returns whether it will be done; otherwise the caller does it now. */
  add(fd: number, data: Uint8Array, from: number, length: number, offset: number): boolean {
    if (data.buffer !== this.#source) return false;
    this.#stores.push({ fd, data, from, length, offset });
    return true;
  }

  /**
   * Stores everything. Where that fails there are zeros then, never what was there before.
   *
   * @returns 0, or the first error, negative.
   */
  run(): number {
    let error = 0;
    for (const { fd, data, from, length, offset } of this.#stores) {
      const status = this.#native.pwriteRange(fd, data, from, length, offset);
      if (status >= 0) continue;
      error ||= status;
      this.#native.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length);
    }
    this.#stores = [];
    this.hasLost ||= error < 0;
    return error;
  }
}
