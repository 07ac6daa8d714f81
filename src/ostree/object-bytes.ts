/** The objects of a repository, dirtrees apart: values to bytes. */
import { arrayOf, encodeDictionary, TupleWriter } from './gvariant.ts';
import {
  type ArchiveHeader,
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
