/**
 * The host's side of a directory upper: where its nodes are, and fds of them, which are a cache. Everything is reached
 * by a name in a directory that is open, and symlinks are never followed.
 */
import { constants } from 'node:fs';
import { check, FsError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import type { ByteString, Listing, Native } from '../native.ts';
import type { Attr, Name } from './layer.ts';
import { OpenFiles, openLimits } from './open-files.ts';
import { HostNode } from './overlayfs-node.ts';

const O_PATH = 0o10000000;
const O_NOATIME = 0o1000000;
const AT_EMPTY_PATH = 0x1000;
const AT_REMOVEDIR = 0x200;
const EACCES = 13;
const ENODATA = 61;
const EOPNOTSUPP = 95;

/** What an owner needs of a file or directory of his to change it. */
const OWNER_ALL = 0o700;

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export class Host {
  readonly native: Native;
  /** The upper's root directory, the work directory, and where links of lower files are kept: their own fds. */
  readonly #fixed: ReadonlyMap<HostNode, number>;
  readonly #work: HostNode;
  /** Permissions of files and directories mean nothing to us. */
  readonly #isPrivileged: boolean;
  readonly #stat: Float64Array = new Float64Array(STAT_FIELDS);
  readonly #opened: OpenFiles<HostNode>;
  #nextWork = 1;

  /** @param fixed  directories whose fds stay open; closed with this. */
  constructor(
    native: Native,
    fixed: ReadonlyMap<HostNode, number>,
    work: HostNode,
    isPrivileged: boolean,
  ) {
    this.native = native;
    this.#isPrivileged = isPrivileged;
    this.#fixed = fixed;
    this.#work = work;
    this.#opened = new OpenFiles(native, openLimits(native));
  }

  close(): void {
    this.#opened.close();
    for (const fd of this.#fixed.values()) this.native.close(fd);
  }

  /** A name for the work directory that nobody has. */
  workName(): Name {
    return `#${(this.#nextWork++).toString(36)}`;
  }

  /** An O_PATH fd of a directory, cached. */
  directory(node: HostNode | undefined): number {
    if (node === undefined) throw new FsError('ESTALE');
    const known = this.#fixed.get(node) ?? this.#opened.directories.get(node);
    if (known !== undefined) return known;
    const flags = O_PATH | constants.O_DIRECTORY;
    const fd = check(this.native.openBeneath(this.directory(node.dir), node.name, flags, 0));
    this.#opened.directories.set(node, fd);
    return fd;
  }

  /** An fd of a regular file, for reading and writing, cached. */
  file(node: HostNode): number {
    const known = this.#opened.files.get(node);
    if (known !== undefined) return known;
    const flags = constants.O_RDWR | constants.O_NONBLOCK | O_NOATIME;
    const dir = this.directory(node.dir);
    const fd = this.#allowed([node], () => this.native.openBeneath(dir, node.name, flags, 0));
    this.#opened.files.set(node, fd);
    return fd;
  }

  /** Lets go of the fds of a node. */
  forget(node: HostNode): void {
    this.#opened.files.delete(node);
    this.#opened.directories.delete(node);
  }

  /** Where a node is: the fd of the directory it is in and its name there, '' for a fixed directory itself. */
  at(node: HostNode): number {
    return this.#fixed.get(node) ?? this.directory(node.dir);
  }

  list(node: HostNode): Listing {
    const fd = this.#openForReading(node);
    const listing = this.native.listDirectory(fd);
    this.native.close(fd);
    if (typeof listing !== 'number') return listing;
    check(listing);
    throw new FsError('EIO');
  }

  #openForReading(dir: HostNode): number {
    const fd = this.directory(dir);
    return this.#allowed([dir], () => this.native.openBeneath(fd, '.', constants.O_DIRECTORY, 0));
  }

  /**
   * Does what the owner of files may do, though their permissions forbid it for now: a copy-up into a directory that is
   * read-only to its owner is no change that its permissions are about. A crash in between leaves them wider.
   *
   * @returns what `act` returns. @throws FsError its errno.
   */
  #allowed(nodes: readonly HostNode[], act: () => number): number {
    const result = act();
    if (result !== -EACCES || this.#isPrivileged) return check(result);
    const widened: [node: HostNode, mode: number][] = [];
    try {
      for (const node of nodes) {
        const mode = (this.stat(node)[STAT.MODE] ?? 0) & 0o7777;
        check(this.native.fchmodat(this.at(node), node.name, mode | OWNER_ALL));
        widened.push([node, mode]);
      }
      return check(act());
    } finally {
      for (const [node, mode] of widened) this.native.fchmodat(this.at(node), node.name, mode);
    }
  }

  stat(node: HostNode): Float64Array {
    const open =
      this.#fixed.get(node) ?? this.#opened.directories.get(node) ?? this.#opened.files.get(node);
    check(
      open === undefined
        ? this.native.statx(this.directory(node.dir), node.name, 0, this.#stat)
        : this.native.statx(open, '', AT_EMPTY_PATH, this.#stat),
    );
    return this.#stat;
  }

  /** When a node was changed last, and its contents: seconds and nanoseconds of each. */
  changeTimes(node: HostNode): number[] {
    const stat = this.stat(node);
    return [STAT.CTIME_SEC, STAT.CTIME_NSEC, STAT.MTIME_SEC, STAT.MTIME_NSEC].map(
      (field) => stat[field] ?? 0,
    );
  }

  /** Makes an empty object of these attributes in the work directory, and places the node there. */
  create(node: HostNode, attr: Attr, target: Name | undefined): void {
    const { native } = this;
    const work = this.directory(this.#work);
    const name = this.workName();
    const mode = attr.mode & 0o7777;
    if (target !== undefined) check(native.symlinkat(target, work, name));
    else if (node.isDirectory) check(native.mkdirat(work, name, mode));
    else if (node.type === constants.S_IFREG) {
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NONBLOCK;
      this.#opened.files.set(node, check(native.openBeneath(work, name, flags, mode)));
      node.size = 0;
    } else check(native.mknodat(work, name, attr.mode, attr.rdevMajor, attr.rdevMinor));
    node.place(this.#work, name);
    try {
      check(native.fchownat(work, name, attr.uid, attr.gid));
      if (target === undefined) check(native.fchmodat(work, name, mode));
    } catch (error) {
      this.destroy(node);
      throw error;
    }
  }

  /** Removes a node from the work directory; what fails is left for the next start. */
  destroy(node: HostNode): void {
    const { dir, name } = node;
    this.forget(node);
    if (dir !== this.#work) return;
    this.discard(this.directory(dir), name, node.isDirectory);
    node.displace(dir, name);
  }

  /** Removes a name; a directory with whatever is in it, which is whiteouts or what was left behind. */
  discard(fd: number, name: Name, isDirectory: boolean): void {
    if (!isDirectory) {
      this.native.unlinkat(fd, name, 0);
      return;
    }
    if (this.native.unlinkat(fd, name, AT_REMOVEDIR) === 0) return;
    if (!this.#isPrivileged) this.native.fchmodat(fd, name, OWNER_ALL);
    const inner = this.native.openBeneath(fd, name, constants.O_DIRECTORY, 0);
    if (inner < 0) return;
    const listing = this.native.listDirectory(inner);
    if (typeof listing !== 'number') {
      for (const [i, child] of listing.names.entries()) {
        this.discard(inner, child, listing.types[i] === 4);
      }
    }
    this.native.close(inner);
    this.native.unlinkat(fd, name, AT_REMOVEDIR);
  }

  /** How many names a node has in the work directory, where nothing stays. */
  countAside(node: HostNode): number {
    const others = node.others?.filter(({ dir }) => dir === this.#work).length ?? 0;
    return others + (node.dir === this.#work ? 1 : 0);
  }

  rename(dir: HostNode, name: Name, toDir: HostNode, toName: Name, flags: number): void {
    const [from, to] = [this.directory(dir), this.directory(toDir)];
    const moved = this.#makeMovable(from, name);
    const other = (flags & RENAME_EXCHANGE) === 0 ? undefined : this.#makeMovable(to, toName);
    let isDone = false;
    try {
      this.#allowed([dir, toDir], () => this.native.renameat2(from, name, to, toName, flags));
      isDone = true;
    } finally {
      if (isDone) moved?.(to, toName);
      else moved?.(from, name);
      if (isDone) other?.(from, name);
      else other?.(to, toName);
    }
  }

  /** A directory that is read-only to its owner cannot be moved by him. @returns puts its mode back, wherever it is then. */
  #makeMovable(fd: number, name: Name): ((fd: number, name: Name) => void) | undefined {
    if (this.#isPrivileged || this.native.statx(fd, name, 0, this.#stat) < 0) return undefined;
    const mode = this.#stat[STAT.MODE] ?? 0;
    const isDirectory = (mode & constants.S_IFMT) === constants.S_IFDIR;
    if (!isDirectory || (mode & OWNER_ALL) === OWNER_ALL) return undefined;
    check(this.native.fchmodat(fd, name, (mode & 0o7777) | OWNER_ALL));
    return (at, as) => void this.native.fchmodat(at, as, mode & 0o7777);
  }

  /** Gives a node one more name. */
  link(node: HostNode, dir: HostNode, name: Name): void {
    const [from, to] = [this.at(node), this.directory(dir)];
    this.#allowed([dir], () => this.native.linkat(from, node.name, to, name, 0));
  }

  /** Makes a directory's names durable. */
  sync(dir: HostNode): void {
    const fd = this.#openForReading(dir);
    const result = this.native.fsync(fd, false);
    this.native.close(fd);
    check(result);
  }

  whiteout(dir: HostNode, name: Name): void {
    const fd = this.directory(dir);
    this.#allowed([dir], () => this.native.mknodat(fd, name, constants.S_IFCHR, 0, 0));
  }

  times(node: HostNode, attr: Attr): void {
    check(
      this.native.utimensat(
        this.at(node),
        node.name,
        attr.atimeSec,
        attr.atimeNsec,
        attr.mtimeSec,
        attr.mtimeNsec,
      ),
    );
  }

  /**
   * Puts back the times that statx(2) told, after a change that is none to programs.
   *
   * @param isLate  too late to refuse anything: what fails is let be.
   */
  keepTimes(node: HostNode, stat: Float64Array, isLate: boolean = false): void {
    const result = this.native.utimensat(
      this.at(node),
      node.name,
      stat[STAT.ATIME_SEC] ?? 0,
      stat[STAT.ATIME_NSEC] ?? 0,
      stat[STAT.MTIME_SEC] ?? 0,
      stat[STAT.MTIME_NSEC] ?? 0,
    );
    if (!isLate) check(result);
  }

  getxattr(node: HostNode, name: ByteString): Uint8Array | undefined {
    let value: Uint8Array | number = 0;
    this.#allowed([node], () => {
      value = this.native.getxattr(this.at(node), node.name, name);
      return value === -EACCES ? value : 0;
    });
    return valueOf(value);
  }

  listxattr(node: HostNode): ByteString[] {
    const names = this.native.listxattr(this.at(node), node.name);
    if (typeof names !== 'number') return names;
    if (names !== -EOPNOTSUPP) check(names);
    return [];
  }

  setxattr(node: HostNode, name: ByteString, value: Uint8Array): void {
    const fd = this.at(node);
    this.#allowed([node], () => this.native.setxattr(fd, node.name, name, value, 0));
  }

  removexattr(node: HostNode, name: ByteString): void {
    const fd = this.at(node);
    this.#allowed([node], () => {
      const result = this.native.removexattr(fd, node.name, name);
      return result === -ENODATA ? 0 : result;
    });
  }
}

function valueOf(value: Uint8Array | number): Uint8Array | undefined {
  if (typeof value !== 'number') return value;
  if (value !== -ENODATA && value !== -EOPNOTSUPP) check(value);
  return undefined;
}
