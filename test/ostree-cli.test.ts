// The commands `ls` and `cat`, as typed, against the real `ostree`.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  addCommit,
  commitTree,
  objectPath,
  objectsOf,
  ostree,
  plantEverything,
  remove,
  scratch,
} from './helpers/repositories.ts';
import { PROGRAM } from './helpers/program.ts';

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
plantEverything(tree);
const { path: repo, commit } = commitTree(folder, 'archive', tree);

function typed(args: string[], cwd: string = '/') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    cwd,
    maxBuffer: 1 << 28,
    timeout: 60_000,
  });
  return { code: status, out: stdout, err: stderr.toString() };
}

const same = test.macro({
  exec(t, command: 'ls' | 'cat', ...args: string[]) {
    const ours = typed([command, `--repo=${repo}`, ...args]);
    t.is(ours.err, '');
    t.is(ours.code, 0);
    t.true(ours.out.length > 0);
    t.true(ours.out.equals(ostree(command, `--repo=${repo}`, ...args)));
  },
  title: (_, ...args) => `as the real tool: ${args.join(' ')}`,
});
test(same, 'ls', 'main');
test(same, 'ls', '-RCX', 'main');
test(same, 'ls', '-d', 'main', '/usr');
test(same, 'ls', '--recursive', '--checksum', commit, 'usr/bin', '/usr/share');
test(same, 'ls', '-X', commit.slice(0, 8), '/usr/attributes');
test(same, 'cat', 'main', '/usr/lib/large.bin', 'usr/bin/link');
test(same, 'cat', 'main', '/usr/lib/zeros.bin');

test('without --repo, the current folder is the repository', (t) => {
  const { out } = typed(['ls', 'main', '/usr/bin'], repo);
  t.true(out.equals(ostree('ls', `--repo=${repo}`, 'main', '/usr/bin')));
});

test('ls --json has an object a line', (t) => {
  const { out } = typed(['ls', `--repo=${repo}`, '-R', '--json', 'main', '/usr/attributes']);
  const entries = out
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const one = entries.find((entry) => entry['path'] === '/usr/attributes/one');
  t.like(one, { type: 'file', size: 4, mode: '0644', uid: 0, gid: 0 });
  t.deepEqual(one?.['xattrs'], { 'user.mykey': Buffer.from('myvalue').toString('base64') });
  t.regex(String(entries[0]?.['meta']), /^[0-9a-f]{64}$/);
});

const refused = test.macro({
  exec(t, code: number, args: string[], expected: RegExp) {
    const { code: ended, out, err } = typed(args.map((each) => each.replace('REPO', repo)));
    t.is(ended, code);
    t.is(out.length, 0);
    t.regex(err, expected);
    t.true(err.trimEnd().split('\n').length <= 2, err);
  },
  title: (given = '') => `refuses ${given}`,
});
test('no ref', refused, 2, ['ls'], /REF/);
test('an unknown ref', refused, 1, ['ls', '--repo=REPO', 'nope'], /nope.*\n.*main/);
test('an unknown path', refused, 1, ['ls', '--repo=REPO', 'main', '/nope'], /\/nope/);
test('a file as a folder', refused, 1, ['ls', '--repo=REPO', 'main', '/bin/x'], /directory/);
test('no repository', refused, 1, ['ls', '--repo=/usr', 'main'], /not an OSTree repository/);
test('no repository named, nor here', refused, 1, ['ls', 'main'], /--repo=REPO/);
test('to cat a directory', refused, 1, ['cat', '--repo=REPO', 'main', '/usr'], /directory/);
test('to cat nothing', refused, 2, ['cat', '--repo=REPO', 'main'], /PATH/);

const unlockRefused = ['unlock', '--repo=REPO'];
test('to unlock nothing', refused, 2, unlockRefused, /REF MOUNTPOINT/);
test('to unlock nowhere', refused, 2, [...unlockRefused, 'main'], /mountpoint/);
test('to unlock an unknown ref', refused, 1, [...unlockRefused, 'nope', '/mnt'], /nope/);
test(
  'to unlock what is no repository',
  refused,
  1,
  ['unlock', '--repo=/usr', 'x', '/mnt'],
  /not an/,
);
test('--verify without --repo', refused, 2, ['unlock', '--verify', '/usr'], /--repo=REPO/);

test('a missing object is named', (t) => {
  const root = join(folder, 'broken-tree');
  plantEverything(root, { many: 3 });
  const broken = commitTree(join(folder, 'broken'), 'archive', root);
  const [first = ''] = objectsOf(broken.path, 'filez');
  rmSync(objectPath(broken.path, first, 'filez'));
  const { code, err } = typed(['ls', '-R', `--repo=${broken.path}`, 'main']);
  t.is(code, 1);
  t.true(err.includes(`${first}.filez: missing`));
});

test('what was printed of a corrupt file is followed by a failure', (t) => {
  const root = join(folder, 'corrupt-tree');
  plantEverything(root, { many: 3 });
  const store = commitTree(join(folder, 'corrupt'), 'archive', root);
  writeFileSync(join(root, 'usr/lib/large.bin'), 'other');
  addCommit(store.path, 'other', root);
  const entry = typed(['ls', '--json', `--repo=${store.path}`, store.commit, '/usr/lib/large.bin']);
  const { checksum } = JSON.parse(entry.out.toString()) as { checksum: string };
  const object = objectPath(store.path, checksum, 'filez');
  const bytes = readFileSync(object);
  bytes[bytes.length - 1000] = (bytes[bytes.length - 1000] ?? 0) ^ 1;
  writeFileSync(object, bytes);
  const { code, err } = typed(['cat', `--repo=${store.path}`, store.commit, '/usr/lib/large.bin']);
  t.is(code, 1);
  t.true(err.includes(checksum), err);
});

test('a reader that has seen enough is no failure', (t) => {
  const line = `"${process.execPath}" "${PROGRAM}" ls -RCX --repo="${repo}" main | head -1`;
  const { status, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', line]);
  t.is(stderr.toString(), '');
  t.is(status, 0);
});
