/**
 * Writes to a repository, in one transaction: objects are staged, made durable and renamed into place, commits after what
 * they need, and refs last. Until then nothing can be seen of it, and when it ends otherwise nothing is left.
 *
 * Data is streamed: memory does not depend on the size of files, nor on their number.
 */
import { constants } from 'node:os';
import { SessionError, UsageError } from '../errors.ts';
import { native as addon, type ByteString, type Native } from '../native.ts';
import { ContentWriter, type Data } from './content-writer.ts';
import { encodeDirTree, type TreeBase, type TreeDirectory, type TreeFile } from './dirtree.ts';
import { FreeSpace } from './free-space.ts';
import { FormatError } from './gvariant.ts';
import { booleanOf, type KeyFile } from './keyfile.ts';
import { lockShared, unwritable, type WaitOptions } from './lock.ts';
import { sha256, type Checksum, type Commit, type ContentHeader, type Meta } from './objects.ts';
import { encodeCommit, encodeMeta } from './object-bytes.ts';
import { isRefName } from './refs.ts';
import { errnoName, shown } from './failures.ts';
import { Repository } from './repo.ts';
import { readConfig } from './settings.ts';
import { objectName, Staging } from './staging.ts';

const { errno } = constants;
const O_RDONLY = 0;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_PATH = 0o10000000;
const UTIME_NOW = 0x3fffffff;

export type WriterOptions = WaitOptions;

export class RepositoryWriter implements AsyncDisposable {
  /** For reading; sees no object of the transaction before it is finished. */
  readonly repository: Repository;
  /** What messages call it. */
  readonly label: string;
  readonly #native: Native;
  readonly #config: KeyFile;
  /** Those that are known to be there: few, and each directory has one. */
  readonly #dirMetas = new Set<Checksum>();
  readonly #staging: Staging;
  readonly #content: ContentWriter;
  readonly #lock: number;
  readonly #refs: Map<string, Checksum> = new Map();
  #isOpen = true;

  private constructor(
    native: Native,
    repository: Repository,
    config: KeyFile,
    lock: number,
    label: string,
  ) {
    this.#native = native;
    this.repository = repository;
    this.label = label;
    this.#config = config;
    this.#lock = lock;
    const space = new FreeSpace(native, repository.fd, label, config);
    this.#staging = new Staging(native, repository.fd, label);
    this.#content = new ContentWriter(native, this.#staging, {
      mode: repository.mode,
      disableXattrs: repository.disableXattrs,
      level: Number(config.get('archive')?.get('zlib-level') ?? 6),
      space,
      label,
    });
  }

  /**
   * Begins a transaction. Waits while another process has the repository for itself.
   *
   * @param path  a byte string.
   * @throws SessionError when there is no repository, or one that cannot be written.
   */
  static async open(path: ByteString, options: WriterOptions = {}): Promise<RepositoryWriter> {
    const label = `repository ${shown(path)}`;
    const repository = Repository.open(addon, path);
    let lock = -1;
    try {
      if (repository.mode === 'bare-split-xattrs') {
        throw new SessionError(
          `${label} is of mode bare-split-xattrs, which cannot be written`,
          'commit to another one: --repo=REPO',
        );
      }
      const config = readConfig(addon, repository.fd, label);
      lock = await lockShared(addon, repository.fd, label, config, options);
      return new RepositoryWriter(addon, repository, config, lock, label);
    } catch (error) {
      if (lock >= 0) addon.close(lock);
      repository.close();
      if (!(error instanceof FormatError)) throw error;
      throw new SessionError(`${label} cannot be written: its config: ${error.message}`);
    }
  }

  /** The value of `collection-id`: commits are bound to it, as to their refs. */
  get collectionId(): string | undefined {
    return this.#config.get('core')?.get('collection-id');
  }

  /** Whether an object is in this repository (not its parents), or will be. @param extension  as in `dirtree`; of files `file`, in archives too. */
  has(checksum: Checksum, extension: 'file' | 'dirtree' | 'dirmeta' | 'commit'): boolean {
    if (this.#dirMetas.has(checksum)) return true;
    const isDeflated = extension === 'file' && this.repository.mode === 'archive';
    const isThere = this.#staging.has(objectName(checksum, isDeflated ? 'filez' : extension));
    if (isThere && extension === 'dirmeta') this.#dirMetas.add(checksum);
    return isThere;
  }

  /** Owner, mode and attributes as this mode of repository keeps them: those of `bare-user-only` are canonical. */
  kept<M extends Meta>(meta: M): M {
    return this.#content.kept(meta);
  }

  /**
   * A file or symlink.
   *
   * @param header  what is not `kept` of it is dropped.
   * @param data  of a regular file.
   * @throws SessionError when it cannot be written.
   */
  writeContent(header: ContentHeader, data: Data = []): Promise<Checksum> {
    return this.#content.write(header, data);
  }

  writeDirMeta(meta: Meta): Checksum {
    return this.#writeMetadata(encodeMeta(this.kept(meta)), 'dirmeta');
  }

  /**
   * A directory.
   *
   * @param base  what it holds besides; its objects are there, or will be.
   * @throws FormatError for a name that cannot be stored.
   */
  writeDirTree(
    files: readonly TreeFile[],
    dirs: readonly TreeDirectory[],
    base?: TreeBase,
  ): Checksum {
    return this.#writeMetadata(encodeDirTree(files, dirs, base), 'dirtree');
  }

  writeCommit(commit: Commit): Checksum {
    return this.#writeMetadata(encodeCommit(commit), 'commit');
  }

  /** A dirtree, dirmeta or commit of another repository. */
  writeCopy(bytes: Uint8Array, extension: 'dirtree' | 'dirmeta' | 'commit'): Checksum {
    return this.#writeMetadata(bytes, extension);
  }

  #writeMetadata(bytes: Uint8Array, extension: 'dirtree' | 'dirmeta' | 'commit'): Checksum {
    const checksum = sha256(bytes);
    if (this.has(checksum, extension)) return checksum;
    const object = objectName(checksum, extension);
    using file = this.#staging.createObject(object);
    this.#must(this.#native.pwrite(file.fd, bytes, 0));
    this.#must(this.#native.fchmodat(file.fd, '', 0o644));
    this.#staging.stage(file, object);
    return checksum;
  }

  /**
   * Has a ref point to a commit when the transaction is finished.
   *
   * @throws UsageError for a name that a ref cannot have. SessionError when other refs are in its way.
   */
  setRef(ref: string, commit: Checksum): void {
    this.checkRef(ref);
    this.#refs.set(ref, commit);
  }

  /** As `setRef`, for those who want to know early. */
  checkRef(ref: string): void {
    checkRef(ref);
    this.#checkPlace(ref);
  }

  /** A ref `a/b` and a ref `a` cannot both be. */
  #checkPlace(ref: string): void {
    const parts = ref.split('/');
    for (let count = 1; count <= parts.length; count++) {
      const path = `refs/heads/${parts.slice(0, count).join('/')}`;
      const isLast = count === parts.length;
      const flags = O_PATH | O_NOFOLLOW | (isLast ? O_DIRECTORY : 0);
      const fd = this.#native.openBeneath(this.repository.fd, path, flags, 0);
      if (fd < 0) continue;
      this.#native.close(fd);
      if (!isLast) {
        const dir = this.#native.openBeneath(this.repository.fd, path, O_PATH | O_DIRECTORY, 0);
        if (dir < 0) throw inTheWay(ref, path);
        this.#native.close(dir);
      } else throw inTheWay(ref, `${path}/...`);
    }
  }

  /** Makes everything of the transaction real, and ends it. @throws SessionError; refs are then as before, or as wanted. */
  async finish(): Promise<void> {
    const isSynced = booleanOf(this.#config.get('core')?.get('fsync') ?? 'true');
    this.#staging.publish(isSynced);
    for (const [ref, commit] of this.#refs) this.#writeRef(ref, commit, isSynced);
    this.#native.utimensat(this.repository.fd, '.', 0, UTIME_NOW, 0, UTIME_NOW);
    await this[Symbol.asyncDispose]();
  }

  #writeRef(ref: string, commit: Checksum, isSynced: boolean): void {
    const { fd: repo } = this.repository;
    const parts = ['refs', 'heads', ...ref.split('/')];
    for (let count = 1; count < parts.length; count++) {
      const made = this.#native.mkdirat(repo, parts.slice(0, count).join('/'), 0o777);
      if (made < 0 && made !== -errno.EEXIST) throw unwritable(this.label, made);
    }
    const folder = parts.slice(0, -1).join('/');
    const dirfd = this.#must(this.#native.openBeneath(repo, folder, O_RDONLY | O_DIRECTORY, 0));
    try {
      using file = this.#staging.create();
      this.#must(this.#native.pwrite(file.fd, Buffer.from(`${commit}\n`), 0));
      this.#must(this.#native.fchmodat(file.fd, '', 0o644));
      if (isSynced) this.#must(this.#native.fsync(file.fd, true));
      file.close();
      file.rename(dirfd, parts.at(-1) ?? '');
      const synced = isSynced ? this.#native.fsync(dirfd, false) : 0;
      if (synced < 0) throw notDurable(this.label, ref, commit, synced);
    } finally {
      this.#native.close(dirfd);
    }
  }

  #must(result: number): number {
    if (result < 0) throw unwritable(this.label, result);
    return result;
  }

  /** Ends the transaction; nothing is left of it unless it was finished. */
  [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#staging.close();
      if (this.#lock >= 0) this.#native.close(this.#lock);
      this.repository.close();
    }
    return Promise.resolve();
  }
}

/** @throws UsageError for a name that a ref cannot have. */
export function checkRef(ref: string): void {
  if (isRefName(ref)) return;
  throw new UsageError(
    `'${ref}' cannot be the name of a ref`,
    'refs are letters, digits, -, . and _, in parts between slashes; no part begins with -, or .',
  );
}

/** The ref has been set, but nothing more is known. */
function notDurable(label: string, ref: string, commit: Checksum, result: number): SessionError {
  return new SessionError(
    `${ref} is ${commit} now, but ${label} could not make sure that it stays so: ${errnoName(result)}`,
    'look at the kernel log and at the disk, and commit again',
  );
}

function inTheWay(ref: string, path: string): SessionError {
  return new SessionError(
    `the ref '${ref}' cannot be made: there is '${path.replace(/^refs\/heads\//, '')}'`,
    'choose another name: a ref cannot lie below another one',
  );
}
