/** One command in a session that only it sees, for root. */
import test from 'ava';
import { debianTree } from '../helpers/debian.ts';
import { inSandbox, sandboxed } from '../helpers/sandbox.ts';

test(
  'the command sees the session over its source, and leaves nothing',
  sandboxed,
  async ({ tools, work }) => {
    const { readFileSync, readdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one', 'd/b': 'two' });
    const script = 'echo new > a; rm -r d; ls; cat a; pwd; echo "$OSTREE_TS_SESSION"';
    const { code, out, err } = tools.ostreeTs(['run', '.', '--', 'sh', '-c', script], {
      cwd: tree,
    });
    tools.equal(err, '');
    tools.equal(out, `a\nnew\n${tree}\ntree\n`);
    tools.equal(code, 0);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
    tools.same(readdirSync(tree), ['a', 'd']);
    await tools.nothingIsLeft();
  },
);

test(
  'exit codes are the command’s, or say why it did not run',
  sandboxed,
  async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one', plain: 'no program' });
    const shell = (script: string) => ['run', tree, '--', 'sh', '-c', script];
    const cases: [string[], number, RegExp][] = [
      [shell('exit 0'), 0, /^$/],
      [shell('exit 1'), 1, /^$/],
      [shell('exit 42'), 42, /^$/],
      [shell('kill -INT $$'), 130, /^$/],
      [shell('kill -TERM $$'), 143, /^$/],
      [shell('kill -KILL $$'), 137, /^$/],
      [['run', tree, '--', 'no-such-program'], 127, /cannot run no-such-program: No such file/],
      [['run', tree, '--', `${tree}/plain`], 126, /cannot run .*plain: Permission denied/],
      [['run', tree, '--', tree], 126, /Permission denied/],
      [['run', `${work}/nowhere`, '--', 'true'], 125, /does not exist/],
      [['run', tree, '--'], 125, /the command is empty/],
      [['run', '--', 'true'], 125, /Not currently booted into an OSTree system/],
      [['run', '--size=much', tree, '--', 'true'], 125, /size/],
      [['run', '--no-such-option', tree, '--', 'true'], 125, /unknown option/],
      [['run', tree, 'true'], 125, /too many arguments/],
      [['run', '--keep=k', '--name=n', tree, '--', 'true'], 125, /keep names the session/],
      [['run', '--chroot', '--at=/mnt', tree, '--', 'true'], 125, /with chroot/],
    ];
    for (const [line, expected, words] of cases) {
      const { code, err } = tools.ostreeTs(line);
      tools.equal(code, expected, `${line.join(' ')}: ${err}`);
      tools.matches(err, words);
    }
    await tools.nothingIsLeft();
  },
);

test(
  'arguments and standard streams of any bytes reach the command',
  sandboxed,
  async ({ tools, work }) => {
    const { spawnSync } = await import('node:child_process');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    // A shell gives the command line the byte that Node cannot.
    const line = `${tools.PROGRAM.join(' ')} run ${tree} -- printf '%s|' "$(printf 'a\\377b')" '' -- 'x y'`;
    const printed = spawnSync('sh', ['-c', line]);
    tools.equal(printed.stdout.toString('latin1'), 'a\xffb||--|x y|');
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 256));
    const [node = '', ...main] = tools.PROGRAM;
    const copied = spawnSync(node, [...main, 'run', tree, '--', 'cat'], { input: bytes });
    tools.equal(copied.stdout.equals(bytes), true);
  },
);

test(
  'others see the tree as it is, and the session in status, where diff reads it',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const script = 'echo new > a; echo ready; read line; cat a';
    const running = await tools.startCommand(['run', '.', '--', 'sh', '-c', script], { cwd: tree });
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
    tools.same(tools.mountpoints(), []);
    const [session] = await library.listSessions();
    const status = await session!.status();
    tools.equal(status.health, 'ok');
    tools.same(status.problems, []);
    const changes = [];
    for await (const { kind, path } of session!.diff()) changes.push(`${kind} ${path}`);
    tools.same(changes, ['M /a']);
    running.stdin?.end('\n');
    tools.equal(await tools.exitCode(running), 0);
    await tools.nothingIsLeft();
  },
);

test('what the command has started ends with it', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  const script = 'setsid sleep 1234 & (nohup sleep 1234 > /dev/null 2>&1 &) ; exit 3';
  tools.equal(tools.ostreeTs(['run', tree, '--', 'sh', '-c', script]).code, 3);
  tools.same(tools.processesOf('sleep 1234'), []);
  await tools.nothingIsLeft();
});

test(
  'kill -9 of the command or of its runner leaves no mount, no process and no file',
  sandboxed,
  async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    for (const whom of ['command', 'runner']) {
      const script = 'setsid sleep 1234 & sleep 1234 & echo ready; wait';
      const running = await tools.startCommand(['run', tree, '--', 'sh', '-c', script]);
      const [runner] = tools.processesOf('/runner');
      process.kill(whom === 'command' ? running.pid! : runner!, 'SIGKILL');
      tools.equal(await tools.exitCode(running), whom === 'command' ? null : 137);
      await tools.until(() => tools.processesOf('sleep 1234').length === 0, 2000);
      tools.same(tools.processesOf('sleep 1234'), []);
      tools.same(tools.processesOf('/runner'), []);
      await tools.nothingIsLeft();
    }
  },
);

test(
  'a command whose session breaks is killed before it could write to what lies beneath',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const script = `echo ready; while :; do i=$((i+1)); echo x > f$i || echo x > ${work}/refused; done`;
    for (const whom of ['daemon', 'keeper'] as const) {
      const running = await tools.startCommand(['run', '.', '--', 'sh', '-c', script], {
        cwd: tree,
      });
      const [session] = await library.listSessions();
      process.kill((await tools.pids(session!))[whom], 'SIGKILL');
      tools.equal(await tools.exitCode(running), 125);
      tools.same(readdirSync(tree), ['a']);
      await tools.nothingIsLeft();
    }
  },
);

test('signals are passed on', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  for (const [signal, code] of [
    ['SIGTERM', 11],
    ['SIGHUP', 12],
    ['SIGUSR1', 13],
    ['SIGINT', 14],
  ] as const) {
    const script =
      "trap 'exit 11' TERM; trap 'exit 12' HUP; trap 'exit 13' USR1; trap 'exit 14' INT; echo ready; while :; do sleep 0.05; done";
    const running = await tools.startCommand(['run', tree, '--', 'sh', '-c', script]);
    running.kill(signal);
    tools.equal(await tools.exitCode(running), code, signal);
  }
  await tools.nothingIsLeft();
});

test(
  '--keep: changes stay for diff, another run and unlock, until they are discarded',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readFileSync, existsSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one', b: 'two' });
    const keep = (script: string) =>
      tools.ostreeTs(['run', '--keep=kept', tree, '--', 'sh', '-c', `cd ${tree}; ${script}`]);
    tools.equal(keep('echo new > a').code, 0);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
    tools.same(tools.sessionProcesses(), []);
    const status = await (await library.findSession('kept')).status();
    tools.equal(status.health, 'kept');
    tools.same(status.problems, []);
    tools.equal(tools.ostreeTs(['diff', 'kept']).out, 'M\t/a\n');
    tools.same(tools.sessionProcesses(), []);
    tools.equal(keep('cat a; rm b').out, 'new\n');
    const session = await library.unlock({ source: [], name: 'kept' });
    tools.equal(session.mountpoint, tree);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'new\n');
    tools.equal(existsSync(`${tree}/b`), false);
    await session.lock();
    tools.equal(readFileSync(`${tree}/b`, 'utf8'), 'two');
    await tools.nothingIsLeft();
    tools.equal(keep('true').code, 0);
    tools.equal(tools.ostreeTs(['lock', 'kept']).code, 0);
    await tools.nothingIsLeft();
  },
);

test(
  '--protect-etc-var: what is written to /etc and /var is thrown away, mounts in them are read-only',
  sandboxed,
  async ({ tools, work }) => {
    const { existsSync, readFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const before = readFileSync('/etc/passwd', 'utf8');
    const script = `
      set -e
      echo x > /etc/ostree-ts-test; mkdir /var/ostree-ts-test; echo x > ${tree}/b
      grep -q 64001 /etc/passwd
      if (echo x >> /etc/passwd) 2>/dev/null; then exit 9; fi
      cat /etc/ostree-ts-test; ls -d /var/ostree-ts-test`;
    const line = ['run', '--protect-etc-var', tree, '--', 'sh', '-c', script];
    const { code, out, err } = tools.ostreeTs(line);
    tools.equal(err, '');
    tools.equal(out, 'x\n/var/ostree-ts-test\n');
    tools.equal(code, 0);
    for (const path of ['/etc/ostree-ts-test', '/var/ostree-ts-test', `${tree}/b`]) {
      tools.equal(existsSync(path), false, path);
    }
    tools.equal(readFileSync('/etc/passwd', 'utf8'), before);
    await tools.nothingIsLeft();
  },
);

test(
  'what is kept outlives the daemon of a run that has died, and what is only on a tmpfs does not',
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const kept = ['run', '--keep=kept'];
    tools.equal(tools.ostreeTs([...kept, tree, '--', 'sh', '-c', `echo new > ${tree}/b`]).code, 0);
    /** Kills the daemon while the command runs. */
    const broken = async (line: string[], name: string) => {
      const running = await tools.startCommand([...line, '--', 'sh', '-c', 'echo up; sleep 60']);
      const session = (await library.listSessions()).find((one) => one.name === name);
      process.kill((await tools.pids(session!)).daemon, 'SIGKILL');
      tools.equal(await tools.exitCode(running), 125);
      return session!;
    };
    const session = await broken(kept, 'kept');
    const { health, problems } = await session.status();
    tools.equal(health, 'dead');
    tools.matches(problems.join('\n'), /its changes are kept/);
    tools.equal(tools.ostreeTs([...kept, '--', 'cat', `${tree}/b`]).out, 'new\n');
    await session.lock();
    await broken(['run', '--upper=tmpfs', '--name=gone', tree], 'gone');
    await tools.nothingIsLeft();
  },
);

test(
  'mounts below the source are seen, read-only, and not those that come later',
  sandboxed,
  async ({ tools, work }) => {
    const { existsSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one', 'in/side': '' });
    tools.run('mount', ['-t', 'tmpfs', 'tmpfs', `${tree}/in`]);
    tools.plant(`${tree}/in`, { seen: 'yes' });
    const script = `cat in/seen; (echo x > in/written) 2>/dev/null || echo refused`;
    const { out } = tools.ostreeTs(['run', '.', '--', 'sh', '-c', script], { cwd: tree });
    tools.equal(out, 'yesrefused\n');
    tools.equal(existsSync(`${tree}/in/written`), false);
    tools.run('umount', [`${tree}/in`]);
    await tools.nothingIsLeft();
  },
);

test('a commit is shown where the session has room, at a place, or as the root', async (t) => {
  await inSandbox(async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one', 'd/b': 'two' });
    tools.run('ostree', ['init', `--repo=${work}/repo`, '--mode=bare-user']);
    tools.run('ostree', ['commit', `--repo=${work}/repo`, '--branch=main', tree]);
    const repo = `--repo=${work}/repo`;
    const here = tools.ostreeTs(['run', repo, 'main', '--', 'sh', '-c', 'echo x >> a; cat a; pwd']);
    tools.equal(here.out, 'onex\n/run/ostree-ts/main/root\n', here.err);
    const at = tools.ostreeTs(['run', repo, `--at=${work}/repo`, 'main', '--', 'true']);
    tools.equal(at.code, 125);
    const there = tools.ostreeTs(['run', repo, '--at=/mnt', 'main', '--', 'cat', '/mnt/d/b']);
    tools.equal(there.out, 'two');
    await tools.nothingIsLeft();
  });
  t.pass();
});

test('--chroot: apt-get installs in a Debian tree, and the tree is what it was', async (t) => {
  const out = await inSandbox(
    async ({ tools }) => {
      const { existsSync } = await import('node:fs');
      const script = `
        set -e
        apt-get install -y hello > /dev/null 2>&1
        hello
        dpkg --verify hello
        echo x > /dev/null; ls -d /proc/self/fd > /dev/null; echo x > /dev/shm/x; echo x > /run/x
        readlink /dev/ptmx
        (echo x > /sys/kernel/x) 2>/dev/null || echo read-only
        echo "$HOME $(id -un) $(pwd) $(ls /proc | grep -c '^[0-9]')"`;
      const {
        code,
        out: printed,
        err,
      } = tools.ostreeTs(['run', '--chroot', '/run/tree', '--', 'sh', '-c', script], {
        timeout: 60_000,
      });
      tools.equal(code, 0, err);
      tools.equal(existsSync('/run/tree/usr/bin/hello'), false);
      tools.equal(existsSync('/run/x'), false);
      await tools.nothingIsLeft();
      return printed;
    },
    { tree: debianTree() },
  );
  t.regex(out, /^Hello, world!\npts\/ptmx\nread-only\n\/root root \/ \d\n$/);
});
