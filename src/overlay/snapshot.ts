/**
 * What a session is at one instant, against its lowers: names, attributes and, where the upper can, contents stay as they
 * were however long somebody looks. The walk follows the upper, so it costs what changed; what is below an unchanged
 * directory is left to whoever has the lowers, too.
 */
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../layers/layer.ts';
import type { Name, Place, Segments } from '../layers/layer.ts';
import type { Frozen, LowerRef } from '../layers/upper.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import type { Tree } from './tree.ts';

/** A place in a lower that the session shows unchanged, or shows with changes. */
export interface SnapshotPlace extends Place {
  /** Which lower, topmost first. */
  layer: number;
}

/** One name. Parents come before their children, and a directory's children directly after it. */
export interface SnapshotEntry {
  /** A byte string from the root, which is ''. */
  path: Name;
  /** The name is gone; nothing else is said. */
  gone?: true;
  /** Everything at and below this name is as the lower has it there; nothing else is said. */
  same?: SnapshotPlace;
  /** A directory: what it holds besides the entries that follow. */
  base?: SnapshotPlace;
  mode: number;
  uid: number;
  gid: number;
  rdevMajor: number;
  rdevMinor: number;
  size: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** Of a symlink. */
  target?: Name;
  xattrs: { name: Name; value: Uint8Array }[];
  /** Of a regular file: what `content` is asked with. */
  content?: number;
  /** Its bytes, where these few (descriptor, offset, length) triples are all of them, and stay. */
  held?: number[];
}

/** A regular file: what it held, or itself where that cannot be kept. */
type Held<Node extends object> = { frozen: Frozen } | { inode: Inode<Node>; frozen?: undefined };

const NOTHING = {
  mode: 0,
  uid: 0,
  gid: 0,
  rdevMajor: 0,
  rdevMinor: 0,
  size: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  xattrs: [],
};

export class Snapshot<Node extends object> {
  readonly entries: SnapshotEntry[] = [];
  readonly #tree: Tree<Node>;
  readonly #listing: Listing<Node>;
  readonly #held: Held<Node>[] = [];
  /** A changed file may have names that the upper does not know. */
  readonly #everywhere: boolean;

  constructor(tree: Tree<Node>, listing: Listing<Node>) {
    this.#tree = tree;
    this.#listing = listing;
    this.#everywhere = [...tree.linked()].length > 0;
    const attr = new Attr();
    tree.attr(tree.root, attr);
    this.#directory('', tree.root, attr);
  }

  /** Files whose contents may be asked for, and the bytes that they have together. */
  get totals(): { files: number; bytes: number } {
    const files = this.entries.filter(({ content }) => content !== undefined);
    return { files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) };
  }

  /** Whether the bytes of a file stay as they were. */
  isFrozen(id: number): boolean {
    return this.#held[id]?.frozen !== undefined;
  }

  /** The bytes of a file: as they were, or, where `isLive`, as they are now. @returns the file's size. */
  content(id: number, offset: number, length: number, into: Segments): number {
    const held = this.#held[id];
    if (held === undefined) throw new RangeError(`the snapshot has no file ${id}`);
    if (held.frozen !== undefined) {
      const count = Math.min(length, held.frozen.size - offset);
      if (count > 0) held.frozen.read(offset, count, into);
      return held.frozen.size;
    }
    const attr = new Attr();
    this.#tree.attr(held.inode, attr);
    const count = Math.min(length, attr.size - offset);
    if (count <= 0) return attr.size;
    const { upper, lowers } = held.inode;
    if (upper !== undefined) this.#tree.upper.read(upper, offset, count, into);
    else lowers[0]?.layer.read(lowers[0].node, offset, count, into);
    return attr.size;
  }

  /** Lets go of everything. */
  release(): void {
    for (const held of this.#held.splice(0)) {
      if (held.frozen !== undefined) {
        held.frozen.release();
        continue;
      }
      held.inode.refs--;
      this.#tree.table.settle(held.inode);
    }
  }

  #directory(path: string, dir: Inode<Node>, attr: Attr): void {
    const entry = this.#described(path, dir, attr);
    const [base, ...more] = dir.lowers;
    const isMerged = more.length > 0 || this.#everywhere;
    if (base !== undefined && !isMerged) entry.base = this.#placeOf(base);
    this.entries.push(entry);
    // The inode must not go while its children are looked at.
    dir.refs++;
    try {
      for (const name of isMerged ? this.#listing.names(dir) : this.#changed(dir)) {
        this.#name(path, dir, name);
      }
    } finally {
      dir.refs--;
      this.#tree.table.settle(dir);
    }
  }

  #changed(dir: Inode<Node>): Name[] {
    if (dir.upper === undefined) return [];
    return Array.from(this.#tree.upper.entries(dir.upper), ({ name }) => name);
  }

  #name(parent: string, dir: Inode<Node>, name: Name): void {
    const attr = new Attr();
    const path = `${parent}/${name}`;
    const inode = this.#tree.find(dir, name, attr);
    if (inode === undefined) {
      this.entries.push({ path, gone: true, ...NOTHING });
      return;
    }
    const [lower, ...more] = inode.lowers;
    const isSame = inode.upper === undefined && more.length === 0;
    if (isSame && lower !== undefined && !(this.#everywhere && inode.type === S_IFDIR)) {
      this.entries.push({ path, same: this.#placeOf(lower), ...NOTHING });
      this.#tree.table.settle(inode);
    } else if (inode.type === S_IFDIR) this.#directory(path, inode, attr);
    else this.#file(path, inode, attr);
  }

  #file(path: string, inode: Inode<Node>, attr: Attr): void {
    const entry = this.#described(path, inode, attr);
    this.entries.push(entry);
    if (inode.type === S_IFREG) {
      const { upper } = inode;
      const frozen = upper === undefined ? undefined : this.#tree.upper.freeze(upper);
      if (frozen === undefined) inode.refs++;
      entry.content = this.#held.push(frozen === undefined ? { inode } : { frozen }) - 1;
    }
    this.#tree.table.settle(inode);
  }

  #described(path: string, inode: Inode<Node>, attr: Attr): SnapshotEntry {
    const { mode, uid, gid, rdevMajor, rdevMinor, size, mtimeSec, mtimeNsec } = attr;
    const entry: SnapshotEntry = {
      path,
      mode,
      uid,
      gid,
      rdevMajor,
      rdevMinor,
      size,
      mtimeSec,
      mtimeNsec,
      xattrs: this.#xattrs(inode),
    };
    if ((mode & S_IFMT) === S_IFLNK) entry.target = this.#readlink(inode);
    return entry;
  }

  #readlink({ upper, lowers }: Inode<Node>): Name {
    if (upper !== undefined) return this.#tree.upper.readlink(upper);
    return lowers[0]?.layer.readlink(lowers[0].node) ?? '';
  }

  #xattrs({ upper, lowers }: Inode<Node>): SnapshotEntry['xattrs'] {
    const [lower] = lowers;
    const names =
      upper === undefined
        ? (lower?.layer.listxattr(lower.node) ?? [])
        : this.#tree.upper.listxattr(upper);
    return names.flatMap((name) => {
      const value =
        upper === undefined
          ? lower?.layer.getxattr(lower.node, name)
          : this.#tree.upper.getxattr(upper, name);
      return value === undefined ? [] : [{ name, value }];
    });
  }

  #placeOf({ layer, node }: LowerRef): SnapshotPlace {
    return { layer: this.#tree.stack.indexOf(layer), ...layer.place(node) };
  }
}
