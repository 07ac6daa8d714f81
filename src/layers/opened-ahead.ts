/** Files of a layer that have been opened before anybody asked for them. */
import type { Native, NativeReadAhead } from '../native.ts';
import { makeRoom } from '../bounded.ts';
import type { Name } from './layer.ts';

const ENOENT = 2;

/** Directories that files are opened ahead in, at once. */
const PLACES_MAX = 32;

export class OpenedAhead {
  readonly #native: Native;
  #thread: NativeReadAhead | undefined;
  /** What stands for a node that is a directory, in the thread; never for another. */
  readonly #places: Map<object, number> = new Map();
  #next = 1;

  constructor(native: Native) {
    this.#native = native;
  }

  /**
   * Has files be opened, and the kernel read how they begin.
   *
   * @param fd  of the directory.
   * @returns how many files were not in memory, of all up to now.
   */
  begin(dir: object, fd: number, flags: number, names: Name[]): number {
    this.#thread ??= new this.#native.ReadAhead();
    let place = this.#places.get(dir);
    if (place === undefined) {
      place = this.#next++;
      makeRoom(this.#places, PLACES_MAX);
      this.#places.set(dir, place);
    }
    return this.#thread.begin(place, fd, flags, names);
  }

  /** An fd, from now on the caller's, or -ENOENT. */
  take(dir: object | undefined, name: Name): number {
    if (this.#thread === undefined || dir === undefined) return -ENOENT;
    const place = this.#places.get(dir);
    return place === undefined ? -ENOENT : this.#thread.take(place, name);
  }

  close(): void {
    this.#thread?.close();
    this.#thread = undefined;
  }
}
