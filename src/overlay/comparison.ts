/**
 * The files of a session that differ from the lowers', both as they are at one instant and as they were, for whoever tells
 * of their contents: every file of directories that have come, gone or moved by itself.
 */
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../layers/layer.ts';
import type { Name, Segments } from '../layers/layer.ts';
import type { Frozen, LowerRef } from '../layers/upper.ts';
import type { ChangeOptions } from './change.ts';
import { ChangeWalk } from './changes.ts';
import type { Finding } from './findings.ts';
import { Comparer } from './difference.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import { isAtOrBelow } from './narrow.ts';
import type { Tree } from './tree.ts';

/** One side of a file. */
export interface Side {
  /** A byte string from the root, beginning with '/'. */
  path: string;
  /** st_mode. */
  mode: number;
  size: number;
  /** Of a regular file: what `content` is asked with. */
  content?: number;
  /** Of a symlink. */
  target?: Name;
}

/** A file that has changed, come (there is no `before`) or gone (no `after`). */
export interface Compared {
  before?: Side;
  after?: Side;
  /** Only what is no content has changed. */
  isSame?: true;
}

/** What a side's bytes are read from. */
type Held<Node extends object> =
  { frozen: Frozen } | { inode: Inode<Node> } | { lower: LowerRef; size: number };

/** An entry in the making. */
interface Plan<Node extends object> {
  entry: Compared;
  inode: Inode<Node> | undefined;
  base: LowerRef | undefined;
}

export class Comparison<Node extends object> {
  readonly entries: Compared[] = [];
  /** Of all kinds, those that are no files or have no contents to tell of as well. */
  readonly totals: { changes: number };
  readonly #tree: Tree<Node>;
  readonly #listing: Listing<Node>;
  readonly #comparer: Comparer<Node>;
  readonly #held: Held<Node>[] = [];

  constructor(
    tree: Tree<Node>,
    listing: Listing<Node>,
    { paths = [], renames = false }: Pick<ChangeOptions, 'paths' | 'renames'>,
  ) {
    this.#tree = tree;
    this.#listing = listing;
    this.#comparer = new Comparer(tree);
    const walk = new ChangeWalk(tree, listing, {
      options: { details: true, all: true, renames },
      keeps: true,
    });
    try {
      const found = walk.run();
      const kinds = new Map(found.map(({ change: { path, kind } }) => [path, kind]));
      const plans = found.flatMap((each) => [...this.#plans(each, kinds)]);
      const isWanted = (path: string | undefined) =>
        paths.length === 0 || paths.some((wanted) => isAtOrBelow(path, wanted));
      const wanted = plans.filter(
        ({ entry: { before, after } }) => isWanted(before?.path) || isWanted(after?.path),
      );
      for (const plan of wanted) this.#keep(plan);
      const changed = found.filter(
        ({ change: { path, from } }) => isWanted(path) || isWanted(from),
      );
      this.totals = { changes: Math.max(changed.length, wanted.length) };
    } catch (error) {
      this.release();
      throw error;
    } finally {
      walk.release();
    }
    this.entries.sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
  }

  /** What a change makes of files; nothing, of others. */
  *#plans(found: Finding<Node>, kinds: ReadonlyMap<string, string>): Generator<Plan<Node>> {
    const { change, inode, base, attr } = found;
    const { kind, path, from = path, changed = [] } = change;
    if (kind === 'R' && change.type === S_IFDIR && inode !== undefined) {
      yield* this.#moved(path, from, inode, kinds);
      return;
    }
    const [lower] = base?.refs ?? [];
    const entry: Compared = {};
    if (base !== undefined && lower !== undefined && isTold(base.attr)) {
      entry.before = sideOf(from, base.attr);
      if (!isFile(entry.before)) {
        entry.before.target = lower.layer.readlink(lower.node);
      }
    }
    if (inode !== undefined && isTold(attr)) {
      entry.after = sideOf(path, attr);
      if (inode.type === S_IFLNK) entry.after.target = this.#comparer.readlink(inode);
    }
    if (entry.before === undefined && entry.after === undefined) return;
    const isSame = kind !== 'A' && kind !== 'D' && !changed.some((each) => CONTENTS.has(each));
    if (isSame) entry.isSame = true;
    yield { entry, inode, base: lower };
  }

  /** The files in a directory that was renamed, as far as nothing else is said of them. */
  *#moved(
    path: string,
    from: string,
    dir: Inode<Node>,
    kinds: ReadonlyMap<string, string>,
  ): Generator<Plan<Node>> {
    for (const name of this.#listing.names(dir)) {
      const attr = new Attr();
      const inode = this.#tree.find(dir, name, attr);
      if (inode === undefined) continue;
      inode.refs++;
      try {
        const here = `${path}/${name}`;
        const there = `${from}/${name}`;
        const kind = kinds.get(here);
        const isDirectory = inode.type === S_IFDIR;
        if (isDirectory && kind !== 'A' && kind !== 'R') {
          yield* this.#moved(here, there, inode, kinds);
        } else if (!isDirectory && kind === undefined && isTold(attr)) {
          const entry: Compared = {
            before: sideOf(there, attr),
            after: sideOf(here, attr),
            isSame: true,
          };
          yield { entry, inode: undefined, base: undefined };
        }
      } finally {
        inode.refs--;
        this.#tree.table.settle(inode);
      }
    }
  }

  /** Has what a plan needs stay as it is. */
  #keep({ entry, inode, base }: Plan<Node>): void {
    this.entries.push(entry);
    const { before, after, isSame } = entry;
    if (isSame === true) return;
    if (before !== undefined && base !== undefined && isFile(before)) {
      before.content = this.#held.push({ lower: base, size: before.size }) - 1;
    }
    if (after === undefined || inode === undefined || !isFile(after)) return;
    after.content = this.#held.push(this.#heldOf(inode, after.size)) - 1;
  }

  #heldOf(inode: Inode<Node>, size: number): Held<Node> {
    const { upper, lowers } = inode;
    const [lower] = lowers;
    if (upper === undefined && lower !== undefined) return { lower, size };
    const frozen = upper === undefined ? undefined : this.#tree.upper.freeze(upper);
    if (frozen !== undefined) return { frozen };
    inode.refs++;
    return { inode };
  }

  /** The bytes of a file: as they were, or, where the upper cannot keep them, as they are now. @returns the file's size. */
  content(id: number, offset: number, length: number, into: Segments): number {
    const held = this.#held[id];
    if (held === undefined) throw new RangeError(`the comparison has no file ${id}`);
    if ('frozen' in held) {
      const count = Math.min(length, held.frozen.size - offset);
      if (count > 0) held.frozen.read(offset, count, into);
      return held.frozen.size;
    }
    if ('lower' in held) {
      const count = Math.min(length, held.size - offset);
      if (count > 0) held.lower.layer.read(held.lower.node, offset, count, into);
      return held.size;
    }
    const attr = new Attr();
    this.#tree.attr(held.inode, attr);
    const count = Math.min(length, attr.size - offset);
    const { upper } = held.inode;
    if (upper !== undefined && count > 0) this.#tree.upper.read(upper, offset, count, into);
    return attr.size;
  }

  /** Lets go of everything. */
  release(): void {
    for (const held of this.#held.splice(0)) {
      if ('frozen' in held) held.frozen.release();
      if (!('inode' in held)) continue;
      held.inode.refs--;
      this.#tree.table.settle(held.inode);
    }
  }
}

/** Differences that git has a patch for, modes apart. */
const CONTENTS: ReadonlySet<string> = new Set(['type', 'content']);

/** Whether git knows of such files. */
function isTold({ mode }: Attr): boolean {
  const type = mode & S_IFMT;
  return type === S_IFREG || type === S_IFLNK;
}

function sideOf(path: string, { mode, size }: Attr): Side {
  return { path, mode, size };
}

function isFile({ mode }: Side): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

function placeOf({ before, after }: Compared): string {
  return after?.path ?? before?.path ?? '';
}
