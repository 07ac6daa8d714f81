/** Where this package has what is compiled: the addon, the keeper and the runner, prebuilt or built here. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The oldest glibc that the prebuilt addon runs on; checked when it is packed. */
export const GLIBC_FLOOR = '2.34';

const PLACE = `linux-${process.arch}`;
/** build/src/built.js, or src/built.ts where types are stripped: the package is the nearest folder up with a manifest. */
const PACKAGE = packageRoot(dirname(fileURLToPath(import.meta.url)));

function packageRoot(from: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
  }
  return from;
}

/** The folder of this package. */
export function packagePath(): string {
  return PACKAGE;
}

/** The prebuilt file, or the local build when that is newer; `undefined` when there is neither. */
export function findBuilt(name: string): string | undefined {
  const candidates = [
    join(PACKAGE, 'prebuilds', PLACE, name),
    join(PACKAGE, 'native', 'build', 'Release', name),
  ];
  return candidates
    .map((path) => ({ path, time: statSync(path, { throwIfNoEntry: false })?.mtimeMs }))
    .filter((candidate) => candidate.time !== undefined)
    .sort((a, b) => b.time! - a.time!)
    .at(0)?.path;
}

// The newest that runs on Node 20.
const BUILD = 'npx node-gyp@12 rebuild -C native';

/** Why nothing could be loaded, and what to do. */
export function missing(what: string, cause?: unknown): Error {
  const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const glibc = report.header.glibcVersionRuntime;
  const reason =
    glibc === undefined
      ? `the prebuilt one for ${PLACE} needs glibc >= ${GLIBC_FLOOR}, and this system has another C library (musl)`
      : `there is none for ${PLACE}, or it does not fit glibc ${glibc} (it needs >= ${GLIBC_FLOOR})`;
  return new Error(
    `cannot load ${what}: ${reason}. With a C++ compiler, build it in ${PACKAGE}: ${BUILD}`,
    {
      cause,
    },
  );
}

/** Where a program of ours is. @throws Error when it was not built. */
export function programPath(name: 'keeper' | 'runner'): string {
  const path = findBuilt(name);
  if (path === undefined) throw missing(`the ${name}`);
  return path;
}
