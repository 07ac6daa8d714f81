/** Content: append, truncate, holes, allocation, copies, files without a name, direct I/O. */
import { posixSuite } from '../helpers/posix.ts';
import { dir, file, link } from '../helpers/trees.ts';

const posix = posixSuite(['passthrough']);

posix('open flags', { f: 'hello', d: dir() }, async (_, trial) => {
  await trial.gives(`
    open 0 f O_CREAT|O_EXCL|O_RDWR 0644 => EEXIST
    open 0 d O_CREAT|O_RDWR 0644 => EISDIR
    open 0 d O_WRONLY => EISDIR
    open 0 f O_RDONLY|O_DIRECTORY => ENOTDIR
    open 0 missing O_RDWR => ENOENT
    open 0 f/x O_CREAT|O_RDWR 0644 => ENOTDIR
    open 0 f O_RDONLY
    pwrite 0 0 =x => EBADF
    truncate @0 1 => EINVAL
    fallocate 0 0 0 10 => EBADF
    open 0 f O_WRONLY
    pread 0 0 1 => EBADF
    open 0 f O_PATH
    pread 0 0 1 => EBADF
    open 0 d O_RDONLY|O_DIRECTORY
    pread 0 0 1 => EISDIR
    open 0 f O_CREAT|O_RDWR 0600
    pread 0 0 9 => ok =hello
    open 0 f O_RDWR|O_TRUNC
    pread 0 0 9 => ok =
    open 1 f O_RDONLY
    open 0 f O_WRONLY|O_TRUNC
    pread 1 0 9 => ok =
  `);
});

posix(
  'a small write changes nothing else',
  { f: file('0123456789'.repeat(2000)), twin: link('f') },
  async (t, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    pwrite 0 9999 =XY
    pread 0 9995 10 => ok =5678XY1234
    pread 0 0 10 => ok =0123456789
    pread 0 19995 10 => ok =56789
    close 0
    drop
    open 0 twin O_RDONLY
    pread 0 9995 10 => ok =5678XY1234
    pread 0 4090 12 => ok =012345678901
  `);
    t.is((await trial.stat('f')).size, 20_000);
  },
);

posix('appends go to the end, whatever the offset', { f: 'start' }, async (t, trial) => {
  await trial.gives(`
    open 0 f O_RDWR|O_APPEND
    write 0 =-one
    pwrite 0 0 =-two
    open 1 f O_WRONLY
    truncate @1 20
    write 0 =end
    pread 0 20 9 => ok =end
    pread 0 0 13 => ok =start-one-two
  `);
  t.is((await trial.stat('f')).size, 23);
});

function appends(letter: string): string[] {
  const lines = Array.from({ length: 500 }, () => `write 5 =${letter.repeat(7)}`);
  return ['open 5 f O_WRONLY|O_APPEND', ...lines];
}

posix('appends of two processes are all there', { f: '' }, async (t, trial) => {
  const other = await trial.other();
  const answers = await Promise.all([
    Promise.all(appends('a').map((line) => trial.sys(line))),
    other.script(appends('b')),
  ]);
  t.deepEqual([...new Set(answers.flat())].sort(), ['ok', 'ok 7']);
  t.is((await trial.stat('f')).size, 7000);
  await trial.gives('open 0 f O_RDONLY');
  const counts = { a: 0, b: 0 };
  for (let at = 0; at < 7000; at += 7) {
    const letters = (await trial.sys(`pread 0 ${at} 7`)).slice(4);
    t.regex(letters, /^(a{7}|b{7})$/);
    counts[letters.charAt(0) as 'a' | 'b']++;
  }
  t.deepEqual(counts, { a: 500, b: 500 });
});

posix(
  'what truncation cut off is never seen again',
  { f: file('x'.repeat(10_000)), g: file('y'.repeat(5000)) },
  async (t, trial) => {
    await trial.gives(`
    truncate f 100
    truncate f 9000
    open 0 f O_RDWR
    pread 0 96 8 => ok =xxxx%00%00%00%00
    pread 0 4090 12 => ok =%00%00%00%00%00%00%00%00%00%00%00%00
    pwrite 0 20000 =end
    pread 0 9000 4 => ok =%00%00%00%00
    pread 0 20000 9 => ok =end
    truncate g 4097
    truncate g 5000
    close 0
    drop
    open 0 g O_RDONLY
    pread 0 4094 8 => ok =yyy%00%00%00%00%00
    truncate g 0
    truncate g 5000
    pread 0 0 4 => ok =%00%00%00%00
    truncate g -1 => EINVAL
    truncate missing 0 => ENOENT
  `);
    t.is((await trial.stat('f')).size, 20_003);
  },
);

posix(
  'holes cost nothing and read as zeros',
  { big: file('head', { size: 1 << 26 }) },
  async (t, trial) => {
    await trial.gives(`
    open 0 big O_RDWR
    truncate @0 1073741824
    pwrite 0 536870912 =middle
    pread 0 536870908 12 => ok =%00%00%00%00middle%00%00
    pwrite 0 1099511627776 =far
    lseek 0 2147483648 SEEK_HOLE => ok 2147483648
    lseek 0 1099511627779 SEEK_DATA => ENXIO
    lseek 0 1099511627779 SEEK_HOLE => ENXIO
    fsync 0
  `);
    const { size, blocks } = await trial.stat('big');
    t.is(size, 1_099_511_627_779);
    t.true(blocks * 512 < 1 << 20, `${blocks} blocks`);
    const answer = await trial.sys('lseek 0 4294967296 SEEK_DATA');
    const at = Number(answer.slice(3));
    t.true(at > 4294967296 && at <= 1099511627776, answer);
    await trial.gives('truncate big 1048576');
    t.regex(await trial.sys('holes 0'), /^ok 1048576 \d+$/);
  },
);

posix(
  'SEEK_DATA and SEEK_HOLE tell where data is',
  { f: file('data', { size: 1 << 20 }) },
  async (t, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    pwrite 0 500000 *65:20000
    lseek 0 0 SEEK_DATA => ok 0
  `);
    const hole = Number((await trial.sys('lseek 0 0 SEEK_HOLE')).slice(3));
    t.true(hole >= 4 && hole <= 500_000, `${hole}`);
    const data = Number((await trial.sys(`lseek 0 ${hole} SEEK_DATA`)).slice(3));
    t.true(data > hole - 1 && data <= 500_000, `${data}`);
    t.regex(await trial.sys('holes 0'), /^ok 1048576 \d+$/);
    await trial.gives(`
    fallocate 0 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 0 1048576
    lseek 0 0 SEEK_HOLE => ok 0
    lseek 0 1048576 SEEK_DATA => ENXIO
    holes 0 => ok 1048576 0
  `);
  },
);

posix(
  'fallocate in each of its modes',
  { f: file('0123456789'.repeat(1000)) },
  async (t, trial) => {
    const size = async () => (await trial.stat('f')).size;
    await trial.gives(`
    open 0 f O_RDWR
    fallocate 0 FALLOC_FL_KEEP_SIZE 0 50000
  `);
    t.is(await size(), 10_000);
    await trial.gives(`
    pread 0 0 5 => ok =01234
    fallocate 0 0 5000 10000
  `);
    t.is(await size(), 15_000);
    await trial.gives(
      `
    pread 0 9995 10 => ok =56789%00%00%00%00%00
    fallocate 0 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 3 5000
    pread 0 0 6 => ok =012%00%00%00
    pread 0 5000 6 => ok =%00%00%00345
    fallocate 0 FALLOC_FL_PUNCH_HOLE 0 10 => EOPNOTSUPP
    fallocate 0 0 0 0 => EINVAL
    fallocate 0 0 -1 10 => EINVAL
    fallocate 0 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 14000 100000
  `,
    );
    t.is(await size(), 15_000);
    await trial.gives(`
    emulate zero-range
    fallocate 0 FALLOC_FL_ZERO_RANGE 9000 8000
    pread 0 8995 10 => ok =56789%00%00%00%00%00
  `);
    t.is(await size(), 17_000);
    await trial.gives('fallocate 0 FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE 8000 20000');
    t.is(await size(), 17_000);
    await trial.gives(`
    close 0
    drop
    open 0 f O_RDONLY
    pread 0 7995 10 => ok =56789%00%00%00%00%00
    pread 0 5000 6 => ok =%00%00%00345
  `);
  },
);

posix(
  'copy_file_range and sendfile',
  { f: file('0123456789'.repeat(3000)), g: 'short' },
  async (t, trial) => {
    await trial.gives(`
    open 0 f O_RDONLY
    open 1 g O_RDWR
    copyrange 0 5 1 3 25000 => ok 25000
    pread 1 0 10 => ok =sho5678901
    pread 1 24999 9 => ok =1234
    copyrange 0 29998 1 0 100 => ok 2
    copyrange 0 40000 1 0 100 => ok 0
    copyrange 1 0 1 5 10 => EINVAL
    copyrange 1 0 1 30000 10 => ok 10
    open 2 g O_WRONLY|O_APPEND
    copyrange 0 0 2 0 10 => EBADF
    copyrange 1 0 0 0 10 => EBADF
    open 3 new O_CREAT|O_RDWR 0644
    copyrange 0 0 3 4096 30000 => ok 30000
    pread 3 4094 6 => ok =%00%000123
    sendfile 3 0 10 5 => ok 5
    pread 3 0 6 => ok =01234%00
  `);
    t.is((await trial.stat('g')).size, 30_010);
    t.is((await trial.stat('new')).size, 34_096);
  },
);

posix(
  'a file that is open lives on without a name',
  { f: file('hello', { mode: 0o600 }), g: 'g', 'd/x': 'x' },
  async (t, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    open 1 f O_RDONLY
    unlink f
    stat f => ENOENT
    drop
    pread 1 0 9 => ok =hello
    pwrite 0 5 =-more
    pread 1 0 20 => ok =hello-more
    truncate @0 3
    chmod @0 0644
    setxattr @0 user.a =1
    getxattr @1 user.a => ok =1
    link @1 again => ENOENT
    fsync 0
    open 2 g O_RDONLY
    rename d/x g
    pread 2 0 9 => ok =g
    reopen 1 3 O_RDWR
    pwrite 3 0 =J
    pread 0 0 9 => ok =Jel
  `);
    const unlinked = await trial.stat('@0');
    t.deepEqual([unlinked.nlink, unlinked.size, unlinked.mode], [0, 3, 0o100644]);
    t.is((await trial.stat('@2')).nlink, 0);
  },
);

posix(
  'O_TMPFILE gives a file without a name, which link may give one',
  { 'd/x': '' },
  async (t, trial) => {
    await trial.gives(`
    umask 022
    open 0 d O_TMPFILE|O_RDWR 0666
    write 0 =content
    list d => ok x
  `);
    t.is((await trial.stat('@0')).nlink, 0);
    await trial.gives(`
    link @0 d/named
    list d => ok named x
    open 1 d/named O_RDONLY
    pread 1 0 20 => ok =content
    open 2 d O_TMPFILE|O_EXCL|O_RDWR 0666
    link @2 d/no => ENOENT
    open 2 d O_TMPFILE|O_RDONLY 0666 => EINVAL
    open 2 d/x O_TMPFILE|O_RDWR 0666 => ENOTDIR
    open 2 . O_TMPFILE|O_WRONLY 0600
    write 2 =gone
    close 2
    list . => ok d
  `);
    const made = await trial.stat('d/named');
    t.deepEqual([made.nlink, made.mode, made.size], [1, 0o100644, 7]);
  },
);

posix(
  'direct, buffered and mapped I/O on one file agree',
  { f: file('a'.repeat(16_384)) },
  async (_, trial) => {
    await trial.gives(`
    open 0 f O_RDWR|O_DIRECT
    open 1 f O_RDWR
    mmap 0 1 0 16384 PROT_READ|PROT_WRITE MAP_SHARED
    pread 1 0 3 => ok =aaa
    mload 0 4096 3 => ok =aaa
    pwrite 0 4096 *98:4096
    pread 1 4095 3 => ok =abb
    mload 0 4095 3 => ok =abb
    pwrite 1 8192 *99:10
    pread 0 8192 4096
    mstore 0 0 =m
    msync 0 MS_SYNC
    pread 0 0 4096
    open 2 f O_RDONLY|O_DIRECT
    pwrite 0 12288 *100:4096
    mload 0 12287 2 => ok =ad
    truncate f 8192
    pread 2 8192 4096 => ok =
  `);
  },
);

posix('writes at once from two descriptors interleave whole', { f: '' }, async (t, trial) => {
  await trial.gives(`
    open 0 f O_RDWR
    open 1 f O_RDWR
    write 0 =aaaa
    write 1 =bb
    write 1 =cc
    pread 0 0 9 => ok =bbcc
    lseek 0 0 SEEK_CUR => ok 4
    lseek 0 -2 SEEK_END => ok 2
    lseek 0 -1 SEEK_SET => EINVAL
    pwrite 0 2 #7:100000
    fdatasync 0
    syncfs 0
    close 0
    drop
  `);
  t.is((await trial.stat('f')).size, 100_002);
});
