/**
 * `npm test`: everything that must hold, in stages, and that nothing is left behind afterwards. What it prints last is
 * one line, `N passed, N failed`; a stage that is no test suite counts as one.
 *
 *   node scripts/test.mjs                        everything, seeded and bounded
 *   node scripts/test.mjs test/cli.test.ts ...   these suites only
 *
 * OSTREE_TS_TEST_SCALE multiplies the number of random operations, cycles and repetitions (`npm run test:long`).
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Leftovers } from './leftovers.mjs';
import { ROOT, SetupError, isCi, setUp } from './setup.mjs';

const SCALE = Math.max(1, Number(process.env['OSTREE_TS_TEST_SCALE']) || 1);
/** For everything together. What is asked of `npm test` is 20 minutes on two cores. */
const DEADLINE = Date.now() + 19 * 60_000 * SCALE;

/** Suites that mount get the machine for themselves: they wait for processes, and some look at all sessions there are. */
const SUITES = [
  { name: 'suites without a mount', files: ['build/test/*.test.js'], concurrency: 2 },
  { name: 'suites on a mount', files: ['build/test/mounted/**/*.test.js'], concurrency: 1 },
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
 * Runs a program of node_modules to its end, or to the deadline, in a process group of its own.
 *
 * @param {string[]} command  A script, relative to node_modules, and its arguments.
 * @param {NodeJS.ProcessEnv} env
 * @param {(line: string) => void} onLine  Gets what it prints.
 * @returns {Promise<string | undefined>} why it failed.
 */
async function runTool([script = '', ...args], env, onLine) {
  const child = spawn(process.execPath, [join(ROOT, 'node_modules', script), ...args], {
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

/** @param {string[]} patterns  Sources of suites, or none for everything. */
async function main(patterns) {
  await setUp('test');
  count(true, 'setup: dependencies, addon, keeper, type check of src, test and scripts');
  leftovers = new Leftovers();
  try {
    if (patterns.length > 0) {
      const files = patterns.map((path) => `build/${path.replace(/\.ts$/, '.js')}`);
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
    for (const suite of SUITES) {
      if (existsSync(join(ROOT, suite.files[0]?.replace(/\/?\*.*/, '') ?? ''))) {
        await runSuites(suite, leftovers.env);
      }
    }
  } finally {
    const left = await leftovers.clean();
    for (const line of left) console.log(`left behind: ${line}`);
    count(left.length === 0, 'nothing is left behind: processes, mounts, temp files');
  }
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
console.log(`in ${Math.round((Date.now() - start) / 1000)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
