/**
 * An upper that is a directory of the host in the format of kernel overlayfs, on tmpfs or on disk.
 *
 * Whatever gets a name is made in the work directory first, complete, and published by one rename or link, so that whoever
 * looks after a crash finds the old or the new. Names, links and numbers are kept here; all else is the host's.
 */
import { check, FsError, UpperError } from '../errors.ts';
import { STAT } from '../native.ts';
import type { ByteString, Native } from '../native.ts';
import { segmentsDiffer } from './bytes.ts';
import { Attr, S_IFREG } from './layer.ts';
import type { Name, Segments } from './layer.ts';
import { Names } from './names.ts';
import { Attributes } from './overlayfs-attributes.ts';
import { Contents } from './overlayfs-contents.ts';
import { realise } from './overlayfs-copyup.ts';
import { Host } from './overlayfs-host.ts';
import { Links } from './overlayfs-links.ts';
import { Marks } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';
import { Publisher } from './overlayfs-publish.ts';
import { openStore, SESSION_NAMES } from './overlayfs-store.ts';
import type { StoreNames } from './overlayfs-store.ts';
import { HostTree } from './overlayfs-tree.ts';
import type { LowerStack } from './stack.ts';
import type { LowerRef, UpperEntry, UpperLayer, UpperSpace, UpperUsage } from './upper.ts';

export interface DirectoryUpperOptions {
  /** On disk: data is synced before a name leads to it, and fsync(2) is passed on. */
  isDurable: boolean;
  /** What it is called; SESSION_NAMES when left out. */
  names?: StoreNames;
  /** Redirects may be written, which not every mount of kernel overlayfs follows; true when left out. */
  redirects?: boolean;
  /** Copy-up without data, until that is changed; not every mount of kernel overlayfs follows it. False when left out. */
  metacopy?: boolean;
  /** Ours are not all rights: marks are `user.overlay.*` then, and there are neither redirects nor metacopies. */
  isUsers?: boolean;
  /** The kernel writes to files by itself, where `file` has given them to it. */
  isShared?: boolean;
  /** Of its work directory, when `storeFd` is of the upper itself; closed with the layer. */
  workFd?: number;
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
  readonly #links: Links;
  readonly #isDurable: boolean;
  readonly #attributes: Attributes;
  readonly #contents: Contents;
  readonly #metacopy: boolean;
  readonly #isUsers: boolean;
  readonly #references: readonly Name[];
  readonly #name: Name;
  /** Of an upper that was made just now. */
  #publish: (() => void) | undefined;
  /** Copies of files of the lowers with several names, by number, as they were at the start. */
  #linked: (readonly [number, HostNode])[] = [];
  readonly #attr: Attr = new Attr();
  readonly #statfs: Float64Array = new Float64Array(9);

  /**
   * @param storeFd  of a directory that holds, or will hold, the upper and its work directory; closed with the layer.
   * @throws UpperError the host cannot keep such a layer, or something in it is damaged.
   */
  constructor(native: Native, storeFd: number, options: DirectoryUpperOptions) {
    const { names = SESSION_NAMES, isUsers = false, redirects = true, metacopy = false } = options;
    const prefix = isUsers ? 'user.overlay.' : 'trusted.overlay.';
    const store = openStore(native, storeFd, names, prefix, options.workFd);
    this.#native = native;
    this.#isUsers = isUsers;
    this.#name = names.upper;
    this.#isDurable = options.isDurable;
    this.movesLowers = redirects && !isUsers;
    this.#metacopy = metacopy && this.movesLowers;
    this.#publish = store.publish;
    this.#references = store.references;
    this.#root = store.root;
    this.#rootFd = store.fds.get(store.root) ?? -1;
    this.#host = new Host(native, store.fds, store.work, !isUsers);
    this.#marks = new Marks(this.#host, prefix);
    this.#tree = new HostTree(this.#host, this.#marks, this.#root);
    this.#publisher = new Publisher(this.#host, this.#marks, this.#tree, store.work);
    this.#links = new Links(this.#host, this.#marks, this.#tree, store.links, store.root);
    this.#attributes = new Attributes(this.#host, this.#tree);
    this.#contents = new Contents(this.#host, this.#marks, this.#tree, options);
  }

  /** @throws UpperError EIO something refers to what the lowers do not have. */
  attach(lowers: LowerStack): HostNode {
    this.#tree.attach(lowers);
    // Before anything of the tree is: what has several names is known by them.
    this.#linked = this.#links.read();
    for (const path of this.#references) {
      if (this.#tree.hasReferred(path)) continue;
      throw new UpperError(
        'EIO',
        `${this.#name}/${path}: what its redirect leads to is not in the lower`,
      );
    }
    const [top] = lowers.roots;
    if (this.#publish !== undefined && top !== undefined) this.#copyRoot(top);
    this.#publish?.();
    this.#publish = undefined;
    return this.#root;
  }

  /** A new upper's root looks like the lowers', but for an owner that this user cannot give it. */
  #copyRoot({ layer, node }: LowerRef): void {
    layer.attr(node, this.#attr);
    const wanted = Object.assign(new Attr(), this.#attr);
    for (const name of layer.listxattr(node)) {
      const value = layer.getxattr(node, name);
      if (value !== undefined && name !== 'security.selinux')
        this.setxattr(this.#root, name, value);
    }
    try {
      this.setAttr(this.#root, wanted);
    } catch (error) {
      if (!this.#isUsers || !(error instanceof FsError) || error.code !== 'EPERM') throw error;
      const own = this.#host.stat(this.#root);
      wanted.uid = own[STAT.UID] ?? 0;
      wanted.gid = own[STAT.GID] ?? 0;
      this.setAttr(this.#root, wanted);
    }
  }

  links(): (readonly [number, HostNode])[] {
    return this.#linked;
  }

  linksLeft(number: number): number | undefined {
    return this.#links.left(number);
  }

  keepLink(number: number, node: HostNode): void {
    node.link = number;
  }

  foretell(node: HostNode, nlink: number, dir: HostNode, name: Name): void {
    if (node.link !== 0) this.#links.foretell(node, nlink, dir, name);
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
    if (node.link !== 0) this.#links.drop(node);
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
    const mayWait = this.#metacopy && !this.#isCut(node);
    this.#realise(node, mayWait ? `${this.#tree.lowerPath(dir)}/${name}` : undefined);
    this.foretell(node, node.nlink, dir, name);
    try {
      this.#publisher.adopt(dir, name, node);
    } finally {
      if (node.link !== 0) this.#links.note(node);
    }
  }

  /** What is shorter than the file that it is made of is not that file with other attributes. */
  #isCut({ planned, source: [source] }: HostNode): boolean {
    if (planned === undefined || source === undefined) return false;
    source.layer.attr(source.node, this.#attr);
    return planned.size < this.#attr.size;
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
    this.#links.retry();
    this.#publisher.move(dir, name, toDir, toName, covers, replaces);
  }

  exchange(dirA: HostNode, nameA: Name, dirB: HostNode, nameB: Name): void {
    this.#links.retry();
    this.#publisher.exchange(dirA, nameA, dirB, nameB);
  }

  seal(dir: HostNode): void {
    this.#marks.setOpaque(dir);
  }

  remove(dir: HostNode, name: Name, covers: boolean): void {
    this.#publisher.remove(dir, name, covers);
  }

  uncover(dir: HostNode, name: Name): void {
    this.#publisher.uncover(dir, name);
  }

  attr(node: HostNode, attr: Attr): void {
    this.#attributes.get(node, attr);
  }

  setAttr(node: HostNode, attr: Attr): void {
    // What still has a name in the lowers must not be forgotten.
    if (node.nlink > 0) this.#realise(node);
    this.#attributes.set(node, attr);
  }

  nlink(node: HostNode): number {
    return this.#tree.nlink(node);
  }

  setNlink(node: HostNode, nlink: number): void {
    node.nlink = nlink;
    if (node.link !== 0) this.#links.note(node);
  }

  modified(node: HostNode): void {
    this.#attributes.modified(node);
  }

  touched(node: HostNode): void {
    this.#attributes.touched(node);
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
    this.#contents.read(node, offset, length, into);
  }

  write(node: HostNode, offset: number, data: Uint8Array, start: number, length: number): void {
    this.#realise(node);
    this.#contents.write(node, offset, data, start, length);
  }

  truncate(node: HostNode, size: number): void {
    this.#realise(node);
    this.#contents.truncate(node, size);
  }

  allocate(node: HostNode, offset: number, length: number): void {
    this.#realise(node);
    this.#contents.allocate(node, offset, length);
  }

  punch(node: HostNode, offset: number, length: number): void {
    this.#realise(node);
    this.#contents.punch(node, offset, length);
  }

  seek(node: HostNode, offset: number, whence: number): number {
    return this.#contents.seek(node, offset, whence);
  }

  copy(node: HostNode, offset: number, from: Segments): number {
    this.#realise(node);
    return this.#contents.copy(node, offset, from);
  }

  freeze(): undefined {
    return undefined;
  }

  file(node: HostNode, isForWriting: boolean): number | LowerRef {
    if (isForWriting) this.#realise(node);
    return this.#contents.file(node, isForWriting);
  }

  contentDiffers(node: HostNode, mustStop?: () => boolean): boolean {
    return this.#contents.differs(node, mustStop);
  }

  bytesDiffer(a: Segments, b: Segments, mustStop?: () => boolean): boolean {
    return segmentsDiffer(this.#native, a, b, mustStop);
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
      bytesWritten: this.#contents.bytesWritten,
      bytesCopied: this.#contents.bytesCopied,
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
    if (node.type === S_IFREG) this.#contents.sync(node, dataOnly);
    for (let { dir } = node.isDirectory ? { dir: node } : node; dir !== undefined; dir = dir.dir) {
      this.#host.sync(dir);
    }
  }

  close(): void {
    if (this.#isDurable) this.#native.syncfs(this.#rootFd);
    this.#host.close();
  }

  /** @param path  where its data is, from the root of the lowers, if it need not be copied. */
  #realise(node: HostNode, path?: Name): void {
    if (node.planned === undefined) return;
    if (node.isDirectory && node.nlink === 0) throw new FsError('ENOENT');
    const isDurable = this.#isDurable;
    const { planned } = node;
    this.#contents.bytesCopied += realise(this.#host, this.#marks, node, { isDurable, path });
    if (node.link === 0) return;
    try {
      this.#links.keep(node);
    } catch (error) {
      this.#host.destroy(node);
      node.plan(planned);
      throw error;
    }
  }
}
