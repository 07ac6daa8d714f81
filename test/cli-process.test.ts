/** The command, the demo and the set-up as processes: what only a real argv, real pipes and real sessions can show. */
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { PROGRAM } from './helpers/program.ts';

const DEMO = fileURLToPath(new URL('../scripts/demo.js', import.meta.url));
const SETUP = fileURLToPath(new URL('../../scripts/setup.mjs', import.meta.url));
const FOLDER = mkdtempSync(join(tmpdir(), 'cli-'));

const execute = promisify(execFile);

test.after.always('remove it all', () => {
  rmSync(FOLDER, { recursive: true, force: true });
});

test('a SOURCE that is no UTF-8 is unlocked, and its changes are listed with their bytes', async (t) => {
  t.timeout(60_000);
  const name = `bytes-${process.pid}`;
  const tree = Buffer.concat([Buffer.from(join(FOLDER, 'tree-')), Buffer.from([0xff, 0xfe])]);
  mkdirSync(tree);
  // A shell passes bytes on as they are; Node's spawn knows text only.
  const script = `
    set -eu
    tree="$2/$(printf 'tree-\\377\\376')"
    node "$1" unlock "$tree" --name="$3" --size=4M >&2
    trap 'node "$1" lock "$3" --lazy >&2' EXIT
    : >"$tree/$(printf 'new-\\303\\251-\\303')"
    node "$1" diff "$3"
    node "$1" diff "$3" --json
    node "$1" diff "$3" "$(printf '/new-\\303\\251-\\303')"
    node "$1" diff "$3" "$(printf '/new-\\303\\251-\\302')"
  `;
  const { stdout } = await execute('sh', ['-c', script, 'sh', PROGRAM, FOLDER, name]);
  const [line = '', json = '', ...filtered] = stdout.trimEnd().split('\n');
  t.is(line, 'A\t"/new-é-\\303"');
  const { pathBase64 } = JSON.parse(json) as { pathBase64: string };
  t.is(Buffer.from(pathBase64, 'base64').toString('latin1'), '/new-\xc3\xa9-\xc3');
  t.deepEqual(filtered, [line], 'a path is matched by its bytes');
  t.deepEqual(readdirSync(tree), []);
});

test('a reader that has seen enough is no failure', async (t) => {
  t.timeout(60_000);
  const name = `pipe-${process.pid}`;
  const tree = join(FOLDER, 'many');
  mkdirSync(tree);
  await execute(process.execPath, [PROGRAM, 'unlock', tree, `--name=${name}`, '--size=64M']);
  try {
    for (let i = 0; i < 5000; i++) {
      writeFileSync(join(tree, `${'long name '.repeat(10)}${i}`), '');
    }
    const script = `{ node "$1" diff "$2"; echo "exit $?" >&2; } | head -n 1`;
    const { stdout, stderr } = await execute('sh', ['-c', script, 'sh', PROGRAM, name]);
    t.is(stdout.split('\n').length, 2);
    t.is(stderr, 'exit 0\n');
  } finally {
    await execute(process.execPath, [PROGRAM, 'lock', name]);
  }
});

test('--foreground ends the session when it is interrupted', async (t) => {
  t.timeout(60_000);
  const tree = join(FOLDER, 'foreground');
  mkdirSync(tree);
  const name = `foreground-${process.pid}`;
  const args = [PROGRAM, 'unlock', tree, `--name=${name}`, '--size=4M', '--foreground', '--json'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', (...how) => resolve(how)));
  const line = await new Promise<string>((resolve) => {
    child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()));
  });
  t.is((JSON.parse(line) as { health: string }).health, 'ok');
  writeFileSync(join(tree, 'new'), '');
  child.kill('SIGINT');
  t.deepEqual(await ended, [0, null]);
  t.deepEqual(readdirSync(tree), []);
});

test('doctor finds everything that the tests need', async (t) => {
  t.timeout(60_000);
  // What is missing makes it fail, and is more telling.
  const { stdout } = await execute(process.execPath, [PROGRAM, 'doctor', '--json']).catch(
    (error: unknown) => error as { stdout: string },
  );
  const findings = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { feature: string; state: string; detail: string });
  t.deepEqual(
    findings.filter(({ state }) => state === 'missing'),
    [],
  );
  t.regex(findings.at(-1)?.detail ?? '', /starts in \d+ ms, reads and writes/);
});

test('the demo shows a session from beginning to end, and leaves nothing', async (t) => {
  t.timeout(60_000);
  const folder = join(FOLDER, 'demo');
  mkdirSync(folder);
  const { stdout } = await execute(process.execPath, [DEMO], {
    env: { ...process.env, TMPDIR: folder },
  });
  t.regex(stdout, /A\t\/lib\/application\/settings/);
  t.regex(stdout, /the tree is what it was, and nothing else is left/);
  t.deepEqual(readdirSync(folder), []);
});

test('two set-ups of one checkout wait for each other', async (t) => {
  t.timeout(300_000);
  const runs = [1, 2].map(async () => await execute(process.execPath, [SETUP, 'build']));
  const words = (await Promise.all(runs)).map(({ stderr }) => stderr);
  t.true(words.some((text) => text.includes('waiting for another setup')));
});

test('a set-up for nothing known is refused', async (t) => {
  await t.throwsAsync(execute(process.execPath, [SETUP, 'nonsense']), {
    message: /one of build, demo/,
  });
});
