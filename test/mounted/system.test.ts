/** Everything else a program can ask: special files, exec, locks, statfs, ioctl, inotify, file handles. */
import { readFileSync } from 'node:fs';
import { posixSuite } from '../helpers/posix.ts';
import { device, dir, fifo, file, socket } from '../helpers/trees.ts';

const posix = posixSuite(['passthrough']);
const SLEEP = file(readFileSync('/usr/bin/sleep', 'latin1'), { mode: 0o755 });

posix(
  'device nodes work',
  { zero: device('S_IFCHR', 1, 5), disk: device('S_IFBLK', 7, 300) },
  async (t, trial) => {
    await trial.gives(`
    open 0 zero O_RDWR
    read 0 3 => ok =%00%00%00
    mknod null S_IFCHR|0666 1 3
    open 0 null O_RDWR
    write 0 =gone
  `);
    t.deepEqual(
      [(await trial.stat('zero')).rdev, (await trial.stat('disk')).rdev],
      ['1:5', '7:300'],
    );
  },
);

posix(
  'a device 0:0 is one like any other',
  { none: device('S_IFCHR', 0, 0), 'd/none': device('S_IFCHR', 0, 0) },
  async (t, trial) => {
    await trial.gives(`
    mknod zz S_IFCHR|0600 0 0
    mknod d/zz S_IFCHR|0600 0 0
    list d => ok none zz
    chmod none 0640
    rename none moved
    link moved again
    exec /bin/rm -rf d => ok 0
    stat d => ENOENT
  `);
    const { rdev, mode } = await trial.stat('again');
    t.deepEqual([rdev, mode], ['0:0', 0o020640]);
    t.is((await trial.stat('zz')).nlink, 1);
  },
);

posix('only root makes device nodes', {}, async (_, trial) => {
  await trial.gives(`
    as 1000 1000
    mknod mine S_IFCHR|0666 1 3 => EACCES
    as 0 0
    chmod . 0777
    as 1000 1000
    mknod mine S_IFCHR|0666 1 3 => EPERM
    mknod pipe S_IFIFO|0666
    as 0 0
  `);
});

posix('fifos and sockets', { p: fifo(), s: socket() }, async (t, trial) => {
  await trial.gives(`
    open 0 p O_RDWR
    write 0 =through
    read 0 20 => ok =through
    mknod q S_IFIFO|0600
    chmod p 0600
    rename p r
    open 1 r O_RDWR
    write 1 =x
    read 0 5 => ok =x
    bind sock
    bind sock => EADDRINUSE
    open 2 s O_RDONLY => ENXIO
    chmod s 0700
    unlink s
    unlink sock
  `);
  t.is((await trial.stat('q')).mode, 0o010600);
});

posix(
  'programs run, and are not written while they do',
  {
    sleep: SLEEP,
    script: file('#!/bin/sh\nexit 7\n', { mode: 0o755 }),
    plain: file('#!/bin/sh\n'),
  },
  async (t, trial) => {
    await trial.gives(`
    exec sleep 0 => ok 0
    exec script => ok 7
    exec plain => EACCES
    exec missing => ENOENT
  `);
    const pid = (await trial.sys('spawn sleep 300')).slice(3);
    await trial.gives(`
    open 0 sleep O_RDWR => ETXTBSY
    open 0 sleep O_WRONLY|O_TRUNC => ETXTBSY
    truncate sleep 0 => ETXTBSY
    chmod sleep 0700
    open 0 sleep O_RDONLY
    rename sleep sleep2
    open 1 sleep2 O_RDWR => ETXTBSY
    unlink sleep2
    kill ${pid}
    reopen 0 1 O_RDWR
    mknod sleep S_IFREG|0755
    open 2 sleep O_RDWR
    exec sleep 0 => ETXTBSY
    close 2
    copyrange 0 0 1 0 0
  `);
    t.regex(pid, /^\d+$/);
  },
);

posix('a file that is open for writing does not run', { sleep: SLEEP }, async (_, trial) => {
  await trial.gives(`
    open 0 sleep O_RDWR
    exec sleep 0 => ETXTBSY
    close 0
    exec sleep 0 => ok 0
  `);
});

const TOUCH = file(readFileSync('/usr/bin/touch', 'latin1'), { mode: 0o4755 });

posix(
  'setuid programs run as their owner',
  { touch: TOUCH, d: dir({ mode: 0o777 }) },
  async (t, trial) => {
    await trial.gives(`
    as 1000 1000
    exec touch d/made => ok 0
    as 0 0
  `);
    const made = await trial.stat('d/made');
    t.deepEqual([made.uid, made.gid], [0, 1000]);
  },
);

posix('record locks and flock between processes', { f: 'hello' }, async (t, trial) => {
  const other = await trial.other();
  await trial.gives(`
    open 0 f O_RDWR
    lock 0 F_SETLK F_RDLCK 0 10
  `);
  t.is(await other.do('open 0 f O_RDWR'), 'ok');
  t.is(await other.do('lock 0 F_SETLK F_RDLCK 5 10'), 'ok');
  t.is(await other.do('lock 0 F_SETLK F_WRLCK 0 10'), 'EAGAIN');
  t.is(await other.do('lock 0 F_GETLK F_WRLCK 0 10'), 'ok F_RDLCK');
  t.is(await other.do('lock 0 F_SETLK F_WRLCK 20 10'), 'ok');
  t.is(await other.do('pwrite 0 0 =J'), 'ok 1');
  // Held across the copy-up that the write made.
  t.is(await other.do('lock 0 F_SETLK F_WRLCK 0 10'), 'EAGAIN');
  await trial.gives('lock 0 F_SETLK F_UNLCK 0 0');
  t.is(await other.do('lock 0 F_SETLK F_WRLCK 0 10'), 'ok');
  await trial.gives(`
    lock 0 F_SETLK F_RDLCK 0 1 => EAGAIN
    flock 0 LOCK_EX|LOCK_NB
  `);
  t.is(await other.do('flock 0 LOCK_SH|LOCK_NB'), 'EAGAIN');
  await trial.gives('close 0');
  t.is(await other.do('flock 0 LOCK_SH|LOCK_NB'), 'ok');
  await trial.gives(`
    open 0 f O_RDWR
    lock 0 F_OFD_SETLK F_WRLCK 100 10
    open 1 f O_RDWR
    lock 1 F_OFD_SETLK F_WRLCK 100 10 => EAGAIN
  `);
});

posix('statfs gives sane and constant numbers', { f: 'hello' }, async (t, trial) => {
  const fields = async () =>
    new Map(
      (await trial.sys('statfs f')).split(' ').map((pair) => pair.split('=') as [string, string]),
    );
  const before = await fields();
  const value = (key: string) => Number(before.get(key));
  t.is(value('namelen'), 255);
  t.is(value('bsize'), 4096);
  t.is(value('frsize'), 4096);
  t.true(
    value('blocks') > 0 && value('bfree') <= value('blocks') && value('bavail') <= value('bfree'),
  );
  t.true(value('files') > 0 && value('ffree') <= value('files'));
  await trial.gives(`
    open 0 f O_RDWR
    pwrite 0 0 #1:1048576
    fsync 0
    chmod f 0600
  `);
  const after = await fields();
  t.is(after.get('fsid'), before.get('fsid'));
  t.is(after.get('blocks'), before.get('blocks'));
  t.true(
    Number(after.get('bfree')) <= value('bfree') - 200,
    `${after.get('bfree')} of ${before.get('bfree')}`,
  );
});

posix('an unknown ioctl is ENOTTY, never EINVAL', { f: 'hello', d: dir() }, async (t, trial) => {
  await trial.gives(`
    open 0 f O_RDWR
    ioctl 0 0x1234 => ENOTTY
    ioctl 0 0x40045431 => ENOTTY
    ioctl 0 0xc0104500 => ENOTTY
    open 1 d O_RDONLY|O_DIRECTORY
    ioctl 1 0x1234 => ENOTTY
  `);
  for (const slot of ['0', '1']) {
    t.regex(await trial.sys(`ioctl ${slot} FS_IOC_GETFLAGS`), /^(ok [0-9a-f]+|ENOTTY)$/);
    t.regex(await trial.sys(`ioctl ${slot} FS_IOC_GETVERSION`), /^(ok [0-9a-f]+|ENOTTY)$/);
  }
});

posix('append-only and immutable hold where they can be set', { f: 'hello' }, async (t, trial) => {
  await trial.gives('open 0 f O_RDWR');
  const can = await trial.sys('ioctl 0 FS_IOC_SETFLAGS FS_APPEND_FL');
  if (can === 'ENOTTY') {
    t.regex(await trial.sys('ioctl 0 FS_IOC_GETFLAGS'), /^(ok 0|ENOTTY)$/);
    return;
  }
  t.regex(can, /^ok/);
  await trial.gives(`
    open 1 f O_RDWR => EPERM
    open 1 f O_WRONLY|O_APPEND
    write 1 =-more
    truncate f 0 => EPERM
    unlink f => EPERM
    ioctl 0 FS_IOC_SETFLAGS FS_IMMUTABLE_FL
    open 1 f O_WRONLY|O_APPEND => EPERM
    chmod f 0600 => EPERM
    ioctl 0 FS_IOC_SETFLAGS 0
    unlink f
  `);
});

posix('inotify keeps firing after copy-up', { f: 'hello', 'd/x': 'x' }, async (t, trial) => {
  await trial.gives(`
    inotify 0
    watch 0 f IN_MODIFY|IN_ATTRIB|IN_MOVE_SELF|IN_CLOSE_WRITE
    inotify 1
    watch 1 d IN_CREATE|IN_DELETE|IN_MOVED_FROM|IN_MOVED_TO|IN_MODIFY
  `);
  const other = await trial.other();
  await other.must(['open 0 f O_RDWR', 'pwrite 0 0 =J']);
  t.is(await trial.sys('events 0'), 'ok MODIFY');
  await other.must(['pwrite 0 1 =x', 'close 0']);
  t.is(await trial.sys('events 0'), 'ok MODIFY CLOSE_WRITE');
  await other.must(['open 0 f O_RDWR', 'pwrite 0 2 =y', 'chmod f 0600', 'rename f g']);
  t.is(await trial.sys('events 0'), 'ok MODIFY ATTRIB MOVE_SELF');
  await other.must([
    'open 1 d/x O_WRONLY',
    'pwrite 1 0 =y',
    'open 2 d/new O_CREAT|O_RDWR 0644',
    'rename d/x d/z',
    'unlink d/new',
  ]);
  t.is(await trial.sys('events 1'), 'ok MODIFY:x CREATE:new MOVED_FROM:x MOVED_TO:z DELETE:new');
});

posix(
  'file handles are valid when the cache has gone, or refused',
  { f: 'hello', 'd/e/g': 'deep' },
  async (t, trial) => {
    for (const path of ['f', 'd/e', 'd/e/g']) {
      const answer = await trial.sys(`handle ${path}`);
      if (answer === 'EOPNOTSUPP') {
        t.pass();
        continue;
      }
      const handle = answer.slice(3);
      const opened = await trial.sys(`openhandle 0 . ${handle} O_RDONLY`);
      if (opened === 'EOPNOTSUPP' || opened === 'ESTALE') {
        // NO_EXPORT_SUPPORT: never decodable, rather than only while it is cached.
        await trial.gives(`openhandle 0 . ${handle} O_RDONLY => ${opened}`);
        continue;
      }
      t.is(opened, 'ok');
      await trial.gives(`
      close 0
      chmod ${path} 0700
      drop
      openhandle 0 . ${handle} O_RDONLY
    `);
      t.is((await trial.stat('@0')).ino, (await trial.stat(path)).ino);
    }
  },
);

posix(
  'descriptors of directories follow the directory',
  { 'd/e/f': 'f', g: dir() },
  async (t, trial) => {
    await trial.gives(`
    open 0 d/e O_RDONLY|O_DIRECTORY
    open 1 d/e/f O_PATH
    rename d/e g/h
    stat @0/f
    mkdir @0/sub
    symlink x @0/s
    rename @0/f @0/f2
    list g/h => ok f2 s sub
    rmdir d
    cd g/h/sub
    stat ../f2
  `);
    t.is((await trial.stat('@1')).nlink, 1);
  },
);
