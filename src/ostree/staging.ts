/**
 * Where objects wait until a transaction is whole: tmp/staging-BOOT-..., with a lock file beside. The first are there side by
 * side, since most transactions are small and a folder is made, listed and removed at a price; further ones as in objects/.
 * The ostree tool keeps its own the same way; what is left of a process that was killed is removed by the next.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import { STAT_FIELDS, type ByteString, type Native } from '../native.ts';
import { lockAlone, unwritable } from './lock.ts';
import type { Checksum } from './objects.ts';

const { errno } = constants;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const AT_REMOVEDIR = 0x200;
const DT_DIR = 4;

/** In the names of our own folders, which alone we remove. */
const OURS = '-ostree-ts-';

/** What the name of a folder's lock ends with. */
const LOCK = '-lock';

/** Objects that stand side by side, and whose names are remembered. */
const FLAT_MAX = 1000;
/** Folders of objects/ that are synced one by one; for more, the file system is as a whole: it has just been. */
const SYNCED_MAX = 8;

interface Entry {
  name: ByteString;
  type: number;
}

export class Staging {
  readonly #native: Native;
  readonly #label: string;
  readonly #tmp: number;
  readonly #objects: number;
  readonly #name: string;
  readonly #lock: number;
  readonly #fd: number;
  readonly #flat: Set<string> = new Set();
  readonly #prefixes: Set<string> = new Set();
  /** Of which nothing is wanted. */
  readonly #stat: Float64Array = new Float64Array(STAT_FIELDS);
  #last = 0;

  /** @param repo  descriptor of the repository. @throws SessionError when it cannot be written. */
  constructor(native: Native, repo: number, label: string) {
    this.#native = native;
    this.#label = label;
    this.#objects = this.#must(native.openBeneath(repo, 'objects', O_RDONLY | O_DIRECTORY, 0));
    const made = native.mkdirat(repo, 'tmp', 0o777);
    if (made < 0 && made !== -errno.EEXIST) throw this.#failed(made);
    this.#tmp = this.#must(native.openBeneath(repo, 'tmp', O_RDONLY | O_DIRECTORY, 0));
    this.#removeStale();
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    while (true) {
      const name = `staging-${boot}${OURS}${randomBytes(4).toString('hex')}`;
      this.#must(native.mkdirat(this.#tmp, name, 0o775));
      // The tool may take an unlocked folder for its own, between these two calls.
      const lock = lockAlone(native, this.#tmp, name + LOCK);
      if (lock === -errno.EAGAIN) continue;
      const flags = O_RDONLY | O_DIRECTORY;
      const fd = lock < 0 ? lock : native.openBeneath(this.#tmp, name, flags, 0);
      if (fd < 0) {
        this.#remove(name);
        if (lock >= 0) native.close(lock);
        throw this.#failed(fd);
      }
      [this.#lock, this.#name, this.#fd] = [lock, name, fd];
      return;
    }
  }

  #failed(result: number): SessionError {
    return unwritable(this.#label, result);
  }

  #must(result: number): number {
    if (result < 0) throw this.#failed(result);
    return result;
  }

  /** A new file, under a name of its own until it is staged. */
  create(): StagedFile {
    return this.#create(this.newName());
  }

  /** A new file that is to be an object, of which only the data is missing. */
  createObject(object: string): StagedFile {
    return this.#create(this.#place(object));
  }

  #create(name: ByteString): StagedFile {
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    const fd = this.#must(this.#native.openBeneath(this.#fd, name, flags, 0o600));
    return new StagedFile(this.#native, this.#label, this.#fd, fd, name);
  }

  newName(): ByteString {
    return `new-${++this.#last}`;
  }

  /** Of the folder that `create` makes files in. */
  get fd(): number {
    return this.#fd;
  }

  /** Whether an object is staged or in the repository. */
  has(object: string): boolean {
    if (this.#flat.has(object)) return true;
    const path = pathOf(object);
    const isFlat = !this.#prefixes.has(object.slice(0, 2));
    return (isFlat ? [this.#objects] : [this.#fd, this.#objects]).some(
      (dirfd) => this.#native.statx(dirfd, path, 0, this.#stat) >= 0,
    );
  }

  /** Makes an object of a file, which is whole. @param object  as in `CHECKSUM.dirtree`. */
  stage(file: StagedFile, object: string): void {
    file.close();
    const place = this.#place(object);
    if (file.name === place) file.keep();
    else file.rename(this.#fd, place);
    this.#staged(object);
  }

  /** As `stage`, of a symlink. @param name  from `newName`. */
  stageLink(name: ByteString, object: string): void {
    this.#must(this.#native.renameat2(this.#fd, name, this.#fd, this.#place(object), 0));
    this.#staged(object);
  }

  #staged(object: string): void {
    if (!this.#prefixes.has(object.slice(0, 2))) this.#flat.add(object);
  }

  /** Where an object is to wait. */
  #place(object: string): ByteString {
    if (this.#flat.size < FLAT_MAX) return object;
    const prefix = object.slice(0, 2);
    if (!this.#prefixes.has(prefix)) {
      const made = this.#native.mkdirat(this.#fd, prefix, 0o775);
      if (made < 0 && made !== -errno.EEXIST) throw this.#failed(made);
      this.#prefixes.add(prefix);
    }
    return pathOf(object);
  }

  /**
   * Moves everything into objects/, commits after all that they need. Whatever happens, an object is there whole or not at
   * all, and a commit only with everything in it.
   */
  publish(isSynced: boolean): void {
    if (isSynced) this.#must(this.#native.syncfs(this.#fd));
    this.#move((name) => !name.endsWith('.commit'), isSynced);
    this.#move(() => true, isSynced);
  }

  #move(isWanted: (name: string) => boolean, isSynced: boolean): void {
    const moved = new Set<string>();
    for (const object of [...this.#flat].filter(isWanted)) {
      this.#moveOne(object, object, moved);
      this.#flat.delete(object);
    }
    for (const prefix of this.#prefixes) {
      // What is not listed would be missing from the commit.
      for (const { name } of this.#list(this.#fd, prefix)) {
        if (isWanted(name)) this.#moveOne(`${prefix}/${name}`, prefix + name, moved);
      }
    }
    if (!isSynced || moved.size === 0) return;
    if (moved.size > SYNCED_MAX) {
      this.#must(this.#native.syncfs(this.#objects));
      return;
    }
    for (const prefix of moved) this.#sync(prefix);
    this.#must(this.#native.fsync(this.#objects, false));
  }

  /** @param moved  folders of objects/ that something has been moved to. */
  #moveOne(from: ByteString, object: string, moved: Set<string>): void {
    const prefix = object.slice(0, 2);
    const move = () => this.#native.renameat2(this.#fd, from, this.#objects, pathOf(object), 0);
    let result = move();
    // Most folders are there.
    if (result === -errno.ENOENT && !moved.has(prefix)) {
      const made = this.#native.mkdirat(this.#objects, prefix, 0o777);
      if (made < 0 && made !== -errno.EEXIST) throw this.#failed(made);
      result = move();
    }
    this.#must(result);
    moved.add(prefix);
  }

  #sync(prefix: string): void {
    const flags = O_RDONLY | O_DIRECTORY;
    const fd = this.#must(this.#native.openBeneath(this.#objects, prefix, flags, 0));
    const result = this.#native.fsync(fd, false);
    this.#native.close(fd);
    this.#must(result);
  }

  /** @throws SessionError when a directory cannot be listed. */
  #list(dirfd: number, path: ByteString): Entry[] {
    const fd = this.#must(this.#native.openBeneath(dirfd, path, O_RDONLY | O_DIRECTORY, 0));
    const listing = this.#native.listDirectory(fd);
    this.#native.close(fd);
    if (typeof listing === 'number') throw this.#failed(listing);
    return listing.names.map((name, index) => ({ name, type: listing.types[index] ?? 0 }));
  }

  /** As `#list`, for what is only to be removed: nothing when it cannot be listed. The next process tries again. */
  #names(dirfd: number, path: ByteString): Entry[] {
    try {
      return this.#list(dirfd, path);
    } catch (error) {
      if (error instanceof SessionError) return [];
      throw error;
    }
  }

  /** Removes what is left, and lets go. */
  close(): void {
    this.#remove(this.#name);
    for (const fd of [this.#fd, this.#lock, this.#tmp, this.#objects]) this.#native.close(fd);
  }

  #remove(name: string): void {
    for (const child of this.#names(this.#tmp, name)) {
      const path = `${name}/${child.name}`;
      if (child.type !== DT_DIR) {
        this.#native.unlinkat(this.#tmp, path, 0);
        continue;
      }
      for (const object of this.#names(this.#tmp, path)) {
        this.#native.unlinkat(this.#tmp, `${path}/${object.name}`, 0);
      }
      this.#native.unlinkat(this.#tmp, path, AT_REMOVEDIR);
    }
    this.#native.unlinkat(this.#tmp, name, AT_REMOVEDIR);
    this.#native.unlinkat(this.#tmp, name + LOCK, 0);
  }

  /** Removes folders of ours that nobody has locked, and locks without a folder: their processes were killed, or met a failing disk. */
  #removeStale(): void {
    const left = new Set<string>();
    for (const { name } of this.#names(this.#tmp, '.')) {
      if (name.startsWith('staging-') && name.includes(OURS))
        left.add(name.endsWith(LOCK) ? name.slice(0, -LOCK.length) : name);
    }
    for (const name of left) {
      const lock = lockAlone(this.#native, this.#tmp, name + LOCK);
      if (lock < 0) continue;
      this.#remove(name);
      this.#native.close(lock);
    }
  }
}

/** A file that is being written. Unless it has been named when it is disposed of, nothing is left of it. */
export class StagedFile implements Disposable {
  readonly fd: number;
  readonly name: ByteString;
  readonly #native: Native;
  readonly #label: string;
  readonly #folder: number;
  #isOpen = true;
  #isNamed = false;

  constructor(native: Native, label: string, folder: number, fd: number, name: ByteString) {
    this.#native = native;
    this.#label = label;
    this.#folder = folder;
    this.fd = fd;
    this.name = name;
  }

  /** All is written. @throws SessionError: some file systems tell only now that something could not be. */
  close(): void {
    this.#isOpen = false;
    const result = this.#native.close(this.fd);
    if (result < 0) throw unwritable(this.#label, result);
  }

  /** It has the name that it keeps. */
  keep(): void {
    this.#isNamed = true;
  }

  /** Gives it the name that it keeps. @throws SessionError. */
  rename(dirfd: number, path: ByteString): void {
    const result = this.#native.renameat2(this.#folder, this.name, dirfd, path, 0);
    if (result < 0) throw unwritable(this.#label, result);
    this.#isNamed = true;
  }

  [Symbol.dispose](): void {
    if (this.#isOpen) this.#native.close(this.fd);
    if (!this.#isNamed) this.#native.unlinkat(this.#folder, this.name, 0);
  }
}

function pathOf(object: string): ByteString {
  return `${object.slice(0, 2)}/${object.slice(2)}`;
}

/** The name of an object. */
export function objectName(checksum: Checksum, extension: string): string {
  return `${checksum}.${extension}`;
}
