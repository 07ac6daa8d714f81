import test from 'ava';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from './helpers/zstd.ts';
import { gzipSync } from 'node:zlib';
import { ByteSource } from '../src/oci/bytes.ts';
import { compress, decompress } from '../src/oci/compression.ts';
import { tarEntry, type TarEntry, TarError } from '../src/oci/tar.ts';
import { readTar } from '../src/oci/tar-reader.ts';
import { type TarInput, writeTar } from '../src/oci/tar-writer.ts';

function entry({ kind, path, ...given }: Partial<TarEntry>): TarEntry {
  return tarEntry(kind ?? 'file', path ?? 'x', { mode: 0o644, mtimeSec: 1_000_000_000, ...given });
}

/** One of everything that is awkward in a tar. */
const AWKWARD: TarEntry[] = [
  entry({ kind: 'directory', path: 'd', mode: 0o1777, mtimeNsec: 123_456_789 }),
  entry({ path: 'd/no-permissions', mode: 0 }),
  entry({ path: `d/${'long'.repeat(63)}`, mode: 0o4755 }),
  entry({ path: `${'deep/'.repeat(100)}end` }),
  entry({ path: 'd/caf\xc3\xa9' }),
  entry({ path: 'd/\xff\xfe no text\n' }),
  entry({ kind: 'symlink', path: 'd/l', target: `${'far/'.repeat(80)}\xff`, mode: 0o777 }),
  entry({ kind: 'link', path: 'd/hard', target: 'd/caf\xc3\xa9' }),
  entry({ kind: 'character-device', path: 'd/null', rdevMajor: 1, rdevMinor: 3 }),
  entry({ kind: 'block-device', path: 'd/disk', rdevMajor: 259, rdevMinor: 1 << 19 }),
  entry({ kind: 'fifo', path: 'd/fifo' }),
  entry({ path: 'd/owners', uid: 4_000_000_000, gid: 2_097_152 }),
  entry({ path: 'd/last-owners', uid: 0xfffffffe, gid: 0xfffffffe }),
  entry({ path: 'd/old', mtimeSec: -2, mtimeNsec: 500_000_000 }),
  entry({ path: 'd/older', mtimeSec: -3_000_000_000 }),
  entry({ path: 'd/just-before', mtimeSec: -1, mtimeNsec: 750_000_000 }),
  entry({ path: 'd/late', mtimeSec: 5_000_000_000 }),
  entry({
    path: 'd/attributes',
    xattrs: new Map([
      ['security.capability', Buffer.from('0100000200040000000000000000000000000000', 'hex')],
      ['user.%2525%', Buffer.from('three')],
      ['user.a%3Db', Buffer.from('two')],
      ['user.a=b', Buffer.from('one')],
      ['user.long', Buffer.alloc(60_000, 7)],
      ['user.none', Buffer.alloc(0)],
      ['user.\xff odd', Buffer.from('a=b\n\0\xff', 'latin1')],
    ]),
  }),
];

/** Chunks that end where nothing else does. */
function* cut(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

async function read(bytes: Uint8Array, size = 333): Promise<{ entry: TarEntry; data: Buffer }[]> {
  const found: { entry: TarEntry; data: Buffer }[] = [];
  for await (const item of readTar(new ByteSource(cut(bytes, size)))) {
    found.push({ entry: item.entry, data: await collect(item.data()) });
  }
  return found;
}

function plain(entries: TarEntry[]): unknown[] {
  return entries.map((each) => ({
    ...each,
    xattrs: [...each.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('hex')]),
  }));
}

test('every kind of entry comes back as it was written', async (t) => {
  const archive = await collect(writeTar(AWKWARD.map((each) => ({ entry: each }))));
  const found = await read(archive);
  t.deepEqual(plain(found.map((each) => each.entry)), plain(AWKWARD));
});

test('data of any size comes back, and may be skipped', async (t) => {
  const sizes = [0, 1, 511, 512, 513, 70_000];
  const inputs: TarInput[] = sizes.map((size) => ({
    entry: entry({ path: `f${size}`, size }),
    data: [Buffer.alloc(size, size % 251)],
  }));
  const archive = await collect(writeTar(inputs));
  const found = await read(archive, 1000);
  t.deepEqual(
    found.map(({ data }) => data.length),
    sizes,
  );
  t.true(found.every(({ data }, i) => data.every((byte) => byte === sizes[i]! % 251)));
  const names: string[] = [];
  for await (const { entry: each } of readTar(new ByteSource([archive]))) names.push(each.path);
  t.is(names.length, sizes.length);
});

test('GNU tar reads what is written, and what it writes is read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'oci-tar-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const archive = join(folder, 'a.tar');
  writeFileSync(archive, await collect(writeTar(AWKWARD.map((each) => ({ entry: each })))));
  const listed = spawnSync('tar', ['-tvf', archive, '--quoting-style=escape'], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' },
  });
  t.is(listed.status, 0, listed.stderr);
  t.is(listed.stdout.trim().split('\n').length, AWKWARD.length);
  t.regex(listed.stdout, /^-rwsr-xr-x/m);
  t.regex(listed.stdout, /^crw.* 1,3 .* d\/null$/m);
  const made = spawnSync('tar', ['-cf', '-', '--format=gnu', '-C', folder, 'a.tar'], {
    maxBuffer: 1 << 26,
  });
  const [only] = await read(made.stdout);
  t.is(only?.entry.path, 'a.tar');
  const long = 'n'.repeat(200);
  writeFileSync(join(folder, long), 'long');
  const gnu = spawnSync('tar', ['-cf', '-', '--format=gnu', '-C', folder, long]);
  t.is((await read(gnu.stdout))[0]?.entry.path, long);
  const pax = spawnSync('tar', ['-cf', '-', '--format=posix', '-C', folder, long]);
  t.is((await read(pax.stdout))[0]?.data.toString(), 'long');
});

test('names of attributes with = and % are those of GNU tar', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'oci-tar-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const names = ['user.a=b', 'user.a%3Db', 'user.%', 'user.%41'];
  const xattrs = new Map(names.map((name) => [name, Buffer.from(name)]));
  const archive = join(folder, 'a.tar');
  writeFileSync(archive, await collect(writeTar([{ entry: entry({ path: 'f', xattrs }) }])));
  const tar = (...args: string[]) => {
    const ran = spawnSync('tar', ['--xattrs', '--xattrs-include=*', '-C', folder, ...args]);
    t.is(ran.status, 0, ran.stderr.toString());
    return ran.stdout;
  };
  tar('-xf', archive);
  const [found] = await read(tar('-cf', '-', '--format=posix', 'f'));
  t.deepEqual(
    [...(found?.entry.xattrs ?? [])]
      .map(([name, value]) => `${name} ${Buffer.from(value).toString()}`)
      .sort(),
    names.map((name) => `${name} ${name}`).sort(),
  );
  const listed = spawnSync('getfattr', ['-d', join(folder, 'f')], { encoding: 'utf8' });
  for (const name of names) t.true(listed.stdout.includes(`="${name}"`), name);
});

test('attributes of libarchive are read', async (t) => {
  const body = '44 LIBARCHIVE.xattr.user.a%3db=aGVsbG8AAA==\n';
  const archive = await collect(
    writeTar([{ entry: entry({ xattrs: new Map([['user.q', Buffer.from('1')]]) }) }]),
  );
  // The pax header is replaced by one of the same block.
  const changed = Buffer.from(archive);
  changed.fill(0, 512, 1024);
  changed.write(body, 512, 'latin1');
  changed.write('00000000054', 124, 'latin1');
  changed.fill(0x20, 148, 156);
  const sum = changed.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  changed.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  const [only] = await read(changed);
  t.deepEqual([...(only?.entry.xattrs.keys() ?? [])], ['user.a=b']);
  t.is(Buffer.from(only?.entry.xattrs.get('user.a=b') ?? []).toString('latin1'), 'hello\0\0');
});

test('an archive that is cut anywhere is refused, unless only the padding is gone', async (t) => {
  const archive = await collect(
    writeTar([
      { entry: entry({ path: 'a', size: 700 }), data: [Buffer.alloc(700, 1)] },
      { entry: entry({ path: `b${'b'.repeat(150)}` }) },
    ]),
  );
  for (let length = 0; length <= archive.length - 1024; length += 128) {
    await t.throwsAsync(read(archive.subarray(0, length)), { instanceOf: TarError }, `${length}`);
  }
  await t.notThrowsAsync(read(archive.subarray(0, archive.length - 512)));
});

const refused = test.macro({
  async exec(t, change: (archive: Buffer) => void, message: RegExp) {
    const archive = await collect(writeTar([{ entry: entry({ path: 'name' }) }]));
    change(archive);
    archive.fill(0x20, 148, 156);
    const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    await t.throwsAsync(read(archive), { instanceOf: TarError, message });
  },
  title: (_, __, message: RegExp) => `refused: ${message.source}`,
});

test(refused, (archive) => archive.write('S', 156), /name is an entry of the kind 'S'/);
test(refused, (archive) => archive.write('M', 156), /name is an entry of the kind 'M'/);
test(refused, (archive) => archive.write('zz', 124), /no number/);
test(refused, (archive) => archive.fill(0xff, 124, 136), /below 0/);
test(refused, (archive) => archive.fill(0xff, 108, 116), /name has the owner -1/);

const ownerRefused = test.macro({
  async exec(t, owner: Partial<TarEntry>) {
    const archive = await collect(writeTar([{ entry: entry({ path: 'name', ...owner }) }]));
    await t.throwsAsync(read(archive), { instanceOf: TarError, message: /name has the owner/ });
  },
  title: (_, owner) => `refused: ${JSON.stringify(owner)}`,
});

test(ownerRefused, { uid: 0xffffffff });
test(ownerRefused, { uid: 2 ** 32, mode: 0o4755 });
test(ownerRefused, { gid: 2 ** 40 + 1 });

test('a header whose sum is wrong is refused', async (t) => {
  const archive = await collect(writeTar([{ entry: entry({}) }]));
  archive[0] = 0x79;
  await t.throwsAsync(read(archive), { instanceOf: TarError, message: /damaged/ });
});

const compresses = test.macro({
  async exec(t, kind: 'none' | 'gzip' | 'zstd') {
    const bytes = Buffer.from(Array.from({ length: 1_500_000 }, (_, i) => (i * i) >> 9));
    const once = await collect(compress(kind, cut(bytes, 1 << 16)));
    const again = await collect(compress(kind, cut(bytes, 12_345)));
    t.true(once.equals(again), 'chunks make no difference');
    t.true((await collect(decompress(cut(once, 777)))).equals(bytes));
    if (kind === 'none') return;
    const tool = spawnSync(kind, ['-dc'], { input: once, maxBuffer: 1 << 24 });
    t.true(tool.stdout.equals(bytes), 'the real tool reads it');
    await t.throwsAsync(collect(decompress([once.subarray(0, once.length / 2)])));
    await t.throwsAsync(collect(decompress([once.subarray(0, once.length - 9)])));
  },
  title: (_, kind: string) => `${kind}: what is compressed comes back, and a half is refused`,
});

test(compresses, 'none');
test(compresses, 'gzip');
test(compresses, 'zstd');

test('two layers may be compressed at a time', async (t) => {
  const a = Buffer.alloc(900_000, 'a');
  const b = Buffer.alloc(900_000, 'b');
  const [one, two] = await Promise.all([
    collect(compress('zstd', cut(a, 10_000))),
    collect(compress('zstd', cut(b, 10_000))),
  ]);
  t.true((await collect(decompress([one]))).equals(a));
  t.true((await collect(decompress([two]))).equals(b));
});

test('members one after another are one stream', async (t) => {
  const gzip = Buffer.concat([gzipSync('one '), gzipSync('two')]);
  t.is((await collect(decompress(cut(gzip, 3)))).toString(), 'one two');
  const zstd = Buffer.concat([zstdCompressSync('one '), zstdCompressSync('two')]);
  t.is((await collect(decompress(cut(zstd, 3)))).toString(), 'one two');
});

/** Names and data of a layer's entries. */
async function readLayer(bytes: Uint8Array, mayLackEnd: boolean): Promise<string[]> {
  const found: string[] = [];
  for await (const item of readTar(new ByteSource([bytes]), { mayLackEnd })) {
    const data: Uint8Array[] = [];
    for await (const chunk of item.data()) data.push(chunk);
    found.push(`${item.entry.path} ${Buffer.concat(data).toString()}`);
  }
  return found;
}

test('a layer may end where its last byte does, without padding; an archive may not', async (t) => {
  const parts: Uint8Array[] = [];
  for await (const part of writeTar([
    { entry: entry({ path: 'x', size: 3 }), data: [Buffer.from('abc')] },
  ])) {
    parts.push(part);
  }
  const bare = Buffer.concat(parts).subarray(0, 515);
  t.deepEqual(await readLayer(bare, true), ['x abc']);
  await t.throwsAsync(readLayer(bare, false), { instanceOf: TarError });
  await t.throwsAsync(readLayer(bare.subarray(0, 514), true), { instanceOf: TarError });
});
