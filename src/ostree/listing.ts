/** A commit's tree as `ostree ls` and `ostree cat` show it, read without a mount. */
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { fileInfo, fileXattrs } from './content.ts';
import type { Checksum, Commit, Xattr } from './objects.ts';
import { shown } from './failures.ts';
import { type Repository } from './repo.ts';

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
/** As the kernel's limit on symlinks in one path. */
const MAX_LINKS = 40;

export interface TreeEntry {
  /** From the root of the commit, beginning with '/'. */
  path: ByteString;
  uid: number;
  gid: number;
  /** Type and permission bits. */
  mode: number;
  /** Bytes of data of a regular file, else 0. */
  size: number;
  /** Of a symlink, else ''. */
  target: ByteString;
  /** The content object, or the dirtree. */
  checksum: Checksum;
  /** The dirmeta of a directory. */
  meta?: Checksum;
  /** When they were asked for. */
  xattrs?: Xattr[];
}

export interface ListOptions {
  /** How deep: 0 is the path alone, 1 its children too, Infinity everything. */
  depth?: number;
  xattrs?: boolean;
}

/** A file by its content object, or a directory by its two. */
interface Found {
  path: ByteString;
  checksum: Checksum;
  meta?: Checksum;
}

/**
 * What is at `path`, and below it as deep as asked: a directory's files come first, then its directories, each followed
 * by what is in it; both by byte value of the name.
 *
 * @throws SessionError when the path is not in the commit. ObjectError for objects that cannot be used.
 */
export function* listTree(
  repo: Repository,
  commit: Commit,
  path: ByteString,
  options: ListOptions = {},
): Generator<TreeEntry> {
  yield* listFrom(repo, find(repo, commit, path), options.depth ?? 1, options);
}

function* listFrom(
  repo: Repository,
  found: Found,
  depth: number,
  options: ListOptions,
): Generator<TreeEntry> {
  yield entryOf(repo, found, options);
  if (found.meta === undefined || depth === 0) return;
  const { files, dirs } = repo.dirTree(found.checksum);
  const base = found.path === '/' ? '/' : `${found.path}/`;
  for (const [index, name] of files.names.entries()) {
    yield entryOf(repo, { path: base + name, checksum: files.checksum(index) }, options);
  }
  for (const [index, name] of dirs.names.entries()) {
    const checksum = dirs.checksum(index);
    const child = { path: base + name, checksum, meta: dirs.checksum(index, 1) };
    yield* listFrom(repo, child, depth - 1, options);
  }
}

function entryOf(repo: Repository, found: Found, options: ListOptions): TreeEntry {
  if (found.meta !== undefined) {
    const { uid, gid, mode, xattrs } = repo.dirMeta(found.meta);
    const entry = { ...found, uid, gid, mode, size: 0, target: '' };
    return options.xattrs === true ? { ...entry, xattrs } : entry;
  }
  const { uid, gid, mode, size, target, xattrs } = fileInfo(repo, found.checksum);
  const isLink = (mode & S_IFMT) === S_IFLNK;
  const entry = { ...found, uid, gid, mode, size: isLink ? 0 : size, target };
  if (options.xattrs !== true) return entry;
  return { ...entry, xattrs: xattrs ?? fileXattrs(repo, found.checksum) };
}

function find(repo: Repository, commit: Commit, path: ByteString): Found {
  let found: Found = { path: '/', checksum: commit.tree, meta: commit.meta };
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (found.meta === undefined) {
      throw new SessionError(`'${shown(path)}': ${shown(found.path)} is not a directory`);
    }
    const child: Found | undefined = childOf(repo, found, name);
    if (child === undefined) throw new SessionError(`there is no '${shown(path)}' in the commit`);
    found = child;
  }
  return found;
}

function childOf(repo: Repository, directory: Found, name: ByteString): Found | undefined {
  const { files, dirs } = repo.dirTree(directory.checksum);
  const path = directory.path === '/' ? `/${name}` : `${directory.path}/${name}`;
  const file = files.find(name);
  if (file !== -1) return { path, checksum: files.checksum(file) };
  const dir = dirs.find(name);
  if (dir === -1) return undefined;
  return { path, checksum: dirs.checksum(dir), meta: dirs.checksum(dir, 1) };
}

/**
 * The content object of a regular file; symlinks are followed within the commit.
 *
 * @throws SessionError when there is none, or something else.
 */
export function findFile(repo: Repository, commit: Commit, path: ByteString): Checksum {
  let next = path;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const step = followOnce(repo, commit, next);
    if (typeof step !== 'string') {
      if (step.meta === undefined) return step.checksum;
      throw new SessionError(`'${shown(path)}' is a directory`);
    }
    next = step;
  }
  throw new SessionError(`'${shown(path)}' leads through too many symlinks`);
}

/** What is at `path`, or, when there is a symlink in it, the path that the first one makes of it. */
function followOnce(repo: Repository, commit: Commit, path: ByteString): Found | ByteString {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const way: Found[] = [{ path: '/', checksum: commit.tree, meta: commit.meta }];
  for (const [index, name] of names.entries()) {
    const at = way.at(-1);
    if (at?.meta === undefined) throw new SessionError(`'${shown(path)}': not a directory`);
    if (name === '..') {
      if (way.length > 1) way.pop();
      continue;
    }
    const child = childOf(repo, at, name);
    if (child === undefined) throw new SessionError(`there is no '${shown(path)}' in the commit`);
    way.push(child);
    if (child.meta !== undefined) continue;
    const { target } = fileInfo(repo, child.checksum);
    if (target === '') continue;
    const rest = names.slice(index + 1).join('/');
    return target.startsWith('/') ? `${target}/${rest}` : `${at.path}/${target}/${rest}`;
  }
  return way.at(-1) ?? { path: '/', checksum: commit.tree, meta: commit.meta };
}
