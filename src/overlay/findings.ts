/** What a walk over a session finds, as changes: who made each, and what it is made of if that is kept. */
import { Attr, S_IFMT } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { By, ByFinder, Change, ChangeOptions } from './change.ts';
import type { Base, Comparer, Difference } from './difference.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/** Of findings that say no more than the change. */
const NOTHING: Attr = new Attr();

/** A change, with what it is made of if the walk keeps that. */
export interface Finding<Node extends object> {
  change: Change;
  /** What is there now, and what was: both of M and R. */
  inode: Inode<Node> | undefined;
  attr: Attr;
  base: Base | undefined;
}

export interface WalkOptions {
  options: ChangeOptions;
  finder?: ByFinder | undefined;
  /** Findings say what they are made of: all that is needed of most is the change, and there may be a million. */
  keeps: boolean;
}

/** A file that is not what it was, or not where. */
export interface Changed<Node extends object> {
  kind: 'M' | 'R';
  path: string;
  from: string;
  inode: Inode<Node>;
  attr: Attr;
  base: Base;
  differences: Difference[];
}

export class Findings<Node extends object> {
  readonly all: Finding<Node>[] = [];
  readonly #tree: Tree<Node>;
  readonly #comparer: Comparer<Node>;
  readonly #hasDetails: boolean;
  readonly #keeps: boolean;
  readonly #finder: ByFinder | undefined;
  /** Inodes that findings speak of: they must not go. */
  readonly #held: Inode<Node>[] = [];
  /** Who changed what is at the paths that were looked at. */
  readonly #bringers: Map<string, By | null> = new Map();
  /** The directory whose number was asked for last. */
  #numbered: { dir: Inode<Node>; ino: number } | undefined;

  constructor(tree: Tree<Node>, comparer: Comparer<Node>, { options, finder, keeps }: WalkOptions) {
    this.#tree = tree;
    this.#comparer = comparer;
    this.#hasDetails = options.details === true;
    this.#finder = finder;
    this.#keeps = keeps;
  }

  hold(inode: Inode<Node>): void {
    inode.refs++;
    this.#held.push(inode);
  }

  /** Lets go of the inodes. */
  release(): void {
    for (const inode of this.#held.splice(0).toReversed()) {
      inode.refs--;
      this.#tree.table.settle(inode);
    }
  }

  /** Notes who changed what is at a path; what came with its directory came by who brought that. */
  noteBy(
    parent: string,
    path: string,
    dir: Inode<Node>,
    name: Name,
    inode: Inode<Node>,
    attr: Attr,
  ): void {
    if (this.#finder === undefined) return;
    const found = this.#finder(attr.ino, this.#numberOf(dir), name) ?? null;
    const cameAlong = found === null && inode.upper === undefined;
    this.#bringers.set(path, cameAlong ? (this.#bringers.get(parent) ?? null) : found);
  }

  /** Of a path that nothing is below, when it has been looked at. */
  forgetBy(path: string): void {
    if (!this.#keeps) this.#bringers.delete(path);
  }

  removed(path: string, base: Base, dir: Inode<Node>, name: Name): void {
    const change: Change = { kind: 'D', path, ...described(base.attr) };
    if (this.#finder !== undefined) {
      change.by = this.#finder(0, this.#numberOf(dir), name) ?? null;
    }
    this.#add(change, undefined, base.attr, base);
    this.#detail(change, base.attr);
  }

  /** As `removed`, of what was in a directory that is gone. @returns it; it is not among `all`. */
  removedBelow(path: string, base: Base): Finding<Node> {
    const change: Change = { kind: 'D', path, ...described(base.attr) };
    this.#detail(change, base.attr);
    return { change, inode: undefined, attr: base.attr, base };
  }

  added(path: string, inode: Inode<Node>, attr: Attr): void {
    const change: Change = { kind: 'A', path, ...described(attr) };
    this.#addBy(change);
    this.#add(change, inode, attr, undefined);
    this.#detail(change, attr);
  }

  changed({ kind, path, from, inode, attr, base, differences }: Changed<Node>): void {
    const { type, size, mode } = described(base.attr);
    const change: Change = {
      kind,
      path,
      ...described(attr),
      typeBefore: type,
      sizeBefore: size,
      modeBefore: mode,
    };
    if (from !== path) change.from = from;
    this.#addBy(change);
    this.#add(change, inode, attr, base);
    this.#detail(change, attr);
    if (!this.#hasDetails) return;
    change.changed = change.type === type ? differences : this.#comparer.all(inode, attr, base);
    change.ownerBefore = [base.attr.uid, base.attr.gid];
    change.mtimeBefore = [base.attr.mtimeSec, base.attr.mtimeNsec];
    if (change.changed.includes('xattrs')) change.xattrs = this.#comparer.xattrs(inode, base);
  }

  #add(change: Change, inode: Inode<Node> | undefined, attr: Attr, base: Base | undefined): void {
    if (!this.#keeps) {
      this.all.push({ change, inode: undefined, attr: NOTHING, base: undefined });
      return;
    }
    this.all.push({ change, inode, attr, base });
    if (inode !== undefined) this.hold(inode);
  }

  #addBy(change: Change): void {
    if (this.#finder !== undefined) change.by = this.#bringers.get(change.path) ?? null;
  }

  #detail(change: Change, attr: Attr): void {
    if (!this.#hasDetails) return;
    change.owner = [attr.uid, attr.gid];
    change.mtime = [attr.mtimeSec, attr.mtimeNsec];
  }

  #numberOf(dir: Inode<Node>): number {
    if (this.#numbered?.dir !== dir) {
      const attr = new Attr();
      this.#tree.attr(dir, attr);
      this.#numbered = { dir, ino: attr.ino };
    }
    return this.#numbered.ino;
  }
}

function described(attr: Attr): Pick<Change, 'type' | 'size' | 'mode'> {
  return { type: attr.mode & S_IFMT, size: attr.size, mode: attr.mode };
}
