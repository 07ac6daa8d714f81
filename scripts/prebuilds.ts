/**
 * `npm run prebuilds`: builds the addon and the keeper for every architecture the package travels with, into
 * prebuilds/linux-ARCH/, and checks that they run where the package says they do. `--arch=x64` builds one of them.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GLIBC_FLOOR } from '../src/native.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** By Node's name of the architecture: Debian's compilers, and what readelf(1) calls the machine. */
const ARCHITECTURES: Record<string, { triplet: string; machine: string }> = {
  x64: { triplet: 'x86_64-linux-gnu', machine: 'Advanced Micro Devices X86-64' },
  arm64: { triplet: 'aarch64-linux-gnu', machine: 'AArch64' },
};

const PRODUCTS = ['ostree_ts.node', 'keeper'];

function run(program: string, args: string[], env: NodeJS.ProcessEnv = process.env): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: ROOT,
    env,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? `${stdout}${stderr}`}`);
}

/** Builds for one architecture in a copy of native/, so that the local build stays as it is. */
function build(arch: string, nodedir: string): void {
  const target = ARCHITECTURES[arch];
  if (target === undefined) throw new Error(`there is no architecture ${arch}`);
  // Within the project, since the headers of node-addon-api are found from there.
  const copy = join(ROOT, 'build', `native-${arch}`);
  const into = join(ROOT, 'prebuilds', `linux-${arch}`);
  rmSync(copy, { recursive: true, force: true });
  cpSync(join(ROOT, 'native'), copy, {
    recursive: true,
    filter: (path) => !path.startsWith(join(ROOT, 'native/build')),
  });
  const compilers = {
    CC: `${target.triplet}-gcc`,
    CXX: `${target.triplet}-g++`,
    AR: `${target.triplet}-ar`,
    LINK: `${target.triplet}-g++`,
  };
  const gyp = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');
  const args = ['rebuild', '-C', copy, `--nodedir=${nodedir}`, `--arch=${arch}`, '--loglevel=warn'];
  run(process.execPath, [gyp, ...args], { ...process.env, ...compilers });
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into, { recursive: true });
  for (const product of PRODUCTS) {
    const path = join(into, product);
    copyFileSync(join(copy, 'build/Release', product), path);
    run(`${target.triplet}-strip`, ['--strip-unneeded', path]);
    chmodSync(path, 0o755);
    check(path, target.machine);
  }
  rmSync(copy, { recursive: true, force: true });
}

/** @throws Error `path` is for another machine, needs a newer glibc than promised, or a C++ library. */
function check(path: string, machine: string): void {
  if (!run('readelf', ['-h', path]).includes(machine))
    throw new Error(`${path} is not for ${machine}`);
  const symbols = run('readelf', ['-V', '-W', path]);
  const versions = [...symbols.matchAll(/\bGLIBC_(\d+)\.(\d+)/g)].map(
    ([, major, minor]) => Number(major) * 1000 + Number(minor),
  );
  const [floorMajor, floorMinor] = GLIBC_FLOOR.split('.').map(Number);
  const needed = Math.max(0, ...versions);
  if (needed > (floorMajor ?? 0) * 1000 + (floorMinor ?? 0)) {
    const version = `${Math.floor(needed / 1000)}.${needed % 1000}`;
    throw new Error(`${path} needs glibc ${version}, and ${GLIBC_FLOOR} is promised`);
  }
  if (/\b(GLIBCXX|CXXABI)_\d/.test(symbols)) throw new Error(`${path} needs libstdc++`);
  const libraries = run('readelf', ['-d', '-W', path]).matchAll(/\(NEEDED\).*\[(.*)\]/g);
  for (const [, library = ''] of libraries) {
    if (!/^(libc|libm|ld-linux-.*|libgcc_s)\.so\.\d+$/.test(library)) {
      throw new Error(`${path} needs ${library}`);
    }
  }
}

const { values } = parseArgs({
  options: { arch: { type: 'string' }, nodedir: { type: 'string' } },
});
const { findHeaders } = (await import(
  new URL('../../scripts/setup.mjs', import.meta.url).href
)) as {
  findHeaders: () => string;
};
for (const arch of values.arch === undefined ? Object.keys(ARCHITECTURES) : [values.arch]) {
  console.error(`prebuilds: linux-${arch}`);
  build(arch, values.nodedir ?? findHeaders());
}
console.error(
  `prebuilds: ${readdirSync(join(ROOT, 'prebuilds')).join(', ')}; glibc >= ${GLIBC_FLOOR}`,
);
