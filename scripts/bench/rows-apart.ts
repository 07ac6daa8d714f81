/** Rows with peers of their own: a loop device, how a commit comes to be seen and to be, and what a command costs. */
import { join } from 'node:path';
import { FILES_PER_DIR } from './commits.ts';
import { evict, filesOf, type Group, partsOf, row, type Row } from './group.ts';
import type { Inputs } from './inputs.ts';
import {
  COMMIT,
  DIRECTORY,
  FIRST_CHECKOUT,
  FIRST_OURS,
  KEEP_OURS,
  KEEP_THEIRS,
  MODES,
  NODE,
  RUN,
} from './ours.ts';
import { plain } from './peers.ts';

export const APART: readonly Group[] = [
  {
    // Who reads such a device in order finds more read ahead than he asked for, by what lies below it.
    name: 'evicted-image',
    needs: ['small'],
    rows: [row('evicted-4-image', 'as evicted-4, of a loop device', { '-': 2 })],
    among: { modes: MODES.slice(0, 2), peers: [plain] },
    warm: (inputs) => filesOf(inputs, join(inputs.lower, 'small'), 1),
    async run(bench) {
      const { inputs, place, timed } = bench;
      await evict(bench, inputs.lower, ...(inputs.image === undefined ? [] : [inputs.image]));
      await timed('evicted-4-image', '-', ...partsOf(inputs, join(place.root, 'small'), 4));
    },
  },
  {
    name: 'commit',
    needs: ['repo'],
    rows: [
      row('commit-walk', 'walk and lstat a tree of 20,000 files, of a commit', { warm: 1.1 }),
      row('commit-small', 'open, read, close 20,000 small files of it', { warm: 1.1 }),
      row('commit-git', 'git status of 20,000 files of it', { warm: 1.1 }),
    ],
    among: { modes: [COMMIT], peers: [DIRECTORY] },
    lower: ({ commits }) => commits.ofRepository(),
    async run({ inputs, place, timed }) {
      const git = ['run', '-', place.root, 'git', 'status', '--porcelain'];
      for (const state of ['cold', 'warm'] as const) {
        await timed('commit-walk', state, 'walk', place.root);
        await timed('commit-small', state, ...filesOf(inputs, place.root, 1));
        await timed('commit-git', state, ...git);
      }
    },
  },
  first('first-1k', 1_000, {}),
  first('first-30k', 30_000, { '-': 0.1 }),
  first('first-100k', 100_000, {}),
  {
    name: 'commit-100',
    needs: [],
    // A tenth, and the start of Node, which 'run' shows.
    rows: [row('commit-100', 'commit 100 changed files of 30,000, to all of them', { '-': 0.13 })],
    among: { modes: [KEEP_OURS], peers: [KEEP_THEIRS] },
    lower: (inputs) => commitOf(inputs, 30_000),
    async run({ place, timed, untimed }) {
      const begin = (place.begin ?? []).map((word) => `'${word}'`).join(' ');
      await timed('commit-100', '-', 'run', '-', '/', 'sh', '-c', `${begin} >/dev/null`);
      // Both have made the same tree.
      await untimed('run', '-', '/', 'ostree', 'ls', '-dC', `--repo=${place.repo}`, 'work', '/');
    },
  },
  {
    name: 'run',
    needs: [],
    // Of the 250 ms that it may take where Node starts in 50.
    rows: [row('run', "'ostree-ts run -- true', by the time that Node takes to start", { '-': 5 })],
    among: { modes: [RUN], peers: [NODE] },
    async run({ inputs, place, timed }) {
      for (let time = 0; time < inputs.scale.commands; time++) {
        await timed('run', '-', 'run', '-', '/', ...(place.begin ?? []));
      }
    },
  },
];

/** From nothing to the first file of a commit; the same for commits of every size. */
function first(name: string, files: number, targets: Row['targets']): Group {
  return {
    name,
    needs: [],
    rows: [row(name, `from a commit of ${files} files to its first file read`, targets)],
    among: { modes: [FIRST_OURS], peers: [FIRST_CHECKOUT] },
    lower: (inputs) => commitOf(inputs, files),
    async run({ place, timed }) {
      const begin = (place.begin ?? []).map((word) => `'${word}'`).join(' ');
      const script = `${begin} >/dev/null && cat '${place.root}/d000/f000'`;
      await timed(name, '-', 'run', '-', '/', 'sh', '-c', script);
    },
  };
}

function commitOf({ commits, scale }: Inputs, files: number): Promise<string> {
  return commits.ofFiles(Math.max(FILES_PER_DIR, files * scale.commitShare));
}
