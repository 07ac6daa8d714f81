/**
 * Large pages for the contents of large files, in a tmpfs that is the session's own.
 *
 * tmpfs takes memory by the option `huge`, which is asked about when a file is made (can its pages be large?) and when a page is
 * taken (is this one?). Left on, a byte in the hole of a sparse file would take 2 MiB. So it is on only while a file of the
 * lower is copied, front to back: a page is never larger than what is written then. A gibibyte takes half the time.
 */
import type { Native } from '../native.ts';

const OPTION = 'huge';
/** Both changes together take 7 us, as long as is won with fewer bytes. */
const LARGE_BYTES: number = 128 * 1024;

export class HugePages {
  readonly #native: Native;
  /** What fspick(2) gave; -1 where it is refused, and pages are small then. */
  readonly #picked: number;

  /** @param rootFd  of the root of a tmpfs that nobody else uses. */
  constructor(native: Native, rootFd: number) {
    this.#native = native;
    this.#picked = Math.max(-1, native.pickFilesystem(rootFd));
    // A daemon before this one may have been killed in between.
    this.#set('never');
  }

  /** Does what makes a file and writes so many bytes to it, one after another. */
  during<T>(bytes: number, act: () => T): T {
    if (bytes < LARGE_BYTES || !this.#set('within_size')) return act();
    try {
      return act();
    } finally {
      this.#set('never');
    }
  }

  close(): void {
    if (this.#picked >= 0) this.#native.close(this.#picked);
  }

  #set(value: 'within_size' | 'never'): boolean {
    return this.#picked >= 0 && this.#native.reconfigure(this.#picked, OPTION, value) === 0;
  }
}
