/**
 * The memory upper: names and attributes in the heap, file contents in a memfd.
 *
 * What is counted against the limit: 4096 bytes a block of file data that was written, NODE_BYTES a file or directory
 * that was made or changed, ENTRY_BYTES plus its length a name (whiteouts too), XATTR_BYTES plus name and value an
 * extended attribute that was set, a symlink's target. Removing may overdraw, so that a full session can be emptied.
 */
import { FsError } from '../errors.ts';
import type { ByteString, Native } from '../native.ts';
import { Arena, BLOCK_BYTES } from './arena.ts';
import { segmentsDiffer } from './bytes.ts';
import type { LateStores } from './late-stores.ts';
import { S_IFDIR, S_IFLNK, S_IFMT } from './layer.ts';
import type { Attr, Name, Segments } from './layer.ts';
import { Contents } from './memory-contents.ts';
import { MemoryNode } from './memory-node.ts';
import { Xattrs } from './memory-xattrs.ts';
import { Names } from './names.ts';
import type { Frozen, LowerRef, UpperEntry, UpperLayer, UpperSpace, UpperUsage } from './upper.ts';

export const NODE_BYTES = 1024;
export const ENTRY_BYTES = 64;

/** Numbers of new files begin here: above every lower's. */
const FIRST_INO: number = 2 ** 52;

export class MemoryUpper implements UpperLayer<MemoryNode> {
  readonly hasDeviceWhiteouts: boolean = false;
  readonly movesLowers: boolean = true;
  readonly nodeBytes: number = NODE_BYTES;
  readonly #native: Native;
  readonly #contents: Contents;
  readonly #xattrs: Xattrs;
  readonly #limit: number;
  #used = 0;
  #nodes = 0;
  #nextIno = FIRST_INO;
  readonly #now: Float64Array = new Float64Array(2);

  /**
   * @param arenaFd  an empty memfd that nobody else uses.
   * @param late  takes what can be stored when the request at hand has been answered.
   */
  constructor(native: Native, arenaFd: number, limitBytes: number, late?: LateStores) {
    this.#native = native;
    const charge = (bytes: number) => this.#charge(bytes, false);
    this.#contents = new Contents(native, new Arena(native, arenaFd), charge, late);
    this.#xattrs = new Xattrs((bytes, mayOverdraw) => this.#charge(bytes, mayOverdraw));
    this.#limit = limitBytes;
  }

  attach(): undefined {
    return undefined;
  }

  /** Nothing is kept beyond the session, so nothing is there at its beginning. */
  links(): [] {
    return [];
  }

  keepLink(): void {
    // Whoever asks keeps it as long as this layer lives.
  }

  linksLeft(): undefined {
    return undefined;
  }

  foretell(): void {
    // Nobody attaches this layer again.
  }

  require(bytes: number): void {
    if (this.#used + bytes > this.#limit) throw new FsError('ENOSPC');
  }

  nameBytes(name: Name): number {
    return ENTRY_BYTES + name.length;
  }

  make(
    attr: Attr,
    origin: readonly LowerRef[],
    target: Name | undefined,
    mayOverdraw: boolean,
  ): MemoryNode {
    this.#charge(NODE_BYTES + (target?.length ?? 0), mayOverdraw);
    const node = new MemoryNode();
    node.ino = attr.ino === 0 ? this.#nextIno++ : attr.ino;
    node.rdevMajor = attr.rdevMajor;
    node.rdevMinor = attr.rdevMinor;
    node.btimeSec = attr.btimeSec;
    node.btimeNsec = attr.btimeNsec;
    node.origin = origin;
    if (origin.length > 0) node.originBlocks = attr.blocks;
    node.target = target;
    const type = attr.mode & S_IFMT;
    node.size = type === S_IFDIR ? 0 : attr.size;
    if (type === S_IFDIR) node.directory = new Names();
    if (type === S_IFLNK && target !== undefined) node.size = target.length;
    node.nlink = attr.nlink;
    this.setAttr(node, attr);
    this.#nodes++;
    return node;
  }

  free(node: MemoryNode): void {
    this.#nodes--;
    this.#used -= NODE_BYTES + (node.target?.length ?? 0) + node.xattrBytes;
    node.contents?.truncate(0);
    for (const entry of node.directory?.entries.values() ?? []) {
      this.#used -= this.nameBytes(entry.name);
    }
    node.directory = undefined;
  }

  origin(node: MemoryNode): readonly LowerRef[] {
    return node.origin;
  }

  lookup(dir: MemoryNode, name: Name): UpperEntry<MemoryNode> | undefined {
    return dir.directory?.entries.get(name);
  }

  entries(dir: MemoryNode): Iterable<UpperEntry<MemoryNode>> {
    return dir.directory?.entries.values() ?? [];
  }

  ownEntries(dir: MemoryNode, cookie: number): Iterable<UpperEntry<MemoryNode>> {
    return dir.directory?.after(cookie) ?? [];
  }

  adopt(dir: MemoryNode, name: Name, node: MemoryNode): void {
    this.#put(dir, name, node, true, true, true);
  }

  put(dir: MemoryNode, name: Name, node: MemoryNode, covers: boolean, mayOverdraw: boolean): void {
    this.#put(dir, name, node, covers, false, mayOverdraw);
  }

  #put(
    dir: MemoryNode,
    name: Name,
    node: MemoryNode,
    covers: boolean,
    keepsPlace: boolean,
    mayOverdraw: boolean,
  ): void {
    const directory = directoryOf(dir);
    if (!directory.entries.has(name)) this.#charge(this.nameBytes(name), mayOverdraw);
    directory.put(name, node, covers, keepsPlace);
  }

  move(
    dir: MemoryNode,
    name: Name,
    toDir: MemoryNode,
    toName: Name,
    covers: boolean,
    replaces: boolean,
  ): void {
    const node = nodeAt(dir, name);
    this.remove(dir, name, false);
    this.#put(toDir, toName, node, covers, replaces, true);
  }

  exchange(dirA: MemoryNode, nameA: Name, dirB: MemoryNode, nameB: Name): void {
    const a = nodeAt(dirA, nameA);
    this.#put(dirA, nameA, nodeAt(dirB, nameB), true, true, true);
    this.#put(dirB, nameB, a, true, true, true);
  }

  seal(): void {
    // A directory moves with its lowers.
  }

  remove(dir: MemoryNode, name: Name, covers: boolean): void {
    const directory = directoryOf(dir);
    const isKnown = directory.entries.has(name);
    if (directory.remove(name, covers)) {
      if (!isKnown) this.#charge(this.nameBytes(name), true);
    } else if (isKnown) this.#used -= this.nameBytes(name);
  }

  uncover(dir: MemoryNode, name: Name): void {
    const directory = directoryOf(dir);
    if (directory.entries.has(name)) this.#used -= this.nameBytes(name);
    directory.uncover(name);
  }

  attr(node: MemoryNode, attr: Attr): void {
    node.fill(attr);
  }

  setAttr(node: MemoryNode, attr: Attr): void {
    node.take(attr);
  }

  nlink(node: MemoryNode): number {
    return node.nlink;
  }

  setNlink(node: MemoryNode, nlink: number): void {
    node.nlink = nlink;
  }

  modified(node: MemoryNode): void {
    this.touched(node);
    node.mtimeSec = node.ctimeSec;
    node.mtimeNsec = node.ctimeNsec;
  }

  touched(node: MemoryNode): void {
    this.#native.now(this.#now, true);
    node.ctimeSec = this.#now[0] ?? 0;
    node.ctimeNsec = this.#now[1] ?? 0;
  }

  readlink(node: MemoryNode): Name {
    if (node.target !== undefined) return node.target;
    const [origin] = node.origin;
    if (origin === undefined) throw new FsError('EINVAL');
    return origin.layer.readlink(origin.node);
  }

  getxattr(node: MemoryNode, name: ByteString): Uint8Array | undefined {
    return this.#xattrs.get(node, name);
  }

  listxattr(node: MemoryNode): ByteString[] {
    return this.#xattrs.list(node);
  }

  setxattr(node: MemoryNode, name: ByteString, value: Uint8Array): void {
    this.#xattrs.set(node, name, value);
  }

  removexattr(node: MemoryNode, name: ByteString): void {
    this.#xattrs.remove(node, name);
  }

  read(node: MemoryNode, offset: number, length: number, into: Segments): void {
    this.#contents.read(node, offset, length, into);
  }

  write(node: MemoryNode, offset: number, data: Uint8Array, start: number, length: number): void {
    this.#contents.write(node, offset, data, start, length);
  }

  truncate(node: MemoryNode, size: number): void {
    this.#contents.truncate(node, size);
  }

  allocate(node: MemoryNode, offset: number, length: number): void {
    this.#contents.allocate(node, offset, length);
  }

  punch(node: MemoryNode, offset: number, length: number): void {
    this.#contents.punch(node, offset, length);
  }

  seek(node: MemoryNode, offset: number, whence: number): number {
    return this.#contents.seek(node, offset, whence);
  }

  copy(node: MemoryNode, offset: number, from: Segments): number {
    return this.#contents.copy(node, offset, from);
  }

  freeze(node: MemoryNode): Frozen {
    return this.#contents.freeze(node);
  }

  contentDiffers(node: MemoryNode, mustStop?: () => boolean): boolean {
    return this.#contents.differs(node, mustStop);
  }

  bytesDiffer(a: Segments, b: Segments, mustStop?: () => boolean): boolean {
    return segmentsDiffer(this.#native, a, b, mustStop);
  }

  now(out: Float64Array): void {
    this.#native.now(out, true);
  }

  usage(): UpperUsage {
    return {
      used: this.#used,
      limit: this.#limit,
      nodes: this.#nodes,
      bytesWritten: this.#contents.bytesWritten,
      bytesCopied: this.#contents.bytesCopied,
    };
  }

  space(into: UpperSpace): void {
    const free = Math.max(0, this.#limit - this.#used);
    into.blockBytes = BLOCK_BYTES;
    into.blocks = Math.floor(this.#limit / BLOCK_BYTES);
    into.free = into.available = Math.floor(free / BLOCK_BYTES);
    into.freeFiles = Math.floor(free / NODE_BYTES);
    into.files = this.#nodes + into.freeFiles;
  }

  sync(): void {
    // Memory has nothing behind it. The kernel still writes pages that were stored into, and reports what that meets.
    throw new FsError('ENOSYS');
  }

  close(): void {
    // The memfd is its giver's.
  }

  #charge(bytes: number, mayOverdraw: boolean): void {
    if (bytes > 0 && !mayOverdraw && this.#used + bytes > this.#limit) throw new FsError('ENOSPC');
    this.#used += bytes;
  }
}

function directoryOf(node: MemoryNode): Names<MemoryNode> {
  if (node.directory === undefined) throw new FsError('ENOTDIR');
  return node.directory;
}

function nodeAt(dir: MemoryNode, name: Name): MemoryNode {
  const node = directoryOf(dir).entries.get(name)?.node;
  if (node === undefined) throw new FsError('ENOENT');
  return node;
}
