/**
 * What is measured, in groups of rows that share one fresh mount. `cold`: nothing of the lower has been asked for through
 * this mount yet, while the lower's own pages are warm; `warm`: it has been asked for just now; `-`: it makes no difference.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { evict, filesOf, type Group, partsOf, row, type Words } from './group.ts';
import type { Inputs } from './inputs.ts';
import { NPM_FILES, npmOptions, npmPackages } from './parts.ts';
import { CannotDo } from './process.ts';
import { APART } from './rows-apart.ts';

const MIB = 2 ** 20;

/** Memory that work takes, for each byte of its files. */
const AROUND = 1.25;

export const GROUPS: readonly Group[] = [
  {
    name: 'walk',
    needs: ['tree'],
    rows: [row('walk', 'walk and lstat a tree of 140,000 entries', { cold: 2, warm: 0.8 })],
    warm: ({ lower }) => ['walk', join(lower, 'tree')],
    async run({ place, rest, timed }) {
      const tree = join(place.root, 'tree');
      await rest();
      await timed('walk', 'cold', 'walk', tree);
      await timed('walk', 'warm', 'walk', tree);
    },
  },
  {
    name: 'small',
    needs: ['small'],
    rows: [
      row('small', 'open, read, close 20,000 small files', { cold: 2.5, warm: 0.7 }),
      row('small-2', 'the same, by two processes at once', { warm: 0.9 }),
    ],
    warm: (inputs) => readSmall(inputs, inputs.lower, 1),
    async run({ inputs, place, rest, timed }) {
      await rest();
      await timed('small', 'cold', ...readSmall(inputs, place.root, 1));
      await timed('small', 'warm', ...readSmall(inputs, place.root, 1));
      await timed('small-2', 'warm', ...readSmall(inputs, place.root, 2));
    },
  },
  {
    name: 'evicted',
    needs: ['disk'],
    rows: [
      {
        name: 'evicted',
        what: 'open, read, close 20,000 small files, their data to be read from the disk',
        targets: { '-': 2 },
        rival: 'plain',
      },
      {
        name: 'evicted-4',
        what: 'the same, a quarter by each of four processes',
        targets: { '-': 2 },
        rival: 'plain',
      },
    ],
    lower: ({ disk }) => disk,
    warm: (inputs) => readSmall(inputs, inputs.disk, 1),
    async run(bench) {
      const { inputs, place, timed } = bench;
      await evict(bench, inputs.disk);
      await timed('evicted', '-', ...readSmall(inputs, place.root, 1));
      await evict(bench, inputs.disk);
      await timed('evicted-4', '-', ...partsOf(inputs, join(place.root, 'small'), 4));
    },
  },
  {
    name: 'readdir',
    needs: ['flat'],
    rows: [row('readdir', 'list a directory of 10,000 entries', { cold: 4, warm: 0.35 })],
    warm: (inputs) => ['list', 1, ...flatFolders(inputs, inputs.lower)],
    async run({ inputs, place, rest, timed }) {
      const folders = flatFolders(inputs, place.root);
      await rest();
      await timed('readdir', 'cold', 'list', 1, ...folders);
      await timed('readdir', 'warm', 'list', 10, ...folders);
    },
  },
  {
    name: 'big',
    needs: ['big'],
    rows: [
      row('seqread', 'read 1 GiB from end to end', { cold: 2, warm: 1.05 }),
      row('mmap', 'the same through mmap, a word of each page', { warm: 1 }),
    ],
    warm: ({ lower }) => ['seqread', join(lower, 'big'), 1],
    async run({ inputs, place, timed, untimed }) {
      await untimed('ready', AROUND * inputs.scale.bigBytes);
      const big = join(place.root, 'big');
      await timed('seqread', 'cold', 'seqread', big, 1);
      await timed('seqread', 'warm', 'seqread', big, 2);
      await timed('mmap', 'warm', 'mapread', big, 3);
    },
  },
  {
    name: 'random',
    needs: ['big'],
    rows: [row('rand4k', '20,000 random reads of 4 KiB in 1 GiB', { cold: 3, warm: 0.85 })],
    warm: ({ lower }) => ['seqread', join(lower, 'big'), 1],
    async run({ inputs, place, timed, untimed }) {
      await untimed('ready', AROUND * inputs.scale.bigBytes);
      const words = ['randread', join(place.root, 'big'), inputs.scale.randomReads] as const;
      await timed('rand4k', 'cold', ...words);
      await timed('rand4k', 'warm', ...words);
    },
  },
  {
    name: 'exec',
    needs: [],
    rows: [row('exec', 'start a small program', { warm: 1 })],
    warm: ({ lower }) => ['execute', join(lower, 'bin/true'), 1],
    async run({ inputs, place, timed, untimed }) {
      const program = join(place.root, 'bin/true');
      await untimed('execute', program, 3);
      await timed('exec', 'warm', 'execute', program, inputs.scale.programs);
    },
  },
  {
    name: 'tar',
    needs: ['small'],
    rows: [row('tar', 'tar of a source tree of 20,000 files', { cold: 2, warm: 0.9 })],
    warm: ({ lower }) => tarOf(lower),
    async run({ place, rest, timed }) {
      await rest();
      await timed('tar', 'cold', ...tarOf(place.root));
      await timed('tar', 'warm', ...tarOf(place.root));
    },
  },
  {
    name: 'git',
    needs: ['repo'],
    rows: [row('git', 'git status of 20,000 files', { cold: 2, warm: 0.9 })],
    warm: ({ lower }) => ['run', '-', lower, 'tar', 'cf', '-', 'repo'],
    async run({ place, rest, timed }) {
      const words = ['run', '-', join(place.root, 'repo'), 'git', 'status', '--porcelain'];
      await rest();
      await timed('git', 'cold', ...words);
      await timed('git', 'warm', ...words);
    },
  },
  {
    name: 'new',
    needs: [],
    rows: [
      row('create', 'create, write 4 KiB, close 5,000 files', { '-': 3 }),
      row('stat-new', 'lstat them', { '-': 2.5 }),
      row('unlink', 'unlink them', { '-': 2 }),
    ],
    async run({ inputs, place, timed }) {
      const folder = join(place.scratch(), 'files');
      const { newFiles } = inputs.scale;
      await timed('create', '-', 'make', folder, newFiles, 4096);
      await timed('stat-new', '-', 'look', folder, newFiles);
      await timed('unlink', '-', 'drop', folder, newFiles);
    },
  },
  {
    name: 'seqwrite',
    needs: [],
    rows: [row('seqwrite', 'write a new file of 256 MiB', { '-': 1.5 })],
    async run({ inputs, place, rest, timed, untimed }) {
      await rest();
      // What is written, and what is kept of it.
      await untimed('ready', 2 * AROUND * inputs.scale.writeBytes);
      const file = join(place.scratch(), 'file');
      await timed('seqwrite', '-', 'seqwrite', file, inputs.scale.writeBytes);
      await untimed('check', file);
    },
  },
  {
    name: 'cc',
    needs: ['sources'],
    rows: [row('cc', 'compile 12 C files by the toolchain in the session', { '-': 0.9 })],
    lower: () => '/usr',
    async run({ inputs, place, timed, untimed }) {
      // In place over /usr, as for an operating system: the compiler, its headers and libraries come from the mount.
      const folder = place.scratch();
      cpSync(inputs.sources, folder, { recursive: true });
      const units = Array.from({ length: inputs.scale.units }, (_, i) => `unit-${i}.c`);
      await timed('cc', '-', 'run', place.root, folder, 'gcc', '-O1', '-c', ...units);
      const objects = units.map((name) => name.replace('.c', '.o'));
      await untimed('run', '-', folder, 'cat', ...objects);
    },
  },
  {
    name: 'unpack',
    needs: ['archives', 'repo'],
    rows: [
      row('untar', 'unpack a tar of 20,000 small files', { '-': 1.5 }),
      row('dpkg', 'dpkg -i of a package of 2,000 files', { '-': 1.5 }),
      row('clone', 'git clone of 20,000 files', { '-': 1.5 }),
    ],
    warm: ({ lower }) => ['run', '-', lower, 'tar', 'cf', '-', 'repo', 'small.tar', 'small.deb'],
    async run({ inputs, place, rest, timed, untimed }) {
      const folder = place.scratch();
      const { smallDirs, smallFiles } = inputs.scale;
      await rest();
      await timed('untar', '-', 'run', '-', folder, 'tar', 'xf', join(place.root, 'small.tar'));
      await untimed('small', join(folder, 'small'), smallDirs, smallFiles, 1);
      const admin = join(folder, 'admin');
      const root = join(folder, 'root');
      await untimed('run', '-', folder, 'mkdir', '-p', `${admin}/info`, `${admin}/updates`, root);
      await untimed('run', '-', folder, 'touch', `${admin}/status`);
      const install = `dpkg --force-all --log=/dev/null --admindir=${admin} --instdir=${root}`;
      const words = ['sh', '-c', `${install} -i ${join(place.root, 'small.deb')} >/dev/null`];
      await timed('dpkg', '-', 'run', '-', folder, ...words);
      await untimed('walk', root);
      const clone = ['git', 'clone', '-q', '--no-local', join(place.root, 'repo'), 'clone'];
      await timed('clone', '-', 'run', '-', folder, ...clone);
      await untimed('small', join(folder, 'clone'), smallDirs, smallFiles, 1);
    },
  },
  {
    name: 'npm',
    needs: ['npm'],
    rows: [
      row('npm-ci', 'npm ci of 80 packages from a warm cache, with the start of npm', { '-': 1.5 }),
    ],
    warm: ({ lower }) => ['run', '-', lower, 'tar', 'cf', '-', 'npm'],
    async run({ inputs, place, rest, timed, untimed }) {
      const folder = place.scratch();
      const shown = join(place.root, 'npm');
      await untimed('run', '-', shown, 'cp', 'package.json', 'package-lock.json', folder);
      await rest();
      // What npm writes into its cache stays in this mount; how long it took, it prints.
      const options = ['--ignore-scripts', '--no-audit', '--no-fund'];
      const install = ['npm', 'ci', ...options, ...npmOptions(join(shown, 'cache'))].join(' ');
      await timed('npm-ci', '-', 'run', '-', folder, 'sh', '-c', `${install} >/dev/null`);
      const modules = join(folder, 'node_modules');
      await untimed('small', modules, npmPackages(inputs.scale), NPM_FILES, 1);
      await untimed('walk', modules);
    },
  },
  {
    name: 'poke',
    needs: ['big'],
    rows: [row('one-byte', 'change one byte of a 1 GiB file of the lower', { '-': 0.001 })],
    changesLower: true,
    async run({ inputs, place, timed, untimed }) {
      // A copy of the file, for who makes one.
      await untimed('ready', AROUND * inputs.scale.bigBytes);
      const before = await place.held?.();
      const middle = inputs.scale.bigBytes / 2 + 4321;
      await timed('one-byte', '-', 'poke', join(place.root, 'big'), middle);
      const grown = ((await place.held?.()) ?? 0) - (before ?? 0);
      if (grown >= MIB) throw new CannotDo(`one byte took ${grown} bytes of the upper`);
    },
  },
  {
    name: 'rename',
    needs: ['flat'],
    rows: [row('rename', 'mv of a directory of 10,000 files of the lower', { '-': 0.005 })],
    changesLower: true,
    warm: ({ lower }) => ['walk', join(lower, 'flat-0')],
    async run({ place, timed }) {
      const from = join(place.root, 'flat-0');
      await timed('rename', '-', 'move', from, join(place.root, 'moved'));
    },
  },
  ...APART,
];

function readSmall(inputs: Inputs, root: string, processes: number): Words {
  return filesOf(inputs, join(root, 'small'), processes);
}

function flatFolders({ scale }: Inputs, root: string): string[] {
  return Array.from({ length: scale.flatFolders }, (_, i) => join(root, `flat-${i}`));
}

function tarOf(root: string): Words {
  return ['run', '-', root, 'tar', 'cf', '-', 'small'];
}
