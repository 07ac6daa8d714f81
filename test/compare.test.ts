/** The comparer of trees, tried on each kind of difference: everything that the mounted suites believe rests on it. */
import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { checksumTree } from './helpers/checksum.ts';
import { compareTrees } from './helpers/compare.ts';
import { Hand } from './helpers/hand.ts';
import { device, dir, fifo, file, link, plant, symlink, type Tree } from './helpers/trees.ts';

const TREE: Tree = {
  'd/f': file('hello', { xattrs: { 'user.a': '1' } }),
  'd/twin': link('d/f'),
  'd/other': 'hello',
  'd/hole': file('x', { size: 100_000 }),
  s: symlink('d/f'),
  empty: dir(),
  p: fifo(),
  null: device('S_IFCHR', 1, 3),
  'odd%\xff\x01 \n': 'odd',
};

/** What is done to the second tree, and what the comparer has to say of it. */
const MUTATIONS: [string, string[], RegExp][] = [
  [
    'a byte of content',
    ['open 0 b/d/other O_RDWR', 'pwrite 0 1 =E', 'utimens @0 omit 1000000000.123456789'],
    /^d\/other: sha256: /,
  ],
  [
    'a size',
    ['truncate b/d/hole 100001', 'utimens b/d/hole omit 1000000000.123456789'],
    /^d\/hole: size: 100000 != 100001$/,
  ],
  ['a mode', ['chmod b/d/other 0640'], /^d\/other: mode: 0644 != 0640$/],
  ['setuid', ['chmod b/d/other 04644'], /^d\/other: mode: 0644 != 4644$/],
  ['an owner', ['chown b/d/other 7 -1'], /^d\/other: uid: 0 != 7$/],
  ['a group of a symlink', ['chown b/s -1 7'], /^s: gid: 0 != 7$/],
  ['a nanosecond of mtime', ['utimens b/d/other omit 1000000000.123456788'], /^d\/other: mtime: /],
  [
    'a time that should have changed',
    ['utimens b/d/other omit now'],
    /^d\/other: mtime: .* != now$/,
  ],
  ['an mtime of a directory', ['utimens b/empty omit 5.0'], /^empty: mtime: /],
  ['an mtime of the root', ['utimens b omit 5.0'], /^\.: mtime: /],
  ['the value of an xattr', ['setxattr b/d/f user.a =2'], /^d\/(f|twin): xattr:user.a: 1 != 2$/],
  ['a trusted xattr', ['setxattr b/empty trusted.t =1'], /^empty: xattr:trusted.t: none != 1$/],
  [
    'a security xattr on a symlink',
    ['setxattr b/s security.t =1'],
    /^s: xattr:security.t: none != 1$/,
  ],
  ['a missing xattr', ['removexattr b/d/f user.a'], /^d\/(f|twin): xattr:user.a: 1 != none$/],
  [
    'a broken link',
    [
      'unlink b/d/twin',
      'open 0 b/d/twin O_CREAT|O_RDWR 0644',
      'write 0 =hello',
      'setxattr @0 user.a =1',
    ],
    /^d\/twin: same: d\/f != none$/,
  ],
  ['a link more', ['link b/d/other b/d/z'], /^d\/other: nlink: 1 != 2$/],
  [
    'a link to the wrong file',
    ['unlink b/d/twin', 'link b/d/other b/d/twin'],
    /^d\/twin: same: d\/f != d\/other$/,
  ],
  ['a name more', ['mkdir b/x'], /^x: only in the second$/],
  ['a name less', ['unlink b/p'], /^p: only in the first$/],
  ['a link count of a directory', ['mkdir b/empty/x'], /^empty: nlink: 2 != 3$/],
  ['a symlink target', ['unlink b/s', 'symlink d/g b/s'], /^s: target: d\/f != d\/g$/],
  ['a type', ['unlink b/p', 'mknod b/p S_IFSOCK|0644'], /^p: type: p != s$/],
  [
    'a device number',
    ['unlink b/null', 'mknod b/null S_IFCHR|0644 1 4'],
    /^null: rdev: 1:3 != 1:4$/,
  ],
  [
    'a name of odd bytes',
    ['rename b/odd%25%ff%01%20%0a b/odd%25%fe%01%20%0a'],
    /^odd%25%ff%01%20%0a: only in the first$/,
  ],
];

async function twoTrees(t: { teardown: (end: () => void) => void }): Promise<Hand> {
  const folder = mkdtempSync(join('/dev/shm', 'ots-compare-'));
  const hand = new Hand({ cwd: folder });
  t.teardown(async () => {
    await hand[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  await hand.must(['mkdir a', 'mkdir b']);
  await plant(hand, TREE, 'a');
  await plant(hand, TREE, 'b');
  await hand.must(['utimens a 0.0 1.0', 'utimens b 0.0 1.0']);
  return hand;
}

test('two plantings of one literal are equal', async (t) => {
  const hand = await twoTrees(t);
  t.deepEqual(await compareTrees(hand, 'a', hand, 'b'), []);
});

for (const [what, lines, expected] of MUTATIONS) {
  test(`a difference is seen: ${what}`, async (t) => {
    const hand = await twoTrees(t);
    await hand.must(lines);
    const since = Math.floor(Date.now() / 1000) - 1000;
    const found = await compareTrees(hand, 'a', hand, 'b', { since });
    t.true(
      found.some((line) => expected.test(line)),
      found.join('\n'),
    );
  });
}

test('the checksum changes with a rewrite that restores content and mtime', async (t) => {
  const hand = await twoTrees(t);
  await hand.must(['tick']);
  const cwd = `/proc/${hand.pid}/cwd/a`;
  const before = await checksumTree(cwd);
  t.is(await checksumTree(cwd), before);
  await hand.must([
    'open 0 a/d/other O_RDWR',
    'write 0 =hello',
    `utimens @0 omit 1000000000.123456789`,
  ]);
  t.not(await checksumTree(cwd), before);
});
