/** What one session exported is replayed on another. */
import test from 'ava';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { ConflictError, SessionError } from '../../src/index.ts';
import { tarEntry } from '../../src/oci/tar.ts';
import { type TarInput, writeTar } from '../../src/oci/tar-writer.ts';
import { acl } from '../helpers/acl.ts';
import { compareTrees } from '../helpers/compare.ts';
import { dataWord } from '../helpers/hand.ts';
import { mounted, type Mounted } from '../helpers/mounted.ts';
import { file, link, symlink, type Tree } from '../helpers/trees.ts';
import { PROGRAM } from '../helpers/program.ts';

const LOWER: Tree = {
  'd/a': 'a\n',
  'd/b': file('b\n', { mode: 0o640 }),
  'd/sub/c': 'c\n',
  'gone/x': 'x\n',
  'emptied/old': 'old\n',
  'was-file': 'file\n',
  'was-dir/inside': 'inside\n',
  link: symlink('d'),
  one: 'one\n',
  two: link('one'),
};

const CHANGES = [
  'open 0 d/a O_WRONLY|O_TRUNC',
  'pwrite 0 0 =changed',
  'close 0',
  'chmod d/sub 0711',
  'unlink gone/x',
  'rmdir gone',
  'unlink emptied/old',
  'open 0 emptied/new O_CREAT|O_WRONLY 0600',
  'close 0',
  'unlink was-file',
  'mkdir was-file 0750',
  'open 0 was-file/inside O_CREAT|O_WRONLY 0600',
  'close 0',
  'unlink was-dir/inside',
  'rmdir was-dir',
  'symlink nowhere was-dir',
  'open 0 new O_CREAT|O_WRONLY 04755',
  'pwrite 0 0 =new',
  'setxattr new user.x =value',
  'close 0',
  'link new d/new-too',
  'link one three',
  'mknod fifo S_IFIFO|0600 0 0',
  'chown d/b 7 8',
];

async function list(m: Mounted): Promise<string[]> {
  const found: string[] = [];
  for await (const { kind, path } of m.session.diff()) found.push(`${kind} ${path}`);
  return found;
}

async function tar(path: string, entries: TarInput[]): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of writeTar(entries)) parts.push(part);
  writeFileSync(path, Buffer.concat(parts));
  return path;
}

test('a layer of one session makes another, and one on a newer base, the same', async (t) => {
  await using a = await mounted({ lower: LOWER });
  await a.hand().must(CHANGES);
  const layer = join(a.folder, 'layer');
  const { digest } = await a.session.export({ format: 'oci-layer', output: layer });
  await using b = await mounted({ lower: LOWER });
  const result = await b.session.apply({ file: layer });
  t.deepEqual(result.conflicts, []);
  t.deepEqual(await list(b), await list(a));
  t.deepEqual(await compareTrees(a.hand(), '.', b.hand(), '.'), []);
  const again = await b.session.export({ format: 'oci-layer', output: join(b.folder, 'layer') });
  t.is(again.digest, digest);
  t.is((await b.session.apply({ file: layer })).applied, 0);
  await using newer = await mounted({ lower: { ...LOWER, 'd/newer': 'n', 'also/new': 'n' } });
  await newer.session.apply({ file: layer });
  t.deepEqual(await list(newer), await list(a));
});

const shared = test.macro(async (t, changes: string[]) => {
  const options = { links: 'shared' as const };
  await using a = await mounted({ lower: LOWER, options });
  await a.hand().must(changes);
  const layer = join(a.folder, 'layer');
  await a.session.export({ format: 'oci-layer', output: layer });
  await using b = await mounted({ lower: LOWER, options });
  await b.session.apply({ file: layer });
  t.deepEqual(await compareTrees(a.hand(), '.', b.hand(), '.'), []);
  t.is((await b.session.apply({ file: layer })).applied, 0);
});
const APPENDED = ['open 0 one O_WRONLY|O_APPEND', 'write 0 =more', 'close 0'];
test('both names of a file that was appended to', shared, APPENDED);
test('both names of a file with another mode', shared, ['chmod two 0600']);

test('files get no ACL of a root that has a default one', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const inherited = dataWord(acl('u:7 user:1000:7 g:5 m:7 o:5'));
  await m.hand().must([`setxattr . system.posix_acl_default ${inherited}`]);
  const path = await tar(join(m.folder, 'x.tar'), [plain('new'), plain('d/new')]);
  await m.session.apply({ file: path });
  for (const name of ['new', 'd/new']) {
    t.is(await m.hand().do(`getxattr ${name} system.posix_acl_access`), 'ENODATA');
  }
  t.is((await m.session.apply({ file: path })).applied, 0);
});

test('a path longer than any system call takes is exported and replayed', async (t) => {
  const name = 'n'.repeat(200);
  const down = Array.from({ length: 30 }, () => [`mkdir ${name}`, `cd ${name}`]).flat();
  await using a = await mounted({ lower: LOWER });
  await a.hand().must([...down, 'mknod leaf S_IFREG|0640', 'link leaf other', 'symlink to sym']);
  const layer = join(a.folder, 'layer');
  await a.session.export({ format: 'tar', output: layer });
  await using b = await mounted({ lower: LOWER });
  await b.session.apply({ file: layer });
  t.deepEqual(await list(b), await list(a));
  const [one, other] = [a.hand(), b.hand()];
  const enter = down.filter((line) => line.startsWith('cd'));
  await Promise.all([one.must(enter), other.must(enter)]);
  t.deepEqual(await compareTrees(one, '.', other, '.'), []);
  t.is((await b.session.undo([`/${name}`])).length, 1);
  t.deepEqual(await list(b), []);
});

test('what both sides have changed is told, and nothing is done unless a side is preferred', async (t) => {
  await using a = await mounted({ lower: LOWER });
  await a.hand().must(CHANGES);
  const layer = join(a.folder, 'layer');
  await a.session.export({ format: 'oci-layer', output: layer });
  await using b = await mounted({ lower: LOWER });
  await b
    .hand()
    .must([
      'open 0 d/a O_WRONLY|O_TRUNC',
      'pwrite 0 0 =mine',
      'close 0',
      'open 0 gone/mine O_CREAT|O_WRONLY 0600',
      'close 0',
      'chmod was-dir/inside 0600',
      'chown d/b 7 8',
    ]);
  const before = await list(b);
  const error = await t.throwsAsync(b.session.apply({ file: layer }), {
    instanceOf: ConflictError,
  });
  t.deepEqual(error.conflicts, ['/d/a', '/gone', '/was-dir']);
  t.deepEqual(await list(b), before);
  const ours = await b.session.apply({ file: layer, prefer: 'ours' });
  t.deepEqual(ours.conflicts, ['/d/a', '/gone', '/was-dir']);
  t.is(readFileSync(join(b.mountpoint, 'd/a'), 'utf8'), 'mine');
  t.deepEqual(readdirSync(join(b.mountpoint, 'gone')).sort(), ['mine', 'x']);
  t.is(readFileSync(join(b.mountpoint, 'new'), 'utf8'), 'new');
  await b.session.apply({ file: layer, prefer: 'theirs' });
  t.deepEqual(await list(b), await list(a));
});

function plain(name: string): TarInput {
  return { entry: tarEntry('file', name) };
}

test('hostile entries are refused by name, and nothing is done', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const path = join(m.folder, 'x.tar');
  const refuses = async (entries: TarInput[], message: RegExp) => {
    await t.throwsAsync(m.session.apply({ file: await tar(path, entries) }), { message });
    t.deepEqual(await list(m), []);
  };
  const good = { entry: tarEntry('file', 'good') };
  await refuses([good, plain('/etc/x')], /'\/etc\/x', which is absolute/);
  await refuses([good, plain('a/../../x')], /'a\/\.\.\/\.\.\/x', which leads upwards/);
  await refuses([good, good], /good is in the file twice/);
  await refuses(
    [good, { entry: tarEntry('symlink', 's', { target: '/etc' }) }, plain('s/passwd')],
    /\/s\/passwd lies below \/s, which is no directory in the file/,
  );
  await refuses(
    [good, { entry: tarEntry('link', 'l', { target: '../../etc/shadow' }) }],
    /which leads upwards/,
  );
  await refuses([{ entry: tarEntry('link', 'l', { target: 'd/a' }) }], /is no file in the file/);
  await refuses([good, plain('link/inside')], /cannot be applied, and nothing was done: ELOOP/);
  await refuses([good, plain('.wh...')], /removes nothing that can be named/);
  writeFileSync(path, readFileSync(path).subarray(0, 700));
  await t.throwsAsync(m.session.apply({ file: path }), { message: /it is truncated/ });
  await t.throwsAsync(m.session.apply({ file: '/none' }), { message: /cannot be read: ENOENT/ });
  t.deepEqual(await list(m), []);
});

test('what the session cannot take is told with its path, and what can be done', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const path = join(m.folder, 'x.tar');
  const refuses = async (entries: TarInput[], message: RegExp) => {
    const apply = m.session.apply({ file: await tar(path, entries) });
    const error = await t.throwsAsync(apply, { instanceOf: SessionError });
    t.regex(error.message, message);
    t.regex(error.remedy ?? '', /look at what the file says of that path/);
    t.deepEqual(await list(m), []);
  };
  const xattrs = new Map([['user.x', Buffer.from('1')]]);
  await refuses([plain('link/inside')], /ELOOP: \/link\/inside$/);
  await refuses([plain('one/inside')], /ENOTDIR: \/one\/inside$/);
  await refuses(
    [{ entry: tarEntry('symlink', 's\xc3\xa9', { target: 'x', xattrs }) }],
    /EPERM: user\.x of \/sé$/,
  );
  await refuses(
    [{ entry: tarEntry('symlink', 's', { target: 'x'.repeat(5000) }) }],
    /ENAMETOOLONG: \/s$/,
  );
});

test('an archive that is cut or damaged in the data of a file is refused in words', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const path = join(m.folder, 'x.tar');
  const size = 300_000;
  await tar(path, [{ entry: tarEntry('file', 'big', { size }), data: [randomBytes(size)] }]);
  const whole = readFileSync(path);
  const packed = gzipSync(whole);
  const damaged = Buffer.from(packed);
  damaged.fill(0, 150_000, 150_100);
  for (const [bytes, message] of [
    [whole.subarray(0, 100_000), /x\.tar cannot be read: it is truncated in big/],
    [packed.subarray(0, 100_000), /x\.tar cannot be read: its compressed data is damaged/],
    [damaged, /x\.tar cannot be read: its compressed data is damaged/],
  ] as const) {
    writeFileSync(path, bytes);
    await t.throwsAsync(m.session.apply({ file: path }), { instanceOf: SessionError, message });
    t.deepEqual(await list(m), []);
  }
});

test('a file that does not fit changes nothing', async (t) => {
  await using m = await mounted({ lower: LOWER, options: { size: '2M', upper: 'memory' } });
  const entries = Array.from({ length: 8 }, (_, i) => ({
    entry: tarEntry('file', `d/${i}`, { size: 1 << 19 }),
    data: [Buffer.alloc(1 << 19, i + 1)],
  }));
  const before = await m.hand().do('stat .');
  const path = await tar(join(m.folder, 'x.tar'), entries);
  const error = await t.throwsAsync(m.session.apply({ file: path }), { instanceOf: SessionError });
  t.regex(error.message, /nothing was done: ENOSPC: \/d\/\d$/);
  t.regex(error.remedy ?? '', /make room/);
  t.deepEqual(await list(m), []);
  t.is((await m.hand().do('stat .')).replace(/ctime\S+/, ''), before.replace(/ctime\S+/, ''));
});

test('an apply that is killed by force is completed by another', async (t) => {
  await using a = await mounted({ lower: LOWER });
  await a.hand().must(CHANGES);
  for (let count = 0; count < 300; count++) writeFileSync(join(a.mountpoint, `d/${count}`), 'x');
  const layer = join(a.folder, 'layer');
  await a.session.export({ format: 'oci-layer', output: layer });
  let cut = 0;
  for (let round = 0; round < 4; round++) {
    await using b = await mounted({ lower: LOWER });
    const args = [PROGRAM, 'apply', layer, `--session=${b.session.name}`];
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    const ended = once(child, 'exit');
    const folder = () => readdirSync(b.mountpoint).filter((name) => name.startsWith('.ostree-ts-'));
    while (folder().length === 0 && child.exitCode === null) await sleep(1);
    await sleep(round * 5);
    child.kill('SIGKILL');
    await ended;
    if (child.signalCode !== null) cut++;
    await b.session.apply({ file: layer, prefer: 'theirs' });
    for (const name of folder()) rmSync(join(b.mountpoint, name), { recursive: true });
    t.deepEqual(await list(b), await list(a));
    // What was completed has had a change of its directory since.
    const found = await compareTrees(a.hand(), '.', b.hand(), '.');
    t.deepEqual(
      found.filter((line) => !/: mtime: /.test(line)),
      [],
    );
  }
  t.log(`${cut} of 4 were killed half-way`);
});
