/** Lists a directory of the host a part at a time, with one descriptor that is open from the first part to the last. */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { PartReader } from './entries.ts';
import { unpack, type PackedListing } from './packed-listing.ts';

export interface DirectoryAccess {
  /** @returns a readable descriptor of the directory, at its start, or -errno. */
  open(): number;
  /** Takes the descriptor when everything has been listed. */
  done(fd: number): void;
}

export class DirectoryReader implements PartReader {
  readonly #native: Native;
  readonly #access: DirectoryAccess;
  #fd = -1;

  constructor(native: Native, access: DirectoryAccess) {
    this.#native = native;
    this.#access = access;
  }

  next(): PackedListing {
    if (this.#fd < 0) this.#fd = check(this.#access.open());
    const packed = this.#native.packDirectory(this.#fd);
    if (typeof packed === 'number') {
      this.close();
      check(packed);
      throw new FsError('EIO');
    }
    const part = unpack(packed);
    if (part.isLast) this.#access.done(this.#take());
    return part;
  }

  /** The next part is the first again. */
  close(): void {
    if (this.#fd >= 0) this.#native.close(this.#take());
  }

  #take(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
  }
}
