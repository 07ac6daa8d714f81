/**
 * What `diff` tells of real sessions, of every upper over a directory and over commits, beside what `ostree diff` and
 * `git diff` say, and what `git apply` makes of it.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Change, ChangeOptions, PatchOptions, Session } from '../../src/index.ts';
import { BASE, change, CHANGES, RENAMED } from '../helpers/edits.ts';
import { described, gitDiff, partsOf } from '../helpers/git-diff.ts';
import { Hand } from '../helpers/hand.ts';
import { type Mounted, mounted, residentBytes } from '../helpers/mounted.ts';
import { commitTree, ostree, remove, scratch } from '../helpers/repositories.ts';
import { file, link, plant } from '../helpers/trees.ts';
import { PROGRAM } from '../helpers/program.ts';

const UPPERS = ['memory', 'tmpfs', 'disk'];

const folder = scratch();
test.after.always(() => remove(folder));

/** What sessions are over: a fresh copy of `BASE` each time, or a commit of it. */
const LOWERS: Record<string, () => Promise<Parameters<typeof mounted>[0]>> = {
  directory: async () => ({ lower: BASE }),
  bare: () => overCommit('bare'),
  archive: () => overCommit('archive'),
};

async function overCommit(mode: 'bare' | 'archive'): Promise<Parameters<typeof mounted>[0]> {
  const tree = join(folder, 'tree');
  if (!existsSync(tree)) {
    mkdirSync(tree);
    await using hand = new Hand({ cwd: folder });
    await plant(hand, BASE, 'tree');
  }
  const repo = existsSync(join(folder, mode))
    ? join(folder, mode)
    : commitTree(folder, mode, tree).path;
  return { lower: 'main', unchecked: true, options: { repo } };
}

async function listed(session: Session, options?: ChangeOptions): Promise<Change[]> {
  const found: Change[] = [];
  for await (const each of session.diff(options)) found.push(each);
  return found;
}

async function told(session: Session, options?: ChangeOptions): Promise<string[]> {
  return (await listed(session, options)).map(({ kind, path, from }) =>
    kind === 'R' ? `R ${from} -> ${path}` : `${kind} ${path}`,
  );
}

async function patched(session: Session, options?: PatchOptions): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of session.patch(options)) parts.push(part);
  return Buffer.concat(parts);
}

/** What a session is over, as a directory. */
function baseOf(m: Mounted): string {
  return m.lower === 'main' ? join(folder, 'tree') : m.lower;
}

for (const upper of UPPERS) {
  test(`${upper}: the last name of a changed file with several is told, whichever went before`, async (t) => {
    const lower = { 'd/a': 'one\n', b: link('d/a'), 'e/c': 'two\n', f: link('e/c') };
    await using m = await mounted({ lower, upper, options: { links: 'shared' } });
    rmSync(join(m.mountpoint, 'd/a'));
    appendFileSync(join(m.mountpoint, 'b'), 'more\n');
    rmSync(join(m.mountpoint, 'f'));
    t.deepEqual(await told(m.session), ['M /b', 'D /d/a', 'D /f']);
    rmSync(join(m.mountpoint, 'e'), { recursive: true });
    t.deepEqual(await told(m.session), ['M /b', 'D /d/a', 'D /e', 'D /f']);
    t.regex((await patched(m.session)).toString(), /^\+more$/m);
  });
}

test('an output that cannot be written is told of, by its exit code too', async (t) => {
  await using m = await mounted({ lower: { a: 'a' } });
  for (let i = 0; i < 500; i++) writeFileSync(join(m.mountpoint, `new-${i}`), 'x');
  const { name } = m.session;
  for (const args of [
    ['diff', name],
    ['diff', name, '--json'],
    ['diff', name, '--patch'],
    ['status'],
  ]) {
    const { status, stderr } = spawnSync('sh', [
      '-c',
      '"$@" > /dev/full',
      'sh',
      process.execPath,
      PROGRAM,
      ...args,
    ]);
    t.deepEqual(
      [status, stderr.toString()],
      [1, 'ostree-ts: stdout cannot be written: ENOSPC\n'],
      args.join(' '),
    );
  }
  const { status } = spawnSync('sh', [
    '-c',
    '"$@" > /dev/full',
    'sh',
    process.execPath,
    PROGRAM,
    'diff',
    name,
    '--exit-code',
  ]);
  t.is(status, 2);
  const cut = spawnSync('sh', [
    '-c',
    'set -o pipefail 2> /dev/null; "$@" | head -n 1',
    'sh',
    process.execPath,
    PROGRAM,
    'diff',
    name,
  ]);
  t.is(cut.stderr.toString(), '');
});

/** Each upper and each lower; every one with every other from OSTREE_TS_TEST_SCALE=2 on. */
const SOME: Readonly<Record<string, readonly string[]>> = { tmpfs: ['bare'], disk: ['archive'] };
const ALL = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) >= 2;

for (const upper of UPPERS) {
  for (const [kind, make] of Object.entries(LOWERS)) {
    if (!ALL && SOME[upper]?.includes(kind) === false) continue;
    test.serial(`${upper} over ${kind}: changes, renames, and what has changed`, async (t) => {
      await using m = await mounted({ ...(await make()), upper });
      const { session } = m;
      t.deepEqual(await told(session), []);
      change(m.mountpoint);
      t.deepEqual(await told(session), CHANGES);
      t.deepEqual(await told(session, { renames: true }), RENAMED);
      const details = await listed(session, { renames: true, details: true, times: true });
      const changed = new Map(
        details.map((each) => [each.path, [...(each.changed ?? []), ...(each.xattrs ?? [])]]),
      );
      t.deepEqual(changed.get('/etc/mode'), ['mode']);
      t.deepEqual(changed.get('/etc/owner'), ['owner']);
      t.deepEqual(changed.get('/etc/attr'), ['xattrs', 'user.gone', 'user.note']);
      t.deepEqual(changed.get('/etc/times'), ['times']);
      t.deepEqual(changed.get('/etc/app.conf'), ['content', 'times']);
      t.deepEqual(changed.get('/usr/share/docs'), []);
      t.deepEqual(changed.get('/usr/bin/tool-2'), []);
      t.deepEqual(changed.get('/usr/lib64/edited'), ['content', 'times']);
      t.deepEqual(changed.get('/etc/was-file'), ['type', 'mode']);
      const before = details.find(({ path }) => path === '/etc/was-dir');
      t.like(before, { type: 0o100000, typeBefore: 0o040000, size: 7, modeBefore: 0o040755 });
      t.like(
        details.find(({ path }) => path === '/etc/owner'),
        {
          owner: [7, 8],
          ownerBefore: [0, 0],
          sizeBefore: 6,
        },
      );
      t.is(details.find(({ path }) => path === '/usr/share/docs/a')?.from, '/usr/share/doc/a');
    });

    test.serial(`${upper} over ${kind}: the patch is git's, and git applies it`, async (t) => {
      await using m = await mounted({ ...(await make()), upper });
      change(m.mountpoint);
      writeFileSync(join(m.mountpoint, 'usr/lib/binary'), 'ELF\0two');
      const base = baseOf(m);
      const plain = await patched(m.session, { renames: false });
      t.deepEqual(
        partsOf(plain.toString('latin1')),
        gitDiff(folder, base, m.mountpoint, '--no-renames'),
      );
      // Git finds renames by contents, so it takes some for others; these it cannot mistake.
      const usr = await patched(m.session, { paths: ['/usr'] });
      const theirs = gitDiff(folder, join(base, 'usr'), join(m.mountpoint, 'usr'), '-M');
      t.deepEqual(
        partsOf(usr.toString('latin1').replaceAll(/(?<=[ "]|[ab]\/)usr\//g, '')).filter(
          (part) => !/doc\/sub|doc\/c/.test(part),
        ),
        theirs.filter((part) => !/doc\/sub|doc\/c/.test(part)),
      );
      writeFileSync(join(m.mountpoint, 'usr/lib/binary'), 'ELF\0one');
      for (const renames of [true, false]) {
        const copy = join(m.folder, `applied-${renames}`);
        execFileSync('cp', ['-a', base, copy]);
        const input = await patched(m.session, { renames });
        const { status, stderr } = spawnSync('git', ['apply', '-'], { cwd: copy, input });
        t.is(status, 0, stderr.toString());
        t.is(described(copy), described(m.mountpoint));
      }
    });

    if (kind === 'directory') continue;
    test.serial(`${upper} over ${kind}: ostree diff of the commit says the same`, async (t) => {
      const options = await make();
      await using m = await mounted({ ...options, upper });
      change(m.mountpoint);
      const repo = String(options.options?.repo);
      await m.session.commit({ branch: `kept/${upper}` });
      const theirs = ostree('diff', `--repo=${repo}`, 'main', `kept/${upper}`)
        .toString('latin1')
        .trimEnd()
        .split('\n')
        .map((line) => line.replace(/^([AMD])\s+/, '$1 '));
      // Of what has become a directory the tool tells nothing below.
      const ours = CHANGES.filter((line) => line !== 'A /etc/was-file/inside');
      t.deepEqual(theirs.sort(), ours.sort());
      t.deepEqual(await told(m.session), CHANGES);
    });
  }
}

/** Runs the command. */
function typed(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'diff', ...args], {
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  return { code: status, out: stdout, err: stderr };
}

test.serial('the command tells the same, and its exit code is true of what it tells', async (t) => {
  await using m = await mounted({ lower: BASE });
  const { name } = m.session;
  for (const way of [[], ['--stat'], ['--patch'], ['--json'], ['--metadata', '-M']]) {
    t.deepEqual(typed(name, '--exit-code', ...way).code, 0, way.join(' '));
  }
  utimesSync(join(m.mountpoint, 'etc/times'), 5, 5);
  writeFileSync(join(m.mountpoint, 'etc/same'), 'same\n');
  t.deepEqual(typed(name, '--exit-code'), { code: 0, out: '', err: '' });
  t.deepEqual(typed(name, '--exit-code', '--metadata'), {
    code: 1,
    out: 'M\t/etc/same\ttimes\nM\t/etc/times\ttimes\n',
    err: '',
  });
  change(m.mountpoint);
  for (const way of [[], ['--stat'], ['--patch'], ['--json'], ['--metadata', '-M']]) {
    t.deepEqual(typed(name, '--exit-code', ...way).code, 1, way.join(' '));
    t.deepEqual(typed(name, ...way).code, 0, way.join(' '));
    t.deepEqual(typed(name, '/etc/link', '--exit-code', ...way).code, 1, way.join(' '));
    const unchanged = ['/usr/share/none', '--exit-code', ...way];
    t.deepEqual(typed(name, ...unchanged).code, 0, way.join(' '));
    t.deepEqual(typed('nobody', '--exit-code', ...way).code, 2, way.join(' '));
  }
  // A change that no patch can tell of is a change.
  t.deepEqual(typed(name, '/etc/owner', '--patch', '--exit-code'), { code: 1, out: '', err: '' });
  const { out } = typed(name, '-M', '--metadata', '/etc/mode', '/etc/owner', '/usr/share/old');
  t.is(
    Buffer.from(out, 'latin1').toString(),
    'M\t/etc/mode\tmode 0644 -> 0755\nM\t/etc/owner\towner 0:0 -> 7:8\n' +
      'R\t/usr/share/old -> /usr/share/newer\n',
  );
  const [line = ''] = typed(name, '--json', '/etc/was-dir').out.split('\n');
  t.like(JSON.parse(line), {
    kind: 'M',
    path: '/etc/was-dir',
    type: 'file',
    size: 7,
    mode: '0644',
    typeBefore: 'directory',
    modeBefore: '0755',
    changed: ['type', 'mode'],
  });
});

test.serial('a path below what was removed or renamed is told by itself', async (t) => {
  await using m = await mounted({ lower: BASE });
  change(m.mountpoint);
  const ask = async (path: string, options: ChangeOptions = {}) =>
    await told(m.session, { ...options, paths: [path] });
  t.deepEqual(await ask('/usr/share/gone/y'), ['D /usr/share/gone/y']);
  t.deepEqual(await ask('/usr/share/gone/nothing'), []);
  t.deepEqual(await ask('/etc/was-dir/inside'), ['D /etc/was-dir/inside']);
  t.deepEqual(await ask('/usr/share/doc/sub'), ['D /usr/share/doc/sub']);
  const renames = { renames: true };
  const moved = 'R /usr/share/doc/sub/d -> /usr/share/docs/sub/d';
  t.deepEqual(await ask('/usr/share/doc/sub/d', renames), [moved]);
  t.deepEqual(await ask('/usr/share/docs/sub/d', renames), [moved]);
  t.deepEqual(await ask('/usr/share/doc/b', renames), ['D /usr/share/doc/b']);
  t.deepEqual(await ask('/usr/share/doc/c', renames), ['R /usr/share/doc/c -> /usr/c-moved']);
  t.deepEqual(await ask('/usr/share/docs/a', renames), ['M /usr/share/docs/a']);
  t.deepEqual(await ask('/usr/share/gone/deep', renames), [
    'D /usr/share/gone/deep',
    'R /usr/share/gone/deep/x -> /usr/share/saved',
  ]);
  const patch = (await patched(m.session, { paths: ['/usr/share/docs/sub'] })).toString();
  t.regex(patch, /^similarity index 100%\nrename from usr\/share\/doc\/sub\/d$/m);
  t.is(patch.match(/^diff --git/gm)?.length, 1);
});

test.serial('--stat counts what was in removed directories', async (t) => {
  await using m = await mounted({
    lower: { 'd/a': 'aaaa', 'd/e/b': 'bb', 'moved/f': 'fff', x: 'x' },
  });
  rmSync(join(m.mountpoint, 'd'), { recursive: true });
  renameSync(join(m.mountpoint, 'moved'), join(m.mountpoint, 'there'));
  chmodSync(join(m.mountpoint, 'x'), 0o600);
  t.is(
    typed(m.session.name, '--stat').out,
    [
      '          PATHS  FILES  DIRECTORIES  SIZE',
      'added     2      1      1            3 B',
      'modified  1      1      0            1 B',
      'deleted   6      3      3            9 B',
      '',
    ].join('\n'),
  );
  t.is(
    typed(m.session.name, '--stat', '-M', '--metadata').out,
    [
      '          PATHS  FILES  DIRECTORIES  SIZE',
      'added     0      0      0            0 B',
      'modified  0      0      0            0 B',
      'metadata  1      1      0            1 B',
      'deleted   4      2      2            6 B',
      'renamed   1      0      1            0 B',
      '',
    ].join('\n'),
  );
});

for (const upper of UPPERS) {
  test.serial(
    `${upper}: renames of renames, swaps and links are told as what came of them`,
    async (t) => {
      await using m = await mounted({
        lower: {
          'a/one/x': 'x',
          'a/two': 'two',
          'b/f': 'f',
          'b/g': 'g',
          'c/h': 'h',
          'c/i': 'i',
          l: 'l',
        },
        upper,
      });
      const at = (path: string) => join(m.mountpoint, path);
      // There and back again is no change.
      renameSync(at('a'), at('t'));
      renameSync(at('t'), at('a'));
      renameSync(at('b/f'), at('b/tmp'));
      renameSync(at('b/tmp'), at('b/f'));
      t.deepEqual(await told(m.session, { renames: true }), []);
      // A directory in a renamed one, renamed by itself; a file over another of its directory.
      renameSync(at('a'), at('n'));
      renameSync(at('n/one'), at('n/uno'));
      writeFileSync(at('n/uno/x'), 'changed');
      renameSync(at('b/f'), at('b/g'));
      // One takes the place of another.
      renameSync(at('c/h'), at('t'));
      renameSync(at('c/i'), at('c/h'));
      renameSync(at('t'), at('c/i'));
      // A link is a new file; of a removed name it is where that went.
      linkSync(at('l'), at('m'));
      t.deepEqual(await told(m.session, { renames: true }), [
        'D /b/f',
        'M /b/g',
        'M /c/h',
        'M /c/i',
        'A /m',
        'R /a -> /n',
        'R /a/one -> /n/uno',
        'M /n/uno/x',
      ]);
      rmSync(at('l'));
      t.true((await told(m.session, { renames: true })).includes('R /l -> /m'));
      // What has the name of a renamed directory is another one, and the files are told one by one.
      mkdirSync(at('a'));
      t.deepEqual(await told(m.session, { renames: true, paths: ['/a', '/n'] }), [
        'A /n',
        'R /a/two -> /n/two',
        'R /a/one -> /n/uno',
        'M /n/uno/x',
      ]);
    },
  );
}

test.serial('a renamed directory is known after the upper was taken up again', async (t) => {
  const place = join(folder, 'again');
  mkdirSync(join(place, 'upper'), { recursive: true });
  const lower = join(place, 'lower');
  mkdirSync(lower);
  await using hand = new Hand({ cwd: place });
  await plant(hand, { 'a/x': 'x', f: 'f' }, 'lower');
  const upper = join(place, 'upper');
  {
    await using m = await mounted({ lower, options: { upper } });
    renameSync(join(m.mountpoint, 'a'), join(m.mountpoint, 'b'));
    renameSync(join(m.mountpoint, 'f'), join(m.mountpoint, 'g'));
    t.deepEqual(await told(m.session, { renames: true }), ['R /a -> /b', 'R /f -> /g']);
  }
  await using m = await mounted({ lower, options: { upper } });
  t.deepEqual(await told(m.session, { renames: true }), ['R /a -> /b', 'D /f', 'A /g']);
  const patch = (await patched(m.session)).toString();
  t.regex(patch, /^rename from a\/x\nrename to b\/x$/m);
});

/** As git names what a file holds. */
function idOf(path: string): string {
  return execFileSync('git', ['hash-object', path], { encoding: 'utf8' }).slice(0, 7);
}

test.serial(
  'a patch of large files takes bounded memory, and tells them like binary ones',
  async (t) => {
    const size = 300 * 1024 * 1024;
    await using m = await mounted({
      lower: { large: file('large\n', { size }), small: 'small\n' },
    });
    const at = join(m.mountpoint, 'large');
    appendFileSync(at, 'end\n');
    truncateSync(join(m.mountpoint, 'small'), 0);
    const before = residentBytes(process.pid);
    let peak = before;
    const watch = setInterval(() => (peak = Math.max(peak, residentBytes(process.pid))), 10);
    const patch = (await patched(m.session)).toString();
    clearInterval(watch);
    t.true(peak - before < 150 * 1024 * 1024, `${(peak - before) / 1024 / 1024} MiB more`);
    t.true(
      patch.startsWith(
        `diff --git a/large b/large\nindex ${idOf(join(m.lower, 'large'))}..${idOf(at)} 100644\n` +
          'Binary files a/large and b/large differ\ndiff --git a/small',
      ),
      patch.slice(0, 300),
    );
  },
);

test.serial(
  'what is stored into mapped pages, or written meanwhile, is in the patch',
  async (t) => {
    await using m = await mounted({ lower: { mapped: 'before\n' } });
    const script = `import mmap
f = open('mapped', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[:6] = b'AFTER!'
print('stored', flush=True)
input()`;
    const child = spawn('python3', ['-c', script], {
      cwd: m.mountpoint,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    t.regex((await patched(m.session)).toString(), /^-before\n\+AFTER!$/m);
    child.stdin.end('\n');
    await new Promise((resolve) => child.once('exit', resolve));
    t.is(readFileSync(join(m.mountpoint, 'mapped'), 'utf8'), 'AFTER!\n');
  },
);

test.serial('fuse-native: changes, patch and commit', async (t) => {
  const { options } = await overCommit('archive');
  await using m = await mounted({
    lower: 'main',
    unchecked: true,
    upper: 'memory',
    options: { ...options, transport: 'fuse-native' },
  });
  renameSync(join(m.mountpoint, 'usr/bin/tool'), join(m.mountpoint, 'usr/bin/tool-2'));
  appendFileSync(join(m.mountpoint, 'etc/same'), 'more\n');
  t.deepEqual(await told(m.session, { renames: true }), [
    'M /etc/same',
    'R /usr/bin/tool -> /usr/bin/tool-2',
  ]);
  t.regex((await patched(m.session)).toString(), /^ same\n\+more\ndiff --git a\/usr\/bin\/tool /m);
  const { commit } = await m.session.commit({ branch: 'kept/fuse-native' });
  const repo = String(options?.repo);
  t.is(ostree('cat', `--repo=${repo}`, String(commit), '/etc/same').toString(), 'same\nmore\n');
});
