/**
 * `npm run demo`: a small tree becomes a commit of a repository of its own; the commit is made writable, changed, looked
 * at, committed and locked, and the new commit shows what was kept. With the commands that a person would type, and without
 * the real ostree. Nothing is left, whatever happens.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { initRepository } from '../src/ostree/init.ts';

const MAIN = fileURLToPath(new URL('../bundle/cli/main.cjs', import.meta.url));

/** Runs `ostree-ts`, shows what was typed and what came back. @throws Error it failed. */
function type(...args: string[]): void {
  const words = args.map((arg) => (arg.includes(' ') ? `'${arg}'` : arg));
  console.log(`\n$ ostree-ts ${words.join(' ')}`);
  const { status } = spawnSync(process.execPath, [MAIN, ...args], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`ostree-ts ${args[0]} exited with ${status}`);
}

/** Says what is done, and does it. */
function act(words: string, change: () => void): void {
  console.log(`$ ${words}`);
  change();
}

/** Over names, types, modes, times, targets and contents of everything in a tree. */
function checksum(folder: string): string {
  const hash = createHash('sha256');
  const walk = (path: string): void => {
    const stat = lstatSync(path);
    hash.update(`${path}\0${stat.mode} ${stat.uid} ${stat.gid} ${stat.size} ${stat.mtimeMs}\0`);
    if (stat.isSymbolicLink()) hash.update(readlinkSync(path));
    else if (stat.isDirectory())
      for (const name of readdirSync(path).sort()) walk(join(path, name));
    else hash.update(readFileSync(path));
  };
  walk(folder);
  return hash.digest('hex');
}

function makeTree(folder: string): void {
  for (const path of ['bin', 'lib/app', 'share/doc'])
    mkdirSync(join(folder, path), { recursive: true });
  writeFileSync(join(folder, 'bin/hello'), '#!/bin/sh\necho hello\n', { mode: 0o755 });
  writeFileSync(join(folder, 'lib/app/settings'), 'colour = blue\n');
  writeFileSync(join(folder, 'lib/app/data'), Buffer.alloc(1 << 20, 7));
  writeFileSync(join(folder, 'share/doc/README'), 'read me\n');
  symlinkSync('hello', join(folder, 'bin/hi'));
}

/** Every object of the repository and its ref, by their names: a commit adds, and changes none. */
function objectsOf(repo: string): Set<string> {
  const names = readdirSync(join(repo, 'objects'), { recursive: true, encoding: 'utf8' });
  return new Set(names.filter((name) => name.includes('.')));
}

function demonstrate(folder: string, session: string): void {
  const [tree, repo, mountpoint] = ['tree', 'repo', 'mnt'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [tree, mountpoint]) mkdirSync(path);
  makeTree(tree);
  const before = checksum(tree);
  act(`make a repository at ${repo}`, () =>
    initRepository(Buffer.from(repo).toString('latin1'), 'archive'),
  );
  const named = `--name=${session}`;
  type('unlock', tree, mountpoint, named);
  type('commit', session, `--repo=${repo}`, '--branch=demo', '--subject=The tree');
  type('lock', session);
  const first = objectsOf(repo);

  type('unlock', `--repo=${repo}`, 'demo', mountpoint, named, '--size=64M');
  console.log('');
  act('echo "colour = red" >> lib/app/settings', () =>
    appendFileSync(join(mountpoint, 'lib/app/settings'), 'colour = red\n'),
  );
  act('mv lib/app lib/application', () =>
    renameSync(join(mountpoint, 'lib/app'), join(mountpoint, 'lib/application')),
  );
  act('rm -r share', () => rmSync(join(mountpoint, 'share'), { recursive: true }));
  act('echo new > bin/new', () => writeFileSync(join(mountpoint, 'bin/new'), 'new\n'));
  type('status', session);
  type('diff', session);
  type('commit', session, '--branch=demo', '--subject=Changed');
  type('lock', session);
  const second = objectsOf(repo);
  if ([...first].some((name) => !second.has(name)))
    throw new Error('the repository has lost objects');
  console.log(`\nobjects before: ${first.size}, and after: ${second.size}`);

  type('unlock', `--repo=${repo}`, 'demo', mountpoint, named);
  console.log('');
  act('cat lib/application/settings bin/new', () => {
    const shown = ['lib/application/settings', 'bin/new'].map((path) =>
      readFileSync(join(mountpoint, path), 'utf8'),
    );
    console.log(shown.join('').trimEnd());
    if (shown.join('') !== 'colour = blue\ncolour = red\nnew\n') throw new Error('that is not it');
  });
  type('lock', session);
  if (before !== checksum(tree)) throw new Error('the tree has changed');
}

const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-'));
const session = `demo-${process.pid}`;
try {
  demonstrate(folder, session);
  console.log('\nwhat was changed is kept, the tree is what it was, and nothing else is left');
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  // Whether there is a session to end depends on how far it came.
  spawnSync(process.execPath, [MAIN, 'lock', session, '--lazy'], { stdio: 'ignore' });
  console.error('what this system allows:');
  spawnSync(process.execPath, [MAIN, 'doctor'], { stdio: 'inherit' });
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
