/**
 * A lower layer that is a directory tree of the host: a checked-out deployment, or any directory.
 *
 * The tree is reached from one directory fd and never left: every open is openat2 beneath it, without following
 * symlinks. The tree is taken to be immutable, so a node is a parent and a name, and fds are a cache.
 */
import { constants } from 'node:fs';
import { check, FsError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import type { ByteString, Native } from '../native.ts';
import { DirectoryReader } from './directory-reader.ts';
import { PackedEntries } from './entries.ts';
import { fillAttr } from './host-attr.ts';
import { idOnHost, type IdMaps } from './ids.ts';
import { deviceIndex, hashName, inoOf } from './inode-numbers.ts';
import { Attr, S_IFMT, S_IFREG } from './layer.ts';
import type { Entries, LowerLayer, Name, Place, Segments } from './layer.ts';
import { OpenFiles, openLimits } from './open-files.ts';
import { escapeXattr, OVERLAY_PREFIXES, unescapeXattrs } from './overlay-xattrs.ts';

const O_PATH = 0o10000000;
const O_NOATIME = 0o1000000;
const AT_EMPTY_PATH = 0x1000;
const DT_REG = 8;
const ENODATA = 61;
const EOPNOTSUPP = 95;
const EPERM = 1;
const ENOENT = 2;

const READ_FLAGS: number = constants.O_RDONLY | constants.O_NONBLOCK;

/** Names are stat'ed this many at a time. */
const BATCH = 64;

/** Index of each device that a lower of this process lies on: two layers of one device share their numbers. */
const devices = new Map<number, number>();

/** A place in the tree. */
export class DirectoryNode {
  readonly parent: DirectoryNode | undefined;
  readonly name: Name;
  /** With separate links: hash of the path, made when first needed. */
  pathHash = 0;
  /** In a layer above others: its attributes that are overlayfs's own, listed when first needed. */
  marks: readonly ByteString[] | undefined = undefined;

  constructor(parent: DirectoryNode | undefined, name: Name) {
    this.parent = parent;
    this.name = name;
  }
}

export interface DirectoryLayerOptions {
  /** Whether names that are hard links of one file are one file (`shared`), or each its own (`separate`). */
  links: 'shared' | 'separate';
  /** There is a layer below: the xattrs of overlayfs mean what they mean there, and are not shown. */
  above?: boolean;
  /** The session is in a user namespace that has these ids. */
  ids?: IdMaps | undefined;
  /** Index of each device met, shared by all lowers of a process; another for what is no lower of the session. */
  devices?: Map<number, number>;
  /** What is kept open, by all lowers of a session together; the layer's own when left out. */
  opened?: OpenFiles<DirectoryNode>;
  /** Told, once for each, of what is EIO here. */
  onProblem?: (message: string) => void;
}

const YES = 'y'.charCodeAt(0);

/** Problems that are remembered. */
const PROBLEMS_MAX = 100;

export class DirectoryLayer implements LowerLayer<DirectoryNode> {
  readonly root: DirectoryNode = new DirectoryNode(undefined, '');
  readonly #native: Native;
  readonly #rootFd: number;
  readonly #separate: boolean;
  readonly #above: boolean;
  readonly #ids: IdMaps | undefined;
  readonly #devices: Map<number, number>;
  readonly #stat: Float64Array = new Float64Array(STAT_FIELDS);
  readonly #batch: Float64Array = new Float64Array(STAT_FIELDS * BATCH);
  readonly #attr: Attr = new Attr();
  readonly #opened: OpenFiles<DirectoryNode>;
  readonly #onProblem: ((message: string) => void) | undefined;
  readonly #problems: Set<string> = new Set();
  /** Without O_NOATIME from the first EPERM on: only a file's owner may ask for it. */
  #readFlags: number = READ_FLAGS | O_NOATIME;

  /** @param rootFd  of a directory, O_PATH will do; closed with the layer. */
  constructor(native: Native, rootFd: number, options: DirectoryLayerOptions) {
    this.#native = native;
    this.#rootFd = rootFd;
    this.#separate = options.links === 'separate';
    this.#above = options.above ?? false;
    this.#ids = options.ids;
    this.#devices = options.devices ?? devices;
    this.#onProblem = options.onProblem;
    this.#opened = options.opened ?? new OpenFiles(native, openLimits(native));
  }

  lookup(dir: DirectoryNode, name: Name, attr: Attr): DirectoryNode | undefined {
    const result = this.#native.statx(this.#directory(dir), name, 0, this.#stat);
    if (result === -ENOENT) return undefined;
    check(result);
    this.#fill(attr, this.#stat, 0, dir, name);
    return new DirectoryNode(dir, name);
  }

  entries(dir: DirectoryNode): Entries {
    if (!this.#opened.directories.has(dir)) this.#refuseMoved(dir, 'redirect');
    const reader = new DirectoryReader(this.#native, {
      open: () => this.#open(dir, constants.O_RDONLY | constants.O_DIRECTORY),
      // What is listed is mostly looked into next: one open does for both.
      done: (fd) => {
        if (dir.parent === undefined || this.#opened.directories.has(dir)) this.#native.close(fd);
        else this.#opened.directories.set(dir, fd);
      },
    });
    // Who looks at the files learns their numbers from them.
    let found: number | undefined;
    const device = (): number => (found ??= this.#deviceOf(dir));
    return new PackedEntries(reader.next(), reader, {
      isListed: () => !this.#separate && device() === 0,
      inoOf: (entries, { types, inos }, i) =>
        this.#separate && types[i] === DT_REG
          ? this.#hash(dir, entries.name(i))
          : inoOf(inos[2 * i] ?? 0, inos[2 * i + 1] ?? 0, device()),
    });
  }

  statMany(
    dir: DirectoryNode,
    names: Name[],
    from: number,
    count: number,
    visit: (index: number, attr: Attr) => void,
  ): void {
    const fd = this.#directory(dir);
    for (let at = from; at < from + count; at += BATCH) {
      const size = Math.min(BATCH, from + count - at);
      check(this.#native.statMany(fd, names, at, size, this.#batch));
      for (let i = 0; i < size; i++) {
        if (this.#batch[i * STAT_FIELDS + STAT.ERRNO] !== 0) continue;
        this.#fill(this.#attr, this.#batch, i * STAT_FIELDS, dir, names[at + i] ?? '');
        visit(at + i, this.#attr);
      }
    }
  }

  child(dir: DirectoryNode, name: Name): DirectoryNode {
    return new DirectoryNode(dir, name);
  }

  attr(node: DirectoryNode, attr: Attr): void {
    const { parent } = node;
    const result =
      parent === undefined
        ? this.#native.statx(this.#rootFd, '', AT_EMPTY_PATH, this.#stat)
        : this.#native.statx(this.#directory(parent), node.name, 0, this.#stat);
    check(result);
    this.#fill(attr, this.#stat, 0, parent, node.name);
  }

  readlink(node: DirectoryNode): Name {
    if (node.parent === undefined) throw new FsError('EINVAL');
    const target = this.#native.readlinkat(this.#directory(node.parent), node.name);
    if (typeof target === 'string') return target;
    check(target);
    throw new FsError('EINVAL');
  }

  read(node: DirectoryNode, offset: number, length: number, into: Segments): void {
    into.add(this.#file(node), offset, length);
  }

  seek(node: DirectoryNode, offset: number, whence: number): number {
    return check(this.#native.lseek(this.#file(node), offset, whence));
  }

  file(node: DirectoryNode): number {
    return this.#file(node);
  }

  readAhead(dir: DirectoryNode, names: Name[]): number {
    return this.#opened.ahead.begin(dir, this.#directory(dir), this.#readFlags, names);
  }

  isOpaque(dir: DirectoryNode): boolean {
    if (!this.#above) return false;
    return OVERLAY_PREFIXES.some((prefix) => this.#mark(dir, `${prefix}opaque`)?.[0] === YES);
  }

  /** What has been refused. */
  problems(): string[] {
    return [...this.#problems];
  }

  /**
   * What has its names or its data elsewhere in the layers below, as overlayfs has noted, is not shown without them.
   *
   * @throws FsError EIO.
   */
  #refuseMoved(node: DirectoryNode, mark: 'redirect' | 'metacopy'): void {
    if (!this.#above) return;
    const found = OVERLAY_PREFIXES.find((prefix) => this.#mark(node, prefix + mark));
    if (found === undefined || (mark === 'redirect' && this.isOpaque(node))) return;
    const what = mark === 'redirect' ? 'directory was moved' : 'file has no data of its own';
    const path = Buffer.from(this.place(node).path ?? '', 'latin1').toString();
    const message = `/${path}: this ${what} (${found}${mark}), which is not followed in a lower`;
    if (!this.#problems.has(message) && this.#problems.size < PROBLEMS_MAX) {
      this.#problems.add(message);
      this.#onProblem?.(message);
    }
    throw new FsError('EIO', message);
  }

  getxattr(node: DirectoryNode, name: ByteString): Uint8Array | undefined {
    return this.#rawXattr(node, this.#above ? escapeXattr(name) : name);
  }

  listxattr(node: DirectoryNode): ByteString[] {
    const names = this.#rawNames(node);
    return this.#above ? unescapeXattrs(names) : names;
  }

  /** An attribute that is overlayfs's own; nearly always there is none. */
  #mark(node: DirectoryNode, name: ByteString): Uint8Array | undefined {
    node.marks ??= this.#rawNames(node).filter((each) =>
      OVERLAY_PREFIXES.some((prefix) => each.startsWith(prefix)),
    );
    return node.marks.includes(name) ? this.#rawXattr(node, name) : undefined;
  }

  #rawNames(node: DirectoryNode): ByteString[] {
    const { parent } = node;
    const names =
      parent === undefined
        ? this.#native.listxattr(this.#rootFd, '.')
        : this.#native.listxattr(this.#directory(parent), node.name);
    if (typeof names !== 'number') return names;
    if (names === -EOPNOTSUPP) return [];
    check(names);
    return [];
  }

  #rawXattr(node: DirectoryNode, name: ByteString): Uint8Array | undefined {
    const { parent } = node;
    const value =
      parent === undefined
        ? this.#native.getxattr(this.#rootFd, '.', name)
        : this.#native.getxattr(this.#directory(parent), node.name, name);
    if (typeof value !== 'number') return value;
    // A file system without this kind of attribute has none.
    if (value === -ENODATA || value === -EOPNOTSUPP) return undefined;
    check(value);
    return undefined;
  }

  place(node: DirectoryNode): Place {
    const names: Name[] = [];
    for (let at = node; at.parent !== undefined; at = at.parent) names.unshift(at.name);
    return { path: names.join('/') };
  }

  close(): void {
    this.#opened.close();
    this.#native.close(this.#rootFd);
  }

  /** An fd of a directory, for what is in it; cached. */
  #directory(dir: DirectoryNode): number {
    if (dir.parent === undefined) return this.#rootFd;
    const cached = this.#opened.directories.get(dir);
    if (cached !== undefined) return cached;
    this.#refuseMoved(dir, 'redirect');
    const fd = check(this.#open(dir, O_PATH | constants.O_DIRECTORY));
    this.#opened.directories.set(dir, fd);
    return fd;
  }

  /** A readable fd of a regular file, cached. */
  #file(node: DirectoryNode): number {
    const cached = this.#opened.files.get(node);
    if (cached !== undefined) return cached;
    this.#refuseMoved(node, 'metacopy');
    let fd = this.#opened.ahead.take(node.parent, node.name);
    if (fd < 0) fd = this.#open(node, this.#readFlags);
    if (fd === -EPERM && this.#readFlags !== READ_FLAGS) {
      this.#readFlags = READ_FLAGS;
      fd = this.#open(node, READ_FLAGS);
    }
    this.#opened.files.set(node, check(fd));
    return fd;
  }

  /** Opens a node by its name in its parent, which is opened (and cached) first where it must be. */
  #open(node: DirectoryNode, flags: number): number {
    const { parent } = node;
    if (parent === undefined) return this.#native.openBeneath(this.#rootFd, '.', flags, 0);
    return this.#native.openBeneath(this.#directory(parent), node.name, flags, 0);
  }

  #fill(
    attr: Attr,
    stat: Float64Array,
    at: number,
    parent: DirectoryNode | undefined,
    name: Name,
  ): void {
    fillAttr(attr, stat, at);
    if (this.#ids !== undefined) {
      attr.uid = idOnHost(this.#ids.uids, attr.uid);
      attr.gid = idOnHost(this.#ids.gids, attr.gid);
    }
    if (this.#separate && (attr.mode & S_IFMT) === S_IFREG && parent !== undefined) {
      attr.nlink = 1;
      attr.ino = this.#hash(parent, name);
    } else {
      attr.nlink = stat[at + STAT.NLINK] ?? 0;
      const device = deviceIndex(this.#devices, stat, at);
      attr.ino = inoOf(stat[at + STAT.INO_LOW] ?? 0, stat[at + STAT.INO_HIGH] ?? 0, device);
    }
  }

  #deviceOf(dir: DirectoryNode): number {
    check(this.#native.statx(this.#directory(dir), '', AT_EMPTY_PATH, this.#stat));
    return deviceIndex(this.#devices, this.#stat, 0);
  }

  /** The number of a path: with separate links, two names of one inode are two files. */
  #hash(parent: DirectoryNode, name: Name): number {
    if (parent.pathHash === 0 && parent.parent !== undefined) {
      parent.pathHash = this.#hash(parent.parent, parent.name);
    }
    return hashName(parent.pathHash, name);
  }
}
