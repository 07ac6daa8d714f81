/** Times, permissions, owners, setuid and setgid, umask. */
import { dataWord } from '../helpers/hand.ts';
import { posixSuite } from '../helpers/posix.ts';
import { dir, file, link, PLANTED, symlink } from '../helpers/trees.ts';

const posix = posixSuite();
/** A valid security.capability: version 2, effective, CAP_NET_RAW. */
const CAPABILITY = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

posix(
  'each operation stamps the times that POSIX names',
  { f: 'hello', 'd/g': 'g', e: dir(), h: link('f') },
  async (t, trial) => {
    /** Which of mtime and ctime of each path have moved. */
    const moved = async (line: string, paths: string[]) => {
      const before = await Promise.all(paths.map((path) => trial.stat(path)));
      await trial.gives(`
      tick
      ${line}
    `);
      const after = await Promise.all(paths.map((path) => trial.stat(path)));
      return paths.map((path, index) => {
        const [a, b] = [before[index], after[index]];
        return `${path} ${a?.mtime === b?.mtime ? '-' : 'm'}${a?.ctime === b?.ctime ? '-' : 'c'}`;
      });
    };
    await trial.gives('open 0 f O_RDWR');
    t.deepEqual(await moved('pread 0 0 5', ['f', '.']), ['f --', '. --']);
    t.deepEqual(await moved('pwrite 0 0 =H', ['f', '.']), ['f mc', '. --']);
    t.deepEqual(await moved('chmod f 0600', ['f', '.']), ['f -c', '. --']);
    t.deepEqual(await moved('chown f 1 1', ['f']), ['f -c']);
    t.deepEqual(await moved('setxattr f user.a =1', ['f']), ['f -c']);
    t.deepEqual(await moved('removexattr f user.a', ['f']), ['f -c']);
    t.deepEqual(await moved('truncate f 3', ['f']), ['f mc']);
    t.deepEqual(await moved('truncate @0 7', ['f']), ['f mc']);
    // To the size it has: ftruncate(2) and O_TRUNC stamp the file all the same, truncate(2) as the file system likes.
    t.deepEqual(await moved('truncate @0 7', ['f']), ['f mc']);
    t.deepEqual(await moved('open 1 f O_RDWR|O_TRUNC', ['f']), ['f mc']);
    t.deepEqual(await moved('fallocate 0 0 0 8192', ['f']), ['f mc']);
    t.deepEqual(await moved('link f d/l', ['f', 'd', '.']), ['f -c', 'd mc', '. --']);
    t.deepEqual(await moved('unlink d/l', ['f', 'd']), ['f -c', 'd mc']);
    t.deepEqual(await moved('open 1 d/new O_CREAT|O_RDWR 0644', ['d', '.']), ['d mc', '. --']);
    t.deepEqual(await moved('open 1 d/new O_CREAT|O_RDWR 0644', ['d', 'd/new']), [
      'd --',
      'd/new --',
    ]);
    t.deepEqual(await moved('rename d/new e/new', ['d', 'e', '.']), ['d mc', 'e mc', '. --']);
    t.deepEqual(await moved('mkdir d/sub', ['d']), ['d mc']);
    t.deepEqual(await moved('rmdir d/sub', ['d']), ['d mc']);
    t.deepEqual(await moved('symlink x d/s', ['d']), ['d mc']);
    t.deepEqual(await moved('mknod d/p S_IFIFO|0644', ['d']), ['d mc']);
    t.deepEqual(await moved('utimens d/g omit omit', ['d/g']), ['d/g --']);
    t.deepEqual(await moved('utimens d/g omit 5.6', ['d/g', 'd']), ['d/g mc', 'd --']);
    t.deepEqual(await moved('list d', ['d']), ['d --']);
  },
);

posix('a refused operation stamps nothing', { f: 'f', 'd/g': 'g' }, async (t, trial) => {
  const before = await Promise.all(['f', 'd', '.'].map((path) => trial.stat(path)));
  await trial.gives(`
    tick
    mkdir d => EEXIST
    rmdir d => ENOTEMPTY
    link f d => EEXIST
    rename f d => EISDIR
    removexattr f user.none => ENODATA
    as 1000 1000
    chmod f 0777 => EPERM
    open 0 f O_RDWR => EACCES
    unlink d/g => EACCES
    as 0 0
  `);
  const after = await Promise.all(['f', 'd', '.'].map((path) => trial.stat(path)));
  t.deepEqual(
    after.map((s) => [s.mtime, s.ctime]),
    before.map((s) => [s.mtime, s.ctime]),
  );
});

posix(
  'times are kept to the nanosecond, before 1970 and after 2038',
  { f: 'f', s: symlink('f'), d: dir() },
  async (t, trial) => {
    for (const path of ['f', 's', 'd']) {
      t.is((await trial.stat(path)).mtime, PLANTED);
      await trial.gives(`utimens ${path} 4294967297.999999999 1.1`);
      t.is((await trial.stat(path)).atime, '4294967297.999999999');
      t.is((await trial.stat(path)).mtime, '1.000000001');
      await trial.gives(`utimens ${path} omit -86400.5`);
      t.deepEqual(
        [(await trial.stat(path)).atime, (await trial.stat(path)).mtime],
        ['4294967297.999999999', '-86400.000000005'],
      );
      await trial.gives(`utimens ${path} now omit`);
      t.is((await trial.stat(path)).mtime, '-86400.000000005');
    }
    await trial.gives('drop');
    t.is((await trial.stat('f')).mtime, '-86400.000000005');
  },
);

posix(
  'times may be set by the owner, and to now by any writer',
  { f: file('', { uid: 1000, mode: 0o666 }), g: file('', { uid: 1000, mode: 0o644 }) },
  async (_, trial) => {
    await trial.gives(`
    as 2000 2000
    utimens f now now
    utimens f 1.0 1.0 => EPERM
    utimens g now now => EACCES
    utimens g 1.0 1.0 => EPERM
    as 1000 1000
    utimens g 1.0 1.0
  `);
  },
);

posix('a store through a mapping stamps the file', { f: 'x'.repeat(100) }, async (t, trial) => {
  const before = await trial.stat('f');
  await trial.gives(`
    open 0 f O_RDWR
    mmap 0 0 0 4096 PROT_READ|PROT_WRITE MAP_SHARED
    tick
    mstore 0 0 =y
    msync 0 MS_SYNC
    munmap 0
    close 0
  `);
  const after = await trial.stat('f');
  t.not(after.mtime, before.mtime);
  t.not(after.ctime, before.ctime);
  const again = await trial.stat('f');
  t.is(again.mtime, after.mtime);
});

posix(
  'permission is by owner, group and other, in this order',
  {
    f: file('f', { uid: 1000, gid: 1000, mode: 0o640 }),
    shut: file('f', { uid: 1000, gid: 1000, mode: 0o077 }),
    d: dir({ uid: 1000, gid: 1000, mode: 0o750 }),
    'd/g': file('g', { mode: 0o666 }),
    nox: dir({ mode: 0o776 }),
    'nox/h': file('h', { mode: 0o666 }),
  },
  async (_, trial) => {
    await trial.gives(`
    as 1000 1000
    open 0 f O_RDWR
    open 0 shut O_RDONLY => EACCES
    open 0 nox/h O_RDONLY => EACCES
    list nox => ok h
    as 3000 1000
    open 0 f O_RDONLY
    open 0 f O_WRONLY => EACCES
    open 0 d/g O_RDWR
    unlink d/g => EACCES
    open 0 d/new O_CREAT|O_RDWR 0644 => EACCES
    as 3000 3000 1000
    open 0 f O_RDONLY
    as 2000 2000
    open 0 f O_RDONLY => EACCES
    open 0 d/g O_RDONLY => EACCES
    open 0 shut O_RDWR
    list d => EACCES
    access f R_OK => EACCES
    truncate f 0 => EACCES
    chmod f 0777 => EPERM
    chown f 2000 2000 => EPERM
    as 0 0
    open 0 f O_RDWR
    open 0 shut O_RDWR
    access f R_OK|W_OK
    access f X_OK => EACCES
  `);
  },
);

posix('umask applies to what is made', { d: dir() }, async (t, trial) => {
  await trial.gives(`
    umask 027
    open 0 d/f O_CREAT|O_RDWR 0666
    mkdir d/sub 0777
    mknod d/p S_IFIFO|0666
    open 0 d O_TMPFILE|O_RDWR 0666
  `);
  const mode = async (path: string) => (await trial.stat(path)).mode & 0o7777;
  t.deepEqual(
    [await mode('d/f'), await mode('d/sub'), await mode('d/p'), await mode('@0')],
    [0o640, 0o750, 0o640, 0o640],
  );
});

posix(
  'a setgid directory hands down its group',
  { d: dir({ gid: 77, mode: 0o2777 }), plain: dir({ gid: 77, mode: 0o777 }) },
  async (t, trial) => {
    await trial.gives(`
    as 1000 1000
    open 0 d/f O_CREAT|O_RDWR 0644
    mkdir d/sub 0755
    symlink x d/s
    mknod d/p S_IFIFO|0644
    open 1 d O_TMPFILE|O_RDWR 0644
    mkdir d/sub/deeper 0755
    open 0 d/x O_CREAT|O_RDWR 02755
    open 0 plain/f O_CREAT|O_RDWR 02755
    as 0 0
  `);
    for (const path of ['d/f', 'd/sub', 'd/s', 'd/p', '@1', 'd/sub/deeper', 'd/x'])
      t.is((await trial.stat(path)).gid, 77, path);
    const mode = async (path: string) => (await trial.stat(path)).mode & 0o7777;
    t.is(await mode('d/f'), 0o644);
    t.is(await mode('d/sub'), 0o2755);
    t.is(await mode('d/sub/deeper'), 0o2755);
    // Not a member of group 77: an executable may not be setgid there.
    t.is(await mode('d/x'), 0o755);
    t.is(await mode('plain/f'), 0o2755);
    t.is((await trial.stat('plain/f')).gid, 1000);
  },
);

posix(
  'chmod by one who is not in the group drops setgid',
  { f: file('', { uid: 1000, gid: 77, mode: 0o755 }) },
  async (t, trial) => {
    const mode = async () => (await trial.stat('f')).mode & 0o7777;
    await trial.gives(`
    as 1000 1000
    chmod f 02755
    as 0 0
  `);
    t.is(await mode(), 0o755);
    await trial.gives(`
    as 1000 1000 77
    chmod f 02755
    as 0 0
  `);
    t.is(await mode(), 0o2755);
  },
);

posix(
  'chown by the owner reaches his own groups only',
  { f: file('', { uid: 1000, gid: 1000 }) },
  async (t, trial) => {
    await trial.gives(`
    as 1000 1000 77
    chown f -1 77
    chown f -1 78 => EPERM
    chown f 2000 -1 => EPERM
    chown f 1000 -1
    as 0 0
  `);
    t.is((await trial.stat('f')).gid, 77);
  },
);

const PRIVILEGED = { uid: 1000, gid: 1000, mode: 0o6777 };
const CLEARING: [string, string[], number][] = [
  ['write', ['open 0 f O_RDWR', 'pwrite 0 0 =x'], 0o777],
  ['truncate', ['truncate f 1'], 0o777],
  ['ftruncate', ['open 0 f O_RDWR', 'truncate @0 1'], 0o777],
  ['O_TRUNC', ['open 0 f O_RDWR|O_TRUNC'], 0o777],
  ['fallocate', ['open 0 f O_RDWR', 'fallocate 0 0 0 100'], 0o777],
  [
    'a hole punched',
    ['open 0 f O_RDWR', 'fallocate 0 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 0 3'],
    0o777,
  ],
  ['copy_file_range', ['open 0 f O_RDWR', 'open 1 g O_RDONLY', 'copyrange 1 0 0 0 3'], 0o777],
  ['a rename', ['rename f h', 'rename h f'], 0o6777],
  ['a read', ['open 0 f O_RDONLY', 'pread 0 0 3'], 0o6777],
];

for (const [what, lines, expected] of CLEARING) {
  posix(
    `setuid and setgid after ${what} by another user`,
    { f: file('hello', PRIVILEGED), g: 'other' },
    async (t, trial) => {
      await trial.gives(
        `
      chmod . 0777
      as 2000 2000
      ${lines.join('\n')}
      as 0 0
      `,
      );
      t.is((await trial.stat('f')).mode & 0o7777, expected);
    },
  );
}

posix(
  'root writes without clearing setuid; chown clears it always',
  { f: file('hello', PRIVILEGED), d: dir({ mode: 0o6777 }) },
  async (t, trial) => {
    const mode = async (path: string) => (await trial.stat(path)).mode & 0o7777;
    await trial.gives(`
    open 0 f O_RDWR
    pwrite 0 0 =J
    truncate f 3
  `);
    t.is(await mode('f'), 0o6777);
    await trial.gives('chown f 0 0');
    t.is(await mode('f'), 0o777);
    await trial.gives('chown d 5 5');
    t.is(await mode('d'), 0o6777);
  },
);

posix(
  'setgid without group execute is mandatory locking, not privilege',
  { f: file('', { uid: 1000, gid: 1000, mode: 0o2666 }) },
  async (t, trial) => {
    await trial.gives(`
    as 1000 1000
    open 0 f O_RDWR
    pwrite 0 0 =J
    as 0 0
  `);
    t.is((await trial.stat('f')).mode & 0o7777, 0o2666);
  },
);

for (const [what, line] of [
  ['write', 'pwrite 0 0 =x'],
  ['truncate', 'truncate @0 2'],
  ['fallocate', 'fallocate 0 0 0 100'],
  ['chown', 'chown @0 5 5'],
] as const) {
  posix(
    `security.capability is dropped by ${what}`,
    { f: file('hello', { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }) },
    async (_, trial) => {
      await trial.gives(`
      getxattr f security.capability => ok =%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00
      open 0 f O_RDWR
      ${line}
      getxattr f security.capability => ENODATA
      listxattr f => ok
    `);
    },
  );
}

posix(
  'security.capability is seen once it is set, whether it was missed before or not',
  { old: file('hello', { mode: 0o755 }) },
  async (_, trial) => {
    const value = dataWord(CAPABILITY);
    const shown = 'ok =%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00';
    await trial.gives('open 0 new O_CREAT|O_RDWR 0755');
    for (const [name, other] of [
      ['new', 'new-2'],
      ['old', 'old-2'],
    ]) {
      await trial.gives(`
      open 1 ${name} O_RDWR
      pwrite 1 0 =x
      getxattr ${name} security.capability => ENODATA
      setxattr ${name} security.capability ${value}
      getxattr ${name} security.capability => ${shown}
      pwrite 1 1 =y
      getxattr ${name} security.capability => ENODATA
      link ${name} ${other}
      setxattr ${other} security.capability ${value}
      drop
      getxattr ${name} security.capability => ${shown}
      removexattr ${name} security.capability
      getxattr ${other} security.capability => ENODATA
      close 1
    `);
    }
  },
);

posix(
  'security.capability outlives chmod, rename and link',
  { f: file('hello', { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }) },
  async (_, trial) => {
    await trial.gives(`
    chmod f 0700
    rename f g
    link g h
    utimens h now now
    drop
    getxattr h security.capability => ok =%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00
    listxattr h => ok security.capability
  `);
  },
);

posix('modes are kept whole', { f: '', d: dir() }, async (t, trial) => {
  for (const mode of ['0', '07777', '01000', '02070', '04100', '0644']) {
    await trial.gives(`
      chmod f ${mode}
      chmod d ${mode}
    `);
    t.is((await trial.stat('f')).mode, 0o100000 | Number.parseInt(mode, 8));
    t.is((await trial.stat('d')).mode, 0o040000 | Number.parseInt(mode, 8));
  }
  await trial.gives(`
    chown f 4294967294 4294967294
    chown d 65534 65533
  `);
  t.deepEqual([(await trial.stat('f')).uid, (await trial.stat('d')).gid], [4294967294, 65533]);
});
