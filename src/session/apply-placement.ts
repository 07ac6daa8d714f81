/**
 * Puts files into a session, all or none: each is made whole in a folder of its own at the root, then gets its place by a
 * rename, and what was there goes aside into that folder. Until it is removed, everything can be taken back.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { check, FsError } from '../errors.ts';
import { type ByteString, native, STAT, STAT_FIELDS } from '../native.ts';
import type { TarEntry } from '../oci/tar.ts';
import type { Wish } from './apply.ts';
import { openFrom } from './deep-paths.ts';

const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_PATH_DIRECTORY = 0o10200000;
const AT_REMOVEDIR = 0x200;
const RENAME_NOREPLACE = 1;
const UTIME_OMIT = 0x3ffffffe;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

export class Placement {
  readonly #root: number;
  readonly #folder: string;
  /** Of the folder. */
  readonly #fd: number;
  /** Where each path's file waits. */
  readonly #staged: Map<ByteString, string> = new Map();
  /** Takes back what was done, the last first. */
  readonly #steps: (() => void)[] = [];
  /** Making the folder changes the root's times; these it is to have in the end, unless something else has changed it. */
  #rootTimes: Pick<TarEntry, 'mtimeSec' | 'mtimeNsec'> | undefined;
  readonly #rootBefore: Pick<TarEntry, 'mtimeSec' | 'mtimeNsec'>;
  #last = 0;

  /** @param root  descriptor of the session's root. @throws FsError nothing can be made there. */
  constructor(root: number) {
    this.#root = root;
    this.#rootBefore = metadataOf(root);
    this.#rootTimes = this.#rootBefore;
    this.#folder = `.ostree-ts-apply-${randomBytes(6).toString('hex')}`;
    check(native.mkdirat(root, this.#folder, 0o700));
    this.#fd = check(native.openBeneath(root, this.#folder, O_DIRECTORY, 0));
    // Else what is made here would inherit the root's; mostly it has none.
    native.removexattr(this.#fd, '', 'system.posix_acl_default');
  }

  /** Makes a file, whole but for its place; directories are made in theirs. @throws FsError. */
  async stage({ path, entry }: Wish, data: AsyncIterable<Uint8Array>): Promise<void> {
    if (entry === undefined || entry.kind === 'directory') return;
    const name = String(++this.#last);
    if (entry.kind === 'link') {
      const target = this.#staged.get(`/${normal(entry.target)}`);
      // The file that it leads to is so already, and stays.
      if (target === undefined) check(this.#linkExisting(entry.target, name), path);
      else check(native.linkat(this.#fd, target, this.#fd, name, 0), path);
    } else {
      await this.#make(name, path, entry, data);
      describe(this.#fd, name, path, entry);
    }
    this.#staged.set(path, name);
  }

  #linkExisting(target: ByteString, name: string): number {
    const link = (fd: number, last: ByteString): number =>
      native.linkat(fd, last, this.#fd, name, 0);
    return this.#at(`/${normal(target)}`, link);
  }

  async #make(
    name: string,
    path: ByteString,
    entry: TarEntry,
    data: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const { rdevMajor, rdevMinor } = entry;
    switch (entry.kind) {
      case 'symlink':
        check(native.symlinkat(entry.target, this.#fd, name), path);
        return;
      case 'fifo':
        check(native.mknodat(this.#fd, name, S_IFIFO | 0o600, 0, 0), path);
        return;
      case 'character-device':
        check(native.mknodat(this.#fd, name, S_IFCHR | 0o600, rdevMajor, rdevMinor), path);
        return;
      case 'block-device':
        check(native.mknodat(this.#fd, name, S_IFBLK | 0o600, rdevMajor, rdevMinor), path);
        return;
      default:
    }
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    const fd = check(native.openBeneath(this.#fd, name, flags, 0o600), path);
    try {
      let at = 0;
      for await (const chunk of data) {
        check(native.pwrite(fd, chunk, at), path);
        at += chunk.length;
      }
    } finally {
      native.close(fd);
    }
  }

  /**
   * Gives everything its place.
   *
   * @param wishes  parents before what is in them.
   * @param times  directories that stay, and are to have these times, though something in them changes.
   * @throws FsError.
   */
  place(wishes: Wish[], times: Wish[]): void {
    for (const { path, entry } of wishes) {
      if (path === '/') continue;
      if (entry?.kind === 'directory') {
        if (this.#at(path, typeOf) === S_IFDIR) continue;
        this.#putAside(path);
        this.#makeDirectory(path);
        continue;
      }
      this.#putAside(path);
      if (entry === undefined) continue;
      const staged = this.#staged.get(path);
      if (staged === undefined) throw new FsError('EIO', path);
      this.#moveIn(path, staged);
      this.#steps.push(() => this.#moveOut(path, staged));
    }
    // What is in a directory changes its times, so they come last, the innermost first.
    const directories = [...wishes, ...times]
      .filter(({ entry }) => entry?.kind === 'directory')
      .sort((a, b) => (a.path < b.path ? 1 : -1));
    for (const { path, entry } of directories) {
      if (path === '/' && entry !== undefined) this.#rootTimes = entry;
      if (entry !== undefined) this.#describeDirectory(path, entry);
    }
    if (wishes.some(({ path }) => path !== '/' && path.lastIndexOf('/') === 0)) {
      this.#rootTimes = directories.find(({ path }) => path === '/')?.entry;
    }
  }

  #makeDirectory(path: ByteString): void {
    check(
      this.#at(path, (fd, name) => native.mkdirat(fd, name, 0o700), true),
      path,
    );
    this.#steps.push(() => this.#at(path, (fd, name) => native.unlinkat(fd, name, AT_REMOVEDIR)));
  }

  #describeDirectory(path: ByteString, entry: TarEntry): void {
    const fd = this.#directory(path);
    try {
      const before = metadataOf(fd);
      this.#steps.push(() => {
        const again = this.#directory(path);
        describe(again, '', path, before);
        native.close(again);
      });
      describe(fd, '', path, entry);
    } finally {
      native.close(fd);
    }
  }

  #directory(path: ByteString): number {
    return check(openFrom(this.#root, path, O_DIRECTORY), path);
  }

  /** Moves what is at a path, if anything, into the folder. */
  #putAside(path: ByteString): void {
    if (this.#at(path, typeOf) <= 0) return;
    const aside = `aside-${++this.#last}`;
    this.#moveOut(path, aside);
    this.#steps.push(() => this.#moveIn(path, aside));
  }

  #moveIn(path: ByteString, from: string): void {
    const move = (fd: number, name: ByteString): number =>
      native.renameat2(this.#fd, from, fd, name, RENAME_NOREPLACE);
    check(this.#at(path, move, true), path);
  }

  #moveOut(path: ByteString, to: string): void {
    const move = (fd: number, name: ByteString): number =>
      native.renameat2(fd, name, this.#fd, to, RENAME_NOREPLACE);
    check(this.#at(path, move), path);
  }

  /**
   * Calls with the directory that a path is in and its name there; no symlink is followed.
   *
   * @param makes  whether missing directories on the way are made.
   * @returns what the call does, or -errno when there is no such directory.
   */
  #at(
    path: ByteString,
    call: (fd: number, name: ByteString) => number,
    makes: boolean = false,
  ): number {
    const slash = path.lastIndexOf('/');
    const parent = path.slice(0, slash);
    let fd = openFrom(this.#root, parent, O_PATH_DIRECTORY);
    if (fd === -constants.errno.ENOENT && makes) {
      this.#makeDirectory(parent);
      fd = this.#directory(parent);
      native.fchmodat(fd, '', 0o755);
    }
    if (fd < 0) return fd;
    try {
      return call(fd, path.slice(slash + 1));
    } finally {
      native.close(fd);
    }
  }

  /** Makes everything as it was before `place`, as far as it can. */
  takeBack(): void {
    for (let step; (step = this.#steps.pop()) !== undefined;) {
      try {
        step();
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    }
    this.#rootTimes = this.#rootBefore;
  }

  /** Removes the folder, with what was put aside. */
  finish(): void {
    native.close(this.#fd);
    removeTree(this.#root, this.#folder);
    if (this.#rootTimes === undefined) return;
    const { mtimeSec, mtimeNsec } = this.#rootTimes;
    native.utimensat(this.#root, '.', 0, UTIME_OMIT, mtimeSec, mtimeNsec);
  }
}

function normal(path: ByteString): ByteString {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

/** S_IFMT bits; 0 when nothing is there. */
function typeOf(fd: number, name: ByteString): number {
  const stat = new Float64Array(STAT_FIELDS);
  return native.statx(fd, name, 0, stat) < 0 ? 0 : (stat[STAT.MODE] ?? 0) & S_IFMT;
}

/** Owner, mode, attributes and times; '' is the directory itself. */
type Metadata = Pick<
  TarEntry,
  'kind' | 'mode' | 'uid' | 'gid' | 'mtimeSec' | 'mtimeNsec' | 'xattrs'
>;

const AT_EMPTY_PATH = 0x1000;

function metadataOf(fd: number): Metadata {
  const stat = new Float64Array(STAT_FIELDS);
  check(native.statx(fd, '', AT_EMPTY_PATH, stat));
  const field = (index: number): number => stat[index] ?? 0;
  return {
    kind: 'directory',
    mode: field(STAT.MODE) & 0o7777,
    uid: field(STAT.UID),
    gid: field(STAT.GID),
    mtimeSec: field(STAT.MTIME_SEC),
    mtimeNsec: field(STAT.MTIME_NSEC),
    xattrs: xattrsOf(fd),
  };
}

function xattrsOf(fd: number): Map<ByteString, Uint8Array> {
  const xattrs = new Map<ByteString, Uint8Array>();
  const names = native.listxattr(fd, '');
  for (const name of typeof names === 'number' ? [] : names) {
    const value = native.getxattr(fd, '', name);
    if (typeof value !== 'number') xattrs.set(name, value);
  }
  return xattrs;
}

/**
 * Owner first: it takes away setuid bits and capabilities.
 *
 * @param path  where it is to be, for messages.
 */
function describe(fd: number, name: ByteString, path: ByteString, wanted: Metadata): void {
  const { kind, mode, uid, gid, mtimeSec, mtimeNsec, xattrs } = wanted;
  check(native.fchownat(fd, name, uid, gid), path);
  if (kind !== 'symlink') check(native.fchmodat(fd, name, mode), path);
  if (name === '') {
    for (const each of xattrsOf(fd).keys()) {
      if (!xattrs.has(each)) check(native.removexattr(fd, name, each), `${each} of ${path}`);
    }
  }
  for (const [each, value] of xattrs) {
    check(native.setxattr(fd, name, each, value, 0), `${each} of ${path}`);
  }
  check(native.utimensat(fd, name, 0, UTIME_OMIT, mtimeSec, mtimeNsec), path);
}

function removeTree(fd: number, name: ByteString): void {
  if (native.unlinkat(fd, name, 0) >= 0) return;
  const inner = native.openBeneath(fd, name, O_DIRECTORY, 0);
  if (inner < 0) return;
  const listing = native.listDirectory(inner);
  if (typeof listing !== 'number') for (const each of listing.names) removeTree(inner, each);
  native.close(inner);
  native.unlinkat(fd, name, AT_REMOVEDIR);
}
