/** What is measured: sessions of ours, by where they keep changes and how the kernel reads; how a commit comes to be seen, and to be. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findSession, unlock, type UnlockOptions } from '../../src/index.ts';
import { newFolder, type Peer, type Place } from './peers.ts';
import { NO_USAGE, run, usageOf } from './process.ts';

const PROGRAM = fileURLToPath(new URL('../../bundle/cli/main.cjs', import.meta.url));

/** The modes, by the name that stands beside each figure. The first is the default of the command. */
export const MODES: readonly Peer[] = [
  mode('memory/cached', {}),
  mode('tmpfs/cached', { upper: 'tmpfs' }),
  mode('tmpfs/passthrough', { upper: 'tmpfs', io: 'passthrough' }),
];

/** Those of them that are measured unless others are named. */
export const USUAL: readonly string[] = ['memory/cached', 'tmpfs/cached'];

/** The first of them, with room for a million files. */
export const LARGE: Peer = mode('memory/cached', { size: '90%' });

/** A commit of a repository, and the same as a directory: `lower` is the folder with both. */
export const COMMIT: Peer = mode('commit/cached', { source: ['main'] });
export const DIRECTORY: Peer = {
  ...mode('directory', {}),
  open: (lower, folder) => openSession({ source: [join(lower, 'checkout')] }, folder),
};

function mode(name: string, options: Partial<UnlockOptions>): Peer {
  return {
    name,
    missing: () => undefined,
    open: (lower, folder) =>
      options.source === undefined
        ? openSession({ source: lower.split(':'), ...options }, folder)
        : openSession({ source: options.source, repo: join(lower, 'repo') }, folder),
  };
}

function sessionName(folder: string): string {
  return `${basename(dirname(dirname(folder)))}-${basename(folder)}`;
}

async function openSession(options: UnlockOptions, folder: string): Promise<Place> {
  const mountpoint = join(folder, 'mnt');
  mkdirSync(mountpoint);
  const session = await unlock({
    mountpoint,
    name: sessionName(folder),
    foreground: true,
    ...options,
  });
  const { pid } = await session.status();
  const held = async () => (await session.status()).used ?? Number.NaN;
  return {
    root: mountpoint,
    scratch: () => newFolder(mountpoint),
    usage: () => (pid === null ? NO_USAGE : usageOf(pid)),
    // An upper that is a directory has whole files, as overlayfs has.
    ...(options.upper === undefined && { held }),
    async [Symbol.asyncDispose]() {
      await session.lock({ lazy: true });
    },
  };
}

/** From nothing to the first file of a commit: `Place.begin` is the command that shows it. */
export const FIRST_OURS: Peer = {
  name: 'unlock --repo',
  missing: () => undefined,
  open(lower, folder) {
    const root = join(folder, 'mnt');
    mkdirSync(root);
    const name = sessionName(folder);
    const begin = [process.execPath, PROGRAM, 'unlock', `--name=${name}`];
    return Promise.resolve({
      root,
      begin: [...begin, `--repo=${join(lower, 'repo')}`, 'main', root],
      scratch: () => newFolder(folder),
      usage: () => NO_USAGE,
      async [Symbol.asyncDispose]() {
        await (await findSession(name)).lock({ lazy: true });
      },
    });
  },
};

/** A checkout that copies: what shares files with the repository may not be written to. */
export const FIRST_CHECKOUT: Peer = {
  name: 'checkout',
  missing: () => missingOstree(),
  open(lower, folder) {
    const root = join(folder, 'checkout');
    const begin = ['ostree', 'checkout', '--force-copy', `--repo=${join(lower, 'repo')}`];
    return Promise.resolve({
      root,
      begin: [...begin, 'main', root],
      scratch: () => newFolder(folder),
      usage: () => NO_USAGE,
      async [Symbol.asyncDispose]() {
        await run('rm', ['-rf', root]);
      },
    });
  },
};

/** How many files of a commit are changed before it is committed again. */
const CHANGED = 100;

/** A session in which files were changed, kept: `Place.begin` does it. The repositories are on the tmpfs, as is all else. */
export const KEEP_OURS: Peer = {
  name: 'commit',
  missing: () => missingOstree(),
  async open(lower, folder) {
    const repo = await ownRepository(lower, folder);
    const place = await openSession({ source: ['main'], repo }, folder);
    await change(place.root);
    const commit = [process.execPath, PROGRAM, 'commit', sessionName(folder), '--branch=work'];
    return { ...place, repo, begin: commit };
  },
};

/** The same tree, a plain directory, committed whole. */
export const KEEP_THEIRS: Peer = {
  name: 'ostree commit',
  missing: () => missingOstree(),
  async open(lower, folder) {
    const repo = await ownRepository(lower, folder);
    const root = join(folder, 'tree');
    await run('ostree', ['checkout', '-H', `--repo=${repo}`, 'main', root]);
    await change(root);
    const words = ['commit', `--repo=${repo}`, '--branch=work', `--tree=dir=${root}`];
    return {
      root,
      repo,
      begin: ['ostree', ...words],
      scratch: () => newFolder(folder),
      usage: () => NO_USAGE,
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  },
};

async function ownRepository(lower: string, folder: string): Promise<string> {
  const repo = join(folder, 'repo');
  await run('cp', ['-a', join(lower, 'repo'), repo]);
  await run('ostree', ['config', `--repo=${repo}`, 'set', 'core.fsync', 'true']);
  return repo;
}

/** One file in each of as many folders; anew, since those of a checkout are the repository's own. */
async function change(root: string): Promise<void> {
  const folders = (await readdir(root)).sort().slice(0, CHANGED);
  for (const name of folders) {
    const path = join(root, name, 'f007');
    await rm(path);
    await writeFile(path, `changed ${name}\n`, { mode: 0o644 });
  }
}

/** A command in a session of its own, and the start of Node itself, which is most of it. */
export const RUN: Peer = command('run', (lower) => [
  process.execPath,
  PROGRAM,
  'run',
  lower,
  '--',
  'true',
]);
export const NODE: Peer = command('node -e 0', () => [process.execPath, '-e', '0']);

function command(name: string, begin: (lower: string) => string[]): Peer {
  return {
    name,
    missing: () => undefined,
    open: (lower, folder) =>
      Promise.resolve({
        root: lower,
        begin: begin(lower),
        scratch: () => newFolder(folder),
        usage: () => NO_USAGE,
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  };
}

export function missingOstree(): string | undefined {
  return spawnSync('ostree', ['--version'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'ostree is not installed';
}
