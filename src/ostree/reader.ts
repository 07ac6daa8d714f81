/** A repository to look into without a mount: what `ostree-ts ls` and `ostree-ts cat` are made of. */
import { SessionError } from '../errors.ts';
import { native } from '../native.ts';
import type { ByteString } from '../native.ts';
import { contents } from './data.ts';
import { findFile, listTree, type ListOptions, type TreeEntry } from './listing.ts';
import type { Checksum, Commit } from './objects.ts';
import { resolveRevision } from './refs.ts';
import { ObjectError } from './failures.ts';
import { Repository } from './repo.ts';

export type { ListOptions, TreeEntry } from './listing.ts';
export type { Xattr } from './objects.ts';

/** Where an OSTree host has its own repository. */
const SYSTEM_REPOSITORY = '/sysroot/ostree/repo';

/** A path: text, or bytes where it is no text. */
type RepositoryPath = string | Uint8Array;

function byteString(path: RepositoryPath): ByteString {
  return Buffer.from(path).toString('latin1');
}

export class RepositoryReader {
  readonly #repository: Repository;

  constructor(repository: Repository) {
    this.#repository = repository;
  }

  /**
   * The commit that a revision stands for: a checksum, the beginning of one, a ref, `REMOTE:REF`, each with `^` for its
   * parent.
   *
   * @throws SessionError when there is none, or more than one.
   */
  resolve(revision: string): Checksum {
    return resolveRevision(this.#repository, byteString(revision));
  }

  /**
   * What is at a path of a commit, and below it.
   *
   * @param path  a byte string, as in `TreeEntry`.
   * @throws SessionError, also half-way, when an object is missing or corrupt.
   */
  *list(revision: string, path: ByteString, options: ListOptions = {}): Generator<TreeEntry> {
    try {
      yield* listTree(this.#repository, this.#commit(revision), path, options);
    } catch (error) {
      throw explained(error);
    }
  }

  /**
   * The bytes of a regular file; symlinks are followed within the commit. Archive objects are checked, so the last bytes
   * may be followed by an error.
   *
   * @throws SessionError.
   */
  async *contents(revision: string, path: ByteString): AsyncGenerator<Uint8Array> {
    try {
      const checksum = findFile(this.#repository, this.#commit(revision), path);
      yield* contents(this.#repository, checksum);
    } catch (error) {
      throw explained(error);
    }
  }

  close(): void {
    this.#repository.close();
  }

  #commit(revision: string): Commit {
    return this.#repository.commitToRead(this.resolve(revision), { allowPartial: true });
  }
}

/** What is wrong with an object, as something to be told. */
function explained(error: unknown): unknown {
  if (!(error instanceof ObjectError)) return error;
  return new SessionError(`an object of the repository cannot be used: ${error.message}`);
}

/**
 * Opens a repository.
 *
 * @param path  without one: the current folder if it is a repository, else that of the system.
 * @throws SessionError when there is none.
 */
export function openRepository(path?: RepositoryPath): RepositoryReader {
  if (path !== undefined) {
    return new RepositoryReader(Repository.open(native, byteString(path)));
  }
  try {
    return new RepositoryReader(Repository.open(native, '.'));
  } catch (error) {
    if (!(error instanceof SessionError)) throw error;
  }
  try {
    return new RepositoryReader(Repository.open(native, SYSTEM_REPOSITORY));
  } catch (error) {
    if (!(error instanceof SessionError)) throw error;
    throw new SessionError(
      `neither the current folder nor ${SYSTEM_REPOSITORY} is an OSTree repository`,
      'name one: --repo=REPO',
    );
  }
}
