/**
 * The listing of a large directory of a lower that was begun last. Its reader has the first names, and looks at them while
 * the next are listed.
 */
import { FsError } from '../errors.ts';
import type { Entries } from '../layers/layer.ts';

export class BegunListing {
  #entries: Entries | undefined;
  #done: (() => void) | undefined;

  get isPending(): boolean {
    return this.#entries !== undefined;
  }

  /** @param done  told when all of it is there. What was begun before is finished first. */
  begin(entries: Entries, done: () => void): void {
    this.finish();
    this.#entries = entries;
    this.#done = done;
  }

  /** Lists some more. @returns whether there may be more. */
  proceed(): boolean {
    try {
      if (this.#entries?.proceed?.() === true) return true;
      this.#done?.();
    } catch (error) {
      // Whoever needs the names meets it again.
      if (!(error instanceof FsError)) throw error;
    }
    this.#entries = undefined;
    this.#done = undefined;
    return false;
  }

  finish(): void {
    while (this.proceed());
  }
}
