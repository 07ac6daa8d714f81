/**
 * `npm test`: everything that must hold, in stages, and that nothing is left behind afterwards. What it prints last is
 * one line, `N passed, N failed`; a stage that is no test suite counts as one.
 *
 *   node scripts/test.mjs                        everything, seeded and bounded
 *   node scripts/test.mjs test/cli.test.ts ...   these suites only
 *
 * Suites that run on a mount do so on the memory upper; those of UPPERS again on a tmpfs and on disk, and all of them at a scale
 * above 1. OSTREE_TS_TEST_UPPER says which upper a single run has.
 *
 * OSTREE_TS_TEST_SCALE multiplies the number of random operations, cycles and repetitions (`npm run test:long`).
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Leftovers } from './leftovers.mjs';
import { ROOT, SetupError, isCi, setUp } from './setup.mjs';

const SCALE = Math.max(1, Number(process.env['OSTREE_TS_TEST_SCALE']) || 1);
/** For everything together: what hangs ends then. On two quiet cores it takes about 20 minutes. */
const DEADLINE = Date.now() + 40 * 60_000 * SCALE;

/** Sessions that do little need not be warm: of the suite session-life it is a quarter of the time. Those that measure are. */
const COLD = { OSTREE_TS_COLD: '1' };

/** Suites that mount run in namespaces of their own, so many at once: some look at all sessions there are. */
const AT_ONCE = 2;
/** What takes many minutes is left to `npm run test:long`. */
const LONG_ONLY = SCALE < 2 ? ['import-system'] : [];
/** What is run on each other upper as well, of the suites that ask for a session by `mounted`; the contract's do so themselves. */
const UPPERS = { tmpfs: ['random', 'requests'], disk: ['random', 'requests'] };
/** The others that do. */
const ON_MOUNTED = [
  'commit',
  'diff',
  'export',
  'history',
  'large',
  'costs',
  'no-space',
  'programs',
  'undo',
];
/** These measure, or count what the kernel asks for while nobody drops its caches: they run alone, after all. */
const ALONE = ['requests', 'endurance', 'costs'];
/** These take longest, and so begin first; `programs` when commit-debian has made the Debian tree that both need. */
const LONG = [
  'commit-debian',
  'commit-faults',
  'bench',
  'programs',
  'diff',
  'commit-session',
  'commit-system',
  'podman',
  'booted-faults',
  'upper-faults',
  'interop',
];

let passed = 0;
let failed = 0;
/** @type {Leftovers | undefined} */
let leftovers;

/** @param {boolean} ok @param {string} words */
function count(ok, words) {
  if (ok) passed++;
  else failed++;
  console.log(`${ok ? 'ok' : 'FAILED'}: ${words}`);
}

/**
 * Runs a program of node_modules.
 *
 * @param {string[]} command  A script, relative to node_modules, and its arguments.
 * @param {NodeJS.ProcessEnv} env
 * @param {(line: string) => void} onLine  Gets what it prints.
 * @returns {Promise<string | undefined>} why it failed.
 */
function runTool([script = '', ...args], env, onLine) {
  return runProgram(process.execPath, [join(ROOT, 'node_modules', script), ...args], env, onLine);
}

/**
 * Runs a program to its end, or to the deadline, in a process group of its own.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {(line: string) => void} onLine  Gets what it prints.
 * @returns {Promise<string | undefined>} why it failed.
 */
async function runProgram(program, args, env, onLine) {
  const child = spawn(program, args, {
    cwd: ROOT,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const endGroup = () => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  let overdue = false;
  const timer = setTimeout(() => {
    overdue = true;
    endGroup();
  }, DEADLINE - Date.now());
  process.on('exit', endGroup);
  createInterface({ input: child.stdout }).on('line', onLine);
  const [code, signal] = await new Promise((resolve, reject) => {
    child.on('error', reject);
    // Not 'close': something that outlives it may hold its stdout, and is a leftover.
    child.on('exit', (...how) => setTimeout(() => resolve(how), 200));
  });
  clearTimeout(timer);
  process.off('exit', endGroup);
  if (overdue) return 'not done in time';
  return code === 0 ? undefined : `ended with ${signal ?? code}`;
}

/** @param {string} words @param {string[]} command @param {NodeJS.ProcessEnv} env */
async function check(words, command, env) {
  const why = await runTool(command, env, console.log);
  count(why === undefined, why === undefined ? words : `${words}: ${why}`);
}

/**
 * Runs suites under ava and counts what its TAP says. Where nobody looks on, a skipped test is a failure.
 *
 * @param {{ name: string, files: string[], concurrency: number }} suite
 * @param {NodeJS.ProcessEnv} env
 */
async function runSuites({ name, files, concurrency }, env) {
  let bad = 0;
  const command = ['ava/entrypoints/cli.mjs', '--tap', '-c', String(concurrency), ...files];
  const why = await runTool(command, env, (line) => {
    console.log(line);
    const [, not, rest = ''] = /^(not )?ok \d+(.*)/.exec(line) ?? [];
    if (!/^(not )?ok \d/.test(line)) return;
    if (not === undefined && !(isCi() && / # SKIP/.test(rest))) passed++;
    else bad++;
  });
  failed += bad;
  if (bad > 0) console.log(`FAILED: ${name}: ${bad} of them, see "not ok" and "# SKIP" above`);
  else if (why !== undefined) count(false, `${name}: ${why}`);
}

/**
 * Runs the suites that mount: as root each in a mount and a pid namespace of its own, with no sessions but its own, and
 * several at once; what it leaves is looked for in there. Otherwise one after another.
 *
 * @param {NodeJS.ProcessEnv} env
 */
async function runMounted(env) {
  const suites = readdirSync(join(ROOT, 'build/test/mounted'))
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => basename(file, '.test.js'))
    .filter((suite) => !LONG_ONLY.includes(suite))
    .sort((a, b) => rank(a) - rank(b));
  for (const suite of LONG_ONLY) console.log(`# ${suite}: in npm run test:long only`);
  if (process.getuid?.() !== 0) {
    const files = suites.map((suite) => `build/test/mounted/${suite}.test.js`);
    await runSuites({ name: 'suites on a mount', files, concurrency: 1 }, env);
    return;
  }
  const others = Object.entries(UPPERS).flatMap(([upper, some]) =>
    (SCALE > 1 ? [...new Set([...ON_MOUNTED, ...Object.values(UPPERS).flat()])] : some).map(
      (suite) => ({ suite, upper }),
    ),
  );
  const all = [...suites.map((suite) => ({ suite, upper: 'memory' })), ...others];
  const apart = async (
    /** @type {Iterable<typeof all[number]>} */ some,
    /** @type {NodeJS.ProcessEnv} */ more,
  ) => {
    for (const { suite, upper } of some) {
      await runApart(suite, upper, { ...env, ...more, OSTREE_TS_TEST_UPPER: upper });
    }
  };
  const alone = all.filter(({ suite }) => ALONE.includes(suite));
  const beside = all.filter(({ suite }) => !ALONE.includes(suite)).values();
  const leave = useSessions();
  process.on('exit', leave);
  await Promise.all(Array.from({ length: AT_ONCE }, () => apart(beside, COLD)));
  await apart(alone, {});
  leave();
}

/**
 * A mountpoint for the sessions of each suite: a folder that is there anyway, or goes again. Sessions of others would take
 * it with them if it were empty.
 *
 * @returns {() => void} ends that.
 */
function useSessions() {
  const isNew = mkdirSync(SESSIONS, { recursive: true, mode: 0o700 }) !== undefined;
  writeFileSync(IN_USE, '');
  return () => {
    rmSync(IN_USE, { force: true });
    if (isNew && existsSync(SESSIONS) && readdirSync(SESSIONS).length === 0) rmdirSync(SESSIONS);
  };
}

const SESSIONS = '/run/ostree-ts';
/** No session is called so. */
const IN_USE = join(SESSIONS, '.tests');

/** @param {string} suite @returns the place in LONG, or behind all of it. */
function rank(suite) {
  return LONG.includes(suite) ? LONG.indexOf(suite) : LONG.length;
}

/** @param {string} suite @param {string} upper @param {NodeJS.ProcessEnv} env */
async function runApart(suite, upper, env) {
  const start = Date.now();
  const flags = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const script = `mount -t tmpfs -o mode=700 tmpfs ${SESSIONS} && exec "$@"`;
  const self = fileURLToPath(import.meta.url);
  const inside = [process.execPath, self, INSIDE, `test/mounted/${suite}.test.ts`];
  let sum = '';
  const why = await runProgram(
    'unshare',
    [...flags, '--propagation', 'private', 'sh', '-c', script, 'sh', ...inside],
    env,
    (line) => {
      if (/^\d+ passed, \d+ failed$/.test(line)) sum = line;
      else console.log(line);
    },
  );
  const [good, bad] = (/^(\d+) passed, (\d+) failed$/.exec(sum) ?? []).slice(1).map(Number);
  passed += good ?? 0;
  failed += bad ?? 0;
  const took = `${suite} (${upper}): ${sum}, ${Math.round((Date.now() - start) / 1000)} s`;
  if (why === undefined || (bad ?? 0) > 0) console.log(`# ${took}`);
  else count(false, `${took}: ${why}`);
}

/** Said by `runApart` to itself: the set-up is done, and only what is wrong is counted. */
const INSIDE = '--inside';

/** @param {string[]} patterns  Sources of suites, or none for everything. */
async function main(patterns) {
  if (patterns[0] === INSIDE) {
    leftovers = new Leftovers();
    const files = patterns.slice(1).map(compiled);
    await runSuites({ name: 'the suite', files, concurrency: 1 }, leftovers.env);
    const left = await leftovers.clean();
    for (const line of left) count(false, `left behind: ${line}`);
    return;
  }
  await setUp('test');
  count(true, 'setup: dependencies, addon, keeper, type check of src, test and scripts');
  leftovers = new Leftovers();
  try {
    if (patterns.length > 0) {
      const files = patterns.map(compiled);
      await runSuites({ name: 'chosen suites', files, concurrency: 1 }, leftovers.env);
      return;
    }
    await check(
      'type check of scripts/*.mjs',
      ['typescript/bin/tsc', '-p', 'scripts'],
      process.env,
    );
    await check('lint', ['oxlint/bin/oxlint', '--type-aware'], process.env);
    await check('format', ['prettier/bin/prettier.cjs', '--check', '.'], process.env);
    await check('nothing unused', ['knip/bin/knip.js'], process.env);
    const files = ['build/test/*.test.js'];
    await runSuites({ name: 'suites without a mount', files, concurrency: 2 }, leftovers.env);
    await runMounted(leftovers.env);
  } finally {
    const left = await leftovers.clean();
    for (const line of left) console.log(`left behind: ${line}`);
    count(left.length === 0, 'nothing is left behind: processes, mounts, temp files');
  }
}

/** @param {string} source */
function compiled(source) {
  return `build/${source.replace(/\.ts$/, '.js')}`;
}

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.on(
    signal,
    () => void (leftovers?.clean() ?? Promise.resolve()).finally(() => process.exit(1)),
  );
}
const start = Date.now();
try {
  await main(process.argv.slice(2));
} catch (error) {
  count(
    false,
    error instanceof SetupError
      ? error.message
      : String(error instanceof Error ? error.stack : error),
  );
}
if (process.argv[2] !== INSIDE) console.log(`in ${Math.round((Date.now() - start) / 1000)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
