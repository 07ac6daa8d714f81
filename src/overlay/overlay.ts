/**
 * The filesystem: POSIX over stacked layers, one method an operation.
 *
 * What a name means and how a file gets into the upper is `tree.ts`, what a directory shows `listing.ts`, names made and
 * removed `naming.ts`, renaming `rename.ts`, new files `creation.ts`, their bytes `data.ts`, attributes `attributes.ts`,
 * extended attributes `xattr.ts`, ACLs `acl.ts`.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../layers/layer.ts';
import type { LowerLayer, Name, Segments } from '../layers/layer.ts';
import type { UpperLayer, UpperSpace } from '../layers/upper.ts';
import { changeAttributes, markModified } from './attributes.ts';
import { type Backed, TreeBacking } from './backing.ts';
import type { BegunListing } from './begun-listing.ts';
import { changes, countChanges } from './changes.ts';
import type { ByFinder, Change, ChangeCount, ChangeOptions } from './change.ts';
import { Comparison } from './comparison.ts';
import { createNode } from './creation.ts';
import * as data from './data.ts';
import { ROOT_INO } from './filesystem.ts';
import type {
  Caller,
  Entry,
  EntryPlusSink,
  EntrySink,
  Filesystem,
  SetAttr,
  StatFs,
} from './filesystem.ts';
import type { Inode } from './inode.ts';
import { Listing } from './listing.ts';
import { link, make, remove } from './naming.ts';
import { rename } from './rename.ts';
import { Snapshot } from './snapshot.ts';
import { Tree } from './tree.ts';
import { undo } from './undo.ts';
import type { Undone } from './undo.ts';
import { checkXattrName, getXattr, removeXattr, setXattr } from './xattr.ts';

const NAME_MAX = 255;

export interface Usage {
  /** Bytes, by the upper's formula. */
  used: number;
  limit: number;
  /** Files that the kernel knows. */
  inodes: number;
  /** Files and directories in the upper. */
  nodes: number;
  bytesWritten: number;
  bytesCopied: number;
}

export class Overlay<Node extends object = object> implements Filesystem {
  /** For a kernel that reads and writes files by itself. */
  readonly backed: Backed;
  readonly #tree: Tree<Node>;
  readonly #listing: Listing<Node>;
  readonly #lowers: readonly LowerLayer<object>[];
  readonly #attr: Attr = new Attr();
  readonly #space: UpperSpace = {
    blockBytes: 0,
    blocks: 0,
    free: 0,
    available: 0,
    files: 0,
    freeFiles: 0,
  };

  /**
   * @param lowers  topmost first.
   * @param options  `hasAcl`: new files take on the default ACL of their directory (the default).
   */
  constructor(
    lowers: readonly LowerLayer<object>[],
    upper: UpperLayer<Node>,
    options: { hasAcl?: boolean } = {},
  ) {
    this.#lowers = lowers;
    this.#tree = new Tree(lowers, upper, options.hasAcl ?? true);
    this.#listing = new Listing(this.#tree);
    this.backed = new TreeBacking(this.#tree);
  }

  /** Has lower files be read ahead. @param waited  how many reads have had to wait for a disk, of all up to now. */
  readAhead(waited: Uint32Array): void {
    this.#tree.ahead.waited = waited;
  }

  /** What is to be gone on with while nobody asks for anything. */
  get begun(): BegunListing {
    return this.#tree.begun;
  }

  lookup(parent: number, name: Name, entry: Entry): void {
    checkName(name);
    const dir = this.#tree.directory(parent);
    const inode = this.#tree.find(dir, name, entry.attr);
    if (inode === undefined) {
      entry.ino = 0;
      return;
    }
    inode.refs++;
    entry.ino = inode.ino;
  }

  forget(ino: number, count: number): void {
    const inode = this.#tree.table.get(ino);
    if (inode === undefined || ino === ROOT_INO) return;
    inode.refs = Math.max(0, inode.refs - count);
    this.#tree.table.settle(inode);
  }

  getattr(ino: number, attr: Attr): void {
    this.#tree.attr(this.#tree.inode(ino), attr);
  }

  setattr(ino: number, wanted: SetAttr, caller: Caller, attr: Attr): void {
    const inode = this.#tree.inode(ino);
    changeAttributes(this.#tree, inode, wanted, caller);
    this.#tree.attr(inode, attr);
  }

  readlink(ino: number): Name {
    const inode = this.#tree.inode(ino);
    if (inode.type !== S_IFLNK) throw new FsError('EINVAL');
    if (inode.upper !== undefined) return this.#tree.upper.readlink(inode.upper);
    const [ref] = inode.lowers;
    if (ref === undefined) throw new FsError('ESTALE');
    return ref.layer.readlink(ref.node);
  }

  symlink(parent: number, name: Name, target: Name, caller: Caller, entry: Entry): void {
    this.#create(parent, name, S_IFLNK | 0o777, 0, caller, entry, target);
  }

  mknod(
    parent: number,
    name: Name,
    mode: number,
    rdevMajor: number,
    rdevMinor: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    const type = mode & S_IFMT;
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    if (type === S_IFCHR && rdevMajor === 0 && rdevMinor === 0) this.#checkWhiteout();
    const typed = type === 0 ? mode | S_IFREG : mode;
    this.#attr.rdevMajor = isDevice ? rdevMajor : 0;
    this.#attr.rdevMinor = isDevice ? rdevMinor : 0;
    this.#create(parent, name, typed, umask, caller, entry, undefined, this.#attr);
  }

  mkdir(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.#create(parent, name, S_IFDIR | (mode & 0o7777), umask, caller, entry);
  }

  create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.#create(parent, name, S_IFREG | (mode & 0o7777), umask, caller, entry);
  }

  tmpfile(parent: number, mode: number, umask: number, caller: Caller, entry: Entry): void {
    const dir = this.#liveDirectory(parent);
    const node = createNode(this.#tree, dir, S_IFREG | (mode & 0o7777), umask, caller, undefined);
    this.#tree.upper.setNlink(node, 0);
    const inode = this.#tree.table.add(S_IFREG, [], node, undefined, '', 0);
    this.#hand(inode, entry);
  }

  unlink(parent: number, name: Name): void {
    const dir = this.#tree.directory(parent);
    const inode = this.#existing(dir, name);
    if (inode.type === S_IFDIR) throw new FsError('EISDIR');
    remove(this.#tree, dir, name, inode);
  }

  rmdir(parent: number, name: Name): void {
    const dir = this.#tree.directory(parent);
    const inode = this.#existing(dir, name);
    if (inode.type !== S_IFDIR) throw new FsError('ENOTDIR');
    if (!this.#listing.isEmpty(inode)) throw new FsError('ENOTEMPTY');
    remove(this.#tree, dir, name, inode);
  }

  rename(
    parent: number,
    name: Name,
    newParent: number,
    newName: Name,
    flags: number,
    caller: Caller,
  ): void {
    checkName(name);
    checkName(newName);
    const from = { dir: this.#tree.directory(parent), name };
    const to = { dir: this.#liveDirectory(newParent), name: newName };
    rename(this.#tree, this.#listing, from, to, flags, caller);
  }

  link(ino: number, newParent: number, newName: Name, _caller: Caller, entry: Entry): void {
    checkName(newName);
    const inode = this.#tree.inode(ino);
    const dir = this.#liveDirectory(newParent);
    if (inode.type === S_IFDIR) throw new FsError('EPERM');
    link(this.#tree, inode, dir, newName);
    this.#hand(inode, entry);
  }

  read(ino: number, offset: number, length: number, into: Segments): void {
    data.read(this.#tree, data.regularFile(this.#tree, ino), offset, length, into);
  }

  write(
    ino: number,
    offset: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    clearPrivileges: boolean,
    caller: Caller,
  ): void {
    const inode = data.regularFile(this.#tree, ino);
    const node = this.#tree.copyUp(inode);
    this.#tree.upper.write(node, offset, bytes, start, length);
    markModified(this.#tree, inode, node, clearPrivileges, caller);
  }

  fallocate(ino: number, mode: number, offset: number, length: number, caller: Caller): void {
    const inode = data.regularFile(this.#tree, ino);
    data.allocate(this.#tree, inode, mode, offset, length, caller);
  }

  lseek(ino: number, offset: number, whence: number): number {
    return data.seek(this.#tree, data.regularFile(this.#tree, ino), offset, whence);
  }

  copyFileRange(
    inoIn: number,
    offsetIn: number,
    inoOut: number,
    offsetOut: number,
    length: number,
    caller: Caller,
  ): number {
    const from = data.regularFile(this.#tree, inoIn);
    const to = data.regularFile(this.#tree, inoOut);
    return data.copyRange(this.#tree, from, offsetIn, to, offsetOut, length, caller);
  }

  fsync(ino: number, dataOnly: boolean): void {
    const { upper } = this.#tree.inode(ino);
    this.#tree.upper.sync(upper, dataOnly);
  }

  statfs(stat: StatFs): void {
    this.#tree.upper.space(this.#space);
    stat.bsize = this.#space.blockBytes;
    stat.blocks = this.#space.blocks;
    stat.bfree = this.#space.free;
    stat.bavail = this.#space.available;
    stat.ffree = this.#space.freeFiles;
    stat.files = this.#space.files;
    stat.namelen = NAME_MAX;
  }

  readdir(ino: number, cookie: number, sink: EntrySink): void {
    this.#listing.read(this.#tree.directory(ino), cookie, sink);
  }

  readdirplus(ino: number, cookie: number, sink: EntryPlusSink): void {
    this.#listing.readPlus(this.#tree.directory(ino), cookie, sink);
  }

  getxattr(ino: number, name: Name): Uint8Array | undefined {
    checkXattrName(name);
    return getXattr(this.#tree, this.#tree.inode(ino), name);
  }

  listxattr(ino: number, caller: Caller): Name[] {
    const inode = this.#tree.inode(ino);
    const [ref] = inode.lowers;
    const names =
      inode.upper === undefined
        ? (ref?.layer.listxattr(ref.node) ?? [])
        : this.#tree.upper.listxattr(inode.upper);
    return caller.uid === 0 ? names : names.filter((name) => !name.startsWith('trusted.'));
  }

  setxattr(ino: number, name: Name, value: Uint8Array, flags: number, clearSetgid: boolean): void {
    checkXattrName(name);
    setXattr(this.#tree, this.#tree.inode(ino), name, value, flags, clearSetgid);
  }

  removexattr(ino: number, name: Name): void {
    checkXattrName(name);
    removeXattr(this.#tree, this.#tree.inode(ino), name);
  }

  close(): void {
    this.#tree.begun.finish();
    for (const layer of this.#lowers) layer.close();
    this.#tree.upper.close();
  }

  /** What the session has changed, sorted by path. @param finder  with it, each change is told with who made it. */
  changes(options?: ChangeOptions, finder?: ByFinder): Iterable<Change> {
    return changes(this.#tree, this.#listing, options, finder);
  }

  /** How many changes there are, by looking for no longer than `budgetMs`. */
  countChanges(budgetMs: number): ChangeCount {
    return countChanges(this.#tree, this.#listing, budgetMs);
  }

  /** Takes paths, as in `Change`, back to what the lowers have, and tells what the kernel is to be told. @throws FsError. */
  undo(paths: readonly string[], tell: (undone: Undone) => void): Undone[] {
    return undo(this.#tree, paths, tell);
  }

  /** The session as it is now; its taker lets go of it. */
  snapshot(): Snapshot<Node> {
    return new Snapshot(this.#tree, this.#listing);
  }

  /** Files that have changed, as they are now and as they were; its taker lets go of it. */
  comparison(options: Pick<ChangeOptions, 'paths' | 'renames'>): Comparison<Node> {
    return new Comparison(this.#tree, this.#listing, options);
  }

  usage(): Usage {
    return { ...this.#tree.upper.usage(), inodes: this.#tree.table.size };
  }

  #create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
    target?: Name,
    device?: Attr,
  ): void {
    checkName(name);
    const dir = this.#liveDirectory(parent);
    this.#hand(make(this.#tree, dir, name, mode, umask, caller, target, device), entry);
  }

  /** @throws FsError EPERM where a 0:0 device would be taken for a whiteout. */
  #checkWhiteout(): void {
    if (this.#tree.upper.hasDeviceWhiteouts) throw new FsError('EPERM');
  }

  #existing(dir: Inode<Node>, name: Name): Inode<Node> {
    checkName(name);
    const inode = this.#tree.find(dir, name, this.#attr);
    if (inode === undefined) throw new FsError('ENOENT');
    return inode;
  }

  /** A directory in which names can be made. @throws FsError ENOENT when it has been removed. */
  #liveDirectory(ino: number): Inode<Node> {
    const dir = this.#tree.directory(ino);
    if (this.#tree.isRemoved(dir)) throw new FsError('ENOENT');
    return dir;
  }

  /** Hands an inode to the kernel, with a reference. */
  #hand(inode: Inode<Node>, entry: Entry): void {
    inode.refs++;
    entry.ino = inode.ino;
    this.#tree.attr(inode, entry.attr);
  }
}

function checkName(name: Name): void {
  if (name.length > NAME_MAX) throw new FsError('ENAMETOOLONG');
}
