/** The names of one directory of an upper, as both uppers keep them: what each means, and the order they are listed in. */
import type { Name } from './layer.ts';
import { OWN_COOKIES } from './upper.ts';
import type { UpperEntry } from './upper.ts';

class NameEntry<Node extends object> implements UpperEntry<Node> {
  readonly name: Name;
  node: Node | undefined;
  readonly cookie: number;
  readonly covers: boolean;
  gone = false;

  constructor(name: Name, node: Node | undefined, cookie: number, covers: boolean) {
    this.name = name;
    this.node = node;
    this.cookie = cookie;
    this.covers = covers;
  }
}

export class Names<Node extends object> {
  readonly entries: Map<Name, NameEntry<Node>> = new Map();
  /** Entries with a cookie of their own, by cookie; those that are gone are swept out when they are half of it. */
  #order: NameEntry<Node>[] = [];
  #gone = 0;
  #nextCookie: number = OWN_COOKIES + 1;

  /** Entries with a cookie of their own above `cookie`; more may be added meanwhile. */
  *after(cookie: number): Generator<NameEntry<Node>> {
    const order = this.#order;
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((order[middle]?.cookie ?? 0) <= cookie) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < order.length; i++) {
      const entry = order[i];
      if (entry !== undefined && !entry.gone) yield entry;
    }
  }

  /**
   * Gives a name to a node, in place of what was there. A name that could be seen keeps its cookie.
   *
   * @param covers  a lower entry of this name exists; only asked when there is no entry yet.
   * @param keepsPlace  that lower entry could be seen until now.
   */
  put(name: Name, node: Node, covers: boolean, keepsPlace: boolean): void {
    const before = this.entries.get(name);
    if (before?.node !== undefined) {
      before.node = node;
      return;
    }
    const cookie = keepsPlace ? 0 : this.#nextCookie++;
    const entry = new NameEntry(name, node, cookie, before?.covers ?? covers);
    this.entries.set(name, entry);
    if (cookie !== 0) this.#order.push(entry);
  }

  /** Takes a name out. `covers` tells for names without an entry. @returns whether a whiteout stays. */
  remove(name: Name, covers: boolean): boolean {
    const before = this.entries.get(name);
    if (before !== undefined) this.#drop(before);
    if (before?.covers ?? covers) {
      this.entries.set(name, new NameEntry<Node>(name, undefined, 0, true));
      return true;
    }
    this.entries.delete(name);
    return false;
  }

  /** Forgets a name altogether, its whiteout too. */
  uncover(name: Name): void {
    const before = this.entries.get(name);
    if (before !== undefined) this.#drop(before);
    this.entries.delete(name);
  }

  /** Marks an entry as gone, for readers that are under way, and forgets it when that pays. */
  #drop(entry: NameEntry<Node>): void {
    entry.gone = true;
    if (entry.cookie === 0) return;
    this.#gone++;
    if (this.#gone > 32 && this.#gone * 2 > this.#order.length) {
      this.#order = this.#order.filter((kept) => !kept.gone);
      this.#gone = 0;
    }
  }
}
