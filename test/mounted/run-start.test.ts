/** What `run` begins before it knows for which session: a keeper and a daemon, which end when there is none. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test('killed at any moment, nothing is left', sandboxed, async ({ tools, work }) => {
  const { spawn } = await import('node:child_process');
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  const [node = '', ...main] = tools.PROGRAM;
  let begun = 0;
  for (let ms = 0; ms < 600; ms += 20) {
    const child = spawn(node, [...main, 'run', tree, '--', 'sleep', '1234'], { stdio: 'ignore' });
    await tools.sleep(ms);
    if (tools.sessionProcesses().length > 0) begun++;
    child.kill('SIGKILL');
    await tools.exitCode(child);
    // The command's own process is killed by the kernel, when the first of its namespace is.
    const left = () => [...tools.sessionProcesses(), ...tools.processesOf('sleep 1234')];
    await tools.until(() => left().length === 0, 5000);
    tools.equal(left().join(), '', `after ${ms} ms`);
    tools.equal(tools.mountpoints().join(), '', `after ${ms} ms`);
  }
  tools.equal(begun > 5, true, `${begun}`);
});

test(
  'a runner killed before its child has asked to end with it',
  sandboxed,
  async ({ tools, work }) => {
    const { spawn } = await import('node:child_process');
    const runner = '/run/package/native/build/Release/runner';
    // Half a second goes by before either of the two asks for that.
    const strace = `strace -f -qq -o ${work}/trace -e trace=prctl -e inject=prctl:delay_enter=500000`;
    const child = spawn('sh', ['-c', `exec ${strace} ${runner} $$ mounts`], {
      stdio: ['ignore', 'ignore', 'ignore', 'ignore', 'pipe'],
    });
    const [, , , , words] = child.stdio;
    (words as import('node:net').Socket).end([process.pid, '--', 'sleep', '1234', ''].join('\0'));
    // The tracer is told of in words of its own.
    const runners = () => tools.processesOf(`${runner} `).filter((pid) => pid !== child.pid);
    await tools.until(() => runners().length === 2, 10_000);
    tools.equal(runners().length, 2);
    process.kill(Math.min(...runners()), 'SIGKILL');
    // The tracer ends when the last of what it traces does.
    await Promise.race([tools.exitCode(child), tools.sleep(5000)]);
    const left = [...runners(), ...tools.processesOf('sleep 1234')];
    child.kill('SIGKILL');
    tools.equal(left.join(), '');
  },
);

test('refused, nothing is left when it has said so', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  for (const [code, ...args] of [
    [125, `${work}/nothing`, '--', 'true'],
    [125, '--no-such-option', tree, '--', 'true'],
    [125, '--size=much', tree, '--', 'true'],
    [125, `--at=${work}/nothing`, tree, '--', 'true'],
    [0, '--keep=kept', tree, '--', 'true'],
  ] as [number, ...string[]][]) {
    const ran = tools.ostreeTs(['run', ...args]);
    tools.equal(ran.code, code, ran.err);
    tools.equal(tools.sessionProcesses().join(), '', args.join(' '));
  }
  tools.equal(tools.ostreeTs(['lock', 'kept']).code, 0);
  await tools.nothingIsLeft();
});

test('a daemon that dies meanwhile fails the command', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  const { spawn } = await import('node:child_process');
  const [node = '', ...main] = tools.PROGRAM;
  const child = spawn(node, [...main, 'run', tree, '--', 'sleep', '1234']);
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  // The keeper's command line has the daemon's in it.
  const daemon = () =>
    tools.sessionProcesses().find((line) => /^\d+ \S*node \S*daemon\.cjs/.test(line));
  await tools.until(() => daemon() !== undefined, 10_000);
  process.kill(Number.parseInt(daemon()!, 10), 'SIGKILL');
  tools.equal(await tools.exitCode(child), 125);
  tools.matches(said, /cannot start the session: the daemon was killed by signal 9/);
  await tools.nothingIsLeft();
});

test('a keeper that is told nothing, or nonsense, ends', sandboxed, async ({ tools }) => {
  const { spawn } = await import('node:child_process');
  const [node = ''] = tools.PROGRAM;
  const keeper = '/run/package/native/build/Release/keeper';
  const daemon = '/run/package/build/bundle/session/daemon.cjs';
  for (const told of [
    Buffer.of(),
    Buffer.of(1, 2, 3),
    Buffer.from(Uint32Array.of(0, 0).buffer),
    Buffer.from(Uint32Array.of(1e6, 1e6).buffer),
    // No descriptor comes with a byte of these.
    Buffer.from(Uint32Array.of(4, 10, 0).buffer),
  ]) {
    const child = spawn(keeper, ['--later', node, daemon], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const [, , , socket] = child.stdio;
    socket!.on('error', () => {});
    (socket as import('node:net').Socket).end(told);
    tools.equal(await tools.exitCode(child), 0);
    await tools.nothingIsLeft();
  }
});
