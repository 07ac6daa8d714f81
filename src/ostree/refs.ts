/** Revisions: what a person calls a commit, to the commit's checksum. */
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { FormatError } from './gvariant.ts';
import type { Checksum } from './objects.ts';
import {
  isNone,
  NoFileError,
  ObjectError,
  ReadError,
  shown,
  unreadable,
  unusable,
} from './failures.ts';
import { readAll } from './read-file.ts';
import { type Repository } from './repo.ts';

const { errno } = constants;
const O_RDONLY = 0;
const O_DIRECTORY = 0o200000;
const DT_DIR = 4;

const CHECKSUM = /^[0-9a-f]{64}$/;
const REMOTE = /^[\w\d][-._\w\d]*$/;
const REF = /^[\w\d][-._\w\d]*(\/[\w\d][-._\w\d]*)*$/;
/** Whether a ref may be called so. */
export function isRefName(text: string): boolean {
  return REF.test(text);
}

/** How many candidates a message lists. */
const MAX_LISTED = 8;
/** An alias of an alias of an alias... beyond this is a circle. */
const MAX_ALIASES = 8;

/**
 * Finds the commit that `revision` stands for: a checksum, the beginning of one, a ref, `REMOTE:REF`, or any of these
 * with `^` for its parent, as often as wanted.
 *
 * @throws SessionError when there is no such commit or ref, or more than one.
 */
export function resolveRevision(repo: Repository, revision: ByteString): Checksum {
  if (revision.endsWith('^')) {
    const child = resolveRevision(repo, revision.slice(0, -1));
    return parentOf(repo, child);
  }
  if (CHECKSUM.test(revision)) return revision;
  if (/^[0-9a-f]{1,63}$/.test(revision)) {
    const found = commitsBeginning(repo, revision);
    if (found.length > 1) throw ambiguous(revision, found);
    if (found[0] !== undefined) return found[0];
  }
  const found = resolveRef(repo, revision);
  if (found !== undefined) return found;
  const known = [...repo.chain()].flatMap((each) => listRefs(each));
  throw new SessionError(
    `there is no commit or ref '${shown(revision)}' in the repository`,
    known.length === 0 ? 'the repository has no refs' : `its refs: ${listed(known)}`,
  );
}

/** What a local ref points to; `undefined` when there is none of this name. */
export function readBranch(repo: Repository, ref: string): Checksum | undefined {
  return readRef(repo, `refs/heads/${ref}`);
}

function parentOf(repo: Repository, checksum: Checksum): Checksum {
  try {
    const { parent } = repo.commit(checksum);
    if (parent === undefined) throw new SessionError(`commit ${checksum} has no parent`);
    return parent;
  } catch (error) {
    throw error instanceof ObjectError ? unusable(repo.label, error) : error;
  }
}

function ambiguous(revision: ByteString, candidates: string[]): SessionError {
  return new SessionError(
    `'${shown(revision)}' is ambiguous: ${listed(candidates)}`,
    'write more of the one you mean',
  );
}

function listed(candidates: string[]): string {
  const sorted = [...new Set(candidates)].sort();
  const more = sorted.length - MAX_LISTED;
  return sorted.slice(0, MAX_LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function commitsBeginning(repo: Repository, prefix: string): Checksum[] {
  const found = new Set<Checksum>();
  for (const repository of repo.chain()) {
    for (const directory of prefixesBeginning(prefix.slice(0, 2))) {
      for (const { name } of entriesOf(repository, `objects/${directory}`)) {
        const checksum = directory + name.replace(/\.commit$/, '');
        if (checksum.startsWith(prefix) && CHECKSUM.test(checksum)) found.add(checksum);
      }
    }
  }
  return [...found].sort();
}

function prefixesBeginning(digits: string): string[] {
  if (digits.length === 2) return [digits];
  return Array.from('0123456789abcdef', (second) => digits + second);
}

/** What a directory of the repository lists; nothing when it is not there. @throws SessionError when it cannot be read. */
function entriesOf(repo: Repository, path: ByteString): { name: ByteString; type: number }[] {
  const fd = repo.native.openBeneath(repo.fd, path, O_RDONLY | O_DIRECTORY, 0);
  if (isNone(fd)) return [];
  if (fd < 0) throw unreadable(repo.label, path, fd);
  const listing = repo.native.listDirectory(fd);
  repo.native.close(fd);
  if (typeof listing === 'number') throw unreadable(repo.label, path, listing);
  return listing.names.map((name, index) => ({ name, type: listing.types[index] ?? 0 }));
}

/** @throws SessionError when several remotes have a ref of that name and nothing else decides. */
function resolveRef(repo: Repository, refspec: ByteString): Checksum | undefined {
  const [, remote, ref = ''] = /^(?:([^:]*):)?(.*)$/.exec(refspec) ?? [];
  if (!REF.test(ref) || (remote !== undefined && !REMOTE.test(remote))) {
    throw new SessionError(
      `'${shown(refspec)}' is neither a commit nor a possible name of a ref`,
      'refs are letters, digits, -, . and _, in parts between slashes; REMOTE:REF for those of a remote',
    );
  }
  for (const repository of repo.chain()) {
    const found = resolveHere(repository, remote, ref);
    if (found !== undefined) return found;
  }
  return undefined;
}

function resolveHere(
  repo: Repository,
  remote: string | undefined,
  ref: ByteString,
): Checksum | undefined {
  if (remote !== undefined) return readRef(repo, `refs/remotes/${remote}/${ref}`);
  const local = readRef(repo, `refs/heads/${ref}`) ?? readRef(repo, `refs/remotes/${ref}`);
  if (local !== undefined) return local;
  const remotes = entriesOf(repo, 'refs/remotes').flatMap(({ name }) => {
    const checksum = readRef(repo, `refs/remotes/${name}/${ref}`);
    return checksum === undefined ? [] : [{ name: `${name}:${ref}`, checksum }];
  });
  if (new Set(remotes.map(({ checksum }) => checksum)).size > 1) {
    throw ambiguous(
      ref,
      remotes.map(({ name }) => shown(name)),
    );
  }
  return remotes[0]?.checksum;
}

/** The commit in a file of refs/; `undefined` when there is none. Aliases, which are symlinks, are followed inside refs/. */
function readRef(repo: Repository, path: ByteString, followed = 0): Checksum | undefined {
  const fd = repo.openFile(repo.fd, path);
  if (fd === -errno.ELOOP && followed < MAX_ALIASES) {
    const target = repo.native.readlinkat(repo.fd, path);
    if (typeof target === 'number') throw unreadable(repo.label, path, target);
    const next = joined(path, target);
    return next === undefined ? undefined : readRef(repo, next, followed + 1);
  }
  if (isNone(fd)) return undefined;
  if (fd < 0) throw unreadable(repo.label, path, fd);
  try {
    const text = readAll(repo.native, fd, 4096).toString('latin1').trim();
    if (CHECKSUM.test(text)) return text;
    throw new SessionError(`${shown(path)} does not hold a checksum`);
  } catch (error) {
    // A directory: the name is the beginning of other refs' names.
    if (error instanceof NoFileError) return undefined;
    if (error instanceof ReadError) throw unreadable(repo.label, path, error.result);
    if (!(error instanceof FormatError)) throw error;
    throw new SessionError(`${shown(path)} does not hold a checksum: ${error.message}`);
  } finally {
    repo.native.close(fd);
  }
}

/** Where a symlink at `path` leads, unless out of refs/. */
function joined(path: ByteString, target: ByteString): ByteString | undefined {
  if (target.startsWith('/')) return undefined;
  const parts = path.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts[0] === 'refs' ? parts.join('/') : undefined;
}

/** Every ref of a repository as a person would write it, remotes' as REMOTE:REF; its parents' apart. */
function listRefs(repo: Repository): string[] {
  const heads = refsBelow(repo, 'refs/heads', '');
  const remotes = entriesOf(repo, 'refs/remotes').flatMap(({ name }) =>
    refsBelow(repo, `refs/remotes/${name}`, '').map((ref) => `${shown(name)}:${ref}`),
  );
  return [...heads, ...remotes];
}

function refsBelow(repo: Repository, path: ByteString, prefix: string): string[] {
  return entriesOf(repo, path).flatMap(({ name, type }) =>
    type === DT_DIR
      ? refsBelow(repo, `${path}/${name}`, `${prefix}${shown(name)}/`)
      : [prefix + shown(name)],
  );
}
