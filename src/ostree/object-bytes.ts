/** The objects of a repository: values to bytes. */
import type { ByteString } from '../native.ts';
import { arrayOf, encodeDictionary, TupleWriter } from './gvariant.ts';
import {
  type ArchiveHeader,
  CHECKSUM_BYTES,
  checkName,
  type Checksum,
  type Commit,
  type ContentHeader,
  HEADER_PREFIX,
  type Meta,
  type Xattr,
} from './objects.ts';

/** What is hashed before a file's data: the prefix and `(uuuusa(ayay))`, attributes sorted by name. */
export function contentHeader({ uid, gid, mode, target, xattrs }: ContentHeader): Buffer {
  const numbers = Buffer.alloc(16);
  numbers.writeUInt32BE(uid, 0);
  numbers.writeUInt32BE(gid, 4);
  numbers.writeUInt32BE(mode, 8);
  const header = new TupleWriter()
    .fixed(numbers)
    .member(Buffer.from(`${target}\0`, 'latin1'))
    .member(fileXattrs(xattrs))
    .end();
  const prefix = Buffer.alloc(HEADER_PREFIX);
  prefix.writeUInt32BE(header.length, 0);
  return Buffer.concat([prefix, header]);
}

/** `a(ayay)`, sorted by name. */
export function fileXattrs(xattrs: Xattr[]): Buffer {
  const sorted = xattrs.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return arrayOf(
    sorted.map(({ name, value }) =>
      new TupleWriter()
        .member(Buffer.from(`${name}\0`, 'latin1'))
        .member(value)
        .end(),
    ),
  );
}

/** `(uuua(ayay))`: a dirmeta, or the user.ostreemeta attribute. */
export function encodeMeta({ uid, gid, mode, xattrs }: Meta): Buffer {
  const numbers = Buffer.alloc(12);
  numbers.writeUInt32BE(uid, 0);
  numbers.writeUInt32BE(gid, 4);
  numbers.writeUInt32BE(mode, 8);
  return new TupleWriter().fixed(numbers).member(fileXattrs(xattrs)).end();
}

/** A name of a dirtree, with what stands behind it. */
export interface TreeFile {
  name: ByteString;
  checksum: Checksum;
}

export interface TreeDirectory extends TreeFile {
  /** The dirmeta; `checksum` is the dirtree. */
  meta: Checksum;
}

/** `(a(say)a(sayay))`, sorted by name. */
export function encodeDirTree(files: readonly TreeFile[], dirs: readonly TreeDirectory[]): Buffer {
  const fileList = nameList(files, ({ checksum }) => [checksum]);
  const dirList = nameList(dirs, ({ checksum, meta }) => [checksum, meta]);
  return new TupleWriter().member(fileList).member(dirList).end();
}

/** `a(say)` or `a(sayay)`. */
function nameList<T extends TreeFile>(
  entries: readonly T[],
  checksums: (entry: T) => Checksum[],
): Buffer {
  const sorted = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return arrayOf(
    sorted.map((entry) => {
      checkName(entry.name);
      return encodeNamed(entry.name, checksums(entry));
    }),
  );
}

/** `(say)` or `(sayay)`. By hand: commits have thousands of them. */
function encodeNamed(name: ByteString, checksums: readonly Checksum[]): Buffer {
  const first = name.length + 1;
  const end = first + CHECKSUM_BYTES * checksums.length;
  // Of each member but the last, the last of these first.
  const width = end + checksums.length <= 0xff ? 1 : 2;
  const bytes = Buffer.alloc(end + width * checksums.length);
  bytes.write(name, 0, 'latin1');
  for (const [index, checksum] of checksums.entries()) {
    const at = first + CHECKSUM_BYTES * index;
    bytes.write(checksum, at, CHECKSUM_BYTES, 'hex');
    bytes.writeUIntLE(at, end + width * (checksums.length - 1 - index), width);
  }
  return bytes;
}

/** `(a{sv}aya(say)sstayay)` */
export function encodeCommit(commit: Commit): Buffer {
  const timestamp = Buffer.alloc(8);
  timestamp.writeBigUInt64BE(BigInt(commit.timestamp));
  return new TupleWriter()
    .member(encodeDictionary(commit.metadata), 8)
    .member(Buffer.from(commit.parent ?? '', 'hex'))
    .member(Buffer.alloc(0))
    .member(Buffer.from(`${commit.subject}\0`))
    .member(Buffer.from(`${commit.body}\0`))
    .fixed(timestamp, 8)
    .member(Buffer.from(commit.tree, 'hex'))
    .member(Buffer.from(commit.meta, 'hex'))
    .end();
}

/** The prefix and `(tuuuusa(ayay))` that an archive object begins with; the size is at HEADER_PREFIX, 8 bytes. */
export function encodeArchiveHeader(header: ArchiveHeader): Buffer {
  const { size, uid, gid, mode, target, xattrs } = header;
  const numbers = Buffer.alloc(24);
  numbers.writeBigUInt64BE(BigInt(size), 0);
  numbers.writeUInt32BE(uid, 8);
  numbers.writeUInt32BE(gid, 12);
  numbers.writeUInt32BE(mode, 16);
  const tuple = new TupleWriter().fixed(numbers).string(target).member(fileXattrs(xattrs)).end();
  const prefix = Buffer.alloc(HEADER_PREFIX);
  prefix.writeUInt32BE(tuple.length, 0);
  return Buffer.concat([prefix, tuple]);
}
