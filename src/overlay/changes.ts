/**
 * What a session has changed, against the lowers. The walk follows the upper, so it costs what changed; only a changed
 * file with several lower names makes it look for the other names.
 *
 * Times alone are no change, nor is a file that was written again with what it had.
 */
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Segments } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import type { Tree } from './tree.ts';

export interface Change {
  kind: 'A' | 'M' | 'D';
  /** A byte string from the root of the tree, beginning with '/'. */
  path: string;
  /** S_IFMT bits, size in bytes and mode as they are now; as they were, for D. */
  type: number;
  size: number;
  mode: number;
  /** M only. */
  modeBefore?: number;
}

/** What of a file is compared. */
type Current<Node extends object> = Pick<Inode<Node>, 'upper' | 'lowers' | 'type'>;

/** A file as it is in the lowers. */
interface Base {
  refs: readonly LowerRef[];
  attr: Attr;
}

/** Every change, sorted by path. A new directory is listed with all it holds, a removed one alone. */
export function changes<Node extends object>(tree: Tree<Node>, listing: Listing<Node>): Change[] {
  const walk = new ChangeWalk(tree, listing);
  walk.directory('', tree.root, tree.root.lowers);
  return walk.found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

class ChangeWalk<Node extends object> {
  readonly found: Change[] = [];
  readonly #tree: Tree<Node>;
  readonly #listing: Listing<Node>;
  /** Some changed file may have names that the upper does not know. */
  readonly #everywhere: boolean;
  readonly #ours: Segments = new Segments();
  readonly #theirs: Segments = new Segments();

  constructor(tree: Tree<Node>, listing: Listing<Node>) {
    this.#tree = tree;
    this.#listing = listing;
    this.#everywhere = this.#hasChangedLinks();
  }

  /** Compares a directory with what the lowers have at its path. */
  directory(path: string, dir: Inode<Node>, base: readonly LowerRef[]): void {
    for (const name of this.#namesToCompare(dir, base)) this.#name(path, dir, base, name);
  }

  #namesToCompare(dir: Inode<Node>, base: readonly LowerRef[]): Iterable<Name> {
    const isInPlace = samePlace(dir.lowers, base);
    if (isInPlace && !this.#everywhere) {
      if (dir.upper === undefined) return [];
      return Array.from(this.#tree.upper.entries(dir.upper), ({ name }) => name);
    }
    const before = base.length === 0 ? [] : this.#tree.stack.entries(base).names;
    return new Set([...this.#listing.names(dir), ...before]);
  }

  #name(path: string, dir: Inode<Node>, base: readonly LowerRef[], name: Name): void {
    const attr = new Attr();
    const inode = this.#tree.find(dir, name, attr);
    const baseAttr = new Attr();
    const refs = this.#tree.stack.find(base, name, baseAttr);
    const here = `${path}/${name}`;
    if (refs !== undefined) baseAttr.nlink = 1;
    const before = refs === undefined ? undefined : { refs, attr: baseAttr };
    // The inode must not go while its children are walked.
    if (inode !== undefined) inode.refs++;
    try {
      this.#compare(here, inode, attr, before);
    } finally {
      if (inode !== undefined) {
        inode.refs--;
        this.#tree.table.settle(inode);
      }
    }
  }

  #compare(path: string, inode: Inode<Node> | undefined, attr: Attr, base: Base | undefined): void {
    if (inode === undefined) {
      if (base !== undefined) this.#report('D', path, base.attr);
      return;
    }
    if (base === undefined) {
      this.#report('A', path, attr);
      if (inode.type === S_IFDIR) this.directory(path, inode, []);
      return;
    }
    if (inode.type !== (base.attr.mode & S_IFMT)) {
      this.#report('M', path, attr, base.attr.mode);
      if (inode.type === S_IFDIR) this.directory(path, inode, []);
      return;
    }
    if (this.#differs(inode, attr, base)) this.#report('M', path, attr, base.attr.mode);
    if (inode.type === S_IFDIR) this.directory(path, inode, base.refs);
  }

  #report(kind: Change['kind'], path: string, attr: Attr, modeBefore?: number): void {
    const change: Change = {
      kind,
      path,
      type: attr.mode & S_IFMT,
      size: attr.size,
      mode: attr.mode,
    };
    if (modeBefore !== undefined) change.modeBefore = modeBefore;
    this.found.push(change);
  }

  #differs(inode: Current<Node>, attr: Attr, base: Base): boolean {
    if (inode.upper === undefined) {
      if (samePlace(inode.lowers, base.refs) || sameObject(inode.lowers, base.refs)) return false;
    }
    if (attr.mode !== base.attr.mode || attr.uid !== base.attr.uid || attr.gid !== base.attr.gid) {
      return true;
    }
    if (attr.rdevMajor !== base.attr.rdevMajor || attr.rdevMinor !== base.attr.rdevMinor) {
      return true;
    }
    return this.#xattrsDiffer(inode, base) || this.#contentDiffers(inode, attr, base);
  }

  #contentDiffers(inode: Current<Node>, attr: Attr, base: Base): boolean {
    const [lower] = base.refs;
    if (lower === undefined || inode.type === S_IFDIR) return false;
    if (inode.type === S_IFLNK) {
      return this.#readlink(inode) !== lower.layer.readlink(lower.node);
    }
    if (inode.type !== S_IFREG) return false;
    if (attr.size !== base.attr.size) return true;
    if (inode.upper !== undefined) {
      const origin = this.#tree.upper.origin(inode.upper);
      if (samePlace(origin, base.refs) || sameObject(origin, base.refs)) {
        return this.#tree.upper.contentDiffers(inode.upper);
      }
    }
    this.#ours.clear();
    this.#theirs.clear();
    if (inode.upper !== undefined) {
      this.#tree.upper.read(inode.upper, 0, attr.size, this.#ours);
    } else {
      for (const { layer, node } of inode.lowers) layer.read(node, 0, attr.size, this.#ours);
    }
    lower.layer.read(lower.node, 0, attr.size, this.#theirs);
    return this.#tree.upper.bytesDiffer(this.#ours, this.#theirs);
  }

  #readlink(inode: Current<Node>): Name {
    if (inode.upper !== undefined) return this.#tree.upper.readlink(inode.upper);
    const [ref] = inode.lowers;
    return ref?.layer.readlink(ref.node) ?? '';
  }

  #xattrsDiffer(inode: Current<Node>, { refs }: Base): boolean {
    const [lower] = refs;
    if (lower === undefined) return false;
    const { upper } = this.#tree;
    const [own] = inode.lowers;
    const names =
      inode.upper === undefined
        ? (own?.layer.listxattr(own.node) ?? [])
        : upper.listxattr(inode.upper);
    const before = lower.layer.listxattr(lower.node);
    if (names.length !== before.length) return true;
    return names.some((name) => {
      const now =
        inode.upper === undefined
          ? own?.layer.getxattr(own.node, name)
          : upper.getxattr(inode.upper, name);
      const then = lower.layer.getxattr(lower.node, name);
      if (now === undefined || then === undefined) return now !== then;
      return Buffer.compare(now, then) !== 0;
    });
  }

  /** Whether a lower file with several names has changed and still has names: any of them may be anywhere. */
  #hasChangedLinks(): boolean {
    const attr = new Attr();
    const before = new Attr();
    for (const node of this.#tree.linked()) {
      this.#tree.upper.attr(node, attr);
      if (attr.nlink <= 1) continue;
      const refs = this.#tree.upper.origin(node);
      const [ref] = refs;
      // What it was copied from is not known, after a start on what another left.
      if (ref === undefined) return true;
      ref.layer.attr(ref.node, before);
      const file = { upper: node, lowers: [], type: attr.mode & S_IFMT };
      if (this.#differs(file, attr, { refs, attr: before })) return true;
    }
    return false;
  }
}

/** Whether two stacks of lower nodes are the same place: a node is a place, and places have numbers. */
export function samePlace(a: readonly LowerRef[], b: readonly LowerRef[]): boolean {
  const [first] = a;
  const [second] = b;
  if (first === undefined || second === undefined) return first === second;
  if (first.layer !== second.layer) return false;
  if (first.node === second.node) return true;
  return numberOf(first) === numberOf(second);
}

/** Whether two places of commits have one object: then contents, owner, mode and attributes are the same. */
function sameObject([a]: readonly LowerRef[], [b]: readonly LowerRef[]): boolean {
  if (a === undefined || b === undefined) return false;
  const one = a.layer.place(a.node);
  const other = b.layer.place(b.node);
  return one.checksum !== undefined && one.checksum === other.checksum && one.meta === other.meta;
}

const numbered: Attr = new Attr();

function numberOf({ layer, node }: LowerRef): number {
  layer.attr(node, numbered);
  return numbered.ino;
}
