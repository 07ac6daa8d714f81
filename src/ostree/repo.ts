/**
 * An OSTree repository, opened: its configuration, its parents, and its objects by name.
 *
 * Everything below the repository is reached relative to fds that are held from the start, never through a symlink, so
 * that a repository stays readable when its path no longer is. How the contents of files are stored is content.ts's.
 */
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import type { ByteString, Native } from '../native.ts';
import { type DirTree, parseDirTree } from './dirtree.ts';
import { LOOK, ObjectError, errnoName, isNone, shown, unreadable, unusable } from './failures.ts';
import { FormatError } from './gvariant.ts';
import {
  parseCommit,
  parseDirMeta,
  sha256,
  type Checksum,
  type Commit,
  type Meta,
} from './objects.ts';
import { readAll } from './read-file.ts';
import { type Mode, type Settings, settingsOf } from './settings.ts';

/** What OSTree itself accepts from a network. */
const MAX_METADATA = 128 * 1024 * 1024;
/** A chain of parents longer than this is a loop. */
const MAX_PARENTS = 16;

const { errno } = constants;
const O_RDONLY = 0;
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_NOATIME = 0o1000000;
const O_PATH = 0o10000000;

export class Repository {
  readonly native: Native;
  /** Of the repository's directory. */
  readonly fd: number;
  readonly mode: Mode;
  /** Every object's attributes count as none. */
  readonly disableXattrs: boolean;
  /** What messages call it. */
  readonly label: string;
  /** Where to look for what is not here. */
  readonly parent: Repository | undefined;
  readonly #objects: number;
  /** An fd of objects/XX, or -1, for each XX. */
  readonly #prefixes: Int32Array = new Int32Array(256).fill(-1);

  private constructor(native: Native, fd: number, settings: Settings, parent?: Repository) {
    this.native = native;
    this.fd = fd;
    this.mode = settings.mode;
    this.disableXattrs = settings.disableXattrs;
    this.label = settings.label;
    this.parent = parent;
    this.#objects = native.openBeneath(fd, 'objects', O_PATH | O_DIRECTORY, 0);
    if (isNone(this.#objects)) throw new FormatError('it has no objects directory');
    if (this.#objects < 0) throw unreadable(settings.label, 'objects', this.#objects);
  }

  /**
   * Opens a repository and its parents.
   *
   * @throws SessionError when there is none, or one of a kind that is not known.
   */
  static open(native: Native, path: ByteString): Repository {
    const fds: number[] = [];
    try {
      for (let next: ByteString | undefined = path; next !== undefined;) {
        const fd = openParent(native, next, fds.length, path);
        fds.push(fd);
        next = settingsOf(native, fd, shown(next)).parent;
      }
    } catch (error) {
      for (const fd of fds) native.close(fd);
      throw error;
    }
    return Repository.adopt(native, fds, shown(path));
  }

  /**
   * A repository by the fds of its directory and its parents' directories, the nearest parent first. They are the
   * repository's from then on, and closed when it fails.
   *
   * @param label  what messages call it.
   * @throws SessionError.
   */
  static adopt(native: Native, fds: readonly number[], label: string): Repository {
    let repository: Repository | undefined;
    const left = [...fds];
    try {
      for (let fd = left.at(-1); fd !== undefined; fd = left.at(-1)) {
        repository = new Repository(native, fd, settingsOf(native, fd, label), repository);
        left.pop();
      }
    } catch (error) {
      repository?.close();
      for (const fd of left) native.close(fd);
      if (!(error instanceof FormatError)) throw error;
      throw new SessionError(`${label} is not an OSTree repository: ${error.message}`);
    }
    if (repository === undefined) throw new SessionError('no repository was given');
    return repository;
  }

  /** This repository and its parents, nearest first. */
  *chain(): Iterable<Repository> {
    yield this;
    if (this.parent !== undefined) yield* this.parent.chain();
  }

  close(): void {
    this.parent?.close();
    for (const fd of this.#prefixes) if (fd >= 0) this.native.close(fd);
    this.#prefixes.fill(-1);
    this.native.close(this.#objects);
    this.native.close(this.fd);
  }

  /**
   * An fd of the directory that holds the objects whose names begin with `prefix`, two hex digits; it stays the
   * repository's. Opened once: it is an O_PATH fd, good for relative calls only. -errno when there is none.
   */
  prefix(prefix: string): number {
    const index = Number.parseInt(prefix, 16);
    const known = this.#prefixes[index] ?? -1;
    if (known >= 0) return known;
    const fd = this.native.openBeneath(this.#objects, prefix, O_PATH | O_DIRECTORY, 0);
    if (fd >= 0) this.#prefixes[index] = fd;
    return fd;
  }

  /** Opens a file beneath a directory of the repository for reading, leaving its atime alone if it may. */
  openFile(dirfd: number, path: ByteString): number {
    // O_NONBLOCK: what should be a file might be a fifo.
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
    const fd = this.native.openBeneath(dirfd, path, flags | O_NOATIME, 0);
    if (fd !== -errno.EPERM) return fd;
    return this.native.openBeneath(dirfd, path, flags, 0);
  }

  /** Whether a file is there, of any type. @throws SessionError when that cannot be told. */
  #exists(path: ByteString): boolean {
    const fd = this.native.openBeneath(this.fd, path, O_PATH | O_NOFOLLOW, 0);
    if (fd >= 0) this.native.close(fd);
    else if (!isNone(fd)) throw unreadable(this.label, path, fd);
    return fd >= 0;
  }

  /** The bytes of a loose object here or in a parent; `undefined` when none has it. */
  #find(checksum: Checksum, extension: string): Buffer | undefined {
    for (const repository of this.chain()) {
      const bytes = repository.readObject(checksum, extension);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }

  /** The bytes of a loose object of this repository alone. @throws ObjectError when it cannot be read. */
  readObject(checksum: Checksum, extension: string): Buffer | undefined {
    const name = `${checksum}.${extension}`;
    const dirfd = this.prefix(checksum.slice(0, 2));
    const fd = dirfd < 0 ? dirfd : this.openFile(dirfd, name.slice(2));
    if (fd === -errno.ENOENT) return undefined;
    if (fd < 0) throw new ObjectError(name, errnoName(fd));
    try {
      return readAll(this.native, fd, MAX_METADATA);
    } catch (error) {
      if (error instanceof FormatError) throw new ObjectError(name, error.message);
      throw error;
    } finally {
      this.native.close(fd);
    }
  }

  /** A metadata object, checked against its name. @throws ObjectError when it is missing, unreadable or corrupt. */
  #load<T>(checksum: Checksum, extension: string, parse: (bytes: Buffer) => T): T {
    const name = `${checksum}.${extension}`;
    const bytes = this.#find(checksum, extension);
    if (bytes === undefined) throw new ObjectError(name, 'missing');
    if (sha256(bytes) !== checksum) throw new ObjectError(name, 'does not match its checksum');
    try {
      return parse(bytes);
    } catch (error) {
      if (error instanceof FormatError) throw new ObjectError(name, `malformed: ${error.message}`);
      throw error;
    }
  }

  dirTree(checksum: Checksum): DirTree {
    return this.#load(checksum, 'dirtree', parseDirTree);
  }

  dirMeta(checksum: Checksum): Meta {
    return this.#load(checksum, 'dirmeta', parseDirMeta);
  }

  commit(checksum: Checksum): Commit {
    return this.#load(checksum, 'commit', parseCommit);
  }

  /**
   * A commit that a person named.
   *
   * @throws SessionError when it has been deleted, is incomplete (unless `allowPartial`), missing or corrupt.
   */
  commitToRead(checksum: Checksum, { allowPartial }: { allowPartial: boolean }): Commit {
    const holder = [...this.chain()].find((each) => each.#has(checksum, 'commit'));
    if (holder === undefined) {
      for (const each of this.chain()) {
        if (!each.#has(checksum, 'tombstone-commit')) continue;
        throw new SessionError(`commit ${checksum} has been deleted from the repository`);
      }
      throw new SessionError(`commit ${checksum} is not in the repository`);
    }
    if (!allowPartial && holder.#exists(`state/${checksum}.commitpartial`)) {
      throw new SessionError(
        `commit ${checksum} is partial: some of its objects are missing`,
        'complete it with `ostree pull`, or use --allow-partial to get I/O errors where they are missing',
      );
    }
    try {
      return this.commit(checksum);
    } catch (error) {
      throw error instanceof ObjectError ? unusable(this.label, error) : error;
    }
  }

  /** Whether a commit is here, and is not known to lack anything. @throws SessionError when that cannot be told. */
  hasWhole(checksum: Checksum): boolean {
    const holder = [...this.chain()].find((each) => each.#has(checksum, 'commit'));
    return holder !== undefined && !holder.#exists(`state/${checksum}.commitpartial`);
  }

  #has(checksum: Checksum, extension: string): boolean {
    return this.#exists(`objects/${checksum.slice(0, 2)}/${checksum.slice(2)}.${extension}`);
  }
}

/** Opens the next repository of a chain that began with `first` and is `depth` long. @throws SessionError. */
function openParent(native: Native, path: ByteString, depth: number, first: ByteString): number {
  if (depth === MAX_PARENTS) {
    throw new SessionError(`the parents of repository ${shown(first)} go round in a circle`);
  }
  const fd = native.open(path, O_PATH | O_DIRECTORY, 0);
  if (fd >= 0) return fd;
  const which = depth === 0 ? 'repository' : `the parent of repository ${shown(first)},`;
  throw new SessionError(
    `cannot open ${which} ${shown(path)}: ${errnoName(fd)}`,
    isNone(fd) ? 'name one that is there, or make it: ostree init' : LOOK,
  );
}
