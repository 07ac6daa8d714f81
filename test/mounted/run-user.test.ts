/** One command in a session that only it sees, for ordinary users: in a user namespace, with subordinate ids or without. */
import test from 'ava';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianTree } from '../helpers/debian.ts';
import { inSandbox, type Inside, USERS } from '../helpers/sandbox.ts';

const [WITH_IDS, WITHOUT_IDS] = USERS;

const asUser = test.macro(async (t, uid: number, body: (inside: Inside) => Promise<void>) => {
  await inSandbox(body, { uid });
  t.pass();
});

for (const uid of USERS) {
  test(
    `plain programs change any tree, and leave nothing (user ${uid})`,
    asUser,
    uid,
    async ({ tools, work }) => {
      const { existsSync, readFileSync } = await import('node:fs');
      const tree = tools.plant(`${work}/tree`, { a: 'one' });
      const script =
        'echo new > a; mkdir d; mv a d; cat d/a; id -u; touch /usr/x 2>/dev/null; exit 5';
      const own = tools.ostreeTs(['run', '.', '--', 'sh', '-c', script], { cwd: tree });
      tools.equal(own.err, '');
      tools.equal(own.out, 'new\n0\n');
      tools.equal(own.code, 5);
      tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
      // Root's own: without a session it could not be touched.
      const other = tools.ostreeTs([
        'run',
        '/usr',
        '--',
        'sh',
        '-c',
        'touch /usr/x && mv /usr/share/doc /usr/share/gone && stat -c %u /usr /usr/x',
      ]);
      tools.equal(other.out, '0\n0\n', other.err);
      tools.equal(existsSync('/usr/x'), false);
      tools.equal(existsSync('/usr/share/doc'), true);
      await tools.nothingIsLeft();
    },
  );
}

test('what may not be read is told of as changed, and the rest as it is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-unreadable-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'etc/private'), { recursive: true });
  for (const name of ['shadow', 'shadow-']) {
    writeFileSync(join(folder, 'etc', name), `secret of ${name}`.padEnd(20), { mode: 0o600 });
  }
  for (const path of ['', 'etc']) chmodSync(join(folder, path), 0o755);
  chmodSync(join(folder, 'etc/private'), 0o700);
  await inSandbox(
    async ({ library, tools }) => {
      const script =
        'mv etc/shadow- etc/shadow; mv etc/private etc/moved; echo x > etc/new; echo; read -r line';
      const args = ['run', '--name=one', '/run/tree', '--', 'sh', '-ec', `cd /run/tree; ${script}`];
      const child = await tools.startCommand(args);
      const session = await library.findSession('one');
      const { health, changes } = await session.status();
      tools.same([health, changes], ['ok', 5]);
      const found = [];
      for await (const { kind, path } of session.diff()) found.push(`${kind} ${path}`);
      tools.same(found, [
        'A /etc/moved',
        'A /etc/new',
        'D /etc/private',
        'M /etc/shadow',
        'D /etc/shadow-',
      ]);
      child.stdin?.end('\n');
      tools.equal(await tools.exitCode(child), 0);
      await tools.nothingIsLeft();
    },
    { uid: WITH_IDS, tree: folder },
  );
  t.pass();
});

test(
  'others see nothing, status and diff do, and kill -9 leaves nothing (an ordinary user)',
  asUser,
  WITH_IDS,
  async ({ library, tools, work }) => {
    const { readFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const script = 'echo new > a; setsid sleep 1234 & echo ready; wait';
    const running = await tools.startCommand(['run', '.', '--', 'sh', '-c', script], { cwd: tree });
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'one');
    const session = await library.findSession('tree');
    const status = await session.status();
    tools.equal(status.health, 'ok');
    tools.same(status.problems, []);
    const changes = [];
    for await (const { kind, path } of session.diff()) changes.push(`${kind} ${path}`);
    tools.same(changes, ['M /a']);
    process.kill(running.pid!, 'SIGKILL');
    await tools.exitCode(running);
    await tools.until(() => tools.processesOf('sleep 1234').length === 0, 2000);
    tools.same(tools.processesOf('sleep 1234'), []);
    await tools.nothingIsLeft();
  },
);

test(
  'what only root may have is refused (an ordinary user)',
  asUser,
  WITHOUT_IDS,
  async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const kept = tools.ostreeTs(['run', '--keep=k', tree, '--', 'true']);
    tools.equal(kept.code, 125);
    tools.matches(kept.err, /an ordinary user's run keeps its changes in memory/);
    // One user and one group: there is nobody else to give a file to.
    const given = tools.ostreeTs(['run', tree, '--', 'chown', '5:5', `${tree}/a`]);
    tools.equal(given.code, 1);
    tools.matches(given.err, /Invalid argument/);
    await tools.nothingIsLeft();
  },
);

test('an ordinary user with subordinate ids installs a package in root’s tree', async (t) => {
  const printed = await inSandbox(
    async ({ tools }) => {
      const { existsSync } = await import('node:fs');
      const script = `
        set -e
        apt-get install -y hello > /dev/null 2>&1
        hello
        dpkg --verify hello
        chown games:tty /usr/bin/hello
        stat -c '%U %G' /usr/bin/hello`;
      const { code, out, err } = tools.ostreeTs(
        ['run', '--chroot', '/run/tree', '--', 'sh', '-c', script],
        { timeout: 60_000 },
      );
      tools.equal(code, 0, err);
      tools.equal(existsSync('/run/tree/usr/bin/hello'), false);
      await tools.nothingIsLeft();
      return out;
    },
    { uid: WITH_IDS, tree: debianTree() },
  );
  t.is(printed, 'Hello, world!\ngames tty\n');
});

test('an ordinary user without subordinate ids is told what cannot be', async (t) => {
  const words = await inSandbox(
    async ({ tools }) => {
      const { code, out, err } = tools.ostreeTs([
        'run',
        '--chroot',
        '/run/tree',
        '--',
        'id',
        '-un',
      ]);
      tools.equal(code, 0, err);
      tools.equal(out, 'root\n');
      await tools.nothingIsLeft();
      return err;
    },
    { uid: WITHOUT_IDS, tree: debianTree() },
  );
  t.regex(words, /no subordinate ids .* packages cannot be installed/);
});
