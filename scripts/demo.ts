/**
 * `npm run demo`: a small tree is made writable, changed, looked at and locked again, with the commands that a person
 * would type. Nothing is left, whatever happens.
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

const MAIN = fileURLToPath(new URL('../bundle/cli/main.js', import.meta.url));

/** Runs `ostree-ts`, shows what was typed and what came back. @throws Error it failed. */
function type(...args: string[]): void {
  console.log(`\n$ ostree-ts ${args.join(' ')}`);
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

function demonstrate(tree: string, session: string): void {
  makeTree(tree);
  const before = checksum(tree);
  type('unlock', tree, `--name=${session}`, '--size=64M');
  console.log('');
  act('echo "colour = red" >> lib/app/settings', () =>
    appendFileSync(join(tree, 'lib/app/settings'), 'colour = red\n'),
  );
  act('mv lib/app lib/application', () =>
    renameSync(join(tree, 'lib/app'), join(tree, 'lib/application')),
  );
  act('rm -r share', () => rmSync(join(tree, 'share'), { recursive: true }));
  act('echo new > bin/new', () => writeFileSync(join(tree, 'bin/new'), 'new\n'));
  type('status', session);
  type('diff', session);
  type('lock', session);
  const after = checksum(tree);
  console.log(`\nthe tree before: ${before}\nthe tree after:  ${after}`);
  if (before !== after) throw new Error('the tree has changed');
}

const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-'));
const tree = join(folder, 'tree');
const session = `demo-${process.pid}`;
try {
  demonstrate(tree, session);
  console.log('\nthe tree is what it was, and nothing is left');
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
