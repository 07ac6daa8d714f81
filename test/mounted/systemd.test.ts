/** What a service manager hears of a session, and a session whose manager cannot be had. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'a session in the foreground says when it is ready and when it ends',
  sandboxed,
  async ({ tools, work }) => {
    const { existsSync, readFileSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const manager = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0'))
print(flush=True)
while True:
    with open(sys.argv[2], 'ab') as heard: heard.write(s.recv(4096) + b'\\n')
`;
    writeFileSync(`${work}/manager.py`, manager);
    for (const address of [`${work}/notify`, '@ostree-ts-test']) {
      const heard = `${work}/heard`;
      writeFileSync(heard, '');
      const listener = await tools.start('python3', [`${work}/manager.py`, address, heard]);
      const command = await tools.startCommand(['unlock', '--foreground', tree], {
        env: { ...process.env, NOTIFY_SOCKET: address },
      });
      await tools.until(() => readFileSync(heard, 'utf8').includes('READY=1'), 20_000);
      tools.equal(readFileSync(heard, 'utf8'), `READY=1\nSTATUS=${tree} is writable\n`);
      tools.same(tools.mountpoints(), [tree]);
      command.kill('SIGTERM');
      tools.equal(await tools.exitCode(command), 0);
      await tools.until(() => readFileSync(heard, 'utf8').includes('STOPPING=1'), 2000);
      tools.matches(readFileSync(heard, 'utf8'), /\nSTOPPING=1\n$/);
      await tools.stop(listener);
      await tools.nothingIsLeft();
      tools.equal(existsSync(`${tree}/a`), true);
    }
  },
);

test(
  'a session starts without a unit of its own where systemd-run cannot make one, and says so',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    // As in a container that shows the host's /run/systemd, but not its bus.
    mkdirSync('/run/systemd/system', { recursive: true });
    const warnings: string[] = [];
    const session = await library.unlock({
      source: [tree],
      onWarning: (message) => warnings.push(message),
    });
    tools.equal(warnings.length, 1);
    tools.matches(warnings[0]!, /systemd-run could not make a unit/);
    await session.lock();
    await tools.nothingIsLeft();
  },
);
