/** What is exported, read by the real tools: skopeo, umoci, tar. */
import test from 'ava';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ExportFormat } from '../../src/index.ts';
import { compareTrees } from '../helpers/compare.ts';
import { dataWord } from '../helpers/hand.ts';
import { must, umociImage, unpack } from '../helpers/oci.ts';
import { mounted, type Mounted } from '../helpers/mounted.ts';
import { PROGRAM } from '../helpers/program.ts';
import {
  device,
  dir,
  fifo,
  file,
  link,
  PLANTED,
  socket,
  symlink,
  type Tree,
} from '../helpers/trees.ts';

const CAPABILITY = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

const BASE: Tree = {
  'etc/settings': 'colour = blue\n',
  'etc/mode': file('mode\n', { mode: 0o600 }),
  'usr/bin/program': file('#!/bin/sh\n', { mode: 0o4755 }),
  'usr/lib/linked': file('linked\n', { uid: 7, gid: 8 }),
  'usr/lib/also-linked': link('usr/lib/linked'),
  'usr/lib/third': link('usr/lib/linked'),
  'usr/lib/pair': 'pair\n',
  'usr/lib/pair2': link('usr/lib/pair'),
  'usr/share/doc/a': 'a\n',
  'usr/share/doc/b': 'b\n',
  'usr/share/doc/c': 'c\n',
  'usr/share/gone/a': 'a\n',
  'usr/share/turned/file': 'becomes a file\n',
  'usr/share/became': 'becomes a directory\n',
  'usr/share/new-dir/old': 'goes with its directory\n',
  'usr/share/was-link': symlink('doc'),
  bin: symlink('usr/bin'),
  'var/data': file('x'.repeat(300_000), { xattrs: { 'user.note': 'base' } }),
};

/** Changes of every kind, as lines for a hand. */
const CHANGES = [
  'open 0 etc/settings O_WRONLY|O_APPEND',
  'pwrite 0 14 =colour',
  'close 0',
  'chmod etc/mode 0644',
  'chown usr/bin 3 4',
  'unlink usr/share/doc/b',
  'unlink usr/share/gone/a',
  'rmdir usr/share/gone',
  'unlink usr/share/turned/file',
  'rmdir usr/share/turned',
  'open 0 usr/share/turned O_CREAT|O_WRONLY 0640',
  'pwrite 0 0 =turned',
  'close 0',
  'unlink usr/share/became',
  'mkdir usr/share/became 0750',
  'open 0 usr/share/became/inside O_CREAT|O_WRONLY 0644',
  'close 0',
  'unlink usr/share/new-dir/old',
  'rmdir usr/share/new-dir',
  'mkdir usr/share/new-dir 0755',
  'open 0 usr/share/new-dir/new O_CREAT|O_WRONLY 0644',
  'close 0',
  'unlink usr/share/was-link',
  'mkdir usr/share/was-link 0755',
  'rename usr/lib/third usr/lib/renamed',
  'link usr/lib/pair usr/lib/pair3',
  'mknod usr/lib/null S_IFCHR|0666 1 3',
  'mknod usr/lib/disk S_IFBLK|0660 8 17',
  'mknod usr/lib/fifo S_IFIFO|0600 0 0',
  'symlink ../../etc/settings usr/lib/points',
  'setxattr var/data user.note =changed',
  `mkdir var/${'long'.repeat(60)} 0755`,
  `open 0 var/${'long'.repeat(60)}/${'name'.repeat(60)} O_CREAT|O_WRONLY 0644`,
  'pwrite 0 0 =long',
  'close 0',
  'open 0 var/%ff%fe O_CREAT|O_WRONLY 0644',
  'close 0',
  'utimens var/data 1234567890.5 1234567890.987654321',
];

async function changed(m: Mounted): Promise<void> {
  await m.hand().must(CHANGES);
}

/** Differences; a layer that umoci made has whole seconds only, so what is still the base's has lost the rest. */
async function equal(m: Mounted, unpacked: string): Promise<string[]> {
  const differences = await compareTrees(m.hand(), '.', m.hand(), unpacked);
  return differences.filter(
    (line) => !line.endsWith(`mtime: ${PLANTED} != ${PLANTED.replace(/\d+$/, '000000000')}`),
  );
}

test('an image of the whole tree is what skopeo and umoci read: the session’s tree', async (t) => {
  await using m = await mounted({ lower: BASE });
  await changed(m);
  const layout = join(m.folder, 'image');
  const result = await m.session.export({ format: 'oci-image', output: layout, tag: '1' });
  const seen = JSON.parse(must('skopeo', 'inspect', `oci:${layout}:1`)) as Record<string, unknown>;
  t.is(seen['Digest'], result.digest);
  t.is(seen['Os'], 'linux');
  t.deepEqual(await equal(m, unpack(layout, '1', join(m.folder, 'bundle'))), []);
});

test('a layer on a base that umoci made unpacks to the session’s tree', async (t) => {
  await using m = await mounted({ lower: BASE });
  const base = join(m.folder, 'base');
  umociImage(m.lower, base, 'one');
  await changed(m);
  const layout = join(m.folder, 'image');
  const result = await m.session.export({
    format: 'oci-image',
    base: `oci:${base}:one`,
    output: layout,
    tag: 'two',
  });
  const { layers } = JSON.parse(must('skopeo', 'inspect', '--raw', `oci:${layout}:two`)) as {
    layers: { mediaType: string }[];
  };
  t.is(layers.length, 2);
  t.is(layers[1]?.mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
  const config = JSON.parse(must('skopeo', 'inspect', '--config', `oci:${layout}:two`)) as {
    rootfs: { diff_ids: string[] };
    history: { created_by: string }[];
  };
  t.is(config.rootfs.diff_ids.at(-1), result.diffId);
  t.is(config.history.at(-1)?.created_by, 'ostree-ts export');
  t.deepEqual(await equal(m, unpack(layout, 'two', join(m.folder, 'bundle'))), []);
  // Into the base's own layout, and through an archive, it is the same.
  await m.session.export({ format: 'oci-image', base, output: base, tag: 'two' });
  t.deepEqual(await equal(m, unpack(base, 'two', join(m.folder, 'bundle2'))), []);
  t.true(must('umoci', 'list', '--layout', base).includes('one'));
  const archive = join(m.folder, 'image.tar');
  await m.session.export({
    format: 'oci-image',
    base: `oci:${base}:one`,
    output: archive,
    compress: 'zstd',
  });
  must('skopeo', 'copy', `oci-archive:${archive}`, `oci:${join(m.folder, 'copied')}:x`);
  must(
    'skopeo',
    'copy',
    '--dest-compress-format=gzip',
    '--dest-compress',
    `oci-archive:${archive}`,
    `dir:${join(m.folder, 'gz')}`,
  );
});

test('the same changes at other times give the same bytes', async (t) => {
  const digests = new Set<string | undefined>();
  for (const round of [1, 2]) {
    await using m = await mounted({ lower: BASE });
    await changed(m);
    const output = join(m.folder, `layer-${round}`);
    for (const compress of ['gzip', 'zstd'] as const) {
      const options = { format: 'oci-layer', compress, timestamp: 1_300_000_000 } as const;
      const result = await m.session.export({ ...options, output });
      const bytes = readFileSync(output);
      t.is(result.digest, `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
      digests.add(result.digest);
      const listed = must('tar', '-tf', output).split('\n');
      t.true(listed.includes('usr/share/.wh.gone'));
      t.true(listed.includes('usr/share/doc/.wh.b'));
      t.true(listed.includes('usr/share/new-dir/.wh..wh..opq'));
      t.false(listed.includes('usr/share/new-dir/.wh.old'));
    }
  }
  t.is(digests.size, 2);
});

test('a tar holds what was added and changed, and says that removals are not in it', async (t) => {
  await using m = await mounted({ lower: BASE });
  await changed(m);
  const output = join(m.folder, 'changes.tar');
  const result = await m.session.export({ format: 'tar', output });
  t.is(result.deletions, 4);
  const unpacked = join(m.folder, 'unpacked');
  mkdirSync(unpacked);
  must('tar', '-xpf', output, '-C', unpacked, '--xattrs', '--xattrs-include=*', '--numeric-owner');
  t.is(readFileSync(join(unpacked, 'usr/share/turned'), 'utf8'), 'turned');
  t.false(existsSync(join(unpacked, 'usr/share/doc')));
  t.false(must('tar', '-tf', output).includes('.wh.'));
});

test('a session without changes exports an empty layer', async (t) => {
  await using m = await mounted({ lower: BASE });
  const output = join(m.folder, 'layer');
  const result = await m.session.export({ format: 'oci-layer', output, compress: 'none' });
  t.is(result.entries, 0);
  t.is(must('tar', '-tf', output), '');
});

test('what a layer cannot hold is left out with its name, or refused with it', async (t) => {
  await using m = await mounted({ lower: { a: 'a' } });
  const hand = m.hand();
  await hand.must(['mknod s S_IFSOCK|0600 0 0']);
  const output = join(m.folder, 'layer');
  const { skipped } = await m.session.export({ format: 'oci-layer', output });
  t.deepEqual(skipped, ['/s']);
  await hand.must(['open 0 .wh.a O_CREAT|O_WRONLY 0600', 'close 0']);
  const refused = { instanceOf: Error, message: /\.wh\.a would be taken for a removal/ };
  await t.throwsAsync(m.session.export({ format: 'oci-layer', output: `${output}2` }), refused);
  t.deepEqual(
    readdirSync(m.folder).filter((name) => name.startsWith('layer')),
    ['layer'],
    'a refusal leaves nothing',
  );
});

test('an output that cannot be written, and a base that is none, are refused in words', async (t) => {
  await using m = await mounted({ lower: { a: 'a' } });
  const there = readdirSync(m.folder);
  const image = (options: object) =>
    m.session.export({ format: 'oci-image', output: join(m.folder, 'x'), ...options });
  await t.throwsAsync(image({ output: '/proc/none/x' }), { message: /cannot be written: ENOENT/ });
  await t.throwsAsync(image({ output: m.folder }), { message: /is no OCI image layout/ });
  await t.throwsAsync(image({ base: 'oci:/none:1' }), { message: /\/none does not exist/ });
  await t.throwsAsync(image({ base: 'docker://x' }), { message: /names no image/ });
  const base = join(m.folder, 'base');
  umociImage(m.lower, base, 'one');
  await t.throwsAsync(image({ base: `oci:${base}:two` }), { message: /no image with the tag two/ });
  const [blob = ''] = readdirSync(join(base, 'blobs/sha256'))
    .map((name) => join(base, 'blobs/sha256', name))
    .filter((path) => readFileSync(path)[0] === 0x1f);
  writeFileSync(blob, Buffer.concat([readFileSync(blob), Buffer.alloc(1)]));
  await t.throwsAsync(image({ base: `oci:${base}:one` }), { message: /not what its digest says/ });
  t.deepEqual(readdirSync(m.folder).sort(), ['base', ...there].sort());
});

test('an output in the session itself is refused, unless it is no file', async (t) => {
  await using m = await mounted({ lower: { a: 'a', d: dir() } });
  const inside = (name: string) => join(m.mountpoint, name);
  must('mkfifo', inside('fifo'));
  const before = readdirSync(m.mountpoint, { recursive: true });
  const refuses = async (format: ExportFormat, output: string) => {
    const message = `${output} is in the session that is exported`;
    await t.throwsAsync(m.session.export({ format, output }), { message });
    t.deepEqual(readdirSync(m.mountpoint, { recursive: true }), before);
  };
  symlinkSync(inside('a'), join(m.folder, 'link.tar'));
  await refuses('tar', inside('o.tar'));
  await refuses('oci-layer', inside('d/o.tar'));
  await refuses('tar', inside('a'));
  await refuses('tar', join(m.folder, 'link.tar'));
  await refuses('oci-image', inside('image'));
  await refuses('oci-image', inside('image.tar'));
  await refuses('oci-image', inside('d'));
  const args = [PROGRAM, 'export', m.session.name, '--format=tar', '--output=-'];
  const into = openSync(inside('a'), 'a');
  const typed = spawnSync(process.execPath, args, { stdio: ['ignore', into, 'pipe'] });
  closeSync(into);
  t.is(typed.status, 1);
  t.regex(typed.stderr.toString(), /standard output is in the session/);
  const reader = spawn('cat', [inside('fifo')], { stdio: ['ignore', 'ignore', 'inherit'] });
  const { entries } = await m.session.export({ format: 'tar', output: inside('fifo') });
  t.true(entries > 0);
  // It has the session open until it has read all.
  if (reader.exitCode === null) await once(reader, 'exit');
});

test('an output that is no file is written to as it is, and a link leads to the file', async (t) => {
  await using m = await mounted({ lower: { a: 'a' } });
  await m.hand().must(['open 0 new O_CREAT|O_WRONLY 0600', 'write 0 =new', 'close 0']);
  const names = ['real.tar', 'link.tar', 'fifo'].map((name) => join(m.folder, name));
  const [real = '', to = '', pipe = ''] = names;
  writeFileSync(real, '');
  symlinkSync('real.tar', to);
  must('mkfifo', pipe);
  const reader = spawn('sha256sum', [pipe], { stdio: ['ignore', 'pipe', 'inherit'] });
  const read = text(reader.stdout);
  const results = [];
  for (const output of [to, pipe, '/dev/full']) {
    const one = m.session.export({ format: 'tar', output });
    if (output === '/dev/full') await t.throwsAsync(one, { message: /dev.full cannot be written/ });
    else results.push((await one).digest);
  }
  t.is(results[0], results[1]);
  t.is(`sha256:${(await read).split(' ', 1)[0]}`, results[1] ?? '');
  t.true(lstatSync(to).isSymbolicLink() && lstatSync(pipe).isFIFO());
  t.true(lstatSync('/dev/full').isCharacterDevice());
  t.true(must('tar', '-tf', real).includes('new'));
});

test('attributes and owners come along', async (t) => {
  await using m = await mounted({ lower: { 'd/a': 'a' } });
  const hand = m.hand();
  await hand.must([
    `open 0 d/cap O_CREAT|O_WRONLY 0755`,
    'close 0',
    'chown d/cap 1000000 2000000000',
    `setxattr d/cap security.capability ${dataWord(CAPABILITY)}`,
    `setxattr d/cap trusted.t ${dataWord('\0\xff\n')}`,
    'setxattr d user.d =dir',
    'chmod . 0711',
  ]);
  const layout = join(m.folder, 'image');
  await m.session.export({ format: 'oci-image', output: layout });
  t.deepEqual(await equal(m, unpack(layout, 'latest', join(m.folder, 'bundle'))), []);
});

test('files that no tree of a lower may have are whole in an image', async (t) => {
  await using m = await mounted({
    lower: {
      'dev/null': device('S_IFCHR', 1, 3),
      'dev/fifo': fifo(),
      'dev/socket': socket(),
      'empty/dir': dir({ mode: 0o1777 }),
      sparse: file('s', { size: 5_000_000 }),
    },
  });
  const layout = join(m.folder, 'image');
  const result = await m.session.export({ format: 'oci-image', output: layout });
  t.deepEqual(result.skipped, ['/dev/socket']);
  await m
    .hand()
    .must(['unlink dev/socket', 'utimens dev 1000000000.123456789 1000000000.123456789']);
  t.deepEqual(await equal(m, unpack(layout, 'latest', join(m.folder, 'bundle'))), []);
});
