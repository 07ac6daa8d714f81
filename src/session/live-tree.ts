/**
 * A session's tree as it is seen through the mount, from outside: for those who read all or much of it. Everything is
 * opened beneath the mount's root, so nobody who changes the tree meanwhile can lead a reader out of it.
 */
import { check, SessionError } from '../errors.ts';
import { type ByteString, native, STAT, STAT_FIELDS } from '../native.ts';
import type { TarEntry, TarKind } from '../oci/tar.ts';
import { shown } from './checks.ts';
import { openFrom } from './deep-paths.ts';
import type { SessionRecord, SessionState } from './record.ts';

const O_RDONLY_DIRECTORY = 0o200000;
const O_NONBLOCK = 0o4000;
const O_PATH_DIRECTORY = 0o10200000;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const READ_BYTES: number = 256 * 1024;

const KINDS = new Map<number, TarKind>([
  [0o100000, 'file'],
  [0o120000, 'symlink'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
  [0o040000, 'directory'],
  [0o010000, 'fifo'],
]);

/** A file of the tree. */
export interface LiveFile {
  /** Its path in the archive is to be filled in; `undefined` for a socket, which no archive can hold. */
  entry: TarEntry | undefined;
  /** The same for two names only if they are links of one file; '' when there is just one name. */
  identity: string;
  /** How many names it has. */
  links: number;
}

export class LiveTree implements Disposable {
  /** The mount's root; a descriptor. */
  readonly root: number;
  /** The directory that was last asked about, since questions come in order. */
  #parent: { path: ByteString; fd: number } | undefined;
  readonly #stat: Float64Array = new Float64Array(STAT_FIELDS);

  private constructor(root: number) {
    this.root = root;
  }

  /**
   * Opens a session's root.
   *
   * @throws SessionError the mount is not seen from here.
   */
  static open(record: SessionRecord, state: SessionState | undefined): LiveTree {
    const fd = openRoot(record, state);
    if (fd === undefined) {
      throw new SessionError(
        `the mount at ${shown(record.mountpoint)} cannot be reached from here`,
        'run this where the mount can be seen',
      );
    }
    return new LiveTree(fd);
  }

  /** What is at a path from the root, beginning with '/'. @throws FsError nothing, or it cannot be read. */
  file(path: ByteString): LiveFile {
    const { fd, name } = this.#place(path);
    return this.#describe(fd, name, name === '' ? AT_EMPTY_PATH : 0);
  }

  /** Which file a name is of; cheaper than `file`. */
  links(path: ByteString): { identity: string; isDirectory: boolean } {
    const { fd, name } = this.#place(path);
    check(native.statx(fd, name, name === '' ? AT_EMPTY_PATH : 0, this.#stat));
    return {
      identity: identityOf(this.#stat),
      isDirectory: isDirectory(this.#stat),
    };
  }

  #describe(fd: number, name: ByteString, flags: number): LiveFile {
    const stat = this.#stat;
    check(native.statx(fd, name, flags, stat));
    const field = (index: number): number => stat[index] ?? 0;
    const mode = field(STAT.MODE);
    const kind = KINDS.get(mode & S_IFMT);
    const identity = identityOf(stat);
    const links = field(STAT.NLINK);
    if (kind === undefined) return { entry: undefined, identity, links };
    const entry: TarEntry = {
      kind,
      path: '',
      mode: mode & 0o7777,
      uid: field(STAT.UID),
      gid: field(STAT.GID),
      size: kind === 'file' ? field(STAT.SIZE) : 0,
      mtimeSec: field(STAT.MTIME_SEC),
      mtimeNsec: field(STAT.MTIME_NSEC),
      target: kind === 'symlink' ? textOf(native.readlinkat(fd, name)) : '',
      rdevMajor: field(STAT.RDEV_MAJOR),
      rdevMinor: field(STAT.RDEV_MINOR),
      xattrs: xattrsOf(fd, name),
    };
    return { entry, identity, links };
  }

  /** Names in a directory, sorted by their bytes. */
  names(path: ByteString): ByteString[] {
    const fd = check(openFrom(this.root, path, O_RDONLY_DIRECTORY));
    try {
      const listing = native.listDirectory(fd);
      if (typeof listing === 'number') return textOf(listing) as never;
      return listing.names.sort();
    } finally {
      native.close(fd);
    }
  }

  /**
   * A regular file's bytes, as many as `entry` says.
   *
   * @throws SessionError the file is not what it was when `entry` was made, or becomes another meanwhile.
   */
  *data(path: ByteString, entry: TarEntry): Generator<Uint8Array> {
    const { fd: parent, name } = this.#place(path);
    // A fifo that has come in its place must not be waited for.
    const fd = native.openBeneath(parent, name, O_NONBLOCK, 0);
    if (fd < 0) throw changed(path);
    try {
      const buffer = Buffer.alloc(Math.min(READ_BYTES, Math.max(1, entry.size)));
      for (let done = 0; done < entry.size;) {
        const wanted = buffer.subarray(0, Math.min(buffer.length, entry.size - done));
        const got = check(native.pread(fd, wanted, done));
        if (got === 0) throw changed(path);
        done += got;
        // A copy, since whoever takes it may keep it.
        yield Buffer.from(buffer.subarray(0, got));
      }
      if (!this.#isStill(fd, entry)) throw changed(path);
    } finally {
      native.close(fd);
    }
  }

  /** Whether a file is a regular one of this size and time. */
  #isStill(fd: number, entry: TarEntry): boolean {
    const stat = this.#stat;
    check(native.statx(fd, '', AT_EMPTY_PATH, stat));
    return (
      ((stat[STAT.MODE] ?? 0) & S_IFMT) === S_IFREG &&
      stat[STAT.SIZE] === entry.size &&
      stat[STAT.MTIME_SEC] === entry.mtimeSec &&
      stat[STAT.MTIME_NSEC] === entry.mtimeNsec
    );
  }

  /** The directory that a path is in, open, and its name there; '' for the root itself. */
  #place(path: ByteString): { fd: number; name: ByteString } {
    if (path === '/') return { fd: this.root, name: '' };
    const slash = path.lastIndexOf('/');
    const parent = path.slice(0, slash);
    if (this.#parent?.path !== parent) {
      this.#close();
      const fd = check(openFrom(this.root, parent, O_PATH_DIRECTORY));
      this.#parent = { path: parent, fd };
    }
    return { fd: this.#parent.fd, name: path.slice(slash + 1) };
  }

  #close(): void {
    if (this.#parent !== undefined) native.close(this.#parent.fd);
    this.#parent = undefined;
  }

  [Symbol.dispose](): void {
    this.#close();
    native.close(this.root);
  }
}

function isDirectory(stat: Float64Array): boolean {
  return ((stat[STAT.MODE] ?? 0) & S_IFMT) === S_IFDIR;
}

/** The same for the names of one file; '' when it has only one. */
function identityOf(stat: Float64Array): string {
  if (isDirectory(stat) || (stat[STAT.NLINK] ?? 0) <= 1) return '';
  return `${stat[STAT.INO_HIGH]}:${stat[STAT.INO_LOW]}`;
}

function changed(path: ByteString): SessionError {
  return new SessionError(
    `${shown(path)} has changed while it was read`,
    'do it again when nothing writes to it',
  );
}

function textOf(result: ByteString | number): ByteString {
  if (typeof result === 'number') check(result);
  return result as ByteString;
}

function xattrsOf(fd: number, name: ByteString): Map<ByteString, Uint8Array> {
  const names = native.listxattr(fd, name);
  const xattrs = new Map<ByteString, Uint8Array>();
  if (typeof names === 'number') {
    // A file system without attributes is none that we made; everything else is an error.
    check(names);
    return xattrs;
  }
  for (const each of names.sort()) {
    const value = native.getxattr(fd, name, each);
    if (typeof value === 'number') check(value, each);
    else xattrs.set(each, value);
  }
  return xattrs;
}

/**
 * Opens the root of a session's mount: by its path, or through the keeper, who lives where it was mounted.
 *
 * @returns a descriptor, or `undefined` when there is none of this session.
 */
export function openRoot(
  record: SessionRecord,
  state: SessionState | undefined,
): number | undefined {
  if (state?.device === undefined) return undefined;
  const through = `/proc/${state.keeper.pid}/root`;
  for (const path of [record.mountpoint, `${through}${record.mountpoint}`]) {
    // A name only: this asks nothing of a mount that may be dead.
    const place = native.open(path, O_PATH_DIRECTORY, 0);
    if (place < 0) continue;
    const stat = new Float64Array(STAT_FIELDS);
    native.statx(place, '', AT_EMPTY_PATH | AT_STATX_DONT_SYNC, stat);
    native.close(place);
    if (`${stat[STAT.DEV_MAJOR]}:${stat[STAT.DEV_MINOR]}` !== state.device) continue;
    const fd = native.open(path, O_RDONLY_DIRECTORY, 0);
    if (fd >= 0) return fd;
  }
  return undefined;
}
