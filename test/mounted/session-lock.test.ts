/** Who holds a session, and what lock does about it. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'lock refuses while a process holds the mount, and says which and how',
  sandboxed,
  async ({ library, tools, work }) => {
    const { chmodSync, copyFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'some text' });
    copyFileSync('/bin/sleep', `${tree}/d/sleep`);
    chmodSync(`${tree}/d/sleep`, 0o755);
    const session = await library.unlock({ source: [tree], name: 'held' });
    const hold = 'echo; read -r line';
    const mapped = `
    import mmap, os, sys
    fd = os.open('${tree}/d/a', os.O_RDONLY)
    memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.close(fd)
    print(flush=True)
    sys.stdin.read()`;
    const cases: [by: RegExp, command: string, args: string[], cwd: string][] = [
      [/^cwd$/, 'sh', ['-c', hold], `${tree}/d`],
      [/^fd 7$/, 'sh', ['-c', `exec 7<${tree}/d/a; ${hold}`], '/'],
      [/^exe$/, 'sh', ['-c', `echo; exec ${tree}/d/sleep 1000`], '/'],
      [/^mapped$/, 'python3', ['-c', mapped.replaceAll('\n    ', '\n')], '/'],
    ];
    for (const [by, command, args, cwd] of cases) {
      const child = await tools.start(command, args, { cwd });
      // The last word of a shell comes before it becomes another program.
      await tools.until(
        () => tools.run('cat', [`/proc/${child.pid}/comm`]) !== '' && by.source !== '^exe$',
        200,
      );
      const error = await tools.rejection(session.lock());
      tools.equal(error.name, 'BusyError', error.stack);
      const { holders } = error as InstanceType<typeof library.BusyError>;
      tools.same(
        holders.map(({ pid }) => pid),
        [child.pid],
      );
      tools.equal(
        holders[0]!.by.some((word) => by.test(word)),
        true,
        `${by}: ${holders[0]!.by.join()}`,
      );
      tools.matches(error.message, new RegExp(`held.*${child.pid}`));
      tools.matches(error.remedy ?? '', /--lazy/);
      tools.equal((await session.status()).health, 'ok');
      await tools.stop(child);
    }
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'from another process namespace a session is told apart from a dead one, and left alone',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    for (const upper of ['memory', 'tmpfs'] as const) {
      const session = await library.unlock({ source: [tree], name: 'live', upper });
      writeFileSync(`${tree}/new`, 'precious');
      const program = tools.PROGRAM.join(' ');
      const answers = tools.run('unshare', [
        '--pid',
        '--fork',
        '--mount-proc',
        'sh',
        '-c',
        `${program} status --json; ${program} lock live 2>&1; ${program} unlock --name=live 2>&1; ${program} diff live`,
      ]);
      tools.matches(answers, /"health":"elsewhere"/);
      tools.matches(answers, /session live belongs to another process namespace/);
      tools.matches(answers, /no session live to be brought back/);
      tools.matches(answers, /^A\t\/new$/m);
      tools.equal((await session.status()).health, 'ok');
      tools.equal(readFileSync(`${tree}/new`, 'utf8'), 'precious');
      await session.lock();
    }
    await tools.nothingIsLeft();
  },
);

test(
  'a session whose process namespace has gone with it is dead, and can be locked',
  sandboxed,
  async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const program = tools.PROGRAM.join(' ');
    const words = `${program} unlock ${tree} --name=gone --upper=tmpfs && echo x > ${tree}/new`;
    tools.run('unshare', ['--pid', '--fork', '--mount-proc', 'sh', '-c', words]);
    const seen = tools.ostreeTs(['status', '--json']);
    tools.matches(seen.out, /"health":"dead"/);
    const locked = tools.ostreeTs(['lock', 'gone']);
    tools.equal(locked.code, 0, locked.err);
    await tools.nothingIsLeft();
  },
);

test(
  'in a directory that has gone, a session is found by its name',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    await library.unlock({ source: [tree], name: 'usr' });
    mkdirSync(`${work}/gone`);
    const program = tools.PROGRAM.join(' ');
    const script = `cd ${work}/gone; rmdir ${work}/gone; ${program} lock other 2>&1; ${program} lock usr`;
    const answers = tools.run('sh', ['-c', script]);
    tools.matches(answers, /the current directory has gone\ngo to one that is there/);
    tools.matches(answers, /usr: .* is locked again/);
    await tools.nothingIsLeft();
  },
);

test(
  'lock refuses while something is mounted inside',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { 'proc/a': '' });
    const session = await library.unlock({ source: [tree] });
    tools.run('mount', ['-t', 'tmpfs', 'none', `${tree}/proc`]);
    const error = await tools.rejection(session.lock());
    tools.equal(error.name, 'BusyError');
    tools.matches(error.message, /mounted at .*tree\/proc/);
    tools.run('umount', [`${tree}/proc`]);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'lazily, the base is back at once and the holder finishes what it reads',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    writeFileSync(`${tree}/a`, 'changed');
    const reader = await tools.start(
      'sh',
      ['-c', 'exec 7<a; echo; read -r line; cat <&7; echo; read -r line'],
      { cwd: tree },
    );
    const result = await session.lock({ lazy: true });
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    tools.equal(result.draining, true);
    tools.same(
      result.holders.map(({ pid }) => pid),
      [reader.pid],
    );
    const status = await session.status();
    tools.equal(status.health, 'draining');
    tools.equal(status.changes, 1);
    const said = new Promise((resolve) =>
      reader.stdout?.once('data', (data: Buffer) => resolve(data.toString())),
    );
    reader.stdin?.write('\n');
    tools.matches(String(await said), /^changed/);
    // Asked again, it is no error, and says who.
    tools.same(
      (await session.lock()).holders.map(({ pid }) => pid),
      [reader.pid],
    );
    await tools.stop(reader);
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'umount -l behind our back: draining, and it ends by itself',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    const holder = await tools.start('sh', ['-c', 'echo; read -r line'], { cwd: tree });
    tools.run('umount', ['-l', tree]);
    const status = await session.status();
    tools.equal(status.health, 'draining');
    tools.same(status.problems, ['it was unmounted from outside']);
    await tools.stop(holder);
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'a shell that stands in the session may lock it; it drains until the shell ends',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    writeFileSync(`${tree}/a`, 'changed');
    const script = `
    const { findSession } = await import('/run/package/build/src/index.js');
    const result = await (await findSession('tree')).lock();
    console.log(JSON.stringify({ draining: result.draining, parent: process.ppid, holders: result.holders.map(({ pid }) => pid) }));
  `;
    writeFileSync(`${work}/lock.mjs`, script);
    const printed = tools.run(
      'sh',
      ['-c', `${process.execPath} ${work}/lock.mjs; cat a; cat ${tree}/a`],
      { cwd: tree },
    );
    const [first = '', rest] = printed.split('\n');
    const { draining, parent, holders } = JSON.parse(first) as {
      draining: boolean;
      parent: number;
      holders: number[];
    };
    tools.equal(draining, true);
    tools.same(holders, [parent]);
    // The shell still stands in the session, and by its path finds the base.
    tools.equal(rest, 'changedbase');
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'a copy of the mount in another namespace makes it drain',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    const other = await tools.start('unshare', ['-m', 'sh', '-c', 'echo; read -r line']);
    const result = await session.lock();
    tools.same(tools.mountpoints(), []);
    tools.equal(result.draining, true);
    tools.same(
      result.holders.map(({ pid, by }) => [pid, by]),
      [[other.pid, ['namespace']]],
    );
    await tools.stop(other);
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'a session is locked from another mount namespace',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const script = `
    const { unlock } = await import('/run/package/build/src/index.js');
    await unlock({ source: [${JSON.stringify(tree)}] });
  `;
    tools.run('unshare', ['-m', process.execPath, '--input-type=module', '-e', script]);
    const session = await library.findSession('tree');
    const status = await session.status();
    tools.equal(status.health, 'ok');
    tools.same(status.problems, [
      'it is mounted in another mount namespace, and not seen in this one',
    ]);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'the name of a session that was just ended from inside can be taken at once',
  sandboxed,
  async ({ library, tools, work }) => {
    const { copyFileSync, chmodSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    copyFileSync('/bin/sleep', `${tree}/sleep`);
    chmodSync(`${tree}/sleep`, 0o755);
    const session = await library.unlock({ source: [tree], name: 'same' });
    const holder = await tools.start('sh', ['-c', 'echo; exec ./sleep 0.5'], { cwd: tree });
    await session.lock({ lazy: true });
    const again = await library.unlock({ source: [tree], name: 'same' });
    tools.equal((await again.status()).health, 'ok');
    await tools.stop(holder);
    await again.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'bind mounts of a session go with it, and a mount on top is named',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'base' });
    mkdirSync(`${work}/bind`);
    const session = await library.unlock({ source: [tree] });
    tools.run('mount', ['--bind', `${tree}/d`, `${work}/bind`]);
    tools.run('mount', ['-t', 'tmpfs', 'cover', tree]);
    tools.same((await session.status()).problems, ['another filesystem is mounted over it']);
    tools.equal((await tools.rejection(session.lock())).name, 'BusyError');
    await session.lock({ lazy: true });
    tools.same(tools.mountpoints(), []);
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'lock refuses while another session is over this one, and names its daemon',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const middle = tools.plant(`${work}/middle`, {});
    const outer = await library.unlock({ source: [tree], mountpoint: middle, name: 'outer' });
    const inner = await library.unlock({
      source: [middle],
      mountpoint: tools.plant(`${work}/top`, {}),
      name: 'inner',
    });
    const { daemon } = await tools.pids(inner);
    const error = await tools.rejection(outer.lock());
    tools.equal(error.name, 'BusyError');
    const { holders } = error as InstanceType<typeof library.BusyError>;
    tools.equal(
      holders.some(({ pid }) => pid === daemon),
      true,
    );
    tools.equal((await outer.status()).health, 'ok');
    await inner.lock();
    tools.equal((await outer.lock()).draining, false);
    await tools.nothingIsLeft();
  },
);

test(
  'lazily, changes in a directory of which files are held are not discarded, and that is said',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const upper = tools.plant(`${work}/changes`, {});
    const session = await library.unlock({ source: [tree], name: 'held', upper });
    const child = await tools.start('sh', ['-c', `exec 7<${tree}/a; echo; read -r line`]);
    const { code, out, err } = tools.ostreeTs(['lock', 'held', '--lazy', '--discard']);
    tools.equal(code, 0);
    tools.matches(out, /its changes are in .*changes/);
    tools.matches(err, /its changes were not discarded, since files of it are held: remove/);
    await tools.stop(child);
    await tools.until(() => !fs.existsSync(session.folder), 5000);
    tools.equal(fs.existsSync(`${upper}/upper`), true);
    await tools.nothingIsLeft();
  },
);

test(
  'a session that another command has just ended is none',
  sandboxed,
  async ({ library, tools }) => {
    const fs = await import('node:fs');
    // The record has gone, and the rest follows.
    fs.mkdirSync('/run/ostree-ts/going', { recursive: true });
    const [session] = await library.listSessions();
    const locked = tools.rejection(session!.lock());
    await tools.sleep(100);
    fs.rmSync('/run/ostree-ts', { recursive: true });
    const error = await locked;
    tools.equal(error.name, 'SessionError');
    tools.matches(error.message, /there is no session 'going'/);
    await tools.nothingIsLeft();
  },
);
