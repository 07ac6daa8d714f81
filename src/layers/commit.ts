/**
 * A lower layer that is a commit in an OSTree repository, without a checkout: directories are dirtree and dirmeta objects,
 * files are content objects. What it shows is what a deployment of the commit shows: every path a file of its own,
 * times 0, `.ostree-wh.NAME` as a whiteout called NAME.
 *
 * Objects are read when they are asked for, and what is kept of them is bounded, so neither the start nor the memory of
 * a session depends on the size of the commit. An object that is missing or corrupt is EIO for that file alone.
 */
import { check, FsError } from '../errors.ts';
import type { ByteString, Native } from '../native.ts';
import { checksumOf, digestOf } from '../ostree/objects.ts';
import type { Checksum, Digest, Xattr } from '../ostree/objects.ts';
import { Repository } from '../ostree/repo.ts';
import { ListedEntries } from './entries.ts';
import { hashName } from './inode-numbers.ts';
import { idOfImage, type IdMaps } from './ids.ts';
import { Attr, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG } from './layer.ts';
import type { Entries, LowerLayer, Name, Place, Segments } from './layer.ts';
import { ObjectCache, WHITEOUT_PREFIX, type ObjectCacheOptions } from './object-cache.ts';

const DT_CHR = 2;
const DT_DIR = 4;
const SEEK_DATA = 3;
const BLOCK = 4096;

/** Bits of a number that are kept apart: V8 boxes what has more than 32. */
const LOW_BITS = 2 ** 32;

/** A file or directory of the commit. There is one of each file that the kernel knows: no field takes a box of its own. */
export class CommitNode {
  /** The content object, or the dirtree. */
  readonly digest: Digest;
  /** The dirmeta of a directory; `undefined` for anything else. */
  readonly meta: Digest | undefined;
  /** A regular file in the commit, a device here. */
  readonly isWhiteout: boolean;
  readonly #low: number;
  readonly #high: number;

  constructor(ino: number, digest: Digest, meta: Digest | undefined, isWhiteout: boolean) {
    this.digest = digest;
    this.meta = meta;
    this.isWhiteout = isWhiteout;
    this.#low = ino | 0;
    this.#high = Math.floor(ino / LOW_BITS);
  }

  get checksum(): Checksum {
    return checksumOf(this.digest);
  }

  get ino(): number {
    return this.#high * LOW_BITS + (this.#low >>> 0);
  }
}

export interface CommitLayerOptions extends ObjectCacheOptions {
  /** Dirtree and dirmeta of the root. */
  tree: Checksum;
  meta: Checksum;
  /** The session is in a user namespace that has these ids. */
  ids?: IdMaps | undefined;
}

export class CommitLayer implements LowerLayer<CommitNode> {
  readonly root: CommitNode;
  readonly #native: Native;
  readonly #objects: ObjectCache;
  readonly #ids: IdMaps | undefined;
  /** Directories may claim permissions that their repository's files cannot have: libostree takes those away. */
  readonly #directoryMask: number;
  readonly #attr: Attr = new Attr();

  /** @param repo  closed with the layer. */
  constructor(native: Native, repo: Repository, options: CommitLayerOptions) {
    this.#native = native;
    this.#objects = new ObjectCache(native, repo, options);
    this.#directoryMask = S_IFDIR | (repo.mode === 'bare-user-only' ? 0o775 : 0o7777);
    this.#ids = options.ids;
    this.root = new CommitNode(
      hashName(0, '/'),
      digestOf(options.tree),
      digestOf(options.meta),
      false,
    );
  }

  /**
   * @param fds  directories of the repository and its parents, nearest first; closed with the layer.
   * @throws SessionError when there is no repository behind them.
   */
  static open(native: Native, fds: readonly number[], options: CommitLayerOptions): CommitLayer {
    const repo = Repository.adopt(native, fds, 'the repository');
    return new CommitLayer(native, repo, options);
  }

  /** One line for each broken object that was met, the first hundred of them. */
  problems(): string[] {
    return this.#objects.problems();
  }

  lookup(dir: CommitNode, name: Name, attr: Attr): CommitNode | undefined {
    const node = this.#find(dir, name);
    if (node !== undefined) this.attr(node, attr);
    return node;
  }

  entries(dir: CommitNode): Entries {
    const { tree, whiteouts } = this.#objects.view(dir.digest);
    const names: Name[] = [];
    const types: number[] = [];
    const hidden = new Set(whiteouts?.values());
    for (const [index, name] of tree.files.names.entries()) {
      if (hidden.has(index)) continue;
      names.push(name);
      types.push(this.#objects.typeOf(tree.files.digest(index)));
    }
    for (const name of whiteouts?.keys() ?? []) {
      names.push(name);
      types.push(DT_CHR);
    }
    for (const name of tree.dirs.names) {
      names.push(name);
      types.push(DT_DIR);
    }
    const inos = Float64Array.from(names, (name) => hashName(dir.ino, name));
    return new ListedEntries(names, Uint8Array.from(types), inos);
  }

  statMany(
    dir: CommitNode,
    names: Name[],
    from: number,
    count: number,
    visit: (index: number, attr: Attr) => void,
  ): void {
    for (let index = from; index < from + count; index++) {
      const node = this.#find(dir, names[index] ?? '');
      if (node === undefined || !this.#tryAttr(node, this.#attr)) continue;
      visit(index, this.#attr);
    }
  }

  child(dir: CommitNode, name: Name): CommitNode {
    const node = this.#find(dir, name);
    if (node === undefined) throw new FsError('ENOENT');
    return node;
  }

  attr(node: CommitNode, attr: Attr): void {
    attr.ino = node.ino;
    attr.rdevMajor = attr.rdevMinor = 0;
    attr.atimeSec = attr.mtimeSec = attr.ctimeSec = attr.btimeSec = 0;
    attr.atimeNsec = attr.mtimeNsec = attr.ctimeNsec = attr.btimeNsec = 0;
    if (node.meta !== undefined) {
      const { mode, uid, gid } = this.#objects.meta(node.meta);
      attr.mode = mode & this.#directoryMask;
      this.#own(attr, uid, gid);
      attr.nlink = 2 + this.#subdirectories(node);
      attr.size = BLOCK;
      attr.blocks = BLOCK / 512;
      return;
    }
    const { mode, uid, gid, size } = this.#objects.info(node.digest);
    attr.mode = node.isWhiteout ? S_IFCHR | (mode & 0o7777) : mode;
    this.#own(attr, uid, gid);
    attr.nlink = 1;
    attr.size = node.isWhiteout ? 0 : size;
    const hasBlocks = (attr.mode & S_IFMT) === S_IFREG;
    attr.blocks = hasBlocks ? Math.ceil(size / BLOCK) * (BLOCK / 512) : 0;
  }

  #own(attr: Attr, uid: number, gid: number): void {
    attr.uid = this.#ids === undefined ? uid : idOfImage(this.#ids.uids, uid);
    attr.gid = this.#ids === undefined ? gid : idOfImage(this.#ids.gids, gid);
  }

  #tryAttr(node: CommitNode, attr: Attr): boolean {
    try {
      this.attr(node, attr);
      return true;
    } catch (error) {
      if (error instanceof FsError) return false;
      throw error;
    }
  }

  readlink(node: CommitNode): Name {
    const target = node.meta === undefined ? this.#objects.target(node.digest) : '';
    if (target === '') throw new FsError('EINVAL');
    return target;
  }

  read(node: CommitNode, offset: number, length: number, into: Segments): void {
    if (length > 0) into.add(this.#objects.file(node.digest).fd, offset, length);
  }

  seek(node: CommitNode, offset: number, whence: number): number {
    const { size } = this.#objects.info(node.digest);
    if (offset >= size) throw new FsError('ENXIO');
    const file = this.#objects.file(node.digest);
    // What was inflated has no holes.
    if (file.isInflated) return whence === SEEK_DATA ? offset : size;
    return check(this.#native.lseek(file.fd, offset, whence));
  }

  /** A commit knows no opaque directories: it lies at the bottom. */
  isOpaque(): boolean {
    return false;
  }

  getxattr(node: CommitNode, name: ByteString): Uint8Array | undefined {
    return this.#xattrsOf(node).find((each) => each.name === name)?.value;
  }

  listxattr(node: CommitNode): ByteString[] {
    return this.#xattrsOf(node).map(({ name }) => name);
  }

  place({ checksum, meta }: CommitNode): Place {
    return meta === undefined ? { checksum } : { checksum, meta: checksumOf(meta) };
  }

  close(): void {
    this.#objects.close();
  }

  #find(dir: CommitNode, name: Name): CommitNode | undefined {
    const { tree, whiteouts } = this.#objects.view(dir.digest);
    const { files, dirs } = tree;
    const ino = hashName(dir.ino, name);
    const sub = dirs.find(name);
    if (sub !== -1) return new CommitNode(ino, dirs.digest(sub), dirs.digest(sub, 1), false);
    let file = files.find(name);
    if (whiteouts === undefined) {
      return file === -1 ? undefined : new CommitNode(ino, files.digest(file), undefined, false);
    }
    const whiteout = whiteouts.get(name);
    if (whiteout !== undefined) file = whiteout;
    else if (whiteouts.get(withoutPrefix(name)) === file) return undefined;
    if (file === -1) return undefined;
    return new CommitNode(ino, files.digest(file), undefined, whiteout !== undefined);
  }

  #xattrsOf({ digest, meta }: CommitNode): readonly Xattr[] {
    return meta === undefined ? this.#objects.xattrs(digest) : this.#objects.meta(meta).xattrs;
  }

  /** None can be counted in a directory that cannot be read; it is still there. */
  #subdirectories({ digest }: CommitNode): number {
    try {
      return this.#objects.view(digest).tree.dirs.length;
    } catch (error) {
      if (error instanceof FsError) return 0;
      throw error;
    }
  }
}

/** The name of the whiteout that a file called `name` may be. */
function withoutPrefix(name: Name): Name {
  return name.startsWith(WHITEOUT_PREFIX) ? name.slice(WHITEOUT_PREFIX.length) : '';
}
