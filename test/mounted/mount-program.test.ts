/** The mount programs: each option by what it does, what is refused, mount(8), and the end of a mount. */
import test from 'ava';
import { sandboxed, sandboxedAs } from '../helpers/sandbox.ts';

test(
  'mount(8) mounts, remounts and unmounts, and umount leaves nothing but the changes',
  sandboxed,
  async ({ tools, work }) => {
    const fs = await import('node:fs');
    tools.plant(work, { 'a/x': 'top', 'b:c,d/x': 'below', 'b:c,d/dir/y': 'y', 'b:c,d/gone': 'g' });
    for (const name of ['up', 'wk', 'mnt', 'bin']) fs.mkdirSync(`${work}/${name}`);
    const script = `#!/bin/sh\nexec ${tools.PROGRAM.join(' ')} "$@"\n`;
    fs.writeFileSync(`${work}/bin/ostree-ts`, script, { mode: 0o755 });
    // Where the helper of FUSE looks.
    tools.run('mount', ['--bind', `${work}/bin`, '/usr/local/bin']);
    const options = String.raw`lowerdir=a:b\:c\,d,upperdir=up,workdir=wk,noexec,noatime`;
    tools.run('mount', ['-t', 'fuse.ostree-ts', '-o', options, 'none', 'mnt'], { cwd: work });
    const mnt = `${work}/mnt`;
    tools.equal(fs.readFileSync(`${mnt}/x`, 'utf8'), 'top');
    tools.matches(
      tools.run('findmnt', ['-no', 'OPTIONS', mnt]),
      /^rw,(?=.*noexec)(?=.*noatime)(?!.*nosuid)(?!.*nodev)/,
    );
    const { out } = tools.ostreeTs(['status', '--json']);
    tools.equal((JSON.parse(out) as { health: string; upper: string }).upper, `${work}/up`);
    fs.renameSync(`${mnt}/x`, `${mnt}/z`);
    fs.rmSync(`${mnt}/gone`);
    tools.run('mv', ['dir', 'moved'], { cwd: mnt });
    tools.run('mount', ['-o', 'remount,ro', mnt]);
    tools.matches((await tools.rejection(fs.promises.writeFile(`${mnt}/n`, ''))).message, /EROFS/);
    tools.run('mount', ['-o', 'remount,rw', mnt]);
    fs.writeFileSync(`${mnt}/n`, 'n');
    const discard = tools.ostreeTs(['lock', mnt, '--discard']);
    tools.matches(discard.err, /not ours to empty/);
    tools.run('umount', [mnt]);
    await tools.nothingIsLeft();
    const isWhiteout = (name: string) => fs.statSync(`${work}/up/${name}`).rdev === 0;
    tools.same(fs.readdirSync(`${work}/up`).sort(), ['dir', 'gone', 'moved', 'n', 'x', 'z']);
    tools.same(['dir', 'gone', 'x'].map(isWhiteout), [true, true, true]);
    tools.equal(fs.readFileSync(`${work}/up/moved/y`, 'utf8'), 'y');
    // The same upper again at once, and by the kernel.
    tools.run('mount', ['-t', 'fuse.ostree-ts', '-o', options, 'none', 'mnt'], { cwd: work });
    tools.same(fs.readdirSync(mnt).sort(), ['moved', 'n', 'z']);
    tools.run('umount', [mnt]);
    await tools.nothingIsLeft();
    fs.renameSync(`${work}/b:c,d`, `${work}/b`);
    const kernel = 'lowerdir=a:b,upperdir=up,workdir=wk';
    tools.run('mount', ['-t', 'overlay', '-o', kernel, 'none', 'mnt'], { cwd: work });
    tools.same(fs.readdirSync(mnt).sort(), ['moved', 'n', 'z']);
    tools.run('umount', [mnt]);
  },
);

test(
  'an ordinary user has an upper and a work directory of theirs, with names that are not trusted',
  sandboxedAs,
  async ({ tools, work }) => {
    const fs = await import('node:fs');
    tools.plant(work, { 'a/dir/y': 'y', 'a/gone': 'g' });
    for (const name of ['up', 'wk', 'mnt']) fs.mkdirSync(`${work}/${name}`);
    const options = 'lowerdir=a,upperdir=up,workdir=wk';
    const mount = () =>
      tools.run('/run/node', ['/run/package/build/src/cli/mount.js', '-o', options, 'mnt'], {
        cwd: work,
      });
    mount();
    const mnt = `${work}/mnt`;
    fs.rmSync(`${mnt}/gone`);
    fs.writeFileSync(`${mnt}/n`, 'n');
    tools.run('mv', ['dir', 'moved'], { cwd: mnt });
    tools.run('fusermount3', ['-u', mnt]);
    await tools.nothingIsLeft();
    tools.same(fs.readdirSync(`${work}/up`).sort(), ['dir', 'gone', 'moved', 'n']);
    const marks = tools.run('getfattr', ['-R', '-d', '-m', '.', 'up'], { cwd: work });
    tools.matches(marks, /user\.overlay\.opaque="y"/);
    tools.equal(/redirect/.test(marks), false);
    mount();
    tools.same(fs.readdirSync(mnt).sort(), ['moved', 'n']);
    tools.equal(fs.readFileSync(`${mnt}/moved/y`, 'utf8'), 'y');
    tools.run('fusermount3', ['-u', mnt]);
    await tools.nothingIsLeft();
  },
);

test(
  'without upperdir the mount is read-only and stays so; one whose daemon died gives way to the next',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    tools.plant(work, { 'a/x': 'x' });
    fs.mkdirSync(`${work}/mnt`);
    const mount = (...args: string[]) =>
      tools.run('/run/node', ['/run/package/build/src/cli/mount.js', ...args], { cwd: work });
    mount('-o', 'lowerdir=a', 'mnt');
    const mnt = `${work}/mnt`;
    tools.matches((await tools.rejection(fs.promises.writeFile(`${mnt}/n`, ''))).message, /EROFS/);
    const rw = tools.ostreeTs(['none', mnt, '-o', 'remount,rw']);
    tools.equal(rw.code, 1);
    tools.matches(rw.err, /no upperdir/);
    const session = await library.findSession(mnt);
    const { daemon, keeper } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
    tools.same(fs.readdirSync(mnt), []);
    tools.equal((await session.status()).health, 'dead');
    mount('-olowerdir=a', 'mnt');
    tools.equal((await library.listSessions()).length, 1);
    tools.same(fs.readdirSync(mnt), ['x']);
    tools.run('umount', [mnt]);
    await tools.nothingIsLeft();
  },
);

test('every option does what it says', sandboxed, async ({ tools, work }) => {
  const fs = await import('node:fs');
  tools.plant(work, { 'lower/f': 'f', 'lower/d/e/g': 'g', 'lower/d/h/.k': '' });
  fs.chownSync(`${work}/lower/f`, 1000, 1001);
  fs.chmodSync(`${work}/lower/f`, 0o640);
  tools.run('setfacl', ['-m', 'd:u:1000:rwx', `${work}/lower/d`]);
  fs.mkdirSync(`${work}/mnt`);
  const mnt = `${work}/mnt`;
  let round = 0;
  let upper = '';
  /** Mounts with these options over a new upper, looks, and unmounts. */
  const mounted = async (options: string, look: () => void | Promise<void>) => {
    upper = `${work}/${++round}`;
    fs.mkdirSync(`${upper}/up`, { recursive: true });
    fs.mkdirSync(`${upper}/wk`);
    const dirs = `lowerdir=${work}/lower,upperdir=${upper}/up,workdir=${upper}/wk`;
    const args = ['/run/package/build/src/cli/mount.js', '-o', `${dirs},${options}`, mnt];
    tools.run('/run/node', args);
    try {
      await look();
    } finally {
      tools.run('umount', [mnt]);
    }
    await tools.nothingIsLeft();
  };
  const owner = (path: string) => {
    const { uid, gid } = fs.lstatSync(path);
    return [uid, gid];
  };
  const give = (name: string, uid: number, gid: number) => fs.chownSync(`${mnt}/${name}`, uid, gid);

  await mounted('nosuid,nodev,ro', () => {
    tools.matches(tools.run('findmnt', ['-no', 'OPTIONS', mnt]), /^ro,nosuid,nodev,/);
  });
  await mounted('nosuid,nodev,suid,dev', () => {
    tools.matches(tools.run('findmnt', ['-no', 'OPTIONS', mnt]), /^rw,relatime,/);
  });
  await mounted('uidmapping=0:500:1:1000:0:1,gidmapping=0:600:1:1001:0:10', () => {
    tools.same(owner(`${mnt}/f`), [0, 0]);
    tools.same(owner(`${mnt}/d`), [500, 600]);
    fs.writeFileSync(`${mnt}/n`, '');
    tools.same(owner(`${mnt}/n`), [0, 0]);
    tools.same(owner(`${upper}/up/n`), [1000, 1001]);
    give('n', 500, 3);
    tools.same(owner(`${upper}/up/n`), [0, 1004]);
    try {
      give('n', 7, 3);
      throw new Error('an id without a number was taken');
    } catch (error) {
      tools.equal((error as NodeJS.ErrnoException).code, 'EOVERFLOW');
    }
    tools.run('setfacl', ['-m', 'u:500:r', `${mnt}/n`]);
    tools.matches(tools.run('getfacl', ['-n', '-p', `${upper}/up/n`]), /^user:0:r--$/m);
    tools.matches(tools.run('getfacl', ['-n', '-p', `${mnt}/n`]), /^user:500:r--$/m);
  });
  await mounted('uidmapping=0:0:1,gidmapping=0:0:1', () => {
    tools.same(owner(`${mnt}/f`), [65534, 65534]);
  });
  await mounted('squash_to_root', () => {
    tools.same(
      [owner(`${mnt}/f`), owner(`${mnt}/d`)],
      [
        [0, 0],
        [0, 0],
      ],
    );
    give('f', 5, 5);
    tools.same(
      [owner(`${mnt}/f`), owner(`${upper}/up/f`)],
      [
        [0, 0],
        [0, 0],
      ],
    );
  });
  await mounted('squash_to_root,squash_to_uid=7,squash_to_gid=8', () => {
    tools.same(owner(`${mnt}/f`), [7, 8]);
    fs.mkdirSync(`${mnt}/n`);
    tools.same(
      [owner(`${mnt}/n`), owner(`${upper}/up/n`)],
      [
        [7, 8],
        [7, 8],
      ],
    );
    tools.matches(tools.run('ls', ['-ln', mnt]), /^(?:total.*\n)(?:.* 7 +8 .*\n)+$/);
  });
  await mounted('static_nlink', () => {
    tools.equal(fs.statSync(`${mnt}/d`).nlink, 1);
    tools.equal(fs.statSync(`${work}/lower/d`).nlink, 4);
  });
  await mounted('noacl', () => {
    fs.writeFileSync(`${mnt}/d/n`, '', { mode: 0o600 });
    tools.equal(fs.statSync(`${upper}/up/d/n`).mode & 0o777, 0o600);
    tools.equal(tools.run('getfacl', ['-p', `${mnt}/d`]).includes('user:1000'), false);
    const set = tools.rejection(
      Promise.resolve().then(() => tools.run('setfacl', ['-m', 'u:5:r', `${mnt}/f`])),
    );
    return set.then((error) => tools.matches(error.message, /not supported/));
  });
  for (const [mode, xattr] of [
    ['1', 'security.fuseoverlayfs.override_stat'],
    ['2', 'user.containers.override_stat'],
  ]) {
    const kept = (name: string) =>
      tools.run('getfattr', ['--only-values', '-n', xattr ?? '', `${upper}/up/${name}`]);
    await mounted(`xattr_permissions=${mode}`, () => {
      tools.same(owner(`${mnt}/f`), [1000, 1001]);
      give('f', 42, 43);
      fs.chmodSync(`${mnt}/f`, 0o4755);
      const stat = fs.statSync(`${mnt}/f`);
      tools.same([stat.uid, stat.gid, stat.mode & 0o7777], [42, 43, 0o4755]);
      tools.equal(kept('f'), '42:43:4755');
      tools.equal(fs.statSync(`${upper}/up/f`).mode & 0o7000, 0);
      fs.mkdirSync(`${mnt}/n`, { mode: 0o700 });
      tools.equal(kept('n'), '0:0:0700');
      tools.equal(tools.run('getfattr', ['-d', '-m-', `${mnt}/n`]), '');
    });
  }
});

test('volatile syncs nothing', sandboxed, async ({ library, tools, work }) => {
  const fs = await import('node:fs');
  tools.plant(work, { 'lower/f': 'f' });
  for (const name of ['up', 'wk', 'mnt']) fs.mkdirSync(`${work}/${name}`);
  for (const [options, count] of [
    ['ro,rw', 3],
    ['volatile', 1],
  ] as const) {
    const dirs = 'lowerdir=lower,upperdir=up,workdir=wk';
    const args = ['/run/package/build/src/cli/mount.js', '-o', `${dirs},${options}`, 'mnt'];
    tools.run('/run/node', args, { cwd: work });
    const fd = fs.openSync(`${work}/mnt/n`, 'w');
    // Once refused with ENOSYS, it is not asked for again.
    for (let i = 0; i < 3; i++) fs.fsyncSync(fd);
    fs.closeSync(fd);
    const session = await library.findSession(`${work}/mnt`);
    tools.equal((await session.status()).requests['FSYNC'], count);
    tools.run('umount', [`${work}/mnt`]);
    await tools.nothingIsLeft();
  }
});

test('suid and dev are what programs and devices then do', sandboxed, async ({ tools, work }) => {
  const fs = await import('node:fs');
  const { spawnSync } = await import('node:child_process');
  fs.mkdirSync(`${work}/lower`);
  fs.copyFileSync('/usr/bin/id', `${work}/lower/id`);
  fs.chmodSync(`${work}/lower/id`, 0o4755);
  tools.run('mknod', ['-m', '666', `${work}/lower/null`, 'c', '1', '3']);
  fs.mkdirSync(`${work}/mnt`);
  const mnt = `${work}/mnt`;
  for (const [options, uid, device] of [
    ['suid,dev', '0', 'opened'],
    ['nosuid,dev', '64001', 'opened'],
    ['suid,nodev', '0', 'EACCES'],
    ['nosuid,nodev', '64001', 'EACCES'],
  ] as const) {
    const args = ['/run/package/build/src/cli/mount.js', '-o', `lowerdir=lower,${options}`, 'mnt'];
    tools.run('/run/node', args, { cwd: work });
    const user = ['--reuid=64001', '--regid=64001', '--clear-groups'];
    const { stdout } = spawnSync('setpriv', [...user, `${mnt}/id`, '-u'], { encoding: 'utf8' });
    tools.equal(stdout.trim(), uid, options);
    let outcome = 'opened';
    try {
      fs.closeSync(fs.openSync(`${mnt}/null`, 'r'));
    } catch (error) {
      outcome = (error as NodeJS.ErrnoException).code ?? '';
    }
    tools.equal(outcome, device, options);
    tools.run('umount', [mnt]);
  }
  await tools.nothingIsLeft();
});

test('what makes no sense is refused by name', sandboxed, async ({ tools, work }) => {
  const fs = await import('node:fs');
  const { spawnSync } = await import('node:child_process');
  tools.plant(work, { 'lower/f': 'f' });
  for (const name of ['up', 'wk', 'mnt', 'up/in']) fs.mkdirSync(`${work}/${name}`);
  const cases: [string, RegExp][] = [
    ['lowerdir=lower,index=on', /'index' is not supported/],
    ['lowerdir=lower,redirect_dir=on', /'redirect_dir' is not supported/],
    ['lowerdir=lower,fast', /'fast' is not supported/],
    ['lowerdir=lower,metacopy=on', /'metacopy' is not supported/],
    ['lowerdir=lower,nfs_export=on', /'nfs_export' is not supported/],
    ['lowerdir=lower,userxattr', /'userxattr' is not supported/],
    // Of fuse-overlayfs, beyond what it documents.
    ['lowerdir=lower,timeout=5', /'timeout' is not supported/],
    ['lowerdir=lower,threaded=1', /'threaded' is not supported/],
    ['lowerdir=lower,fsync=0', /'fsync' is not supported/],
    ['lowerdir=lower,fast_ino=1', /'fast_ino' is not supported/],
    ['lowerdir=lower,plugins=p', /'plugins' is not supported/],
    ['lowerdir=lower,clone_fd', /'clone_fd' is not supported/],
    ['ro', /no lowerdir/],
    ['lowerdir=lower,upperdir=up', /need each other/],
    ['lowerdir=lower,upperdir=up,workdir=up/in', /one inside the other/],
    ['lowerdir=lower,upperdir=lower,workdir=wk', /one inside the other/],
    ['lowerdir=lower,upperdir=up,workdir=/dev/shm', /not on the filesystem|cannot/],
    ['lowerdir=none,upperdir=up,workdir=wk', /none does not exist/],
    ['lowerdir=lower,squash_to_uid=x', /is no id/],
    ['lowerdir=lower,uidmapping=0:0', /not of the form/],
    ['lowerdir=lower,xattr_permissions=3', /neither 1 nor 2/],
    ['lowerdir=lower,noacl=1', /takes no value/],
  ];
  for (const [options, message] of cases) {
    const args = ['/run/package/build/src/cli/mount.js', '-o', options, 'mnt'];
    const { status, stderr } = spawnSync('/run/node', args, { cwd: work, encoding: 'utf8' });
    tools.equal(status === 1 || status === 2, true, options);
    tools.matches(stderr, message);
    tools.equal(stderr.trimEnd().split('\n').length, 2, stderr);
  }
  await tools.nothingIsLeft();
});

test(
  'whiteouts of image layers hide what they name, in any layer',
  sandboxed,
  async ({ tools, work }) => {
    const fs = await import('node:fs');
    tools.plant(work, {
      'bottom/a': 'a',
      'bottom/d/old': 'old',
      'bottom/e/old': 'old',
      'bottom/.wh.nothing': '',
      'middle/.wh.a': '',
      'middle/d/.wh..wh..opq': '',
      'middle/d/new': 'new',
      'middle/only/.wh.x': '',
      'middle/.wh.e': '',
      'middle/e/new': 'new',
      'top/t': 't',
    });
    for (const name of ['up', 'wk', 'mnt']) fs.mkdirSync(`${work}/${name}`);
    const options = 'lowerdir=top:middle:bottom,upperdir=up,workdir=wk';
    const args = ['/run/package/build/src/cli/mount.js', '-o', options, 'mnt'];
    tools.run('/run/node', args, { cwd: work });
    const mnt = `${work}/mnt`;
    tools.same(fs.readdirSync(mnt).sort(), ['d', 'e', 'only', 't']);
    tools.same(
      ['d', 'e', 'only'].map((name) => fs.readdirSync(`${mnt}/${name}`)),
      [['new'], ['new'], []],
    );
    tools.same(
      ['a', '.wh.a', 'd/old', 'e/old', 'only/x', 'nothing'].map((name) =>
        fs.existsSync(`${mnt}/${name}`),
      ),
      [false, false, false, false, false, false],
    );
    fs.rmSync(`${mnt}/only`, { recursive: true });
    tools.run('umount', [mnt]);
    await tools.nothingIsLeft();
  },
);
