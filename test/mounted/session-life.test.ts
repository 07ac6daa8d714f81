/** Sessions from unlock to lock, on real mounts. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'a session is writable, its diff says what changed, and lock leaves nothing',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync, readdirSync, mkdirSync, rmSync } = await import('node:fs');
    const lower = tools.plant(`${work}/lower`, { a: 'one', 'd/b': 'two' });
    mkdirSync(`${work}/mnt`);
    const session = await library.unlock({ source: [lower], mountpoint: `${work}/mnt` });
    tools.equal(session.name, 'mnt');
    tools.equal(session.mountpoint, `${work}/mnt`);
    writeFileSync(`${work}/mnt/a`, 'changed');
    writeFileSync(`${work}/mnt/d/new`, 'new');
    rmSync(`${work}/mnt/d/b`);
    const changes = [];
    for await (const { kind, path } of session.diff()) changes.push(`${kind} ${path}`);
    tools.same(changes, ['M /a', 'D /d/b', 'A /d/new']);
    const some = [];
    for await (const { path } of session.diff({ paths: ['/d'] })) some.push(path);
    tools.same(some, ['/d/b', '/d/new']);
    const status = await session.status();
    tools.equal(status.health, 'ok');
    tools.same(status.problems, []);
    tools.equal(status.changes, 3);
    const result = await session.lock();
    tools.equal(result.changes, 3);
    tools.equal(result.draining, false);
    tools.same(readdirSync(`${work}/mnt`), []);
    tools.equal(readFileSync(`${lower}/a`, 'utf8'), 'one');
    tools.same(readdirSync(`${lower}/d`), ['b']);
    await tools.nothingIsLeft();
  },
);

test(
  'what changes run is compiled when nobody has asked for anything for a while, and not sooner',
  sandboxed,
  async ({ library, tools, work }) => {
    const { existsSync, readdirSync, readlinkSync, writeFileSync } = await import('node:fs');
    const { setTimeout: sleep } = await import('node:timers/promises');
    delete process.env['OSTREE_TS_COLD'];
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const session = await library.unlock({ source: [tree] });
    const fds = `/proc/${(await session.status()).pid}/fd`;
    // Open until it is over.
    const isToBeDone = () =>
      readdirSync(fds).some((fd) => {
        try {
          return readlinkSync(`${fds}/${fd}`).includes('memfd:rehearsal');
        } catch {
          return false;
        }
      });
    tools.equal(isToBeDone(), true);
    for (let i = 0; i < 100; i++) {
      existsSync(`${tree}/absent-${i}`);
      await sleep(15);
    }
    tools.equal(isToBeDone(), true);
    for (let i = 0; i < 200 && isToBeDone(); i++) await sleep(100);
    tools.equal(isToBeDone(), false);
    writeFileSync(`${tree}/a`, 'two');
    tools.equal((await session.lock()).changes, 1);
    await tools.nothingIsLeft();
  },
);

test('in place, the base comes back as it was', sandboxed, async ({ library, tools, work }) => {
  const { readFileSync, writeFileSync } = await import('node:fs');
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  const session = await library.unlock({ source: [tree] });
  writeFileSync(`${tree}/a`, 'two');
  tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'two');
  await session.lock();
  tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
  await tools.nothingIsLeft();
});

test('several sources are stacked, topmost first', sandboxed, async ({ library, tools, work }) => {
  const { readFileSync, mkdirSync } = await import('node:fs');
  const top = tools.plant(`${work}/to:p`, { a: 'top' });
  const base = tools.plant(`${work}/base`, { a: 'base', b: 'base' });
  mkdirSync(`${work}/mnt`);
  const session = await library.unlock({ source: [top, base], mountpoint: `${work}/mnt` });
  tools.equal(readFileSync(`${work}/mnt/a`, 'utf8'), 'top');
  tools.equal(readFileSync(`${work}/mnt/b`, 'utf8'), 'base');
  tools.equal((await session.status()).source, `${work}/to\\:p:${work}/base`);
  await session.lock();
});

test(
  'what overlayfs has moved in a lower is refused where it is, and told',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const base = tools.plant(`${work}/base`, { 'old/in': 'in it', file: 'data', kept: 'kept' });
    const [top, aside, mnt] = ['top', 'aside', 'mnt'].map((name) =>
      tools.plant(`${work}/${name}`, {}),
    ) as [string, string, string];
    const layers = `lowerdir=${base},upperdir=${top},workdir=${aside}`;
    const options = `${layers},redirect_dir=on,metacopy=on`;
    tools.run('mount', ['-t', 'overlay', '-o', options, 'none', mnt]);
    fs.renameSync(`${mnt}/old`, `${mnt}/new`);
    fs.chmodSync(`${mnt}/file`, 0o600);
    fs.mkdirSync(`${mnt}/made`);
    fs.writeFileSync(`${mnt}/made/x`, 'x');
    tools.run('umount', [mnt]);
    const session = await library.unlock({ source: [top, base], mountpoint: mnt });
    tools.same(fs.readdirSync(mnt).toSorted(), ['file', 'kept', 'made', 'new']);
    tools.equal(fs.readFileSync(`${mnt}/made/x`, 'utf8'), 'x');
    tools.equal(fs.readFileSync(`${mnt}/kept`, 'utf8'), 'kept');
    tools.equal(fs.statSync(`${mnt}/file`).mode & 0o7777, 0o600);
    tools.matches((await tools.rejection(fs.promises.readdir(`${mnt}/new`))).message, /EIO/);
    tools.matches((await tools.rejection(fs.promises.readFile(`${mnt}/new/in`))).message, /EIO/);
    tools.matches((await tools.rejection(fs.promises.readFile(`${mnt}/file`))).message, /EIO/);
    const { health, problems } = await session.status();
    tools.same([health, problems.length], ['ok', 2]);
    for (const path of ['/new', '/file']) {
      tools.matches(problems.join('\n'), new RegExp(`${path}: this .* is not followed in a lower`));
    }
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'names: the last component, a number when taken, odd bytes made safe',
  sandboxed,
  async ({ library, tools, work }) => {
    const lower = tools.plant(`${work}/lower`, { a: '' });
    const { mkdirSync } = await import('node:fs');
    const unusual = Buffer.from(`${work}/.n\u{e4}me \n\\040\xff`, 'latin1');
    for (const path of [`${work}/x/usr`, `${work}/y/usr`, unusual])
      mkdirSync(path, { recursive: true });
    const first = await library.unlock({ source: [lower], mountpoint: `${work}/x/usr` });
    const second = await library.unlock({ source: [lower], mountpoint: `${work}/y/usr` });
    const third = await library.unlock({ source: [lower], mountpoint: unusual });
    tools.same([first.name, second.name, third.name], ['usr', 'usr-2', 'n_me___040_']);
    tools.equal((await third.status()).health, 'ok');
    tools.equal((await library.findSession(`${work}/y/usr`)).name, 'usr-2');
    tools.same(
      (await library.listSessions()).map(({ name }) => name),
      ['n_me___040_', 'usr', 'usr-2'],
    );
    for (const session of [first, second, third]) await session.lock();
    await tools.nothingIsLeft();
  },
);

test('the mount says what it is', sandboxed, async ({ library, tools, work }) => {
  const { readFileSync } = await import('node:fs');
  const tree = tools.plant(`${work}/tree`, { a: '' });
  const session = await library.unlock({ source: [tree], name: 'one' });
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((text) => text.includes(tree));
  tools.matches(
    line ?? '',
    /^one \S+ fuse\.ostree-ts rw,relatime,user_id=0,group_id=0,default_permissions,allow_other/,
  );
  await session.lock();
  const strict = await library.unlock({ source: [tree], name: 'one', suid: false, dev: false });
  tools.matches(tools.run('findmnt', ['-no', 'OPTIONS', tree]), /nosuid,nodev/);
  await strict.lock();
});

test(
  'twenty sessions at once over one tree keep to themselves',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync, mkdirSync } = await import('node:fs');
    const lower = tools.plant(`${work}/lower`, { a: 'base' });
    const numbers = Array.from({ length: 20 }, (_, index) => index);
    for (const number of numbers) mkdirSync(`${work}/mnt${number}`);
    const sessions = await Promise.all(
      numbers.map((number) =>
        library.unlock({ source: [lower], mountpoint: `${work}/mnt${number}`, size: '8M' }),
      ),
    );
    for (const number of numbers) writeFileSync(`${work}/mnt${number}/a`, `session ${number}`);
    for (const number of numbers) {
      tools.equal(readFileSync(`${work}/mnt${number}/a`, 'utf8'), `session ${number}`);
    }
    tools.equal(readFileSync(`${lower}/a`, 'utf8'), 'base');
    // One ends, and the others do not notice.
    await sessions[7]!.lock();
    tools.equal(readFileSync(`${work}/mnt8/a`, 'utf8'), 'session 8');
    tools.equal((await sessions[8]!.status()).health, 'ok');
    await Promise.all(sessions.filter((_, index) => index !== 7).map((session) => session.lock()));
    await tools.nothingIsLeft();
  },
);

test(
  'fifty cycles leave no descriptor, mount, process or file',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readdirSync, readFileSync, writeFileSync, statfsSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const cycle = async () => {
      const session = await library.unlock({ source: [tree], size: '8M' });
      writeFileSync(`${tree}/a`, 'changed');
      await session.lock();
    };
    const count = () => ({
      fds: readdirSync('/proc/self/fd').length,
      mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length,
      processes: readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length,
      inodes: statfsSync('/run').files - statfsSync('/run').ffree,
    });
    await cycle();
    await tools.nothingIsLeft();
    const before = count();
    for (let number = 0; number < 50; number++) await cycle();
    await tools.nothingIsLeft();
    await tools.until(() => count().processes <= before.processes, 2000);
    // Fewer than before are as good: one of the first cycle may have been on its way out.
    const after = count();
    tools.equal(after.processes <= before.processes, true, `${after.processes} processes`);
    tools.same({ ...after, processes: 0 }, { ...before, processes: 0 });
  },
);

test(
  'SIGTERM and SIGINT to the keeper or the daemon end a session cleanly',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    for (const whom of ['keeper', 'daemon'] as const) {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        const session = await library.unlock({ source: [tree] });
        process.kill((await tools.pids(session))[whom], signal);
        await session.ended();
        await tools.nothingIsLeft();
      }
    }
  },
);

test('umount from outside ends a session cleanly', sandboxed, async ({ library, tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'base' });
  const session = await library.unlock({ source: [tree] });
  tools.run('umount', [tree]);
  await session.ended();
  await tools.nothingIsLeft();
});

test(
  'a foreground session ends with the process that started it',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const script = `
    const { unlock } = await import('/run/package/build/src/index.js');
    const session = await unlock({ source: [${JSON.stringify(tree)}], foreground: true });
    const ended = session.ended();
    console.log('up');
    await ended;
    console.log('ended');
  `;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
      const child = await tools.start(process.execPath, ['--input-type=module', '-e', script]);
      tools.same(tools.mountpoints(), [tree]);
      const exited = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
      child.kill(signal);
      tools.equal(await exited, signal === 'SIGKILL' ? null : 0, signal);
      await tools.nothingIsLeft();
    }
    tools.equal((await library.listSessions()).length, 0);
  },
);

test('a session can be disposed of', sandboxed, async ({ library, tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'base' });
  const session = await library.unlock({ source: [tree] });
  await session[Symbol.asyncDispose]();
  await session[Symbol.asyncDispose]();
  await tools.nothingIsLeft();
});

test(
  'of two that bring a session back at once, one does, and it can be reached',
  sandboxed,
  async ({ library, tools, work }) => {
    const { spawn } = await import('node:child_process');
    const { existsSync, readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    for (const upper of ['tmpfs', tools.plant(`${work}/changes`, {})]) {
      const session = await library.unlock({ source: [tree], name: 'same', upper });
      writeFileSync(`${tree}/a`, 'changed');
      const { daemon, keeper } = await tools.pids(session);
      process.kill(daemon, 'SIGKILL');
      await tools.until(() => !existsSync(`/proc/${keeper}`), 5000);
      const command = [...tools.PROGRAM, 'unlock', '--name=same'];
      // What the dead daemon has left is taken away late, if it is by the command.
      const slow = ['-qq', '-o', `${work}/trace`, '-P', `${session.folder}/control`];
      const calls = 'unlink,unlinkat,rmdir,lstat,newfstatat,statx';
      const delay = ['-e', `inject=${calls}:delay_enter=1500000`];
      const late = spawn('strace', [...slow, ...delay, ...command], { stdio: 'ignore' });
      // It has found the session dead by then.
      await tools.sleep(1000);
      const both = [late, spawn(command[0] ?? '', command.slice(1), { stdio: 'ignore' })];
      const codes = await Promise.all(both.map((child) => tools.exitCode(child)));
      tools.equal(codes.filter((code) => code === 0).length, 1);
      tools.equal((await session.status()).health, 'ok');
      tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'changed');
      await session.lock();
    }
    await tools.nothingIsLeft();
  },
);
