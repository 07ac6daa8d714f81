/**
 * What `npm pack` makes: what is in it, that it installs where npm runs no install scripts and there is no compiler, and
 * that it works there, under every Node there is a promise for, with the addon built once.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import type { ExecutionContext } from 'ava';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = mkdtempSync(join(tmpdir(), 'pack-'));
/** The empty project that the package is installed into. */
const PROJECT = join(FOLDER, 'project');
/** All of the programs that it may find: no compiler, no make, no Python. */
const PROGRAMS = ['node', 'npm', 'npx', 'sh', 'fusermount3'];
const PACKAGE = join(PROJECT, 'node_modules/ostree-ts');

const execute = promisify(execFile);

interface Outcome {
  code: number | string;
  out: string;
  err: string;
}

async function run(
  program: string,
  args: string[],
  { cwd = PROJECT, path = join(FOLDER, 'bin') }: { cwd?: string; path?: string } = {},
): Promise<Outcome> {
  // What npm has set for the run that this is in is not for the one in the project.
  const entries = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  const env = { ...Object.fromEntries(entries), PATH: path };
  try {
    const { stdout, stderr } = await execute(program, args, { cwd, env, timeout: 280_000 });
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as {
      code: number | string;
      stdout: string;
      stderr: string;
    };
    return { code, out: stdout, err: stderr };
  }
}

function which(program: string): string | undefined {
  const folders = [dirname(process.execPath), ...(process.env['PATH'] ?? '').split(':')];
  return folders.map((folder) => join(folder, program)).find((path) => exists(path));
}

function exists(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}

interface Packed {
  filename: string;
  size: number;
  files: { path: string; mode: number }[];
}

let packed: Packed;

test.before('pack and install', async (t) => {
  t.timeout(10 * 60_000);
  const packing = await run('npm', ['pack', '--json', '--pack-destination', FOLDER], {
    cwd: ROOT,
    path: process.env['PATH'] ?? '',
  });
  t.is(packing.code, 0, packing.err);
  [packed] = JSON.parse(packing.out) as [Packed];
  mkdirSync(PROJECT);
  writeFileSync(join(PROJECT, 'package.json'), '{"name":"empty","private":true,"type":"module"}');
  mkdirSync(join(FOLDER, 'bin'));
  for (const program of PROGRAMS) {
    const path = which(program);
    if (path !== undefined) symlinkSync(path, join(FOLDER, 'bin', program));
  }
  const tarball = join(FOLDER, packed.filename);
  const installed = await run('npm', [
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    tarball,
  ]);
  t.is(installed.code, 0, installed.err);
});

test.after.always('remove it all', () => {
  rmSync(FOLDER, { recursive: true, force: true });
});

test('the package holds what runs, and nothing else', (t) => {
  const allowed = [
    /^(README|ARCHITECTURE|CHANGELOG)\.md$/,
    /^(LICENSE|package\.json)$/,
    /^build\/src\/[a-z/-]+\.(js|d\.ts)$/,
    /^build\/bundle\/[a-z/-]+\.c?js$/,
    /^build\/bundle\/parts\/[a-z-]*-[A-Z0-9]{8}\.js(\.x64-\d[\w.-]*)?$/,
    /^build\/man\/ostree-ts\.1$/,
    /^systemd\/ostree-ts@\.service$/,
    /^native\/([a-z-]+\.(cc|h)|binding\.gyp)$/,
    /^prebuilds\/linux-(x64|arm64)\/(ostree_ts\.node|keeper|runner)$/,
  ];
  const paths = packed.files.map(({ path }) => path);
  t.deepEqual(
    paths.filter((path) => !allowed.some((pattern) => pattern.test(path))),
    [],
  );
  for (const path of [
    'README.md',
    'LICENSE',
    'build/src/index.js',
    'build/src/index.d.ts',
    'build/bundle/cli/main.cjs',
    'build/bundle/cli/mount.cjs',
    'build/bundle/session/daemon.cjs',
    'build/bundle/fuse/worker.cjs',
    'build/bundle/fuse/libfuse-worker.js',
    'build/bundle/layers/inflate-thread.js',
    'prebuilds/linux-x64/ostree_ts.node',
    'prebuilds/linux-x64/keeper',
    'prebuilds/linux-x64/runner',
    'prebuilds/linux-arm64/ostree_ts.node',
    'prebuilds/linux-arm64/keeper',
    'prebuilds/linux-arm64/runner',
  ]) {
    t.true(paths.includes(path), path);
  }
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  for (const path of paths.filter((one) => one.startsWith('build/src/'))) {
    const source = path.replace(/^build\/src\//, '').replace(/(\.d\.ts|\.js)$/, '.ts');
    t.true(sources.includes(source), `${path} comes from a source`);
  }
  t.true(packed.size < 4e6, `${packed.size} bytes`);
});

test('fuse-native, which is optional, is not installed with it', (t) => {
  t.false(exists(join(PROJECT, 'node_modules/fuse-native/package.json')));
  t.true(exists(join(PROJECT, 'node_modules/commander/package.json')));
});

test('what a module finds beside itself is named such that a bundle finds it, too', (t) => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  const named = sources
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join(ROOT, 'src', path), 'utf8'))
    .flatMap((text) => [...text.matchAll(/new URL\('([^']*)', import\.meta\.url\)/g)])
    .map(([, name = '']) => name);
  t.true(named.length > 0);
  t.deepEqual(
    named.filter((name) => !name.startsWith('../')),
    [],
  );
});

test('keepers and runners can be executed', (t) => {
  for (const program of ['x64/keeper', 'x64/runner', 'arm64/keeper', 'arm64/runner']) {
    const found = packed.files.find(({ path }) => path === `prebuilds/linux-${program}`);
    t.is((found?.mode ?? 0) & 0o111, 0o111, program);
  }
});

test('where it is installed there is no compiler', async (t) => {
  for (const program of ['cc', 'gcc', 'g++', 'c++', 'make', 'python3']) {
    t.is((await run('sh', ['-c', `command -v ${program}`])).out, '');
  }
});

test.serial('the mount programs are installed', async (t) => {
  for (const program of ['ostree-ts-mount', 'mount.fuse.ostree-ts']) {
    const { code, out } = await run(join(PROJECT, 'node_modules/.bin', program), ['--help']);
    t.is(code, 0);
    t.regex(out, /^Usage: ostree-ts-mount -o/);
  }
});

/** A session by the installed command, under the Node that is first in `path`. */
async function lives(t: ExecutionContext, label: string, path?: string): Promise<void> {
  const tree = join(FOLDER, `tree-${label}`);
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), 'base\n');
  const command = async (...args: string[]): Promise<Outcome> =>
    await run('npx', ['--no-install', 'ostree-ts', ...args], path === undefined ? {} : { path });
  const name = `pack-${process.pid}-${label}`;
  const unlocked = await command('unlock', tree, `--name=${name}`, '--size=16M');
  t.is(unlocked.code, 0, unlocked.err);
  try {
    const written = await run('sh', [
      '-c',
      `echo more >>"${tree}/file" && echo new >"${tree}/new"`,
    ]);
    t.is(written.code, 0, written.err);
    t.is((await command('diff', name)).out, 'M\t/file\nA\t/new\n');
  } finally {
    const locked = await command('lock', name);
    t.is(locked.code, 0, locked.err);
  }
  t.deepEqual(readdirSync(tree), ['file']);
  t.is(readFileSync(join(tree, 'file'), 'utf8'), 'base\n');
}

test('npx ostree-ts runs a session', async (t) => {
  t.timeout(120_000);
  await lives(t, 'this');
});

/** The same with a Node from npm; it is an x64 or arm64 program as this one is. */
async function livesUnder(t: ExecutionContext, major: number): Promise<void> {
  t.timeout(300_000);
  const folder = join(FOLDER, `node-${major}`);
  mkdirSync(folder);
  const spec = `node-linux-${process.arch}@${major}`;
  const got = await run('npm', [
    'install',
    '--prefix',
    folder,
    '--ignore-scripts',
    '--no-audit',
    spec,
  ]);
  t.is(got.code, 0, got.err);
  const bin = join(folder, `node_modules/node-linux-${process.arch}/bin`);
  // npx, a script, is run by the Node that is found first.
  const path = `${bin}:${join(FOLDER, 'bin')}`;
  t.regex((await run('node', ['--version'], { path })).out, new RegExp(`^v${major}\\.`));
  await lives(t, `node-${major}`, path);
}

test('the same addon works under Node 22', async (t) => await livesUnder(t, 22));
test('the same addon works under Node 24', async (t) => await livesUnder(t, 24));

test('the library is imported by its name, and its types compile strictly', async (t) => {
  t.timeout(120_000);
  const tree = join(FOLDER, 'tree-library');
  mkdirSync(tree);
  writeFileSync(
    join(PROJECT, 'use.ts'),
    `import { writeFileSync } from 'node:fs';
import { findSession, SessionError, unlock } from 'ostree-ts';
import type { Change, SessionStatus, UnlockOptions } from 'ostree-ts';

const options: UnlockOptions = { source: [process.argv[2] ?? ''], name: 'pack-library-${process.pid}', size: '1M' };
await using session = await unlock(options);
writeFileSync(session.mountpoint + '/new', 'new');
const changes: Change[] = [];
for await (const change of session.diff()) changes.push(change);
const status: SessionStatus = await (await findSession(session.name)).status();
const unknown = await findSession('no such session').catch((error: unknown) => error instanceof SessionError);
console.log(JSON.stringify([changes.map(({ kind, path }) => kind + path), status.health, unknown]));
`,
  );
  const flags =
    '--strict --target es2022 --lib es2023,esnext.disposable --module nodenext --types node --typeRoots';
  const compiled = await run(process.execPath, [
    join(ROOT, 'node_modules/typescript/bin/tsc'),
    ...flags.split(' '),
    join(ROOT, 'node_modules/@types'),
    'use.ts',
  ]);
  t.is(compiled.code, 0, compiled.out);
  const used = await run(process.execPath, ['use.js', tree]);
  t.is(used.code, 0, used.err);
  t.deepEqual(JSON.parse(used.out), [['A/new'], 'ok', true]);
  t.deepEqual(readdirSync(tree), []);
});

test('without an addon that fits, one line says what is missing, and a local build serves', async (t) => {
  t.timeout(300_000);
  const copy = join(PROJECT, 'node_modules/without');
  cpSync(PACKAGE, copy, { recursive: true });
  rmSync(join(copy, 'prebuilds'), { recursive: true });
  const main = join(copy, 'build/bundle/cli/main.cjs');
  const refused = await run(process.execPath, [main, 'status']);
  t.is(refused.code, 1);
  t.is(refused.out, '');
  t.regex(refused.err, /^ostree-ts: cannot load the addon.*node-gyp@12 rebuild[^\n]*\n/);
  t.is((await run(process.execPath, [main, '--version'])).code, 0);

  // With a compiler, what came with the package is enough to build one.
  const gyp = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');
  const nodedir = `--nodedir=${dirname(dirname(process.execPath))}`;
  const built = await run(process.execPath, [gyp, 'rebuild', '-C', 'native', nodedir], {
    cwd: copy,
    path: process.env['PATH'] ?? '',
  });
  t.is(built.code, 0, built.err);
  t.is((await run(process.execPath, [main, 'status'])).code, 0);
});

const breach = test.macro({
  async exec(t: ExecutionContext, path: string, imported: string) {
    const folder = mkdtempSync(join(FOLDER, 'lint-'));
    cpSync(join(ROOT, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    const lint = async (from: string): Promise<Outcome> => {
      writeFileSync(
        join(folder, path),
        `import { x } from '${from}';\n\nexport const y: unknown = x;\n`,
      );
      return await run(process.execPath, [join(ROOT, 'node_modules/oxlint/bin/oxlint')], {
        cwd: folder,
      });
    };
    const refused = await lint(imported);
    t.not(refused.code, 0, 'the breach is an error');
    t.regex(refused.out, /no-restricted-imports/);
    t.is((await lint('./neighbour.ts')).code, 0, 'it is the import that is refused');
  },
  title: (_, path, imported) => `lint refuses ${imported} in ${path}`,
});

test(breach, 'src/cli/commands/x.ts', '../../session/session.ts');
test(breach, 'src/cli/x.ts', '../native.ts');
test(breach, 'src/session/x.ts', '../cli/output.ts');
test(breach, 'src/fuse/x.ts', '../session/session.ts');
test(breach, 'src/overlay/x.ts', '../fuse/abi.ts');
test(breach, 'src/overlay/x.ts', '../native.ts');
test(breach, 'src/layers/x.ts', '../overlay/overlay.ts');
test(breach, 'src/ostree/x.ts', '../layers/layer.ts');
