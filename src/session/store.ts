/** The commit that a session is to show, found and checked before anything starts. */
import { SessionError, UsageError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import { resolveRevision } from '../ostree/refs.ts';
import { ObjectError } from '../ostree/failures.ts';
import { Repository } from '../ostree/repo.ts';
import { bytes, type HostPath } from './checks.ts';
import type { CommitSource } from './daemon-options.ts';
import type { UnlockOptions } from './options.ts';

/** Holds the repository open until it is disposed of. */
export interface Store extends Disposable {
  path: HostPath;
  /** As typed. */
  revision: ByteString;
  checksum: string;
  source: CommitSource;
  /** Directories of the repository and its parents, nearest first. */
  fds: number[];
}

/**
 * Opens the repository and finds the commit.
 *
 * @throws UsageError for what can only be a mistake: no ref, several, no mountpoint, options for directories.
 * @throws SessionError when there is no such repository or commit, or it cannot be shown.
 */
export function openStore(options: UnlockOptions, path: HostPath): Store {
  const [revision, ...others] = options.source;
  if (revision === undefined || others.length > 0) {
    throw new UsageError(
      'a session from a repository shows one commit',
      'name one: ostree-ts unlock --repo=REPO REF MOUNTPOINT',
    );
  }
  if (options.mountpoint === undefined) {
    throw new UsageError(
      'a commit is nowhere yet, so it needs a mountpoint',
      'name one: ostree-ts unlock --repo=REPO REF MOUNTPOINT',
    );
  }
  if (options.links === 'shared') {
    throw new UsageError(
      'the files of a commit have no hard links that could be shared',
      'leave --links out: with --repo, every path is a file of its own',
    );
  }
  const repository = Repository.open(native, bytes(path));
  try {
    const checksum = resolveRevision(repository, bytes(revision));
    const allowPartial = options.allowPartial ?? false;
    const { tree, meta } = repository.commitToRead(checksum, { allowPartial });
    // A root that cannot be read would be a mount that cannot be entered.
    repository.dirMeta(meta);
    repository.dirTree(tree);
    return {
      path,
      revision: bytes(revision),
      checksum,
      source: { tree, meta, verify: options.verify ?? false },
      fds: [...repository.chain()].map(({ fd }) => fd),
      [Symbol.dispose]: () => repository.close(),
    };
  } catch (error) {
    repository.close();
    if (!(error instanceof ObjectError)) throw error;
    throw new SessionError(`the root of the commit cannot be read: ${error.message}`);
  }
}
