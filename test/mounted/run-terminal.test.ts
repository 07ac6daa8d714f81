/** One command on a terminal, in a session that only it sees: keys, jobs, a full-screen program, shells. */
import test from 'ava';
import { inSandbox, sandboxed } from '../helpers/sandbox.ts';

test('Ctrl-C ends the command, and Ctrl-\\ too', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  for (const [key, code] of [
    ['\x03', 130],
    ['\x1c', 131],
  ] as const) {
    const terminal = tools.onTerminal([
      'run',
      tree,
      '--',
      'sh',
      '-c',
      'echo ready; exec sleep 1234',
    ]);
    await terminal.until('ready');
    terminal.type(key);
    tools.equal(await terminal.ended, code);
  }
  await tools.nothingIsLeft();
});

test('a command that heeds Ctrl-C goes on', sandboxed, async ({ tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'one' });
  const script = 'n=0; trap \'n=$((n+1))\' INT; echo ready; read line; echo "$n typed"; exit 4';
  const terminal = tools.onTerminal(['run', tree, '--', 'bash', '-c', script]);
  await terminal.until('ready');
  terminal.type('\x03');
  await terminal.until('^C');
  terminal.type('\n');
  // Once, though it went to the whole process group.
  await terminal.until('1 typed');
  tools.equal(await terminal.ended, 4);
  await tools.nothingIsLeft();
});

test(
  'as a job of a shell it is stopped and goes on, by Ctrl-Z and by itself',
  sandboxed,
  async ({ tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { a: 'one' });
    const terminal = tools.typeAt('bash --norc');
    for (const script of ['read a; echo got', 'kill -STOP $$; echo got']) {
      terminal.type(
        `${tools.PROGRAM.join(' ')} run ${tree} -- bash -c 'echo re""ady; ${script}'\n`,
      );
      await terminal.until('ready');
      if (script.startsWith('read')) terminal.type('\x1a');
      await terminal.until('Stopped');
      terminal.type('echo in the sh""ell; fg\n');
      await terminal.until('in the shell');
      if (script.startsWith('read')) terminal.type('a line\n');
      await terminal.until('got\r');
    }
    terminal.type('exit\n');
    await terminal.ended;
    await tools.nothingIsLeft();
  },
);

test(
  'a full-screen program draws, hears of a new size, and gives the screen back',
  sandboxed,
  async ({ tools, work }) => {
    const { spawnSync } = await import('node:child_process');
    const lines = Array.from({ length: 500 }, (_, index) => `line ${index}`).join('\n');
    const tree = tools.plant(`${work}/tree`, { a: lines });
    const tmux = (...args: string[]) =>
      spawnSync('tmux', ['-S', `${work}/tmux`, '-f', '/dev/null', ...args], { encoding: 'utf8' });
    const screen = () => tmux('capture-pane', '-p').stdout;
    const shows = async (words: string) => {
      await tools.until(() => screen().includes(words), 10_000);
      tools.equal(screen().includes(words), true, `${words} in:\n${screen()}`);
    };
    tmux('new-session', '-d', '-x', '80', '-y', '20', 'bash --norc');
    tmux('send-keys', `${tools.PROGRAM.join(' ')} run ${tree} -- less ${tree}/a`, 'Enter');
    await shows('line 18');
    tmux('send-keys', 'G');
    await shows('line 499');
    tmux('resize-window', '-x', '80', '-y', '40');
    await tools.until(() => (screen().split('\n')[39] ?? '').startsWith('(END)'), 10_000);
    tools.matches(screen().split('\n')[39] ?? '', /^\(END\)/);
    tmux('send-keys', 'q');
    // In a pipeline the terminal is for the others, too.
    tmux(
      'send-keys',
      `clear; ${tools.PROGRAM.join(' ')} run ${tree} -- cat ${tree}/a | (sleep 0.3; exec less)`,
      'Enter',
    );
    await shows('line 38');
    // The terminal is less's own when the command has ended, which began before it.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    tmux('send-keys', 'G');
    await shows('line 499');
    tmux('send-keys', 'q');
    tmux('send-keys', 'echo back', 'Enter');
    await shows('\nback');
    tmux('kill-server');
    await tools.nothingIsLeft();
  },
);

for (const shell of ['bash', 'zsh', 'fish', 'sh']) {
  test(`without a command there is ${shell}, whose prompt says that it is unlocked`, async (t) => {
    await inSandbox(
      async ({ tools, work }) => {
        const { existsSync, mkdirSync, readFileSync } = await import('node:fs');
        const name = readFileSync('/run/scratch/.shell', 'utf8');
        // Without one that is for nobody else, fish leaves something in /tmp.
        const runtime = `${work}/runtime`;
        mkdirSync(runtime, { mode: 0o700 });
        const tree = tools.plant(`${work}/tree`, { a: 'one' });
        const home = tools.plant(`${work}/home`, {
          '.bashrc': 'alias mine="echo my alias"\n',
          '.zshrc': 'alias mine="echo my alias"\n',
          '.config/fish/config.fish': 'alias mine="echo my alias"\n',
        });
        const found = tools.run('sh', ['-c', `command -v ${name}`]).trim();
        const terminal = tools.onTerminal(['run', tree], {
          SHELL: found,
          HOME: home,
          TERM: 'xterm',
          XDG_RUNTIME_DIR: runtime,
        });
        await terminal.until('(unlocked: tree)');
        terminal.type(`touch ${tree}/new; ls ${tree}; sleep 0.01 & jobs; wait; echo do""ne\r`);
        await terminal.until('new');
        await terminal.until('done');
        if (name !== 'sh') {
          terminal.type('mine\r');
          await terminal.until('my alias');
        }
        terminal.type('exit 6\r');
        tools.equal(await terminal.ended, 6);
        tools.equal(existsSync(`${tree}/new`), false);
        await tools.nothingIsLeft();
      },
      { files: { '.shell': shell } },
    );
    t.pass();
  });
}
