/** What is worked on, made for each run: a file system of its own where that can be had, read-only while it is measured. */
import { mkdirSync, readdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Commits } from './commits.ts';
import { makeParts, type Part } from './parts.ts';
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
  /** How long a session of ours is left alone before work that does not begin with it. */
  restMs: number;
  writeBytes: number;
  programs: number;
  /** Of one command, in each round. */
  commands: number;
  packageFiles: number;
  /** C files. */
  units: number;
  /** Of the files that a commit of the rows' names has. */
  commitShare: number;
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
  restMs: 1_000,
  writeBytes: 256 * 2 ** 20,
  programs: 200,
  commands: 5,
  packageFiles: 2_000,
  units: 12,
  commitShare: 1,
};

export const QUICK: Scale = {
  ...FULL,
  treeWidth: 6,
  smallDirs: 15,
  flatFolders: 2,
  flatFiles: 5_000,
  bigBytes: 2 ** 26,
  randomReads: 5_000,
  newFiles: 1_000,
  restMs: 0,
  writeBytes: 2 ** 25,
  programs: 50,
  commands: 3,
  packageFiles: 100,
  units: 3,
  commitShare: 0.1,
};

/** Only to see that all work is done. */
export const TINY: Scale = {
  treeWidth: 1,
  treeFiles: 2,
  smallDirs: 2,
  smallFiles: 100,
  flatFolders: 1,
  flatFiles: 300,
  bigBytes: 2 ** 22,
  randomReads: 100,
  newFiles: 50,
  restMs: 0,
  writeBytes: 2 ** 20,
  programs: 3,
  commands: 1,
  packageFiles: 100,
  units: 1,
  commitShare: 0.01,
};

export interface Inputs {
  readonly scale: Scale;
  /** The program that does the work. */
  readonly work: string;
  /** Read-only: bin/, and the parts. */
  readonly lower: string;
  /** small/, on the disk that the folder is on. */
  readonly disk: string;
  /** C files, `unit-N.c`. */
  readonly sources: string;
  /** The file that the lower's file system is in, if it has one of its own. */
  readonly image?: string;
  readonly commits: Commits;
}

/** f_type of statfs(2). */
const TMPFS_MAGIC = 0x01021994;

const IMAGE_BYTES = 6 * 2 ** 30;
/** Inodes of the image: more than the largest scale needs. */
const IMAGE_FILES = 400_000;

/** Makes what the work is done on in `folder`, of `parts` only; `say` is told what takes a moment. */
export async function makeInputs(
  folder: string,
  scale: Scale,
  parts: readonly Part[],
  say: (words: string) => void,
): Promise<Inputs> {
  say('compiling the workloads');
  const work = await compileWork(folder);
  const lower = join(folder, 'lower');
  mkdirSync(lower);
  const image = await mountImage(folder, lower);
  say(`making the trees ${image === undefined ? 'in a folder' : 'on a new ext4'}`);
  // For all, since everyone is started once before anything is measured.
  mkdirSync(join(lower, 'bin'));
  await run('cp', ['/usr/bin/true', join(lower, 'bin/true')]);
  const sources = join(folder, 'sources');
  // What is in memory alone cannot be evicted.
  const hasDisk = image === undefined || statfsSync(folder).type !== TMPFS_MAGIC;
  const disk = join(hasDisk ? folder : lower, 'disk');
  const grow = (...words: (string | number)[]) => run(work, words.map(String));
  await makeParts(parts, { scale, folder, lower, disk, sources, grow });
  await run('sync', ['-f', lower, folder]);
  if (image !== undefined) await run('mount', ['-o', 'remount,ro', lower]);
  const commits = new Commits(join(folder, 'commits'), lower, work);
  const inputs = { scale, work, lower, disk, sources, commits };
  return image === undefined ? inputs : { ...inputs, image };
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
