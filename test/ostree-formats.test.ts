// The formats of objects, byte by byte. The vectors are objects of real repositories; checksums in them are made up.
import test from 'ava';
import { deflateRawSync } from 'node:zlib';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inflateWhole } from '../src/ostree/data.ts';
import { ContentCheck } from '../src/ostree/inflate.ts';
import { encodeDirTree, parseDirTree } from '../src/ostree/dirtree.ts';
import { FormatError, TupleWriter, arrayOf } from '../src/ostree/gvariant.ts';
import { booleanOf, parseKeyFile } from '../src/ostree/keyfile.ts';
import {
  archiveHeaderLength,
  parseArchiveHeader,
  parseCommit,
  parseDirMeta,
  parseFileMeta,
  parseFileXattrs,
  sha256,
} from '../src/ostree/objects.ts';
import { contentHeader, fileXattrs } from '../src/ostree/object-bytes.ts';
import { ObjectError } from '../src/ostree/failures.ts';
import { remove, scratch } from './helpers/repositories.ts';

const folder = scratch();
test.after.always(() => remove(folder));

/** Parses hex with `#` comments and "strings". */
function bytes(text: string): Buffer {
  const parts = text.replaceAll(/#.*/g, '').match(/"[^"]*"|[\da-f]{2}(x\d+)?/g) ?? [];
  return Buffer.concat(
    parts.map((part) => {
      if (part.startsWith('"')) return Buffer.from(part.slice(1, -1).replaceAll('\\0', '\0'));
      return Buffer.alloc(Number(part.split('x')[1] ?? 1), Number.parseInt(part.slice(0, 2), 16));
    }),
  );
}

const COMMIT = `
  "version\\0" "1.2\\0" 00 "s" 08                       # {sv}: key, value, end of key
  00                                                   # to 0x10
  "ostree.ref-binding\\0" 00x5 "test/main\\0" 0a 00 "as" 13
  0f 37                                                # ends of the two entries
  "subj\\0" "body text\\0"
  00 00 00 00 65 93 7d 25                              # seconds, at 0x48
  11x32                                                # dirtree
  22x32                                                # dirmeta
  70 48 3e 39 39 39                                    # ends, last first
`;

test('reads a commit', (t) => {
  const commit = parseCommit(bytes(COMMIT));
  t.is(commit.subject, 'subj');
  t.is(commit.body, 'body text');
  t.is(commit.timestamp, 1_704_164_645);
  t.is(commit.parent, undefined);
  t.is(commit.tree, '11'.repeat(32));
  t.is(commit.meta, '22'.repeat(32));
  t.deepEqual([...commit.metadata.keys()], ['version', 'ostree.ref-binding']);
  t.deepEqual(commit.metadata.get('version'), { type: 's', bytes: bytes('"1.2\\0"') });
});

test('reads the empty dirtree, one byte', (t) => {
  const empty = bytes('00');
  t.is(sha256(empty), '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
  const { files, dirs } = parseDirTree(empty);
  t.deepEqual([files.names, dirs.names], [[], []]);
});

test('reads a dirtree of one file', (t) => {
  const { files } = parseDirTree(bytes('"conf\\0" 33x32 05 26 27'));
  t.deepEqual(files.names, ['conf']);
  t.is(files.checksum(0), '33'.repeat(32));
  t.is(files.find('conf'), 0);
  t.is(files.find('con'), -1);
});

function nameBytes(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'latin1');
}

/** A dirtree; names may be anything. */
function dirTree(files: string[], dirs: string[] = []): Buffer {
  const one = Buffer.alloc(32, 0x44);
  return new TupleWriter()
    .member(
      arrayOf(files.map((each) => new TupleWriter().member(nameBytes(each)).member(one).end())),
    )
    .member(
      arrayOf(
        dirs.map((each) =>
          new TupleWriter()
            .member(nameBytes(each))
            .member(one)
            .member(Buffer.alloc(32, 0x55))
            .end(),
        ),
      ),
    )
    .end();
}

test('reads dirtrees whose offsets are one, two and four bytes wide', (t) => {
  for (const count of [1, 5, 50, 3000]) {
    const names = Array.from({ length: count }, (_, index) => String(index).padStart(6, '0'));
    const { files, dirs } = parseDirTree(
      dirTree(
        names,
        names.map((name) => `d${name}`),
      ),
    );
    t.deepEqual(files.names, names);
    t.is(dirs.find(`d${names.at(-1) ?? ''}`), count - 1);
    t.is(dirs.checksum(count - 1, 0), '44'.repeat(32));
    t.is(dirs.checksum(count - 1, 1), '55'.repeat(32));
  }
});

const fileNamed = (name: string) => ({ name, checksum: sha256(Buffer.from(name)) });
const dirNamed = (name: string) => ({ ...fileNamed(name), meta: '55'.repeat(32) });
const numbered = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, index) => prefix + String(index).padStart(4, '0'));

test('a dirtree is written from another, whatever of it is new, other or gone', (t) => {
  for (const count of [0, 1, 3, 100, 2500]) {
    const files = numbered('f', count);
    const dirs = numbered('d', count);
    const bytesOfBase = encodeDirTree(files.map(fileNamed), dirs.map(dirNamed));
    const tree = parseDirTree(bytesOfBase);
    t.deepEqual(encodeDirTree([], [], { tree, gone: [] }), bytesOfBase);
    // At both ends and within; a file that becomes a directory, and the other way; names that are not there.
    const gone = ['f0000', dirs.at(-1) ?? 'd', 'f0050', 'none', 'zzz'];
    const newFiles = ['zz', 'a', 'f0002x', 'd0001'].map(fileNamed);
    const newDirs = ['f0001', 'b', 'zzzz'].map(dirNamed);
    const changed = { ...fileNamed('f0060'), checksum: '66'.repeat(32) };
    const given = new Set([...gone, ...[...newFiles, ...newDirs, changed].map(({ name }) => name)]);
    const kept = (names: string[]) => names.filter((name) => !given.has(name));
    const whole = encodeDirTree(
      [...kept(files).map(fileNamed), ...newFiles, changed],
      [...kept(dirs).map(dirNamed), ...newDirs],
    );
    const made = encodeDirTree([...newFiles, changed], newDirs, { tree, gone });
    t.true(made.equals(whole), `${count}`);
    const read = parseDirTree(made);
    t.is(read.files.checksum(read.files.find('f0060')), changed.checksum);
    t.deepEqual([read.dirs.find('f0001') >= 0, read.files.find('f0001')], [true, -1]);
  }
});

test('reads a dirmeta without attributes, twelve bytes', (t) => {
  t.deepEqual(parseDirMeta(bytes('00000000 00000000 000041ed')), {
    uid: 0,
    gid: 0,
    mode: 0o040755,
    xattrs: [],
  });
});

test('reads a dirmeta with an attribute', (t) => {
  const meta = parseDirMeta(bytes('00000000 00000000 000041ed "user.dirattr\\0" "d" 0d 0f'));
  t.deepEqual(meta.xattrs, [{ name: 'user.dirattr', value: Buffer.from('d') }]);
});

test('reads and writes the attributes of bare-split-xattrs', (t) => {
  const stored = bytes('"user.mykey\\0" "myvalue" 0b 13');
  const xattrs = parseFileXattrs(stored);
  t.deepEqual(xattrs, [{ name: 'user.mykey', value: Buffer.from('myvalue') }]);
  t.deepEqual(fileXattrs(xattrs), stored);
  t.deepEqual(parseFileXattrs(Buffer.alloc(0)), []);
});

const ARCHIVE_FILE = `
  00 00 00 1a 00 00 00 00           # length of the header
  00 00 00 00 00 00 00 06           # size
  00 00 00 00 00 00 00 00           # uid, gid
  00 00 81 ed 00 00 00 00           # mode, rdev
  00 19                             # no target, and its end
`;

test('reads the header of an archive object', (t) => {
  const object = bytes(`${ARCHIVE_FILE} cb 48 cd c9 c9 e7 02 00`);
  t.is(archiveHeaderLength(object, object.length), 0x1a);
  const header = parseArchiveHeader(object.subarray(8, 34));
  t.like(header, { size: 6, uid: 0, gid: 0, mode: 0o100755, target: '', xattrs: [] });
});

test('reads the header of a symlink in an archive', (t) => {
  const header = parseArchiveHeader(
    bytes(`00x8 00x8 00 00 a1 ff 00x4 "hello\\0" "trusted.lnk\\0" "q" 0c 0e 1e`),
  );
  t.like(header, { size: 0, mode: 0o120777, target: 'hello' });
  t.deepEqual(header.xattrs, [{ name: 'trusted.lnk', value: Buffer.from('q') }]);
});

test('a file is hashed with its attributes sorted', (t) => {
  const xattrs = [
    { name: 'user.b', value: Buffer.from('2') },
    { name: 'user.a', value: Buffer.from('1') },
  ];
  const header = contentHeader({ uid: 0, gid: 0, mode: 0o100644, target: '', xattrs });
  t.deepEqual(
    header,
    bytes(`
      00 00 00 26 00x4
      00x8 00 00 81 a4 00x4
      00                            # no target
      "user.a\\0" "1" 07 "user.b\\0" "2" 07 09 12
      11
    `),
  );
});

const refused = test.macro({
  exec(t, parse: (input: Buffer) => unknown, input: Buffer | string) {
    const error = t.throws(() => parse(typeof input === 'string' ? bytes(input) : input), {
      instanceOf: FormatError,
    });
    t.notRegex(error.message, /\n/);
  },
  title: (given = '') => `refuses ${given}`,
});

const ONE = '00x12';
const CSUM = '44x32';
test('a dirtree of nothing', refused, parseDirTree, '');
test("a dirtree with '.'", refused, parseDirTree, dirTree(['.']));
test("a dirtree with '..'", refused, parseDirTree, dirTree([], ['..']));
test("a dirtree with a '/' in a name", refused, parseDirTree, dirTree(['a/b']));
test('a dirtree with an empty name', refused, parseDirTree, dirTree(['']));
test('a dirtree with a NUL in a name', refused, parseDirTree, dirTree(['a\0b']));
test('a dirtree with a name that is not UTF-8', refused, parseDirTree, dirTree(['\u00ff']));
test('a dirtree with too long a name', refused, parseDirTree, dirTree(['n'.repeat(256)]));
test('a dirtree with a name twice', refused, parseDirTree, dirTree(['a', 'a']));
test('a dirtree that is not sorted', refused, parseDirTree, dirTree(['b', 'a']));
test(
  'a dirtree with a file and a directory of one name',
  refused,
  parseDirTree,
  dirTree(['a'], ['a']),
);
test('a dirtree with a short checksum', refused, parseDirTree, '"conf\\0" 33x31 05 25 26');
test('a dirtree with a long checksum', refused, parseDirTree, '"conf\\0" 33x33 05 27 28');
test('a dirtree with a name without an end', refused, parseDirTree, '"confx" 33x32 05 26 27');
test('a dirtree cut short', refused, parseDirTree, '"conf\\0" 33x32 05 26');
test('an offset beyond the end', refused, parseDirTree, '"conf\\0" 33x32 05 26 ff');
test('an offset into the offsets', refused, parseDirTree, '"conf\\0" 33x32 05 27 28');
test('offsets that go backwards', refused, parseFileXattrs, '"a\\0" 02 "b\\0" 02 06 03 06');
test('bytes that belong to nobody', refused, parseDirTree, '00 00');
test('a dirmeta cut short', refused, parseDirMeta, '00x11');
test('a dirmeta of a file', refused, parseDirMeta, '00x8 00 00 81 ed');
test('a dirmeta without a type', refused, parseDirMeta, ONE);
test('a dirmeta with foreign bits', refused, parseDirMeta, '00x8 00 01 41 ed');
test('an ostreemeta of a directory', refused, parseFileMeta, '00x8 00 00 41 ed');
test('an ostreemeta of a device', refused, parseFileMeta, '00x8 00 00 21 ed');
test(
  'an attribute whose name has no end',
  refused,
  parseFileXattrs,
  '"user.mykey" "myvalue" 0a 12',
);
test('an attribute without a name', refused, parseFileXattrs, '"\\0" "v" 01 03');
test('an attribute whose name is not there at all', refused, parseFileXattrs, '"v" 00 02');
test('attributes that are not sorted', refused, parseFileXattrs, '"b\\0" 02 "a\\0" 02 03 06');
test('an attribute twice', refused, parseFileXattrs, '"a\\0" 02 "a\\0" 02 03 06');
test(
  'an attribute twice in an old header',
  refused,
  parseFileMeta,
  '00x8 00 00 81 ed "a\\0" 02 "a\\0" 02 03 06',
);
test(
  'an archive object of four bytes',
  refused,
  (b) => archiveHeaderLength(b, b.length),
  '00 00 00 1a',
);
test('an archive header of no length', refused, (b) => archiveHeaderLength(b, b.length), '00x8 00');
test(
  'an archive header longer than the file',
  refused,
  (b) => archiveHeaderLength(b, b.length),
  '00 00 00 1b 00x4 00x26',
);
test(
  'an archive header after other padding',
  refused,
  (b) => archiveHeaderLength(b, b.length),
  '00 00 00 01 00 00 00 01 00',
);
test(
  'a file with a link target',
  refused,
  parseArchiveHeader,
  '00x8 00x8 00 00 81 ed 00x4 "hello\\0" 1e',
);
test('a symlink without a target', refused, parseArchiveHeader, '00x8 00x8 00 00 a1 ff 00x4 00 19');
test(
  'a symlink with data',
  refused,
  parseArchiveHeader,
  '00x7 06 00x8 00 00 a1 ff 00x4 "hello\\0" 1e',
);
test(
  'a file with a device number',
  refused,
  parseArchiveHeader,
  '00x8 00x8 00 00 81 ed 00x3 01 00 19',
);
test('a size beyond 2^53', refused, parseArchiveHeader, 'ffx8 00x8 00 00 81 ed 00x4 00 19');
test('an empty commit', refused, parseCommit, '');
test(
  'a commit with a short parent',
  refused,
  parseCommit,
  `"p" 00 00 00x5 00x8 ${CSUM} ${CSUM} 30 10 03 02 01 01 00`,
);

test('of a commit: every single truncation', (t) => {
  const whole = bytes(COMMIT);
  for (let length = 0; length < whole.length; length++) {
    t.throws(() => parseCommit(whole.subarray(0, length)), { instanceOf: FormatError });
  }
});

const badType = test.macro({
  exec(t, type: string) {
    const entry = Buffer.concat([Buffer.from('key\0\0\0\0\0v\0'), Buffer.from(type), bytes('04')]);
    const metadata = Buffer.concat([entry, Buffer.from([entry.length])]);
    const rest = bytes(`00 00 ${CSUM} ${CSUM}`);
    const pad = Buffer.alloc((8 - ((metadata.length + 2) % 8)) % 8);
    const at = metadata.length;
    const time = at + 2 + pad.length;
    const ends = [time + 40, at + 2, at + 1, at, at, at];
    const commit = Buffer.concat([
      metadata,
      rest.subarray(0, 2),
      pad,
      Buffer.alloc(8),
      rest.subarray(2),
      Buffer.from(ends),
    ]);
    if (type === 's') t.is(parseCommit(commit).metadata.get('key')?.type, 's');
    else t.throws(() => parseCommit(commit), { instanceOf: FormatError, message: /type/ });
  },
  title: (given = '') => `metadata: ${given}`,
});
test('a type that exists', badType, 's');
test('a type that does not exist', badType, 'z');
test('two types', badType, 'ss');
test('half a type', badType, '(s');
test('an array of nothing', badType, 'a');
test('a dictionary with a container for a key', badType, 'a{vs}');
test('a type that is nested too deep', badType, 'a'.repeat(100) + 's');

/** An archive object of `data`, with whatever lies the header tells, in a file. */
function archiveObject(name: string, data: Buffer, options: { size?: number; cut?: number } = {}) {
  const deflated = deflateRawSync(data);
  const path = join(folder, name);
  writeFileSync(path, deflated.subarray(0, deflated.length - (options.cut ?? 0)));
  const header = { uid: 0, gid: 0, mode: 0o100644, target: '', xattrs: [] };
  const checksum = sha256(Buffer.concat([contentHeader(header), data]));
  const fd = openSync(path, 'r');
  const size = options.size ?? data.length;
  const fileSize = deflated.length - (options.cut ?? 0);
  const inflate = () => {
    try {
      const info = { ...header, size };
      return inflateWhole(checksum, { fd, deflated: true, offset: 0, fileSize, info });
    } finally {
      closeSync(fd);
    }
  };
  return { inflate };
}

test('inflates what it should', (t) => {
  for (const data of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(5_000_000, 7)]) {
    t.true(archiveObject('good', data).inflate().equals(data));
  }
});

test('inflating stops at the declared size: a bomb costs nothing', (t) => {
  const bomb = archiveObject('bomb', Buffer.alloc(200_000_000), { size: 10 });
  const before = process.memoryUsage.rss();
  t.throws(bomb.inflate, { instanceOf: ObjectError, message: /more data/ });
  t.true(process.memoryUsage.rss() - before < 50_000_000);
});

const badData = test.macro({
  exec(t, options: { size?: number; cut?: number }) {
    const { inflate } = archiveObject(
      t.title.replaceAll(/\W/g, '-'),
      Buffer.from('some text'),
      options,
    );
    t.throws(inflate, { instanceOf: ObjectError });
  },
  title: (given = '') => `inflating refuses ${given}`,
});
test('less data than declared', badData, { size: 10 });
test('more data than declared', badData, { size: 8 });
test('data where none is declared', badData, { size: 0 });
test('a stream that is cut', badData, { cut: 2 });

test('other data of the same length is noticed', (t) => {
  const header = contentHeader({ uid: 0, gid: 0, mode: 0o100644, target: '', xattrs: [] });
  const checksum = sha256(Buffer.concat([header, Buffer.from('else')]));
  const check = new ContentCheck({ checksum, header }, 4);
  check.update(Buffer.from('text'));
  t.throws(() => check.finish(), { instanceOf: FormatError, message: /checksum/ });
});

test('reads key files as GLib does', (t) => {
  const file = parseKeyFile('# c\n\n[a]\n x = 1 \ny=two\\swords\\n\n[b]\nx=3\n[a]\nx=2\n');
  t.deepEqual(
    [...(file.get('a') ?? [])],
    [
      ['x', '2'],
      ['y', 'two words\n'],
    ],
  );
  t.is(file.get('b')?.get('x'), '3');
  t.true(booleanOf('1'));
  t.throws(() => booleanOf('yes'), { instanceOf: FormatError });
});
