/**
 * The objects of a repository: bytes to values, with every rule a reader must hold them to; values to bytes are
 * object-bytes.ts's, dirtrees dirtree.ts's. Pure; where objects are stored is repo.ts's and content.ts's. Names, link targets and attribute
 * names are byte strings.
 */
import type { ByteString } from '../native.ts';
import {
  FormatError,
  TupleReader,
  dictionaryIn,
  elements,
  stringIn,
  type Span,
  type Variant,
} from './gvariant.ts';
import { newHash } from './hash.ts';

/** SHA-256 as 64 lower-case hex digits: what an object is named by. */
export type Checksum = string;

/** The same as its 32 bytes, one a character: for whoever keeps many. */
export type Digest = string;

export function digestOf(checksum: Checksum): Digest {
  return Buffer.from(checksum, 'hex').toString('latin1');
}

export function checksumOf(digest: Digest): Checksum {
  return Buffer.from(digest, 'latin1').toString('hex');
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** A limit of Linux: a longer target cannot be read through a mount, nor checked out. */
const PATH_MAX = 4095;
export const NAME_MAX = 255;
export const CHECKSUM_BYTES = 32;

export interface Xattr {
  name: ByteString;
  value: Buffer;
}

/** Owner, permissions and attributes of a file or a directory. */
export interface Meta {
  uid: number;
  gid: number;
  /** Type and permission bits. */
  mode: number;
  xattrs: Xattr[];
}

/** What a content checksum covers, the data apart. */
export interface ContentHeader extends Meta {
  /** The link target, or '' for a regular file. */
  target: ByteString;
}

export interface ArchiveHeader extends ContentHeader {
  /** Bytes, uncompressed; 0 for a symlink. */
  size: number;
}

export interface Commit {
  metadata: Map<string, Variant>;
  parent: Checksum | undefined;
  subject: string;
  body: string;
  /** Seconds, UTC. */
  timestamp: number;
  tree: Checksum;
  meta: Checksum;
}

export function sha256(bytes: Uint8Array): Checksum {
  return newHash().update(bytes).digest('hex');
}

function wholeOf(bytes: Buffer): Span {
  return { start: 0, end: bytes.length };
}

function checksumIn(bytes: Buffer, { start, end }: Span): Checksum {
  if (end - start !== 32) throw new FormatError(`a checksum has ${end - start} bytes`);
  return bytes.toString('hex', start, end);
}

/** `(a{sv}aya(say)sstayay)` */
export function parseCommit(bytes: Buffer): Commit {
  const tuple = new TupleReader(bytes, wholeOf(bytes), 6);
  const metadata = dictionaryIn(bytes, tuple.member(8));
  const parent = tuple.member(1);
  for (const element of elements(bytes, tuple.member(1), 1)) {
    const related = new TupleReader(bytes, element, 1);
    related.string();
    checksumIn(bytes, related.member(1));
    related.finish();
  }
  const subject = Buffer.from(tuple.string(), 'latin1').toString();
  const body = Buffer.from(tuple.string(), 'latin1').toString();
  const timestamp = tuple.u64();
  const tree = checksumIn(bytes, tuple.member(1));
  const meta = checksumIn(bytes, tuple.member(1));
  tuple.finish();
  return {
    metadata,
    parent: parent.start === parent.end ? undefined : checksumIn(bytes, parent),
    subject,
    body,
    timestamp,
    tree,
    meta,
  };
}

/** @throws FormatError for what can be no name in a directory. */
export function checkName(name: ByteString): void {
  if (name === '') throw new FormatError('a name is empty');
  if (name === '.' || name === '..') throw new FormatError(`a name is '${name}'`);
  if (name.includes('/')) throw new FormatError("a name has a '/' in it");
  if (name.length > NAME_MAX) throw new FormatError('a name is longer than 255 bytes');
}

/**
 * `a(ayay)`: names with a NUL of their own at the end, and values.
 *
 * @param sorted  whether names must ascend; writers of old left those of files in any order.
 */
function xattrsIn(bytes: Buffer, span: Span, sorted: boolean): Xattr[] {
  const xattrs: Xattr[] = [];
  const seen = new Set<ByteString>();
  let last = '';
  for (const element of elements(bytes, span, 1)) {
    const pair = new TupleReader(bytes, element, 1);
    const named = pair.member(1);
    const value = pair.member(1);
    pair.finish();
    const name = bytes.toString('latin1', named.start, Math.max(named.start, named.end - 1));
    if (named.end === named.start || bytes[named.end - 1] !== 0) {
      throw new FormatError('the name of an attribute is not terminated');
    }
    if (name === '' || name.includes('\0')) {
      throw new FormatError('the name of an attribute is empty or has a NUL in it');
    }
    if (seen.has(name)) throw new FormatError('an attribute appears twice');
    if (sorted && name < last) throw new FormatError('attributes are not sorted');
    seen.add(name);
    last = name;
    xattrs.push({ name, value: bytes.subarray(value.start, value.end) });
  }
  return xattrs;
}

/** `a(ayay)`: a file-xattrs object of a bare-split-xattrs repository; empty when there are none. */
export function parseFileXattrs(bytes: Buffer): Xattr[] {
  return xattrsIn(bytes, wholeOf(bytes), true);
}

/** `(uuua(ayay))` with the mode of a directory. */
export function parseDirMeta(bytes: Buffer): Meta {
  const meta = metaIn(bytes, true);
  if ((meta.mode & S_IFMT) !== S_IFDIR) throw new FormatError(`mode ${octal(meta.mode)}`);
  return meta;
}

/** `(uuua(ayay))` with the mode of a file or symlink: the user.ostreemeta attribute. */
export function parseFileMeta(bytes: Buffer): Meta {
  const meta = metaIn(bytes, false);
  checkFileMode(meta.mode);
  return meta;
}

function metaIn(bytes: Buffer, sorted: boolean): Meta {
  const tuple = new TupleReader(bytes, wholeOf(bytes), 0);
  const uid = tuple.u32();
  const gid = tuple.u32();
  const mode = tuple.u32();
  const xattrs = xattrsIn(bytes, tuple.member(1), sorted);
  tuple.finish();
  if ((mode & ~(S_IFMT | 0o7777)) !== 0) throw new FormatError(`mode ${octal(mode)}`);
  return { uid, gid, mode, xattrs };
}

function checkFileMode(mode: number): void {
  const type = mode & S_IFMT;
  if ((mode & ~(S_IFMT | 0o7777)) !== 0 || (type !== S_IFREG && type !== S_IFLNK)) {
    throw new FormatError(`mode ${octal(mode)}`);
  }
}

function octal(mode: number): string {
  return `0${(mode >>> 0).toString(8)} is not possible here`;
}

/** Bytes before the header of an archive object: its length, big-endian, and four zeros. */
export const HEADER_PREFIX = 8;

/** The length of an archive object's header, from its first HEADER_PREFIX bytes. @param fileSize of the object. */
export function archiveHeaderLength(prefix: Buffer, fileSize: number): number {
  if (prefix.length < HEADER_PREFIX || fileSize < HEADER_PREFIX) {
    throw new FormatError('the object is too short');
  }
  const length = prefix.readUInt32BE(0);
  if (length === 0 || length > fileSize - HEADER_PREFIX) {
    throw new FormatError('the length of the header is out of range');
  }
  if (prefix.readUInt32BE(4) !== 0) throw new FormatError('padding is not zero');
  return length;
}

/** `(tuuuusa(ayay))`, without the prefix. */
export function parseArchiveHeader(bytes: Buffer): ArchiveHeader {
  const tuple = new TupleReader(bytes, wholeOf(bytes), 1);
  const size = tuple.u64();
  const header = contentHeaderIn(bytes, tuple);
  if (size > 0 && header.target !== '') throw new FormatError('a symlink has data');
  return { size, ...header };
}

function contentHeaderIn(bytes: Buffer, tuple: TupleReader): ContentHeader {
  const uid = tuple.u32();
  const gid = tuple.u32();
  const mode = tuple.u32();
  const rdev = tuple.u32();
  const target = stringIn(bytes, tuple.member(1));
  const xattrs = xattrsIn(bytes, tuple.member(1), false);
  tuple.finish();
  checkFileMode(mode);
  if (rdev !== 0) throw new FormatError('a file has a device number');
  if ((mode & S_IFMT) === S_IFLNK) checkTarget(target);
  else if (target !== '') throw new FormatError('a regular file has a link target');
  return { uid, gid, mode, target, xattrs };
}

/** @throws FormatError for a link target that no system could hold. */
export function checkTarget(target: ByteString): void {
  if (target === '') throw new FormatError('a link target is empty');
  if (target.length > PATH_MAX) throw new FormatError('a link target is longer than 4095 bytes');
}
