/**
 * Sessions that the package fuse-native serves: the same life as any others, and what libfuse 2 cannot say, with the errno
 * that the README gives. What they do as all others do is in the contract (helpers/posix.ts).
 */
import test from 'ava';
import { mounted } from '../helpers/mounted.ts';
import { runScript } from '../helpers/posix.ts';
import { sandboxed, USERS } from '../helpers/sandbox.ts';
import { dir, link } from '../helpers/trees.ts';

test('what libfuse 2 cannot say has the errno that the README names', async (t) => {
  await using mount = await mounted({
    lower: { f: 'hello', g: 'g', d: dir(), twin: link('f'), '\u00ff': 'odd' },
    upper: 'memory',
    options: { transport: 'fuse-native' },
  });
  const hand = mount.hand();
  await runScript(
    t,
    hand,
    `
    rename f g RENAME_EXCHANGE => EINVAL
    rename f new RENAME_NOREPLACE => EINVAL
    rename f new RENAME_WHITEOUT => EINVAL
    open 0 f O_RDWR
    fallocate 0 0 0 100 => EOPNOTSUPP
    truncate @0 1000000
    lseek 0 100000 SEEK_DATA => ok 100000
    lseek 0 0 SEEK_HOLE => ok 1000000
    open 1 d O_TMPFILE|O_RDWR 0666 => EOPNOTSUPP
    open 1 %ff O_RDONLY => EILSEQ
    mkdir %fe => EILSEQ
    symlink %ff s => EILSEQ
    setxattr f user.%ff =1 => EILSEQ
    list . => ok d f g twin
    utimens f 1000000000.123456789 1100000000.987654321
    as ${USERS[0]} ${USERS[0]}
    stat f => EACCES
    open 1 d/x O_CREAT|O_RDWR 0644 => EACCES
    as 0 0
    open 1 g O_RDONLY
    unlink g
    pread 1 0 9 => ok =g
  `,
  );
  const { atime, mtime } = await hand.stat('f');
  t.deepEqual([atime, mtime], ['1000000000.123000000', '1100000000.987000000']);
  // One of the two alone is not passed on, and not refused either.
  await runScript(t, hand, 'utimens f omit 1200000000.0');
  t.is((await hand.stat('f')).mtime, '1100000000.987000000');
  // Hidden instead of removed, until it is closed.
  t.regex(await hand.do('list .'), /^ok \.fuse_hidden[0-9a-f]{16} d f twin$/);
  await runScript(t, hand, 'close 1');
});

test(
  'a session by fuse-native is listed, told, locked as any other',
  sandboxed,
  async ({ library, tools, work }) => {
    const { appendFileSync, mkdirSync, openSync, closeSync, readFileSync, renameSync, existsSync } =
      await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base', 'd/b': 'b' });
    const mountpoint = `${work}/mnt`;
    mkdirSync(mountpoint);
    const transport = 'fuse-native';
    const session = await library.unlock({ source: [tree], mountpoint, transport });
    appendFileSync(`${mountpoint}/a`, ' and more');
    renameSync(`${mountpoint}/d`, `${mountpoint}/e`);
    const changes: string[] = [];
    for await (const { kind, path } of session.diff()) changes.push(kind + path);
    tools.same(changes, ['M/a', 'D/d', 'A/e', 'A/e/b']);
    const status = await session.status();
    tools.same([status.health, status.transport, status.problems], ['ok', transport, []]);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    const held = openSync(`${mountpoint}/a`, 'r');
    const child = await tools.start('sh', ['-c', `exec 3< ${mountpoint}/a; echo; exec sleep 100`]);
    const busy = await tools.rejection(session.lock());
    tools.equal(busy.name, 'BusyError');
    const locked = await session.lock({ lazy: true });
    tools.same([locked.draining, locked.changes], [true, 4]);
    tools.equal(existsSync(`${mountpoint}/a`), false);
    tools.equal(readFileSync(held, 'utf8'), 'base and more');
    closeSync(held);
    await tools.stop(child);
    await tools.nothingIsLeft();
  },
);

test(
  'kill -9 of a daemon of fuse-native gives the base back, and a tmpfs keeps what was changed',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync, readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const mountpoint = `${work}/mnt`;
    mkdirSync(mountpoint);
    const options = { source: [tree], mountpoint, upper: 'tmpfs', name: 'kept' };
    const session = await library.unlock({ ...options, transport: 'fuse-native' });
    writeFileSync(`${mountpoint}/a`, 'changed');
    process.kill((await tools.pids(session)).daemon, 'SIGKILL');
    const waitedMs = await tools.until(() => tools.mountpoints().length === 0, 5000);
    tools.equal(waitedMs < 1000, true, `${waitedMs} ms`);
    tools.equal((await session.status()).health, 'dead');
    const again = await library.unlock({ source: [], name: 'kept' });
    tools.equal((await again.status()).transport, 'fuse-native');
    tools.equal(readFileSync(`${mountpoint}/a`, 'utf8'), 'changed');
    await again.lock();
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await tools.nothingIsLeft();
  },
);

test(
  'with the keeper and the daemon of fuse-native gone, the dead mount is told and locked away',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync, statSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const mountpoint = `${work}/mnt`;
    mkdirSync(mountpoint);
    const session = await library.unlock({ source: [tree], mountpoint, transport: 'fuse-native' });
    const { daemon, keeper } = await tools.pids(session);
    process.kill(keeper, 'SIGKILL');
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => tools.sessionProcesses().length === 0, 5000);
    let code: string | undefined;
    try {
      statSync(`${mountpoint}/a`);
    } catch (error) {
      ({ code } = error as NodeJS.ErrnoException);
    }
    // The kernel says the latter when the connection was aborted, and not only closed.
    tools.matches(code ?? '', /^(ENOTCONN|ECONNABORTED)$/);
    const { health, problems } = await session.status();
    tools.equal(health, 'dead');
    tools.matches(problems.join('; '), new RegExp(`a dead mount is left at ${mountpoint}`));
    await session.lock();
    tools.same(tools.mountpoints(), []);
    await tools.nothingIsLeft();
  },
);

test(
  'an ordinary user has a session by fuse-native',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync, statSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const mountpoint = `${work}/mnt`;
    mkdirSync(mountpoint);
    const session = await library.unlock({ source: [tree], mountpoint, transport: 'fuse-native' });
    writeFileSync(`${mountpoint}/new`, 'mine');
    const { uid, gid } = statSync(`${mountpoint}/new`);
    tools.same([uid, gid], [process.getuid?.(), process.getgid?.()]);
    tools.equal((await session.lock()).changes, 1);
    await tools.nothingIsLeft();
  },
  USERS[0],
);

test(
  'a mountpoint that is none for fuse-native is refused, and so is a machine without it',
  sandboxed,
  async ({ library, tools, work }) => {
    const { spawnSync } = await import('node:child_process');
    const { cpSync, mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const transport = 'fuse-native';
    const why = async (unlocked: Promise<unknown>) => {
      const { name, message, remedy } = await tools.rejection(unlocked);
      tools.equal(name, 'SessionError');
      tools.equal((remedy ?? '') !== '', true, message);
      return message;
    };
    tools.matches(
      await why(library.unlock({ source: ['/run/package/node_modules'], transport })),
      /would cover what serves it/,
    );
    tools.matches(
      await why(library.unlock({ source: [tree], mountpoint: work, transport })),
      /is a mountpoint already/,
    );
    tools.matches(
      await why(
        library.unlock({ source: [tree], mountpoint: tools.plant(`${tree}/d`, {}), transport }),
      ),
      /is inside the source/,
    );
    const odd = Buffer.from(`${work}/\u00ff`, 'latin1');
    mkdirSync(odd);
    tools.matches(
      await why(library.unlock({ source: [tree], mountpoint: odd, transport })),
      /which is not UTF-8/,
    );
    const copy = `${work}/ostree-ts`;
    for (const part of [
      'build/src',
      'package.json',
      'native/build/Release',
      'node_modules/commander',
      'node_modules/lru-cache',
    ]) {
      cpSync(`/run/package/${part}`, `${copy}/${part}`, { recursive: true });
    }
    const mountpoint = tools.plant(`${work}/mnt`, {});
    const { status, stderr } = spawnSync(
      process.execPath,
      [`${copy}/build/src/cli/main.js`, 'unlock', tree, mountpoint, `--transport=${transport}`],
      { encoding: 'utf8' },
    );
    tools.equal(status, 1);
    const [said, remedy] = stderr.split('\n');
    tools.equal(said, 'ostree-ts: the package fuse-native is not installed');
    tools.matches(remedy ?? '', /npm install fuse-native/);
    await tools.nothingIsLeft();
  },
);
