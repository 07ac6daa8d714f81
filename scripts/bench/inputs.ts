/** What is worked on, made for each run: a file system of its own where that can be had, read-only while it is measured. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Commits } from './commits.ts';
import { CannotDo, run } from './process.ts';

/** How much of everything. */
export interface Scale {
  /** The tree has 101 directories for each of these, and `treeFiles` files in 100 of them. */
  treeWidth: number;
  treeFiles: number;
  smallDirs: number;
  smallFiles: number;
  flatFolders: number;
  flatFiles: number;
  bigBytes: number;
  randomReads: number;
  newFiles: number;
  writeBytes: number;
  programs: number;
  packageFiles: number;
}

export const FULL: Scale = {
  treeWidth: 99,
  treeFiles: 13,
  smallDirs: 200,
  smallFiles: 100,
  flatFolders: 5,
  flatFiles: 10_000,
  bigBytes: 2 ** 30,
  randomReads: 20_000,
  newFiles: 5_000,
  writeBytes: 256 * 2 ** 20,
  programs: 200,
  packageFiles: 2_000,
};

export const QUICK: Scale = {
  ...FULL,
  treeWidth: 14,
  smallDirs: 40,
  flatFolders: 2,
  bigBytes: 2 ** 28,
  randomReads: 10_000,
  newFiles: 2_000,
  writeBytes: 64 * 2 ** 20,
  programs: 100,
  packageFiles: 500,
};

export interface Inputs {
  readonly scale: Scale;
  /** The program that does the work. */
  readonly work: string;
  /** Read-only: tree/ small/ flat-N/ big repo/ bin/ small.tar small.deb. */
  readonly lower: string;
  /** C files, `unit-N.c`. */
  readonly sources: string;
  readonly units: number;
  /** The file that the lower's file system is in, if it has one of its own. */
  readonly image?: string;
  readonly commits: Commits;
}

const UNITS = 12;
const IMAGE_BYTES = 6 * 2 ** 30;
/** Inodes of the image: more than the largest scale needs. */
const IMAGE_FILES = 400_000;

/** `git` as it is told to be: whoever owns the repository, and nothing in the background. */
const GIT_CONFIG = { 'safe.directory': '*', 'gc.auto': '0', 'maintenance.auto': 'false' };

/** The environment of everything that is measured: the same for all. */
export const WORK_ENV: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: '/nonexistent',
  LC_ALL: 'C.UTF-8',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_CONFIG_COUNT: String(Object.keys(GIT_CONFIG).length),
  ...Object.fromEntries(
    Object.entries(GIT_CONFIG).flatMap(([key, value], index) => [
      [`GIT_CONFIG_KEY_${index}`, key],
      [`GIT_CONFIG_VALUE_${index}`, value],
    ]),
  ),
  GIT_AUTHOR_NAME: 'bench',
  GIT_AUTHOR_EMAIL: 'bench@localhost',
  GIT_COMMITTER_NAME: 'bench',
  GIT_COMMITTER_EMAIL: 'bench@localhost',
  GIT_AUTHOR_DATE: '2020-01-01T00:00:00Z',
  GIT_COMMITTER_DATE: '2020-01-01T00:00:00Z',
};

/** Makes everything in `folder`; `say` is told what takes a moment. */
export async function makeInputs(
  folder: string,
  scale: Scale,
  say: (words: string) => void,
): Promise<Inputs> {
  say('compiling the workloads');
  const work = await compileWork(folder);
  const lower = join(folder, 'lower');
  mkdirSync(lower);
  const image = await mountImage(folder, lower);
  say(`making the trees ${image === undefined ? 'in a folder' : 'on a new ext4'}`);
  const grow = (...words: (string | number)[]) => run(work, words.map(String));
  await grow('grow-tree', join(lower, 'tree'), scale.treeWidth, scale.treeFiles);
  await grow('grow-small', join(lower, 'small'), scale.smallDirs, scale.smallFiles);
  for (let i = 0; i < scale.flatFolders; i++) {
    await grow('grow-flat', join(lower, `flat-${i}`), scale.flatFiles);
  }
  await grow('grow-big', join(lower, 'big'), scale.bigBytes);
  mkdirSync(join(lower, 'bin'));
  await run('cp', ['/usr/bin/true', join(lower, 'bin/true')]);
  await makeArchives(folder, lower, scale, grow);
  say('making the repository');
  await makeRepository(lower);
  const sources = join(folder, 'sources');
  makeSources(sources);
  await run('sync', ['-f', lower]);
  if (image !== undefined) await run('mount', ['-o', 'remount,ro', lower]);
  const commits = new Commits(join(folder, 'commits'), lower, work);
  const base = { scale, work, lower, sources, units: UNITS, commits };
  return image === undefined ? base : { ...base, image };
}

/** @returns the program that does the work. */
export async function compileWork(folder: string): Promise<string> {
  // From build/scripts/bench, where this runs.
  const source = fileURLToPath(new URL('../../../scripts/bench/', import.meta.url));
  const units = readdirSync(source).filter((name) => name.endsWith('.c'));
  const program = join(folder, 'work');
  const words = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Wshadow', '-o', program];
  await run('gcc', [...words, ...units.map((name) => join(source, name))]);
  return program;
}

/**
 * A file system that did not exist before finds free inodes at once: on one where 140,000 files were deleted a minute
 * ago, making them takes ten times as long. It is gone with its mount.
 *
 * @returns the file that it is in; none where it cannot be had.
 */
async function mountImage(folder: string, lower: string): Promise<string | undefined> {
  const image = join(folder, 'image');
  try {
    await run('truncate', ['-s', String(IMAGE_BYTES), image]);
    const options = ['-q', '-N', String(IMAGE_FILES), '-O', '^has_journal', '-m', '0'];
    await run('mkfs.ext4', [...options, '-E', 'nodiscard', image]);
    await run('mount', ['-o', 'loop', image, lower]);
    return image;
  } catch (error) {
    if (error instanceof CannotDo || (error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** A tar of the small files, and a package of some of them. */
async function makeArchives(
  folder: string,
  lower: string,
  scale: Scale,
  grow: (...words: (string | number)[]) => Promise<string>,
): Promise<void> {
  await run('tar', ['cf', join(lower, 'small.tar'), '-C', lower, 'small']);
  const content = join(folder, 'package');
  mkdirSync(join(content, 'DEBIAN'), { recursive: true });
  mkdirSync(join(content, 'usr/share'), { recursive: true });
  await grow('grow-small', join(content, 'usr/share/bench'), scale.packageFiles / 100, 100);
  writeFileSync(
    join(content, 'DEBIAN/control'),
    'Package: bench\nVersion: 1\nArchitecture: all\nMaintainer: bench <bench@localhost>\nDescription: many small files\n',
  );
  await run('dpkg-deb', ['--build', '-Zgzip', '-z1', content, join(lower, 'small.deb')]);
  await run('rm', ['-r', content]);
}

async function makeRepository(lower: string): Promise<void> {
  const repo = join(lower, 'repo');
  await run('cp', ['-r', join(lower, 'small'), repo]);
  const git = (...words: string[]) => run('git', words, { cwd: repo, env: WORK_ENV });
  await git('init', '-q', '-b', 'main');
  await git('-c', 'core.looseCompression=0', 'add', '.');
  await git('commit', '-q', '-m', 'everything');
  await git('-c', 'pack.window=0', '-c', 'pack.compression=1', 'repack', '-adq');
  // Files that are as old as the index are read again each time.
  await git('update-index', '--refresh');
}

/** C files that include what most do, and have something to optimise. */
function makeSources(folder: string): void {
  mkdirSync(folder);
  for (let unit = 0; unit < UNITS; unit++) {
    const functions = Array.from(
      { length: 12 },
      (_, i) => `
static int step_${i}(const char *text, double *sums, size_t count) {
  int total = ${unit + i};
  for (size_t at = 0; at < count; at++) {
    sums[at % 8] += sqrt((double)text[at]) * ${i + 1};
    total = total * 31 + (isalpha((unsigned char)text[at]) ? tolower(text[at]) : ${i});
  }
  return total + (int)strlen(text);
}`,
    );
    const calls = functions.map((_, i) => `  total += step_${i}(text, sums, count);`);
    const headers = ['ctype', 'errno', 'fcntl', 'math', 'pthread', 'signal', 'stdio', 'stdlib'];
    const includes = [...headers, 'string', 'sys/socket', 'sys/stat', 'time', 'unistd'];
    writeFileSync(
      join(folder, `unit-${unit}.c`),
      `${includes.map((name) => `#include <${name}.h>\n`).join('')}${functions.join('\n')}

int unit_${unit}(const char *text, double *sums, size_t count) {
  int total = 0;
${calls.join('\n')}
  return total;
}
`,
    );
  }
}
