/**
 * An upper that is a directory of the host in the format of kernel overlayfs, on tmpfs or on disk.
 *
 * Whatever gets a name is made in the work directory first, complete, and published by one rename or link, so that whoever
 * looks after a crash finds the old or the new. Names, links and numbers are kept here; all else is the host's.
 */
import { check, FsError } from '../errors.ts';
import { STAT } from '../native.ts';
import type { ByteString, Native } from '../native.ts';
import { segmentsDiffer } from './bytes.ts';
import { Attr, S_IFLNK, S_IFREG, Segments } from './layer.ts';
import type { Name } from './layer.ts';
import { Names } from './names.ts';
import { completeData, realise } from './overlayfs-copyup.ts';
import { copySegments } from './overlayfs-data.ts';
import { fillAttr, Host } from './overlayfs-host.ts';
import { Marks } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';
import { Publisher } from './overlayfs-publish.ts';
import { openStore, SESSION_NAMES } from './overlayfs-store.ts';
import type { StoreNames } from './overlayfs-store.ts';
import { HostTree } from './overlayfs-tree.ts';
import type { LowerStack } from './stack.ts';
import type { LowerRef, UpperEntry, UpperLayer, UpperSpace, UpperUsage } from './upper.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

export interface DirectoryUpperOptions {
  /** On disk: data is synced before a name leads to it, and fsync(2) is passed on. */
  isDurable: boolean;
  /** What it is called; SESSION_NAMES when left out. */
  names?: StoreNames;
  /** Redirects may be written, which not every mount of kernel overlayfs follows; true when left out. */
  redirects?: boolean;
}

export class DirectoryUpper implements UpperLayer<HostNode> {
  readonly hasDeviceWhiteouts: boolean = true;
  readonly movesLowers: boolean;
  /** The host counts. */
  readonly nodeBytes: number = 0;
  readonly #native: Native;
  readonly #host: Host;
  readonly #marks: Marks;
  readonly #tree: HostTree;
  readonly #publisher: Publisher;
  readonly #root: HostNode;
  readonly #rootFd: number;
  readonly #links: HostNode;
  readonly #isDurable: boolean;
  /** Of an upper that was made just now. */
  #publish: (() => void) | undefined;
  readonly #attr: Attr = new Attr();
  readonly #segments: Segments = new Segments();
  readonly #now: Float64Array = new Float64Array(2);
  readonly #statfs: Float64Array = new Float64Array(9);
  #bytesWritten = 0;
  #bytesCopied = 0;

  /**
   * @param storeFd  of a directory that holds, or will hold, the upper and its work directory; closed with the layer.
   * @throws FsError the host cannot keep such a layer, or something in it is damaged: the detail says what.
   */
  constructor(native: Native, storeFd: number, options: DirectoryUpperOptions) {
    const store = openStore(native, storeFd, options.names ?? SESSION_NAMES);
    this.#native = native;
    this.#isDurable = options.isDurable;
    this.movesLowers = options.redirects ?? true;
    this.#publish = store.publish;
    this.#root = store.root;
    this.#rootFd = store.fds.get(store.root) ?? -1;
    this.#links = store.links;
    this.#host = new Host(native, store.fds, store.work);
    this.#marks = new Marks(this.#host, 'trusted.overlay.');
    this.#tree = new HostTree(this.#host, this.#marks, this.#root);
    this.#publisher = new Publisher(this.#host, this.#marks, this.#tree, store.work);
  }

  attach(lowers: LowerStack): HostNode {
    this.#tree.attach(lowers);
    const [top] = lowers.roots;
    if (this.#publish !== undefined && top !== undefined) this.#copyRoot(top);
    this.#publish?.();
    this.#publish = undefined;
    return this.#root;
  }

  /** A new upper's root looks like the lowers'. */
  #copyRoot({ layer, node }: LowerRef): void {
    layer.attr(node, this.#attr);
    const wanted = Object.assign(new Attr(), this.#attr);
    for (const name of layer.listxattr(node)) {
      const value = layer.getxattr(node, name);
      if (value !== undefined && name !== 'security.selinux')
        this.setxattr(this.#root, name, value);
    }
    this.setAttr(this.#root, wanted);
  }

  *links(): Generator<readonly [number, HostNode]> {
    for (const name of this.#host.list(this.#links).names) {
      const node = this.#tree.link(this.#links, name);
      if (node.nlink > 0 && Number.isSafeInteger(node.link)) yield [node.link, node];
      else this.dropLink(0, node);
    }
  }

  keepLink(number: number, node: HostNode): void {
    node.link = number;
    if (node.planned === undefined) this.#keepLink(node);
  }

  #keepLink(node: HostNode): void {
    const name = String(node.link);
    const fd = this.#host.directory(this.#links);
    this.#host.discard(fd, name, false);
    this.#publisher.name(node, this.#links, name);
    this.#noteLinks(node);
  }

  dropLink(_number: number, node: HostNode): void {
    const name = String(node.link);
    if (node.planned !== undefined) return;
    this.#host.discard(this.#host.directory(this.#links), name, false);
    node.displace(this.#links, name);
  }

  require(): void {
    // The host refuses when it comes to it.
  }

  nameBytes(): number {
    return 0;
  }

  make(attr: Attr, origin: readonly LowerRef[], target: Name | undefined): HostNode {
    const ino = attr.ino === 0 ? this.#tree.nextIno() : attr.ino;
    const node = new HostNode(ino, attr.mode, attr.nlink, false);
    node.origin = origin;
    node.isOpaque = false;
    if (node.isDirectory) node.names = new Names();
    if (origin.length > 0) node.plan(attr);
    else this.#host.create(node, attr, target);
    return node;
  }

  free(node: HostNode): void {
    this.#host.destroy(node);
  }

  origin(node: HostNode): readonly LowerRef[] {
    return this.#tree.origin(node);
  }

  lookup(dir: HostNode, name: Name): UpperEntry<HostNode> | undefined {
    return this.#tree.names(dir).entries.get(name);
  }

  entries(dir: HostNode): Iterable<UpperEntry<HostNode>> {
    return this.#tree.names(dir).entries.values();
  }

  ownEntries(dir: HostNode, cookie: number): Iterable<UpperEntry<HostNode>> {
    return this.#tree.names(dir).after(cookie);
  }

  adopt(dir: HostNode, name: Name, node: HostNode): void {
    this.#realise(node);
    this.#publisher.adopt(dir, name, node);
    if (node.link !== 0) this.#noteLinks(node);
  }

  put(dir: HostNode, name: Name, node: HostNode, covers: boolean): void {
    this.#realise(node);
    this.#publisher.put(dir, name, node, covers);
  }

  move(
    dir: HostNode,
    name: Name,
    toDir: HostNode,
    toName: Name,
    covers: boolean,
    replaces: boolean,
  ): void {
    this.#publisher.move(dir, name, toDir, toName, covers, replaces);
  }

  exchange(dirA: HostNode, nameA: Name, dirB: HostNode, nameB: Name): void {
    this.#publisher.exchange(dirA, nameA, dirB, nameB);
  }

  remove(dir: HostNode, name: Name, covers: boolean): void {
    this.#publisher.remove(dir, name, covers);
  }

  uncover(dir: HostNode, name: Name): void {
    this.#publisher.uncover(dir, name);
  }

  attr(node: HostNode, attr: Attr): void {
    if (node.planned === undefined) fillAttr(attr, this.#host.stat(node), 0);
    else Object.assign(attr, node.planned);
    if (node.ctime !== undefined) [attr.ctimeSec, attr.ctimeNsec] = node.ctime;
    attr.ino = node.ino;
    attr.nlink = this.#tree.nlink(node);
  }

  setAttr(node: HostNode, attr: Attr): void {
    // What still has a name in the lowers must not be forgotten.
    if (node.nlink > 0) this.#realise(node);
    if (node.planned !== undefined) {
      node.plan(attr);
      return;
    }
    node.ctime = undefined;
    const native = this.#native;
    const fd = this.#host.at(node);
    const stat = this.#attr;
    fillAttr(stat, this.#host.stat(node), 0);
    const isGiven = stat.uid !== attr.uid || stat.gid !== attr.gid;
    if (isGiven) check(native.fchownat(fd, node.name, attr.uid, attr.gid));
    const isTimed =
      stat.atimeSec !== attr.atimeSec ||
      stat.atimeNsec !== attr.atimeNsec ||
      stat.mtimeSec !== attr.mtimeSec ||
      stat.mtimeNsec !== attr.mtimeNsec;
    // chown(2) clears setuid and setgid by its own rules; and a change to what was there is one, for ctime.
    if (node.type !== S_IFLNK && (isGiven || !isTimed || stat.mode !== attr.mode)) {
      check(native.fchmodat(fd, node.name, attr.mode & 0o7777));
    }
    if (isTimed) this.#host.times(node, attr);
  }

  nlink(node: HostNode): number {
    return this.#tree.nlink(node);
  }

  setNlink(node: HostNode, nlink: number): void {
    node.nlink = nlink;
    if (node.link !== 0 && nlink > 0) this.#noteLinks(node);
  }

  /** Notes the links that programs see, which are not those on the host. */
  #noteLinks(node: HostNode): void {
    if (node.planned !== undefined) return;
    const onHost = this.#host.stat(node)[STAT.NLINK] ?? 0;
    try {
      this.#marks.setExtraLinks(node, node.nlink - onHost);
    } catch {
      // In a full layer a removal must still work; the number is wrong after a crash then, and nothing else.
    }
  }

  modified(node: HostNode): void {
    this.touched(node);
    if (node.planned === undefined) return;
    node.planned.mtimeSec = node.planned.ctimeSec;
    node.planned.mtimeNsec = node.planned.ctimeNsec;
  }

  /** The host has seen to it, unless the node is none of its own. */
  touched(node: HostNode): void {
    node.ctime = undefined;
    if (node.planned === undefined) return;
    this.now(this.#now);
    node.planned.ctimeSec = this.#now[0] ?? 0;
    node.planned.ctimeNsec = this.#now[1] ?? 0;
  }

  readlink(node: HostNode): Name {
    const [source] = node.source;
    if (node.planned !== undefined && source !== undefined) {
      return source.layer.readlink(source.node);
    }
    const target = this.#native.readlinkat(this.#host.at(node), node.name);
    if (typeof target === 'string') return target;
    check(target);
    throw new FsError('EINVAL');
  }

  getxattr(node: HostNode, name: ByteString): Uint8Array | undefined {
    if (node.planned === undefined) return this.#host.getxattr(node, this.#marks.outward(name));
    const [source] = node.source;
    return source?.layer.getxattr(source.node, name);
  }

  listxattr(node: HostNode): ByteString[] {
    if (node.planned === undefined) return this.#marks.inward(this.#host.listxattr(node));
    const [source] = node.source;
    return source?.layer.listxattr(source.node) ?? [];
  }

  setxattr(node: HostNode, name: ByteString, value: Uint8Array): void {
    this.#realise(node);
    this.#host.setxattr(node, this.#marks.outward(name), value);
  }

  removexattr(node: HostNode, name: ByteString): void {
    this.#realise(node);
    this.#host.removexattr(node, this.#marks.outward(name));
  }

  read(node: HostNode, offset: number, length: number, into: Segments): void {
    const [source] = node.source;
    if (node.planned === undefined) into.add(this.#file(node), offset, length);
    else source?.layer.read(source.node, offset, length, into);
  }

  write(node: HostNode, offset: number, data: Uint8Array, start: number, length: number): void {
    const fd = this.#file(node);
    const size = this.#size(node);
    const written = this.#native.pwriteRange(fd, data, start, length, offset);
    if (written < 0) {
      // A part may have been written: the file is as long as it was.
      if (offset + length > size) this.#native.ftruncate(fd, size);
      check(written);
    }
    this.#bytesWritten += length;
    node.size = Math.max(size, offset + length);
  }

  truncate(node: HostNode, size: number): void {
    check(this.#native.ftruncate(this.#file(node), size));
    node.size = size;
  }

  allocate(node: HostNode, offset: number, length: number): void {
    check(this.#native.fallocate(this.#file(node), FALLOC_FL_KEEP_SIZE, offset, length));
  }

  punch(node: HostNode, offset: number, length: number): void {
    if (length === 0) {
      // Beyond the end there is nothing to punch, but it is a change all the same.
      this.truncate(node, this.#size(node));
      return;
    }
    const mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    check(this.#native.fallocate(this.#file(node), mode, offset, length));
  }

  seek(node: HostNode, offset: number, whence: number): number {
    return check(this.#native.lseek(this.#file(node), offset, whence));
  }

  copy(node: HostNode, offset: number, from: Segments): void {
    const fd = this.#file(node);
    const size = this.#size(node);
    let end = offset;
    for (let i = 0; i < from.count; i++) {
      const length = from.values[3 * i + 2] ?? 0;
      if (from.values[3 * i] === -1 && end < size) {
        this.punch(node, end, Math.min(length, size - end));
      }
      end += length;
    }
    copySegments(this.#native, fd, offset, from);
    if (end > size) this.truncate(node, end);
    this.#bytesWritten += end - offset;
  }

  contentDiffers(node: HostNode): boolean {
    const [source] = node.source;
    if (node.planned !== undefined || source === undefined) return false;
    source.layer.attr(source.node, this.#attr);
    const theirs = new Segments();
    source.layer.read(source.node, 0, this.#attr.size, theirs);
    this.#segments.clear();
    this.read(node, 0, this.#attr.size, this.#segments);
    return segmentsDiffer(this.#native, this.#segments, theirs);
  }

  bytesDiffer(a: Segments, b: Segments): boolean {
    return segmentsDiffer(this.#native, a, b);
  }

  now(out: Float64Array): void {
    this.#native.now(out, true);
  }

  usage(): UpperUsage {
    const [, bytes = 0, blocks = 0, free = 0, , files = 0, freeFiles = 0] = this.#space();
    return {
      used: (blocks - free) * bytes,
      limit: blocks * bytes,
      nodes: files - freeFiles,
      bytesWritten: this.#bytesWritten,
      bytesCopied: this.#bytesCopied,
    };
  }

  space(into: UpperSpace): void {
    const [, bytes = 0, blocks = 0, free = 0, available = 0, files = 0, ffree = 0] = this.#space();
    Object.assign(into, { blockBytes: bytes, blocks, free, available, files, freeFiles: ffree });
  }

  #space(): Float64Array {
    check(this.#native.fstatfs(this.#rootFd, this.#statfs));
    return this.#statfs;
  }

  sync(node: HostNode | undefined, dataOnly: boolean): void {
    if (!this.#isDurable) throw new FsError('ENOSYS');
    if (node === undefined || node.planned !== undefined) return;
    if (node.type === S_IFREG) check(this.#native.fsync(this.#file(node), dataOnly));
    for (let { dir } = node.isDirectory ? { dir: node } : node; dir !== undefined; dir = dir.dir) {
      this.#host.sync(dir);
    }
  }

  close(): void {
    if (this.#isDurable) this.#native.syncfs(this.#rootFd);
    this.#host.close();
  }

  /** An fd of a regular file that has its own contents. */
  #file(node: HostNode): number {
    this.#realise(node);
    if (node.isUnread) {
      this.#bytesCopied += completeData(this.#host, this.#marks, node, () =>
        this.#tree.dataOf(node),
      );
      node.isUnread = false;
    }
    return this.#host.file(node);
  }

  #size(node: HostNode): number {
    if (node.size < 0) {
      fillAttr(this.#attr, this.#host.stat(node), 0);
      node.size = this.#attr.size;
    }
    return node.size;
  }

  #realise(node: HostNode): void {
    if (node.planned === undefined) return;
    if (node.isDirectory && node.nlink === 0) throw new FsError('ENOENT');
    this.#bytesCopied += realise(this.#host, this.#marks, node, this.#isDurable);
    if (node.link !== 0) this.#keepLink(node);
  }
}
