/**
 * Files as content objects: where each mode of repository keeps owner, permissions, attributes, link target and data.
 * What the data is, and whether it is what the object's name says, is data.ts's.
 *
 *   bare               the object is the file
 *   bare-user          data in a regular file (for a symlink: its target and a NUL), the rest in user.ostreemeta
 *   bare-user-only     the object is the file; owner 0:0, no attributes
 *   bare-split-xattrs  the object is the file, but its attributes are in CHECKSUM.file-xattrs-link
 *   archive            CHECKSUM.filez: a header with everything, then the data, deflated
 */
import { constants } from 'node:os';
import { STAT, STAT_FIELDS, type ByteString } from '../native.ts';
import { FormatError } from './gvariant.ts';
import {
  HEADER_PREFIX,
  archiveHeaderLength,
  checkTarget,
  parseArchiveHeader,
  parseFileMeta,
  parseFileXattrs,
  type Checksum,
  type Meta,
  type Xattr,
} from './objects.ts';
import { ObjectError, errnoName } from './failures.ts';
import { readExactly } from './read-file.ts';
import { type Repository } from './repo.ts';

const { errno } = constants;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const AT_EMPTY_PATH = 0x1000;

/** Enough for the header of nearly every archive object, so that one read does. */
const HEADER_GUESS = 1024;

/** What is known of a file without its data or, in some modes, its attributes. */
export interface FileInfo {
  uid: number;
  gid: number;
  /** Type and permission bits. */
  mode: number;
  /** Bytes of data; for a symlink, of its target. */
  size: number;
  /** '' unless a symlink. */
  target: ByteString;
  /** `undefined` where they are kept apart: ask `fileXattrs`. */
  xattrs: Xattr[] | undefined;
}

/** The data of a regular file: `offset` is where it begins in the object, deflated or not. */
export interface FileData {
  /** The caller's to close. */
  fd: number;
  deflated: boolean;
  offset: number;
  /** Of the object file. */
  fileSize: number;
  info: FileInfo;
}

/** A content object in the one repository that has it. */
interface Place {
  repository: Repository;
  dirfd: number;
  name: ByteString;
}

const guess = Buffer.allocUnsafeSlow(HEADER_GUESS);
const stat = new Float64Array(STAT_FIELDS);

/** Finds an object and runs `use` on it. @throws ObjectError for anything wrong with it. */
function withPlace<T>(repo: Repository, checksum: Checksum, use: (place: Place) => T): T {
  for (const repository of repo.chain()) {
    const extension = extensionIn(repository);
    const dirfd = repository.prefix(checksum.slice(0, 2));
    if (dirfd < 0) continue;
    const name = `${checksum.slice(2)}.${extension}`;
    const result = repository.native.statx(dirfd, name, 0, stat);
    if (result === -errno.ENOENT) continue;
    const object = `${checksum}.${extension}`;
    if (result < 0) throw new ObjectError(object, errnoName(result));
    try {
      return use({ repository, dirfd, name });
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new ObjectError(object, error.message);
    }
  }
  throw new ObjectError(`${checksum}.${extensionIn(repo)}`, 'missing');
}

function extensionIn({ mode }: Repository): string {
  return mode === 'archive' ? 'filez' : 'file';
}

export function fileInfo(repo: Repository, checksum: Checksum): FileInfo {
  return withPlace(repo, checksum, (place) => infoAt(place, undefined));
}

/** @param fd  the object, when it is open already. `stat` holds the object's. */
function infoAt(place: Place, fd: number | undefined): FileInfo {
  if (place.repository.mode === 'archive') {
    return fd === undefined
      ? withFile(place, (opened) => archiveHeader(place, opened).info)
      : archiveHeader(place, fd).info;
  }
  const info = bareInfo(place, fd);
  if (place.repository.disableXattrs) info.xattrs = [];
  return info;
}

function bareInfo(place: Place, fd: number | undefined): FileInfo {
  const { repository, dirfd, name } = place;
  const { mode } = repository;
  const inodeMode = stat[STAT.MODE] ?? 0;
  const size = stat[STAT.SIZE] ?? 0;
  const type = inodeMode & S_IFMT;
  if (mode === 'bare-user') {
    if (type !== S_IFREG) throw new FormatError('not a regular file');
    const meta = ostreeMeta(place);
    if ((meta.mode & S_IFMT) === S_IFREG) return { ...meta, size, target: '' };
    const target =
      fd === undefined
        ? withFile(place, (opened) => storedTarget(repository, opened, size))
        : storedTarget(repository, fd, size);
    return { ...meta, size: target.length, target };
  }
  if (type !== S_IFREG && type !== S_IFLNK) throw new FormatError('neither a file nor a symlink');
  const owned = mode !== 'bare-user-only';
  const info: FileInfo = {
    uid: owned ? (stat[STAT.UID] ?? 0) : 0,
    gid: owned ? (stat[STAT.GID] ?? 0) : 0,
    mode: inodeMode,
    size,
    target: '',
    xattrs: owned ? undefined : [],
  };
  if (type === S_IFLNK) {
    const target = repository.native.readlinkat(dirfd, name);
    if (typeof target === 'number') throw new FormatError(errnoName(target));
    info.target = target;
    info.size = target.length;
  }
  return info;
}

function ostreeMeta({ repository, dirfd, name }: Place): Meta {
  const value = repository.native.getxattr(dirfd, name, 'user.ostreemeta');
  if (typeof value === 'number') throw new FormatError(`user.ostreemeta: ${errnoName(value)}`);
  return parseFileMeta(bufferOf(value));
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The target of a symlink that is stored as a regular file: everything before the first NUL. */
function storedTarget(repository: Repository, fd: number, size: number): ByteString {
  const bytes = readExactly(repository.native, fd, 0, Math.min(size, 4097));
  const end = bytes.indexOf(0);
  const target = bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
  checkTarget(target);
  return target;
}

function archiveHeader(
  { repository }: Place,
  fd: number,
): { info: FileInfo; offset: number; fileSize: number } {
  const fileSize = stat[STAT.SIZE] ?? 0;
  const { native } = repository;
  let bytes = readExactly(native, fd, 0, Math.min(HEADER_GUESS, fileSize), guess);
  const end = HEADER_PREFIX + archiveHeaderLength(bytes, fileSize);
  if (end > bytes.length) bytes = readExactly(native, fd, 0, end);
  const header = parseArchiveHeader(bytes.subarray(HEADER_PREFIX, end));
  // The attributes are kept, perhaps for long: not the whole of what was read.
  const xattrs = header.xattrs.map(({ name, value }) => ({ name, value: Buffer.from(value) }));
  const isLink = (header.mode & S_IFMT) === S_IFLNK;
  const info = { ...header, xattrs, size: isLink ? header.target.length : header.size };
  return { info, offset: end, fileSize };
}

function withFile<T>({ repository, dirfd, name }: Place, use: (fd: number) => T): T {
  const fd = repository.openFile(dirfd, name);
  if (fd < 0) throw new FormatError(errnoName(fd));
  try {
    return use(fd);
  } finally {
    repository.native.close(fd);
  }
}

/** @throws ObjectError. */
export function fileXattrs(repo: Repository, checksum: Checksum): Xattr[] {
  return withPlace(repo, checksum, (place) => xattrsAt(place, infoAt(place, undefined), checksum));
}

function xattrsAt(place: Place, info: FileInfo, checksum: Checksum): Xattr[] {
  if (info.xattrs !== undefined) return info.xattrs;
  const { repository, dirfd, name } = place;
  if (repository.mode === 'bare-split-xattrs') {
    const bytes = repository.readObject(checksum, 'file-xattrs-link');
    if (bytes === undefined) throw new FormatError('its file-xattrs-link is missing');
    return parseFileXattrs(bytes);
  }
  const names = repository.native.listxattr(dirfd, name);
  if (typeof names === 'number') {
    if (names === -errno.EOPNOTSUPP) return [];
    throw new FormatError(`its attributes: ${errnoName(names)}`);
  }
  return names.toSorted().map((each) => {
    const value = repository.native.getxattr(dirfd, name, each);
    if (typeof value === 'number') throw new FormatError(`attribute ${each}: ${errnoName(value)}`);
    return { name: each, value: bufferOf(value) };
  });
}

/** Opens the data of a regular file. @throws ObjectError, also when it is a symlink. */
export function openData(repo: Repository, checksum: Checksum): FileData {
  return withPlace(repo, checksum, (place) => {
    const { repository, dirfd, name } = place;
    const { native } = repository;
    const fd = repository.openFile(dirfd, name);
    if (fd < 0) throw new FormatError(errnoName(fd));
    try {
      // From the open file, which stays the same whatever becomes of the name.
      const result = native.statx(fd, '', AT_EMPTY_PATH, stat);
      if (result < 0) throw new FormatError(errnoName(result));
      const deflated = repository.mode === 'archive';
      const data = deflated
        ? archiveHeader(place, fd)
        : { info: infoAt(place, fd), offset: 0, fileSize: stat[STAT.SIZE] ?? 0 };
      if ((data.info.mode & S_IFMT) !== S_IFREG) throw new FormatError('not a regular file');
      return { fd, deflated, ...data };
    } catch (error) {
      native.close(fd);
      throw error;
    }
  });
}
