/** What kills a session, and what is left of it: the base, a truthful status, and a lock that cleans up. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'kill -9 of the daemon under load gives the base back within a second',
  sandboxed,
  async ({ library, tools, work }) => {
    const { existsSync, mkdirSync, readdirSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const mnt = `${work}/mnt`;
    mkdirSync(mnt);
    for (let number = 0; number < 200; number++) {
      writeFileSync(`${tree}/file${number}`, String(number).repeat(10_000));
    }
    // Contents, names, modes, owners, sizes and times to the nanosecond; access times apart.
    const checksum = () =>
      tools.run(
        'sh',
        [
          '-c',
          'find . -printf "%p %m %U %G %s %T@ %C@ %n\\n" | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum',
        ],
        { cwd: tree },
      );
    const before = checksum();
    const session = await library.unlock({ source: [tree], mountpoint: mnt });
    const script = `while cat ${mnt}/a > /dev/null; do
      cat ${mnt}/file* > /dev/null; cp ${mnt}/file1 ${mnt}/new$$; mv ${mnt}/new$$ ${mnt}/file1
      rm -f ${mnt}/file$$; echo x >> ${mnt}/file2; chmod 600 ${mnt}/file3; echo
    done 2> /dev/null`;
    const loads = [
      await tools.start('sh', ['-c', script]),
      await tools.start('sh', ['-c', script]),
    ];
    for (const child of loads) child.stdout?.resume();
    await tools.sleep(300);
    const { daemon } = await tools.pids(session);
    tools.equal(((await session.status()).changes ?? 0) > 0, true);
    process.kill(daemon, 'SIGKILL');
    const waitedMs = await tools.until(() => tools.mountpoints().length === 0, 5000);
    tools.equal(waitedMs < 1000, true, `${waitedMs} ms`);
    // None of the programs that were inside hangs.
    await tools.until(() => loads.every(({ exitCode }) => exitCode !== null), 5000);
    tools.same(
      loads.map(({ exitCode }) => exitCode !== null),
      [true, true],
    );
    tools.same(
      readdirSync(mnt).filter((name) => !/^(new\d+|file[12])$/.test(name)),
      [],
    );
    tools.equal(checksum(), before);
    const status = await session.status();
    tools.equal(status.health, 'dead');
    tools.matches(status.problems.join(), /^the daemon was killed by signal 9 at /);
    tools.matches(status.log.join('\n'), /killed by signal 9/);
    tools.equal(status.pid, null);
    const result = await session.lock();
    tools.matches(result.found.join(), /killed by signal 9/);
    tools.equal(existsSync(session.folder), false);
    await tools.nothingIsLeft();
  },
);

test(
  'kill -9 of the daemon over /usr: /usr/bin/true runs again within a second',
  sandboxed,
  async ({ library, tools }) => {
    const { writeFileSync, existsSync } = await import('node:fs');
    const session = await library.unlock({ source: ['/usr'] });
    writeFileSync('/usr/bin/new', 'x');
    const load = await tools.start('/usr/bin/sh', [
      '-c',
      'while :; do /usr/bin/ls -lR /usr/bin > /dev/null; echo; done 2>/dev/null',
    ]);
    load.stdout?.resume();
    const { daemon } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    const waitedMs = await tools.until(() => tools.mountpoints().length === 0, 5000);
    tools.equal(waitedMs < 1000, true, `${waitedMs} ms`);
    tools.run('/usr/bin/true', [], { timeout: 1000 });
    tools.equal(existsSync('/usr/bin/new'), false);
    await tools.stop(load);
    tools.equal((await session.status()).health, 'dead');
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'kill -9 of the keeper: the session goes on, status says so, lock works',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    const { keeper } = await tools.pids(session);
    process.kill(keeper, 'SIGKILL');
    await tools.until(
      () => !tools.sessionProcesses().some((line) => line.startsWith(`${keeper} `)),
      1000,
    );
    writeFileSync(`${tree}/a`, 'changed');
    const status = await session.status();
    tools.equal(status.health, 'unguarded');
    tools.equal(status.keeper, null);
    tools.equal(status.changes, 1);
    tools.matches(status.problems.join(), /keeper has gone/);
    const result = await session.lock();
    tools.equal(result.draining, false);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await tools.nothingIsLeft();
  },
);

test(
  'kill -9 of both: a dead mount is left, seen, and cleaned up',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    const { daemon, keeper } = await tools.pids(session);
    process.kill(keeper, 'SIGKILL');
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => tools.sessionProcesses().length === 0, 1000);
    const { readFile } = await import('node:fs/promises');
    const error = (await tools.rejection(readFile(`${tree}/a`))) as NodeJS.ErrnoException;
    // The first is what a request finds that was under way when the last descriptor was closed.
    tools.equal(['ECONNABORTED', 'ENOTCONN'].includes(error.code ?? ''), true, error.message);
    const status = await session.status();
    tools.equal(status.health, 'dead');
    tools.same(status.problems, ['the daemon has gone', `a dead mount is left at ${tree}`]);
    const refused = await tools.rejection(library.unlock({ source: [tree] }));
    tools.matches(refused.message, /already the session tree/);
    await session.lock();
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await tools.nothingIsLeft();
  },
);

test(
  'a daemon that hangs is told from one that works, and can be locked',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    process.kill((await tools.pids(session)).daemon, 'SIGSTOP');
    const status = await session.status();
    tools.equal(status.health, 'hung');
    tools.same(status.problems, ['the daemon does not answer']);
    const result = await session.lock();
    tools.matches(result.found.join(), /was killed/);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await tools.nothingIsLeft();
  },
);

test(
  'stale and damaged records are seen, do not disturb, and are cleaned up',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree], name: 'good' });
    const good = tools.run('cat', [`${session.folder}/record.json`]);
    const state = tools.run('cat', [`${session.folder}/state`]);
    const records: Record<string, [record: string, state: string]> = {
      empty: ['', ''],
      garbage: ['\0\xff{', 'keeper\ndaemon x y\n'],
      wrong: ['{"name":1,"source":"x"}', 'keeper 1 2\ndaemon 3 4\ndevice x\nphase y\n'],
      // It claims the living session's processes in an earlier boot: whoever believed it would kill them.
      boot: [good.replace(/"boot":"[^"]*"/, '"boot":"another"'), state],
      // It claims a device that is by now the living session's.
      device: [
        good,
        state.replace(/^keeper .*/m, 'keeper 1 1').replace(/^daemon .*/m, 'daemon 1 1'),
      ],
    };
    for (const [name, [record, text]] of Object.entries(records)) {
      mkdirSync(`/run/ostree-ts/${name}`, { mode: 0o700 });
      if (record !== '') writeFileSync(`/run/ostree-ts/${name}/record.json`, record);
      if (text !== '') writeFileSync(`/run/ostree-ts/${name}/state`, text);
    }
    const sessions = await library.listSessions();
    tools.same(
      sessions.map(({ name }) => name),
      ['boot', 'device', 'empty', 'garbage', 'good', 'wrong'],
    );
    for (const one of sessions) {
      const status = await one.status();
      tools.equal(status.health, one.name === 'good' ? 'ok' : 'dead', one.name);
      if (one.name === 'good') continue;
      tools.equal(status.problems.length > 0, true, one.name);
      await one.lock();
    }
    tools.equal((await session.status()).health, 'ok');
    tools.same(tools.mountpoints(), [tree]);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'the launcher killed at any moment of its start leaves a session that works, or nothing',
  sandboxed,
  async ({ library, tools, work }) => {
    const { spawn } = await import('node:child_process');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const script = `
    const { unlock } = await import('/run/package/build/src/index.js');
    console.log('now');
    await unlock({ source: [${JSON.stringify(tree)}] });
  `;
    for (let delayMs = 0; delayMs <= 300; delayMs += 30) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = new Promise((resolve) => child.once('exit', resolve));
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await tools.sleep(delayMs);
      child.kill('SIGKILL');
      await exited;
      const settled = async () =>
        (await Promise.all((await library.listSessions()).map((one) => one.status()))).every(
          ({ health }) => health !== 'starting',
        );
      for (let turn = 0; turn < 100 && !(await settled()); turn++) await tools.sleep(20);
      for (const session of await library.listSessions()) {
        const { health } = await session.status();
        tools.equal(health === 'ok' || health === 'dead', true, health);
        await session.lock();
      }
      await tools.nothingIsLeft();
    }
  },
);

test(
  'what a launcher leaves that was killed before it took a name goes when sessions are listed',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync } = await import('node:fs');
    mkdirSync('/run/ostree-ts');
    tools.equal((await library.listSessions()).length, 0);
    await tools.nothingIsLeft();
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    // Somebody looks all the time while sessions begin and end: each gets the name that is free.
    const done = new AbortController();
    const looking = (async () => {
      while (!done.signal.aborted) {
        await library.listSessions();
        await tools.sleep(0);
      }
    })();
    for (let time = 0; time < 5; time++) {
      const session = await library.unlock({ source: [tree] });
      tools.equal(session.name, 'tree');
      await session.lock();
    }
    done.abort();
    await looking;
    await tools.nothingIsLeft();
  },
);

test(
  'a session that is nearly full says so in its log and its status',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree], size: '1M' });
    tools.same((await session.status()).problems, []);
    writeFileSync(`${tree}/large`, Buffer.alloc(980 * 1024, 'x'));
    const status = await session.status();
    tools.equal(status.health, 'ok');
    tools.matches(status.problems.join(), /9\d % full/);
    tools.matches(status.log.join(), /9\d % full/);
    await session.status();
    tools.equal(readFileSync(`${session.folder}/log`, 'utf8').match(/% full/g)?.length, 1);
    await session.lock();
    await tools.nothingIsLeft();
  },
);
