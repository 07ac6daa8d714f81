/**
 * Makes a checkout ready to run: system packages, node_modules, the addon, the keeper and the runner, the compiled TypeScript.
 *
 * It runs before anything is installed, so it uses Node's own modules only. What is done already is not done again:
 * `npm ci` and node-gyp run when what they read has changed since (a stamp); tsc runs always, for it takes a second. Two
 * at once wait for each other.
 *
 *   node scripts/setup.mjs [build|demo|test|bench|prebuilds]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';
import { SYSTEM_PACKAGES } from './packages.mjs';

/** @typedef {import('./packages.mjs').Purpose} Purpose */
/** @typedef {import('./packages.mjs').SystemPackage} SystemPackage */

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const PURPOSES = ['build', 'demo', 'test', 'bench', 'prebuilds'];

/** What cannot be mended here: printed as it is, without a stack. */
export class SetupError extends Error {}

/**
 * Does everything.
 *
 * @param {Purpose} purpose  What it is for: decides which system packages are asked for.
 * @throws {SetupError} with what is missing and how to get it.
 */
export async function setUp(purpose) {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new SetupError(`Node ${process.versions.node} is too old: 20.19 or newer is needed`);
  }
  const release = await exclusive();
  try {
    installSystemPackages(purpose);
    installDependencies();
    buildNative();
    await compile();
  } finally {
    release();
  }
}

/**
 * Waits until no other setup of this checkout runs. The lock is an abstract socket: the kernel lets go of it when its
 * owner dies, so there is nothing to be stale.
 *
 * @returns {Promise<() => void>} ends the exclusion.
 */
async function exclusive() {
  const path = `\0ostree-ts-setup-${createHash('sha256').update(ROOT).digest('hex').slice(0, 16)}`;
  for (let told = false; ; told = true) {
    /** @type {import('node:net').Socket[]} */
    const waiting = [];
    const server = createServer((socket) => {
      // One that gives up is no matter.
      socket.on('error', () => {});
      waiting.push(socket);
    });
    const taken = await new Promise((resolve, reject) => {
      server.once('error', (error) =>
        'code' in error && error.code === 'EADDRINUSE' ? resolve(true) : reject(error),
      );
      server.listen(path, () => resolve(false));
    });
    if (!taken) {
      return () => {
        server.close();
        for (const socket of waiting) socket.destroy();
      };
    }
    if (!told) say('waiting for another setup of this checkout');
    // The connection ends when its owner does.
    await new Promise((resolve) =>
      connect(path)
        .on('error', () => {})
        .on('close', resolve),
    );
  }
}

/** @param {Purpose} purpose */
function installSystemPackages(purpose) {
  const missing = SYSTEM_PACKAGES.filter(
    ({ purposes, probe }) => purposes.includes(purpose) && !isThere(probe),
  );
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  const command = `apt-get install -y --no-install-recommends ${names.join(' ')}`;
  if (process.getuid?.() === 0 && isThere('apt-get')) {
    for (const { name, why } of missing) say(`installing ${name}: ${why}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    run('apt-get', ['update', '-qq'], { env, mayFail: true });
    run('apt-get', command.split(' ').slice(1), { env, mayFail: true });
  }
  const left = missing.filter(({ probe }) => !isThere(probe));
  if (left.length === 0) return;
  const list = left.map(({ name, why }) => `  ${name}: ${why}`).join('\n');
  const remedy = `as root: ${command}`;
  // Without a compiler there is nothing to run; without the rest, what needs it is skipped, and says so.
  if (isCi() || left.some(({ purposes }) => purposes.includes('build'))) {
    throw new SetupError(`these system packages are missing:\n${list}\n${remedy}`);
  }
  say(`going on without these system packages:\n${list}\n${remedy}`);
}

/** @param {SystemPackage['probe']} probe */
function isThere(probe) {
  if (Array.isArray(probe)) {
    const [program = '', ...args] = probe;
    return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
  }
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, probe), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function installDependencies() {
  const stamp = new Stamp('node_modules/.ostree-ts-stamp', ['package-lock.json'], '');
  if (stamp.isCurrent) return;
  say('installing node_modules');
  // No dependency has an install script that we need, so none is trusted to run.
  run('npm', ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund']);
  stamp.write();
}

/** Builds native/build/Release/{ostree_ts.node,keeper,runner}. */
function buildNative() {
  // Node-API is stable, but the headers, and so inline code, are those of this Node.
  const abi = `${process.arch} ${process.versions.modules} ${process.versions['napi']}`;
  const stamp = new Stamp('native/build/stamp', [...nativeSources(), 'package-lock.json'], abi);
  if (stamp.isCurrent) return;
  say('building the addon, the keeper and the runner');
  const nodedir = findHeaders();
  run(
    process.execPath,
    [NODE_GYP, 'rebuild', '-C', 'native', `--nodedir=${nodedir}`, '--loglevel=warn'],
    {
      quiet: true,
    },
  );
  stamp.write();
}

/** What the addon, the keeper and the runner are built from, relative to the root. */
export function nativeSources() {
  return readdirSync(join(ROOT, 'native'))
    .filter((name) => /\.(cc|h|gyp)$/.test(name))
    .sort()
    .map((name) => `native/${name}`);
}

export const NODE_GYP = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');

/**
 * The folder above include/node, beside the node that runs. Headers are never downloaded: they might not fit.
 *
 * @throws {SetupError}
 */
export function findHeaders() {
  const prefix = dirname(dirname(process.execPath));
  const places = [prefix, '/usr/local', '/usr'];
  for (const place of places) {
    const file = join(place, 'include/node/node_version.h');
    if (!existsSync(file)) continue;
    const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(readFileSync(file, 'utf8'))?.[1];
    if (major === process.versions.node.split('.')[0]) return place;
  }
  throw new SetupError(
    `no headers for Node ${process.versions.node}: include/node/node_version.h of that version was looked for in ${places.join(', ')}\n` +
      "use a Node that comes with its headers (nodejs.org's archives do, Debian has them in libnode-dev)",
  );
}

/**
 * Compiles src/, test/ and scripts/ into build/. Files that come out as they were are not touched, since a test run or a
 * session may be using them, and those whose source is gone are removed.
 */
async function compile() {
  // Beside build/, so that source maps point to the same places.
  const next = join(ROOT, '.build-next');
  rmSync(next, { recursive: true, force: true });
  try {
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    run(process.execPath, [tsc, '-p', '.', '--outDir', next]);
    for (const folder of ['src', 'test', 'scripts']) replaceChanged(folder, next);
    await bundle(join(ROOT, 'build/src'), join(next, 'bundle'));
    replaceChanged('bundle', next);
    mkdirSync(join(next, 'man'), { recursive: true });
    const page = [join(ROOT, 'build/bundle/cli/main.cjs'), 'completion', 'man'];
    writeFileSync(join(next, 'man/ostree-ts.1'), execFileSync(process.execPath, page));
    replaceChanged('man', next);
  } finally {
    rmSync(next, { recursive: true, force: true });
  }
}

/**
 * Makes build/FOLDER what next/FOLDER is.
 *
 * @param {string} folder
 * @param {string} next
 */
function replaceChanged(folder, next) {
  const build = join(ROOT, 'build');
  const fresh = filesBelow(join(next, folder)).map((path) => relative(next, path));
  for (const path of fresh) {
    const [from, to] = [join(next, path), join(build, path)];
    if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) continue;
    mkdirSync(dirname(to), { recursive: true });
    renameSync(from, to);
  }
  const kept = new Set(fresh);
  for (const path of filesBelow(join(build, folder))) {
    if (!kept.has(relative(build, path))) rmSync(path);
  }
}

/** @param {string} folder */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** A file that says from what something was made, so that it is made again when that has changed. */
export class Stamp {
  /**
   * @param {string} path  Of the stamp, relative to the root, beside what is made.
   * @param {string[]} inputs  Files, relative to the root.
   * @param {string} extra  What else it depends on.
   */
  constructor(path, inputs, extra) {
    const hash = createHash('sha256').update(extra);
    for (const input of inputs) {
      hash.update(`\0${input}\0`).update(readFileSync(join(ROOT, input)));
    }
    this.path = join(ROOT, path);
    this.value = hash.digest('hex');
  }

  get isCurrent() {
    return existsSync(this.path) && readFileSync(this.path, 'utf8') === this.value;
  }

  write() {
    writeFileSync(this.path, this.value);
  }
}

/**
 * Runs a program in the root folder and passes on what it prints; with `quiet`, only if it fails.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, quiet?: boolean, mayFail?: boolean }} [options]
 * @throws {SetupError} unless it exits with 0 or `mayFail` is set.
 */
function run(program, args, { env = process.env, quiet = false, mayFail = false } = {}) {
  // Words go to stderr: stdout is for what the command that needed the setup prints.
  const result = spawnSync(program, args, {
    cwd: ROOT,
    env,
    stdio: ['ignore', quiet ? 'pipe' : 2, quiet ? 'pipe' : 2],
    maxBuffer: 2 ** 28,
  });
  if (result.status === 0 || mayFail) return;
  if (quiet)
    process.stderr.write(
      Buffer.concat([result.stdout ?? '', result.stderr ?? ''].map((part) => Buffer.from(part))),
    );
  const why = result.error?.message ?? `it ended with ${result.signal ?? result.status}`;
  throw new SetupError(`${program} ${args.join(' ')}: ${why}`);
}

/** Where nobody looks on, what is missing must not pass for a success. */
export function isCi() {
  return !['', '0', 'false', undefined].includes(process.env['CI']);
}

/** @param {string} words */
function say(words) {
  console.error(`setup: ${words}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const purpose = /** @type {Purpose} */ (process.argv[2] ?? 'build');
  try {
    if (!PURPOSES.includes(purpose))
      throw new SetupError(`one of ${PURPOSES.join(', ')} is needed`);
    await setUp(purpose);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    process.exitCode = 1;
  }
}
