/** Directories: removal, listing, the sticky bit. */
import { posixSuite } from '../helpers/posix.ts';
import { dir, file, symlink } from '../helpers/trees.ts';

const posix = posixSuite();
function inOrder(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** What an answer to `readdir` lists. */
function names(answer: string): { name: string; offset: string }[] {
  return answer
    .split(' ')
    .slice(1)
    .map((each) => each.split('/'))
    .map(([name = '', , , offset = '']) => ({ name, offset }));
}

posix(
  'removal refuses what POSIX refuses',
  { f: '', 'd/x': '', s: symlink('d') },
  async (_, trial) => {
    await trial.gives(`
    rmdir d => ENOTEMPTY
    rmdir f => ENOTDIR
    rmdir s => ENOTDIR
    unlink d => EISDIR
    unlink missing => ENOENT
    unlink f/x => ENOTDIR
    rmdir d/. => EINVAL
    mkdir d => EEXIST
    mkdir f => EEXIST
    mkdir s => EEXIST
    unlink d/x
    rmdir d
    stat d => ENOENT
    open 0 s O_CREAT|O_RDWR 0644
    stat d
  `);
  },
);

posix('a removed directory comes back empty', { 'd/a': 'a', 'd/e/b': 'b' }, async (t, trial) => {
  await trial.gives(`
    unlink d/a
    unlink d/e/b
    rmdir d/e
    rmdir d
    mkdir d 0700
    list d => ok
    stat d/a => ENOENT
    mkdir d/e
    list d/e => ok
    open 0 d/a O_CREAT|O_RDWR 0644
    pread 0 0 9 => ok =
    drop
    list d => ok a e
    list d/e => ok
  `);
  t.is((await trial.stat('d')).mode & 0o777, 0o700);
  t.is((await trial.stat('d')).nlink, 3);
});

posix(
  'a file removed and made again is a new one',
  { f: file('old', { mode: 0o600, xattrs: { 'user.a': '1' } }) },
  async (t, trial) => {
    const { ino } = await trial.stat('f');
    await trial.gives(`
    open 1 f O_RDONLY
    unlink f
    open 0 f O_CREAT|O_EXCL|O_RDWR 0644
    listxattr f => ok
    pread 0 0 9 => ok =
    pread 1 0 9 => ok =old
    fsync 0
  `);
    const made = await trial.stat('f');
    t.not(made.ino, ino);
    t.deepEqual([made.mode, made.size, made.nlink], [0o100644, 0, 1]);
  },
);

posix('a removed directory that is still open is dead', { 'd/e': dir() }, async (t, trial) => {
  await trial.gives(`
    open 0 d/e O_RDONLY|O_DIRECTORY
    rmdir d/e
    open 1 @0/x O_CREAT|O_RDWR 0644 => ENOENT
    mkdir @0/x => ENOENT
    readdir 0 4096 => ENOENT
    rename d @0/x => ENOENT
  `);
  t.is((await trial.stat('@0')).nlink, 0);
});

posix(
  'readdir agrees with stat, on . and .. too',
  { 'd/a': 'a', 'd/b/c': 'c', 'd/s': symlink('a') },
  async (t, trial) => {
    await trial.gives(`
    open 1 d/a O_RDWR
    pwrite 1 0 =b
    open 1 d/new O_CREAT|O_RDWR 0644
    open 0 d O_RDONLY|O_DIRECTORY
  `);
    const listed = (await trial.sys('readdir 0 65536')).split(' ').slice(1);
    const entries = listed.map((each) => each.split('/'));
    t.deepEqual(entries.map(([name = '']) => name).sort(inOrder), [
      '.',
      '..',
      'a',
      'b',
      'new',
      's',
    ]);
    for (const [name = '', type = '', ino = ''] of entries) {
      const { mode, ino: expected } = await trial.stat(`d/${name}`);
      t.deepEqual([Number(type), ino], [mode >> 12, expected], name);
    }
  },
);

posix(
  'a directory position is kept while names come and go',
  { 'd/keep': '' },
  async (t, trial) => {
    await trial.gives(`
    makefiles d 300
    open 0 d O_RDONLY|O_DIRECTORY
  `);
    const first = names(await trial.sys('readdir 0 4000'));
    const last = first.at(-1);
    const rest: string[] = [];
    for (;;) {
      const more = names(await trial.sys('readdir 0 4000'));
      if (more.length === 0) break;
      rest.push(...more.map(({ name }) => name));
    }
    t.is(first.length + rest.length, 303);
    for (const { name } of first.slice(2, 12)) t.is(await trial.sys(`unlink d/${name}`), 'ok');
    t.regex(await trial.sys(`lseek 0 ${last?.offset} SEEK_SET`), /^ok/);
    const again: string[] = [];
    for (;;) {
      const more = names(await trial.sys('readdir 0 4000'));
      if (more.length === 0) break;
      again.push(...more.map(({ name }) => name));
    }
    t.deepEqual(again, rest);
    await trial.gives(`
    open 1 d/zz-new O_CREAT|O_RDWR 0644
    lseek 0 0 SEEK_SET
  `);
    let found = 0;
    for (;;) {
      const more = names(await trial.sys('readdir 0 4000'));
      if (more.length === 0) break;
      found += more.filter(({ name }) => name === 'zz-new').length;
    }
    t.is(found, 1);
  },
);

posix('a reader that deletes as it goes misses nothing', { 'd/x': '' }, async (t, trial) => {
  // Many buffers of getdents(2) full; very many once.
  const all = trial.subject === 'memory:new' ? 20_000 : 2000;
  const third = Math.floor(all / 3);
  await trial.gives('unlink d/x');
  await trial.gives(`makefiles d ${all}`);
  t.is(await trial.sys('drain d 4096 0'), `ok once=${all} again=0 removed=0`);
  t.is(await trial.sys('drain d 2048 3'), `ok once=${all} again=0 removed=${third}`);
  const rest = all - third;
  t.is(await trial.sys('drain d 4096 1'), `ok once=${rest} again=0 removed=${rest}`);
  await trial.gives(`
    list d => ok
    rmdir d
  `);
});

const MANY = Object.fromEntries(Array.from({ length: 1500 }, (_, index) => [`d/f${index}`, '']));

posix('so it is with what was there before', MANY, async (t, trial) => {
  t.is(await trial.sys('drain d 1024 2'), 'ok once=1500 again=0 removed=750');
  t.is(await trial.sys('drain d 1024 1'), 'ok once=750 again=0 removed=750');
  await trial.gives('rmdir d');
});

posix(
  'the sticky bit guards the names of others',
  {
    d: dir({ mode: 0o1777 }),
    'd/f': file('', { uid: 1000 }),
    'd/sub': dir({ uid: 1000 }),
    'd/mine': file('', { uid: 2000 }),
  },
  async (_, trial) => {
    await trial.gives(`
    as 2000 2000
    unlink d/f => EPERM
    rename d/f d/g => EPERM
    rename d/mine d/f => EPERM
    rename d/mine d/f RENAME_EXCHANGE => EPERM
    rmdir d/sub => EPERM
    rename d/mine d/other
    unlink d/other
    as 1000 1000
    unlink d/f
    rmdir d/sub
    as 0 0
    list d => ok
  `);
  },
);
