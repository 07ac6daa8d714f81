/**
 * `npm run prebuilds`: builds the addon, the keeper and the runner for every architecture the package travels with, into
 * prebuilds/linux-ARCH/, and checks that they run where the package says they do. What is built from the same sources
 * already stays. `--arch=x64` builds one of them.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { NODE_GYP, ROOT, SetupError, Stamp, findHeaders, nativeSources, setUp } from './setup.mjs';

/**
 * By Node's name of the architecture: Debian's compilers, and what readelf(1) calls the machine.
 *
 * @type {Record<string, { triplet: string, machine: string }>}
 */
const ARCHITECTURES = {
  x64: { triplet: 'x86_64-linux-gnu', machine: 'Advanced Micro Devices X86-64' },
  arm64: { triplet: 'aarch64-linux-gnu', machine: 'AArch64' },
};

const PRODUCTS = ['ostree_ts.node', 'keeper', 'runner'];

/**
 * @param {string} program
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 * @throws {SetupError} with what it printed, unless it exits with 0.
 */
function run(program, args, env = process.env) {
  const options = { cwd: ROOT, env, encoding: /** @type {const} */ ('utf8'), maxBuffer: 2 ** 28 };
  const { status, stdout, stderr, error } = spawnSync(program, args, options);
  if (status === 0) return stdout;
  throw new SetupError(`${program} ${args.join(' ')}: ${error?.message ?? `${stdout}${stderr}`}`);
}

/** @param {string} arch */
function build(arch) {
  const target = ARCHITECTURES[arch];
  if (target === undefined) throw new SetupError(`there is no architecture ${arch}`);
  const into = `prebuilds/linux-${arch}`;
  const inputs = [...nativeSources(), 'package-lock.json', 'scripts/prebuilds.mjs'];
  // Outside of the folder, since that travels.
  const stamp = new Stamp(`prebuilds/.linux-${arch}.stamp`, inputs, process.version);
  if (stamp.isCurrent) return;
  console.error(`prebuilds: building for linux-${arch}`);
  // A copy, so that the local build stays as it is; in the project, where the headers of node-addon-api are found.
  const copy = join(ROOT, 'build', `native-${arch}`);
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  for (const path of nativeSources()) cpSync(join(ROOT, path), path.replace('native', copy));
  const compilers = { CC: `${target.triplet}-gcc`, CXX: `${target.triplet}-g++` };
  const args = [`--nodedir=${findHeaders()}`, `--arch=${arch}`, '--loglevel=warn'];
  const env = { ...process.env, ...compilers, LINK: compilers.CXX, AR: `${target.triplet}-ar` };
  run(process.execPath, [NODE_GYP, 'rebuild', '-C', copy, ...args], env);
  const made = join(copy, 'stripped');
  mkdirSync(made);
  for (const product of PRODUCTS) {
    const path = join(made, product);
    copyFileSync(join(copy, 'build/Release', product), path);
    run(`${target.triplet}-strip`, ['--strip-unneeded', path]);
    chmodSync(path, 0o755);
    check(path, target.machine);
  }
  replace(join(ROOT, into), made, join(copy, 'former'));
  rmSync(copy, { recursive: true, force: true });
  stamp.write();
}

/**
 * Puts a folder where another one is. Commands take the newest files that they find, and sessions have them mapped: nobody is
 * to meet half a file, nor the addon of one build with the keeper of another.
 *
 * @param {string} folder
 * @param {string} made
 * @param {string} former  Where the one that was there goes.
 */
function replace(folder, made, former) {
  mkdirSync(dirname(folder), { recursive: true });
  if (existsSync(folder)) renameSync(folder, former);
  renameSync(made, folder);
}

/**
 * @param {string} path
 * @param {string} machine
 * @throws {SetupError} it is for another machine, or needs a newer glibc than promised, or another library.
 */
function check(path, machine) {
  const header = run('readelf', ['-h', path]);
  if (!header.includes(machine)) throw new SetupError(`${path} is not for ${machine}`);
  const symbols = run('readelf', ['-V', '-W', path]);
  const floor = glibcFloor();
  for (const [, version = ''] of symbols.matchAll(/\bGLIBC_([\d.]+)/g)) {
    if (ordinal(version) > ordinal(floor)) {
      throw new SetupError(`${path} needs glibc ${version}, and ${floor} is promised`);
    }
  }
  for (const [, library = ''] of run('readelf', ['-d', '-W', path]).matchAll(
    /NEEDED\).*\[(.*)\]/g,
  )) {
    // What Node needs as well. libstdc++ is linked in: that of an old system would be too old.
    if (!/^(libc|libm|libgcc_s|ld-linux-.*)\.so\.\d+$/.test(library)) {
      throw new SetupError(`${path} needs ${library}`);
    }
  }
}

/** The version that src/built.ts promises. */
function glibcFloor() {
  const source = readFileSync(join(ROOT, 'src/built.ts'), 'utf8');
  const floor = /GLIBC_FLOOR.*= '([\d.]+)'/.exec(source)?.[1];
  if (floor === undefined) throw new SetupError('src/built.ts states no GLIBC_FLOOR');
  return floor;
}

/** @param {string} version  As 2.34 or 2.2.5. */
function ordinal(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major * 1000 + minor;
}

const { values } = parseArgs({ options: { arch: { type: 'string' } } });
try {
  await setUp('prebuilds');
  for (const arch of values.arch === undefined ? Object.keys(ARCHITECTURES) : [values.arch]) {
    build(arch);
  }
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`prebuilds: ${error.message}`);
  process.exitCode = 1;
}
