/** The kinds of work of `npm run bench -- --growth`, each at sizes far apart. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { findSession } from '../../src/index.ts';
import type { Place } from './peers.ts';
import { CannotDo, run } from './process.ts';

/** What a series works with. */
export interface Ground {
  /** Runs the program of the workloads. @returns nanoseconds. */
  readonly work: (...words: readonly (string | number)[]) => Promise<number>;
  /** A folder on disk, and one on a tmpfs, for what is made once. */
  readonly disk: string;
  readonly tmpfs: string;
  /** A time of one operation, in nanoseconds. */
  readonly told: (series: string, nanoseconds: number) => void;
}

export interface Series {
  readonly name: string;
  readonly sizes: readonly number[];
  /** Makes the lower of a size, the first time. @returns its directory; with colons between several. */
  lower(ground: Ground, size: number): Promise<string>;
  /** Does the work on a fresh mount. */
  visit(ground: Ground, place: Place, size: number): Promise<void>;
  /** Only ours can do it. */
  readonly isOurs?: boolean;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const PATHS = [1_000, 10_000, 100_000, 1_000_000];
/** Of `grow-tree`: entries of one part. */
const PART = 1411;
const FILES_PER_DIR = 1000;
const SMALL = { dirs: 200, files: 100 };
/** Files of each layer above the bottom one, in each directory. */
const LAYER_FILES = 3;

export const SERIES: readonly Series[] = [
  {
    name: 'walk',
    sizes: PATHS,
    async lower({ work, tmpfs }, size) {
      const lower = join(tmpfs, 'lower');
      mkdirSync(lower);
      await work('grow-tree', join(lower, 'tree'), Math.max(1, Math.round(size / PART)), 13);
      return lower;
    },
    async visit({ work, told }, { root }, size) {
      const entries = Math.max(1, Math.round(size / PART)) * PART;
      told('walk-cold', (await work('walk', join(root, 'tree'))) / entries);
      told('walk-warm', (await work('walk', join(root, 'tree'))) / entries);
    },
  },
  {
    name: 'files',
    sizes: PATHS,
    lower: emptyLower,
    async visit(ground, place, size) {
      const folder = place.scratch();
      const folders = Math.ceil(size / FILES_PER_DIR);
      const perDir = size / folders;
      const paths = Array.from({ length: folders }, (_, i) => join(folder, String(i)));
      await ofAll(ground, 'create', paths, perDir, 64);
      await ofAll(ground, 'stat', paths, perDir);
      await ofAll(ground, 'unlink', paths, perDir);
    },
  },
  {
    name: 'commit',
    sizes: PATHS,
    isOurs: true,
    lower: emptyLower,
    async visit({ work, told, tmpfs }, place, size) {
      await work('grow-small', join(place.scratch(), 'files'), size / 100, 100, 64);
      const repo = join(tmpfs, 'repo');
      await run('ostree', ['init', `--repo=${repo}`, '--mode=bare-user']);
      await run('ostree', ['config', `--repo=${repo}`, 'set', 'core.fsync', 'false']);
      const session = await findSession(place.root);
      const start = performance.now();
      const { files } = await session.commit({ repo, branch: 'work' });
      told('commit', ((performance.now() - start) * 1e6) / size);
      if (files < size) throw new CannotDo(`${files} files were committed, not ${size}`);
      rmSync(repo, { recursive: true });
    },
  },
  {
    name: 'file',
    sizes: [KIB, MIB, 100 * MIB, GIB, 10 * GIB],
    async lower({ work, disk }, size) {
      const lower = join(disk, 'lower');
      mkdirSync(lower);
      await work('grow-big', join(lower, 'file'), size);
      return lower;
    },
    async visit({ work, told }, { root }, size) {
      const file = join(root, 'file');
      if (size >= MIB) {
        told('read-4k', (await work('randread', file, 2000)) / 2000);
        told('read-mib', (await work('seqread', file, 1)) / (size / MIB));
      }
      told('one-byte', await work('poke', file, size / 2));
    },
  },
  {
    name: 'directory',
    sizes: [10, 1_000, 10_000, 200_000],
    async lower({ work, tmpfs }, size) {
      const lower = join(tmpfs, 'lower');
      mkdirSync(lower);
      await work('grow-flat', join(lower, 'flat'), size);
      return lower;
    },
    async visit(ground, place, size) {
      const { work, told } = ground;
      const flat = join(place.root, 'flat');
      told('list-cold', (await work('list', 1, flat)) / size);
      told('list-warm', (await work('list', 5, flat)) / size);
      told('dir-walk', (await work('walk', flat)) / size);
      const folder = join(place.scratch(), 'files');
      told('dir-create', (await work('make', folder, size, 64)) / size);
      told('dir-unlink', (await work('drop', folder, size)) / size);
    },
  },
  {
    name: 'lowers',
    sizes: [1, 4, 16, 64],
    async lower({ work, tmpfs }, size) {
      const lowers = Array.from({ length: size }, (_, i) => join(tmpfs, `lower-${i}`));
      for (const [index, lower] of lowers.entries()) {
        mkdirSync(lower);
        const files = index === size - 1 ? SMALL.files : LAYER_FILES;
        await work('grow-small', join(lower, 'small'), SMALL.dirs, files);
      }
      return lowers.join(':');
    },
    async visit({ work, told }, { root }) {
      const entries = SMALL.dirs * (SMALL.files + 1);
      const small = join(root, 'small');
      told('lowers-walk', (await work('walk', small)) / entries);
      told('lowers-read', (await work('small', small, SMALL.dirs, SMALL.files, 1)) / entries);
    },
  },
  {
    name: 'clients',
    sizes: [1, 2, 4, 8, 16],
    async lower({ work, tmpfs }) {
      const lower = join(tmpfs, 'lower');
      mkdirSync(lower);
      await work('grow-small', join(lower, 'small'), SMALL.dirs, SMALL.files);
      return lower;
    },
    async visit({ work, told }, { root }, size) {
      const words = ['small', join(root, 'small'), SMALL.dirs, SMALL.files, size] as const;
      const reads = SMALL.dirs * SMALL.files * size;
      told('clients-cold', (await work(...words)) / reads);
      told('clients-warm', (await work(...words)) / reads);
    },
  },
];

function emptyLower({ tmpfs }: Ground): Promise<string> {
  const lower = join(tmpfs, 'lower');
  mkdirSync(lower);
  return Promise.resolve(lower);
}

const VERBS = { create: 'make', stat: 'look', unlink: 'drop' };

/** One verb in every folder, and the time of one file. */
async function ofAll(
  { work, told }: Ground,
  name: keyof typeof VERBS,
  folders: readonly string[],
  files: number,
  ...words: number[]
): Promise<void> {
  let nanoseconds = 0;
  for (const folder of folders) nanoseconds += await work(VERBS[name], folder, files, ...words);
  told(name, nanoseconds / folders.length / files);
}
