/** Links and rename, and what stays the same through them. */
import { posixSuite } from '../helpers/posix.ts';
import { dir, link, symlink } from '../helpers/trees.ts';

const posix = posixSuite(['passthrough']);

posix(
  'link counts follow link, rename and unlink',
  { f: 'hello', 'd/g': 'other', twin: link('f') },
  async (t, trial) => {
    t.is((await trial.stat('f')).nlink, 2);
    const { ino } = await trial.stat('f');
    t.is((await trial.stat('twin')).ino, ino);
    await trial.gives('link f d/third');
    t.is((await trial.stat('twin')).nlink, 3);
    await trial.gives('unlink f');
    t.is((await trial.stat('d/third')).nlink, 2);
    // Two names of one file: rename(2) does nothing.
    await trial.gives(`
    rename twin d/third
    stat twin
    open 1 d/g O_RDONLY
    rename twin d/g
    stat twin => ENOENT
    list d => ok g third
  `);
    t.is((await trial.stat('@1')).nlink, 0);
    const both = [await trial.stat('d/g'), await trial.stat('d/third')];
    t.deepEqual(
      both.map((s) => [s.nlink, s.ino]),
      [
        [2, ino],
        [2, ino],
      ],
    );
    await trial.gives(`
    rename d/g f
    unlink d/third
    open 0 f O_RDONLY
    pread 0 0 10 => ok =hello
  `);
    t.is((await trial.stat('f')).nlink, 1);
  },
);

posix(
  'link refuses what POSIX refuses',
  { f: '', g: '', d: dir(), s: symlink('f') },
  async (t, trial) => {
    await trial.gives(`
    link d e => EPERM
    link f g => EEXIST
    link f d => EEXIST
    link missing e => ENOENT
    link f missing/e => ENOENT
    link f f/e => ENOTDIR
    link s t
    readlink t => ok f
  `);
    t.is((await trial.stat('s')).nlink, 2);
  },
);

posix(
  'what is written through one link is read through the others',
  { a: 'hello', b: link('a'), 'd/c': link('a') },
  async (t, trial) => {
    await trial.gives(`
    open 0 b O_RDONLY
    open 1 a O_RDWR
    pwrite 1 0 =J
    pread 0 0 10 => ok =Jello
    open 2 d/c O_RDONLY
    pread 2 0 10 => ok =Jello
    chmod d/c 0600
    setxattr b user.x =1
    getxattr a user.x => ok =1
    truncate d/c 2
    pread 0 0 10 => ok =Je
    drop
    sha256 b
  `);
    for (const name of ['a', 'b', 'd/c']) {
      const { mode, nlink, size } = await trial.stat(name);
      t.deepEqual([mode & 0o777, nlink, size], [0o600, 3, 2], name);
    }
    t.is((await trial.stat('a')).ino, (await trial.stat('d/c')).ino);
  },
);

posix(
  'a directory counts its subdirectories',
  { 'd/a/f': '', 'd/b': dir(), e: dir() },
  async (t, trial) => {
    const nlink = async (path: string) => (await trial.stat(path)).nlink;
    t.is(await nlink('d'), 4);
    await trial.gives('mkdir d/c');
    t.is(await nlink('d'), 5);
    await trial.gives('rename d/a e/a');
    t.deepEqual([await nlink('d'), await nlink('e')], [4, 3]);
    await trial.gives(`
    rmdir d/b
    rmdir d/c
    open 0 d/f O_CREAT|O_RDWR 0644
  `);
    t.is(await nlink('d'), 2);
    await trial.gives('rename e/a d/f RENAME_EXCHANGE');
    t.deepEqual([await nlink('d'), await nlink('e')], [3, 2]);
  },
);

posix(
  'rename refuses what POSIX refuses, and changes nothing then',
  { f: 'f', g: 'g', 'd/x': 'x', 'e/y': 'y', empty: dir() },
  async (_, trial) => {
    await trial.gives(`
    rename d e => ENOTEMPTY
    rename f d => EISDIR
    rename d f => ENOTDIR
    rename d d/z => EINVAL
    rename d d/z/w => ENOENT
    rename missing h => ENOENT
    rename f missing/h => ENOENT
    rename f g/h => ENOTDIR
    rename f g RENAME_NOREPLACE => EEXIST
    rename f missing RENAME_EXCHANGE => ENOENT
    rename f g RENAME_NOREPLACE|RENAME_EXCHANGE => EINVAL
    rename f g 0x80 => EINVAL
    rename d . => EBUSY
    list . => ok d e empty f g
    list d => ok x
    rename f f
    rename f new RENAME_NOREPLACE
    rename d empty
    list empty => ok x
    list . => ok e empty g new
  `);
  },
);

posix(
  'EXCHANGE swaps files, directories and one of each',
  { f: 'f', g: 'g', 'd/x': 'x', 'e/y/z': 'z' },
  async (t, trial) => {
    const before = [await trial.stat('f'), await trial.stat('d'), await trial.stat('e')];
    await trial.gives(`
    rename f g RENAME_EXCHANGE
    open 0 f O_RDONLY
    pread 0 0 5 => ok =g
    rename d e RENAME_EXCHANGE
    list d => ok y
    list e => ok x
    rename f d/y RENAME_EXCHANGE
    list f => ok z
    rename d d/y RENAME_EXCHANGE => EINVAL
    rename d/y d RENAME_EXCHANGE => EINVAL
    open 0 d/y O_RDONLY
    pread 0 0 5 => ok =g
  `);
    t.is((await trial.stat('g')).ino, before[0]?.ino ?? '');
    t.is((await trial.stat('e')).ino, before[1]?.ino ?? '');
    t.is((await trial.stat('d')).ino, before[2]?.ino ?? '');
  },
);

posix(
  'a directory takes its whole tree along, and its old name is free',
  { 'd/a/b/f': 'f', 'd/s': symlink('a'), 'd/a/g': 'g', e: dir() },
  async (t, trial) => {
    const { ino } = await trial.stat('d/a/b/f');
    await trial.gives(`
    open 1 d/a O_RDONLY|O_DIRECTORY
    rename d e/moved
    stat d => ENOENT
    list e/moved/a => ok b g
    mkdir d
    list d => ok
    mkdir d/a
    list d/a => ok
    open 0 @1/new O_CREAT|O_RDWR 0644
    stat e/moved/a/new
    unlink e/moved/a/g
    rename e/moved/a e/moved/z
    list e/moved/z/b => ok f
    rename e/moved d/a
    list d/a => ok s z
    drop
    list d/a/z => ok b new
    open 0 d/a/z/b/f O_RDWR
    pread 0 0 5 => ok =f
    pwrite 0 1 =g
    rename d/a d2
    rmdir d
    rename d2/z d
    list d => ok b new
    list d2 => ok s
  `);
    t.is((await trial.stat('d/b/f')).ino, ino);
    t.is((await trial.stat('@1/..')).ino, (await trial.stat('.')).ino);
  },
);

posix('RENAME_WHITEOUT leaves a whiteout, which rm removes', { 'd/f': 'f' }, async (t, trial) => {
  if (trial.upper === 'tmpfs' || trial.upper === 'disk') {
    // It would be taken for the upper's own.
    await trial.gives(`
      rename d/f d/g RENAME_WHITEOUT => EINVAL
      mknod d/w S_IFCHR|0600 0 0 => EPERM
      list d => ok f
    `);
    return;
  }
  await trial.gives('rename d/f d/g RENAME_WHITEOUT');
  const whiteout = await trial.stat('d/f');
  t.deepEqual([whiteout.mode & 0o170000, whiteout.rdev], [0o020000, '0:0']);
  await trial.gives(`
    list d => ok f g
    exec /bin/rm -rf d => ok 0
    stat d => ENOENT
  `);
});

posix(
  'the inode number of a name is constant, whatever is done to it',
  { f: 'f', 'd/g': 'g', s: symlink('f') },
  async (t, trial) => {
    const inodes = async (names: string[]) =>
      Promise.all(names.map(async (name) => (await trial.stat(name)).ino));
    const before = await inodes(['f', 'd', 'd/g', 's', '.']);
    const { dev } = await trial.stat('.');
    await trial.gives(`
    chmod f 0600
    open 0 f O_RDWR
    pwrite 0 0 =changed
    fsync 0
    chmod d 0700
    chown s 1 1
    rename d/g d/h
    close 0
    drop
    link f f2
    rename d e
    truncate f 1
  `);
    t.deepEqual(await inodes(['f2', 'e', 'e/h', 's', '.']), before);
    for (const name of ['f2', 'e', 'e/h', 's']) t.is((await trial.stat(name)).dev, dev);
  },
);
