/** Single paths go back to what the lower has, while the kernel remembers otherwise. */
import test from 'ava';
import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { compareTrees } from '../helpers/compare.ts';
import { mounted, type Mounted } from '../helpers/mounted.ts';
import { file, link, symlink, type Tree } from '../helpers/trees.ts';

const LOWER: Tree = {
  'd/a': 'a\n',
  'd/b': file('b\n', { mode: 0o640, xattrs: { 'user.x': 'lower' } }),
  'd/sub/c': 'c\n',
  'e/link': symlink('../d/a'),
  'h/one': 'linked\n',
  'h/two': link('h/one'),
  top: 'top\n',
};

async function changes(m: Mounted): Promise<string[]> {
  const list: string[] = [];
  for await (const { kind, path } of m.session.diff()) list.push(`${kind} ${path}`);
  return list;
}

/** Differences between the mount and the lower below a path, times of directories apart. */
async function differences(m: Mounted, path: string): Promise<string[]> {
  const found = await compareTrees(m.hand(), path, m.hand(), join(m.lower, path));
  return found.filter((line) => !/^(\.|\S*d|\S*sub): (mtime|ino)/.test(line));
}

test('a changed, a removed, a replaced and a new path are as before, at once', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const hand = m.hand();
  await hand.must([
    'open 0 d/a O_WRONLY|O_TRUNC',
    'pwrite 0 0 =changed',
    'close 0',
    'unlink d/b',
    'unlink top',
    'mkdir top 0700',
    'open 0 top/new O_CREAT|O_WRONLY 0600',
    'close 0',
    'open 0 d/new O_CREAT|O_WRONLY 0600',
    'close 0',
  ]);
  // The kernel remembers it all.
  await hand.must(['stat d/a', 'stat d/new', 'stat top/new', 'list d']);
  t.regex(await hand.do('stat d/b'), /ENOENT/);
  t.deepEqual(await m.session.undo(['/d/a', '/d/b', '/top', '/d/new', '/e/link']), [
    { path: '/d/a', what: 'restored' },
    { path: '/d/b', what: 'restored' },
    { path: '/top', what: 'restored' },
    { path: '/d/new', what: 'removed' },
    { path: '/e/link', what: 'unchanged' },
  ]);
  t.deepEqual(await differences(m, '.'), []);
  t.deepEqual(await changes(m), []);
  // And may be changed again.
  await hand.must(['open 0 d/a O_WRONLY|O_APPEND', 'pwrite 0 2 =more', 'close 0', 'unlink top']);
  t.deepEqual(await changes(m), ['M /d/a', 'D /top']);
});

test('a directory comes back whole; what was in it goes, and what is open stays readable', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const hand = m.hand();
  await hand.must([
    'rename e d/moved',
    'unlink d/a',
    'open 0 d/sub/c O_WRONLY|O_TRUNC',
    'pwrite 0 0 =changed',
    'mkdir d/sub/deep 0755',
    'open 1 d/sub/deep/file O_CREAT|O_RDWR 0600',
    'pwrite 1 0 =open',
    'open 2 d/b O_RDONLY',
  ]);
  t.deepEqual(await m.session.undo(['/d']), [{ path: '/d', what: 'restored' }]);
  t.deepEqual(await differences(m, 'd'), []);
  t.deepEqual(await changes(m), ['D /e']);
  t.regex(await hand.do('pread 1 0 10'), /open/);
  t.regex(await hand.do('pread 2 0 10'), /b/);
  await hand.must(['pwrite 1 0 =more', 'close 1', 'close 0', 'close 2']);
  t.deepEqual(await m.session.undo(['/e']), [{ path: '/e', what: 'restored' }]);
  t.deepEqual(await changes(m), []);
});

test('undo of a rename is undo of both names', async (t) => {
  await using m = await mounted({ lower: LOWER });
  renameSync(join(m.mountpoint, 'd'), join(m.mountpoint, 'x'));
  await t.throwsAsync(m.session.undo(['/d/a']), { message: /\/d is no directory now; undo that/ });
  await m.session.undo(['/d', '/x']);
  t.deepEqual(await changes(m), []);
  t.deepEqual(await differences(m, '.'), []);
});

test('one name of a changed file with several comes back as a file of its own', async (t) => {
  await using m = await mounted({ lower: LOWER, options: { links: 'shared' } });
  const hand = m.hand();
  await hand.must([
    'open 0 h/one O_WRONLY|O_TRUNC',
    'pwrite 0 0 =changed',
    'close 0',
    'stat h/two',
  ]);
  t.deepEqual(await changes(m), ['M /h/one', 'M /h/two']);
  await m.session.undo(['/h/two']);
  t.deepEqual(await changes(m), ['M /h/one']);
  await m.session.undo(['/h/one']);
  t.deepEqual(await changes(m), []);
  await hand.must(['open 0 h/one O_RDONLY', 'open 1 h/two O_RDONLY']);
  t.regex(await hand.do('pread 0 0 10'), /linked/);
  t.regex(await hand.do('pread 1 0 10'), /linked/);
});

const LINKED: Tree = {
  'd/one': 'linked\n',
  'd/sub/two': link('d/one'),
  'e/three': link('d/one'),
  'e/four': link('d/one'),
};

/** Names that were in place, in the lowers and in the upper, and names that had gone. */
const BEFORE: Readonly<Record<string, readonly string[]>> = {
  'names that are in place': ['chmod e 0700'],
  'a name that has gone': ['unlink e/three'],
  'a name that was changed when another had gone': [
    'stat e/three',
    'unlink e/three',
    'utimens e/four 1.0 2.0',
  ],
  'names that were changed themselves': ['link d/one e/new', 'utimens e/four 1.0 2.0'],
  'names that the kernel has forgotten': ['chmod e 0700'],
  'a directory that has gone': ['unlink e/three', 'unlink e/four', 'rmdir e'],
};

for (const [what, before] of Object.entries(BEFORE)) {
  test(`a directory comes back with files of their own for changed links: ${what}`, async (t) => {
    await using m = await mounted({ lower: LINKED, options: { links: 'shared' } });
    const hand = m.hand();
    const seen = async (name: string) => {
      const stat = await hand.do(`stat ${name}`);
      return `${/nlink=(\d+)/.exec(stat)?.[1]} ${readFileSync(join(m.mountpoint, name), 'utf8')}`;
    };
    const change = ['open 0 d/one O_WRONLY|O_TRUNC', 'write 0 =changed', 'close 0'];
    await hand.must([...before, ...change, ...(what.includes('forgotten') ? ['drop'] : [])]);
    t.deepEqual(await m.session.undo(['/e']), [{ path: '/e', what: 'restored' }]);
    for (const step of ['stat e', 'drop']) {
      await hand.must([step]);
      for (const name of ['e/three', 'e/four']) t.is(await seen(name), '1 linked\n', name);
      for (const name of ['d/one', 'd/sub/two']) t.is(await seen(name), '2 changed', name);
    }
    t.deepEqual(await changes(m), ['M /d/one', 'M /d/sub/two']);
    t.deepEqual(await m.session.undo(['/d']), [{ path: '/d', what: 'restored' }]);
    for (const name of ['d/one', 'd/sub/two']) t.regex(await seen(name), /linked/, name);
    t.deepEqual(await changes(m), []);
    t.is((await m.session.status()).health, 'ok');
  });
}

test('what diff lists can be undone, directories with what is in them, twice over', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const hand = m.hand();
  await hand.must([
    'mkdir new 0755',
    'open 0 new/file O_CREAT|O_WRONLY 0600',
    'write 0 =new',
    'close 0',
    'rename d moved',
    'unlink top',
    'mkdir top 0755',
    'mkdir top/in 0755',
    'stat new/file',
    'list new',
  ]);
  t.deepEqual(await m.session.undo(['/moved/a', 'top/in']), [
    { path: '/moved/a', what: 'removed' },
    { path: 'top/in', what: 'removed' },
  ]);
  const list = (await changes(m)).map((line) => line.slice(2));
  t.deepEqual(list, [
    '/d',
    '/moved',
    '/moved/b',
    '/moved/sub',
    '/moved/sub/c',
    '/new',
    '/new/file',
    '/top',
  ]);
  const undone = await m.session.undo(['/new/file', ...list]);
  t.deepEqual(
    undone.map(({ what }) => what),
    ['removed', 'restored', ...Array.from({ length: 6 }, () => 'removed'), 'restored'],
  );
  t.regex(await hand.do('stat new/file'), /ENOENT/);
  t.deepEqual(await changes(m), []);
  t.deepEqual(await differences(m, '.'), []);
});

test('all paths or none', async (t) => {
  await using m = await mounted({ lower: LOWER });
  const hand = m.hand();
  await hand.must(['unlink d/a', 'rename d/sub d/sub2', 'mkdir d/sub 0755']);
  const before = await changes(m);
  await t.throwsAsync(m.session.undo(['/d/a', '/none']), { message: /\/none is neither/ });
  await t.throwsAsync(m.session.undo(['/d/a', '/']), { message: /the root cannot be undone/ });
  await t.throwsAsync(m.session.undo(['/d/a', '/d/sub/c']), {
    message: /\/d\/sub is not the directory that the source has; undo that/,
  });
  t.deepEqual(await changes(m), before);
});
