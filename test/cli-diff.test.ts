/** What diff prints and exits with. */
import test from 'ava';
import type { Change } from '../src/index.ts';
import { Pretended, STATUS, typed } from './helpers/pretended.ts';

test('diff prints kind, tab and path, and quotes odd names as git does', async (t) => {
  const { code, out } = await typed(['diff']);
  t.is(code, 0);
  t.deepEqual(out, ['A\t/bin/new', 'M\t/café', 'D\t"/\\377\\t\\""']);
});

test('diff and undo warn of what could not be written to the session, and go on', async (t) => {
  const session = new Pretended(STATUS);
  session.unwritten = 'it is full';
  for (const line of [['diff'], ['diff', '--stat'], ['undo', 'x']]) {
    const { code, err } = await typed(line, { sessions: [session] });
    t.is(code, 0);
    t.deepEqual(err, ['ostree-ts: warning: it is full']);
  }
  const { err } = await typed(['diff', '--json'], { sessions: [session] });
  t.deepEqual(JSON.parse(err[0] ?? ''), { warning: 'it is full' });
});

test('diff --json is lossless', async (t) => {
  const { out } = await typed(['diff', 'usr', '--json']);
  t.deepEqual(
    out.map((line): unknown => JSON.parse(line)),
    [
      { kind: 'A', path: '/bin/new', type: 'file', size: 2048, mode: '0755' },
      { kind: 'M', path: '/café', type: 'directory', size: 4096, mode: '0700', modeBefore: '0755' },
      {
        kind: 'D',
        path: '/\ufffd\t"',
        type: 'symlink',
        size: 3,
        mode: '0777',
        pathBase64: Buffer.from('/\xff\t"', 'latin1').toString('base64'),
      },
    ],
  );
});

test('diff --exit-code tells changes by 1 and trouble by 2', async (t) => {
  t.is((await typed(['diff', '--exit-code'])).code, 1);
  t.is((await typed(['diff', 'nobody', '--exit-code'])).code, 2);
  t.is((await typed(['diff', 'nobody'])).code, 1);
});

test('diff --stat prints totals', async (t) => {
  t.deepEqual((await typed(['diff', '--stat'])).out, [
    '          PATHS  FILES  DIRECTORIES  SIZE',
    'added     1      1      0            2.0 KiB',
    'modified  1      0      1            0 B',
    'deleted   1      0      0            0 B',
  ]);
  const { out } = await typed(['diff', '--stat', '--json']);
  t.deepEqual(JSON.parse(out[0] ?? ''), {
    change: 'added',
    paths: 1,
    files: 1,
    directories: 0,
    bytes: 2048,
  });
});

const DETAILED: Change[] = [
  {
    kind: 'M',
    path: '/a',
    type: 0o120000,
    size: 3,
    mode: 0o120777,
    typeBefore: 0o100000,
    sizeBefore: 9,
    modeBefore: 0o100644,
    owner: [7, 8],
    ownerBefore: [0, 0],
    mtime: [1_000_000_000, 123_456_789],
    mtimeBefore: [-1, 0],
    changed: ['type', 'mode', 'owner', 'xattrs', 'times'],
    xattrs: ['user.a', 'user.\xff'],
  },
  {
    kind: 'R',
    path: '/new \xff',
    from: '/old \xfe',
    type: 0o100000,
    size: 5,
    mode: 0o100644,
    typeBefore: 0o100000,
    sizeBefore: 5,
    modeBefore: 0o100644,
    changed: [],
  },
  {
    kind: 'M',
    path: '/t',
    type: 0o100000,
    size: 1,
    mode: 0o100644,
    modeBefore: 0o100644,
    changed: ['times'],
  },
];

test('diff --metadata names what has changed, after a tab', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED;
  const { out } = await typed(['diff', '-M', '--metadata'], { sessions: [session] });
  t.deepEqual(session.asked, { renames: true, details: true, times: true });
  t.deepEqual(out, [
    'M\t/a\ttype file -> symlink, mode 0644 -> 0777, owner 0:0 -> 7:8, xattrs user.a "user.\\377", times',
    'R\t"/old \\376" -> "/new \\377"',
    'M\t/t\ttimes',
  ]);
});

test('diff --json has everything, before and after', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED.slice(0, 2);
  const { out } = await typed(['diff', '--json'], { sessions: [session] });
  t.deepEqual(session.asked, { details: true });
  t.deepEqual(JSON.parse(out[0] ?? ''), {
    kind: 'M',
    path: '/a',
    type: 'symlink',
    size: 3,
    mode: '0777',
    uid: 7,
    gid: 8,
    mtime: '2001-09-09T01:46:40.123456789Z',
    typeBefore: 'file',
    sizeBefore: 9,
    modeBefore: '0644',
    uidBefore: 0,
    gidBefore: 0,
    mtimeBefore: '1969-12-31T23:59:59.000000000Z',
    changed: ['type', 'mode', 'owner', 'xattrs', 'times'],
    xattrs: ['user.a', 'user.\ufffd'],
  });
  t.like(JSON.parse(out[1] ?? ''), {
    kind: 'R',
    pathBase64: Buffer.from('/new \xff', 'latin1').toString('base64'),
    fromBase64: Buffer.from('/old \xfe', 'latin1').toString('base64'),
    changed: [],
  });
});

test('diff --stat counts renames and metadata apart when they are asked for', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED;
  const { out } = await typed(['diff', '--stat', '-M', '--metadata'], { sessions: [session] });
  t.deepEqual(session.asked, { renames: true, details: true, times: true, all: true });
  t.deepEqual(out, [
    '          PATHS  FILES  DIRECTORIES  SIZE',
    'added     0      0      0            0 B',
    'modified  1      0      0            0 B',
    'metadata  1      1      0            1 B',
    'deleted   0      0      0            0 B',
    'renamed   1      1      0            5 B',
  ]);
});

test('diff --patch prints bytes, and --exit-code counts every change', async (t) => {
  const session = new Pretended(STATUS);
  const line = ['diff', 'usr', '/etc', '-p', '-U', '0', '--no-renames', '--exit-code'];
  const { code, out } = await typed(line, { sessions: [session] });
  t.is(code, 1);
  t.deepEqual(session.asked, { paths: ['/etc'], renames: false, context: 0 });
  t.deepEqual(out, ['diff --git a/x b/x', '', '+\ufffd', '']);
  session.changes = [];
  t.is((await typed(['diff', '--patch', '--exit-code'], { sessions: [session] })).code, 0);
  t.deepEqual(session.asked, {});
});

test('diff takes a first argument that is no session for a path, when only one session is there', async (t) => {
  const only = new Pretended(STATUS);
  await typed(['diff', '/lib/', 'share//x'], { sessions: [only] });
  t.deepEqual(only.asked, { paths: ['/lib', '/share/x'] });
  await typed(['diff', '/usr', './caf\u00e9'], { sessions: [only] });
  t.deepEqual(only.asked, { paths: ['/caf\xc3\xa9'] });
  await typed(['diff'], { sessions: [only] });
  t.deepEqual(only.asked, {});
  const two = [only, new Pretended({ ...STATUS, name: 'b', mountpoint: '/b' })];
  t.is((await typed(['diff', '/lib'], { sessions: two })).code, 1);
  t.is((await typed(['diff', 'usr', '../x'], { sessions: [only] })).code, 2);
});
