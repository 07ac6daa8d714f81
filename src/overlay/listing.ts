/**
 * What a directory shows: the lowers' names in the lowers' order, then the upper's own in the order they were made.
 *
 * A lower name's cookie is its place in the lowers' listing, which never changes; an own entry's is counted up as
 * entries are made. So a cookie means the same name for ever, whatever comes and goes in between.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFMT } from '../layers/layer.ts';
import type { Entries, Name } from '../layers/layer.ts';
import { OWN_COOKIES } from '../layers/upper.ts';
import type { LowerRef, UpperEntry } from '../layers/upper.ts';
import type { Entry, EntryPlusSink, EntrySink, ManyEntries } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

const DOT_COOKIE = 1;
const DOTDOT_COOKIE = 2;
/** Cookie of the first lower name. */
const FIRST_LOWER_COOKIE = 3;

const DT_DIR = 4;

/** Names are stat'ed this many ahead of a reader that may stop at any of them. */
const BATCH = 32;

export class Listing<Node extends object> {
  readonly #tree: Tree<Node>;
  readonly #attr: Attr = new Attr();
  readonly #entry: Entry = { ino: 0, attr: new Attr() };

  constructor(tree: Tree<Node>) {
    this.#tree = tree;
  }

  /** As `Filesystem.readdir`. */
  read(dir: Inode<Node>, cookie: number, sink: EntrySink): void {
    const dots = (name: Name, at: number, shown: Inode<Node>): boolean =>
      sink(name, at, this.#tree.shownIno(shown), DT_DIR);
    if (cookie < DOT_COOKIE && !dots('.', DOT_COOKIE, dir)) return;
    if (cookie < DOTDOT_COOKIE && !dots('..', DOTDOT_COOKIE, dir.parent ?? dir)) return;
    if (this.#tree.isRemoved(dir)) return;
    if (!this.#readLowers(dir, cookie, sink)) return;
    if (dir.upper === undefined) return;
    for (const { name, node, cookie: at } of this.#own(dir.upper, cookie)) {
      if (node === undefined) continue;
      this.#tree.upper.attr(node, this.#attr);
      if (!sink(name, at, this.#attr.ino, typeOf(this.#attr.mode))) return;
    }
  }

  /** As `Filesystem.readdirplus`. */
  readPlus(dir: Inode<Node>, cookie: number, sink: EntryPlusSink): void {
    const entry = this.#entry;
    // No reference goes with these two, but their numbers are those of stat(2).
    const dots = (name: Name, at: number, shown: Inode<Node>): boolean => {
      entry.ino = 0;
      entry.attr = this.#attr;
      entry.attr.ino = this.#tree.shownIno(shown);
      return sink(name, at, DT_DIR, entry);
    };
    if (cookie < DOT_COOKIE && !dots('.', DOT_COOKIE, dir)) return;
    if (cookie < DOTDOT_COOKIE && !dots('..', DOTDOT_COOKIE, dir.parent ?? dir)) return;
    if (this.#tree.isRemoved(dir)) return;
    if (!this.#readLowersPlus(dir, cookie, sink)) return;
    if (dir.upper === undefined) return;
    for (const { name, node, cookie: at } of this.#own(dir.upper, cookie)) {
      if (node === undefined) continue;
      const inode = this.#tree.find(dir, name, this.#attr);
      entry.attr = this.#attr;
      if (inode !== undefined && !this.#offer(inode, name, at, sink)) return;
    }
  }

  /** Whether a directory holds no name that can be seen. */
  isEmpty(dir: Inode<Node>): boolean {
    let empty = true;
    this.read(dir, DOTDOT_COOKIE, () => {
      empty = false;
      return false;
    });
    return empty;
  }

  /** The names that can be seen, in no particular order. */
  names(dir: Inode<Node>): Name[] {
    const names: Name[] = [];
    this.read(dir, DOTDOT_COOKIE, (name) => names.push(name) > 0);
    return names;
  }

  #own(upper: Node, cookie: number): Iterable<UpperEntry<Node>> {
    return this.#tree.upper.ownEntries(upper, Math.max(cookie, OWN_COOKIES));
  }

  #readLowers(dir: Inode<Node>, cookie: number, sink: EntrySink): boolean {
    if (cookie >= OWN_COOKIES || dir.lowers.length === 0) return true;
    const entries = this.#tree.lowerEntries(dir);
    const { upper } = this.#tree;
    const first = firstIndex(cookie);
    if (dir.upper === undefined && sink.many !== undefined && isPacked(entries)) {
      // Nothing comes after them, and there may be names for another call.
      sink.many(entries, first, FIRST_LOWER_COOKIE + first);
      return false;
    }
    const { length, types, inos } = entries;
    for (let i = first; i < length; i++) {
      const name = entries.name(i);
      const at = FIRST_LOWER_COOKIE + i;
      const entry = dir.upper === undefined ? undefined : upper.lookup(dir.upper, name);
      if (entry === undefined) {
        if (!sink(name, at, inos[i] ?? 0, types[i] ?? 0)) return false;
        continue;
      }
      if (entry.node === undefined || entry.cookie !== 0) continue;
      upper.attr(entry.node, this.#attr);
      if (!sink(name, at, this.#attr.ino, typeOf(this.#attr.mode))) return false;
    }
    return true;
  }

  #readLowersPlus(dir: Inode<Node>, cookie: number, sink: EntryPlusSink): boolean {
    const { lowers: stack } = dir;
    if (cookie >= OWN_COOKIES || stack.length === 0) return true;
    const entries = this.#tree.lowerEntries(dir);
    let isOpen = true;
    for (let i = firstIndex(cookie); isOpen && i < entries.reach(i + 1);) {
      if (this.#isKnown(dir, entries.name(i))) {
        isOpen = this.#nameLower(dir, i, sink);
        i++;
        continue;
      }
      const holder = stack[entries.holders?.[i] ?? 0];
      const visit = (index: number, found: Attr | undefined): void => {
        isOpen &&= this.#offerLower(dir, holder, index, found, sink);
      };
      const start = i;
      const end = this.#endOfUnknown(dir, entries, start);
      let next = start;
      if (holder !== undefined) {
        const names = Array.from({ length: end - start }, (_, at) => entries.name(start + at));
        holder.layer.statMany(holder.node, names, 0, names.length, (at, found) => {
          while (next < start + at) visit(next++, undefined);
          visit(next++, found);
        });
      }
      while (next < end) visit(next++, undefined);
      i = end;
    }
    return isOpen;
  }

  /**
   * Whether the kernel has a lower's name, and so, for ever or until it is told otherwise, its attributes: another copy
   * is work for both sides. Whoever has looked at files before listing them, as git does, has them all.
   */
  #isKnown(dir: Inode<Node>, name: Name): boolean {
    const known = dir.child(name);
    return known !== undefined && known.refs > 0 && known.upper === undefined;
  }

  /** Where a run of names of one holder that the kernel does not know ends, at most a batch further on. */
  #endOfUnknown(dir: Inode<Node>, entries: Entries, start: number): number {
    const limit = entries.reach(start + BATCH);
    const { holders } = entries;
    if (!dir.hasChildren && holders === undefined) return limit;
    let end = start + 1;
    while (
      end < limit &&
      holders?.[end] === holders?.[start] &&
      !this.#isKnown(dir, entries.name(end))
    ) {
      end++;
    }
    return end;
  }

  /** Hands a lower's name to the sink, without a reference. */
  #nameLower(dir: Inode<Node>, index: number, sink: EntryPlusSink): boolean {
    const entries = this.#tree.lowerEntries(dir);
    const entry = this.#entry;
    entry.ino = 0;
    entry.attr = this.#attr;
    entry.attr.ino = entries.inos[index] ?? 0;
    return sink(entries.name(index), FIRST_LOWER_COOKIE + index, entries.types[index] ?? 0, entry);
  }

  /**
   * Hands what a name of the lowers shows to the sink, if it shows anything; `found` are its attributes in the only
   * directory that has it.
   */
  #offerLower(
    dir: Inode<Node>,
    holder: LowerRef | undefined,
    index: number,
    found: Attr | undefined,
    sink: EntryPlusSink,
  ): boolean {
    const name = this.#tree.lowerEntries(dir).name(index);
    const entry = dir.upper === undefined ? undefined : this.#tree.upper.lookup(dir.upper, name);
    if (entry !== undefined && (entry.node === undefined || entry.cookie !== 0)) return true;
    let inode: Inode<Node> | undefined;
    if (holder === undefined || found === undefined || entry !== undefined || dir.child(name)) {
      try {
        inode = this.#tree.find(dir, name, this.#attr);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        // It cannot be read, like a missing object of a commit: the name alone is listed.
        return this.#nameLower(dir, index, sink);
      }
      this.#entry.attr = this.#attr;
    } else {
      const { layer, node } = holder;
      const lowers = [{ layer, node: layer.child(node, name) }];
      inode = this.#tree.lowerInode(dir, name, lowers, found);
      this.#entry.attr = found;
    }
    return inode === undefined || this.#offer(inode, name, FIRST_LOWER_COOKIE + index, sink);
  }

  /** Hands an entry to the sink, with a reference if it takes it. The attributes are in `#entry`. */
  #offer(inode: Inode<Node>, name: Name, cookie: number, sink: EntryPlusSink): boolean {
    this.#entry.ino = inode.ino;
    const taken = sink(name, cookie, typeOf(this.#entry.attr.mode), this.#entry);
    if (taken) inode.refs++;
    else this.#tree.table.settle(inode);
    return taken;
  }
}

/** Index of the first lower name after a cookie. */
function firstIndex(cookie: number): number {
  return Math.max(0, cookie - FIRST_LOWER_COOKIE + 1);
}

function isPacked(entries: Entries): entries is ManyEntries {
  return entries.packed !== undefined;
}

/** DT_* of a mode. */
function typeOf(mode: number): number {
  return (mode & S_IFMT) >>> 12;
}
