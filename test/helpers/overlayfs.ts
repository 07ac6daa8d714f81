/**
 * What kernel overlayfs and a session are compared by. Hard links of the lower are left out, since the kernel breaks them
 * at copy-up by default; and the link counts of directories, which it does not count, and d_ino, which it translates in
 * its own uppers only.
 */
import type { ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hand } from './hand.ts';
import { keepable, type Random, randomScript, randomTree } from './random.ts';
import { PLANTED, plantScript, type Tree } from './trees.ts';

/** A tmpfs with these folders in it and one to mount at, `mnt`, for one test. */
export function ground(t: ExecutionContext, size: string, folders: readonly string[]): string {
  const root = mkdtempSync(join(tmpdir(), 'overlayfs-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', root]);
  t.teardown(() => {
    spawnSync('umount', ['-l', join(root, 'mnt')]);
    spawnSync('umount', ['-l', root]);
    rmSync(root, { recursive: true });
  });
  for (const folder of ['mnt', ...folders]) mkdirSync(join(root, folder));
  return root;
}

/** A tree without hard links. */
export function unlinkedTree(random: Random): Tree {
  return Object.fromEntries(
    Object.entries(randomTree(random)).filter(
      ([, node]) => typeof node === 'string' || node.kind !== 'link',
    ),
  );
}

/** Puts a tree into a folder of `root`. */
export async function plantAt(root: string, folder: string, tree: Tree): Promise<void> {
  await using hand = new Hand({ cwd: root });
  await hand.must([...plantScript(tree, folder), `utimens ${folder} ${PLANTED} ${PLANTED}`]);
}

/** Operations of which both keep the same. */
export function comparableScript(random: Random, tree: Tree, lines: number): string[] {
  return keepable(randomScript(random, tree, lines, lines), false).filter(
    (line) => !line.startsWith('tree '),
  );
}

/** All that is at a place, for `compareListings`. */
export async function list(root: string): Promise<string> {
  await using hand = new Hand({ cwd: root });
  const listing = await hand.do(`tree . ${Number.MAX_SAFE_INTEGER}`);
  return listing
    .split('\n')
    .map((line) => line.replace(/ d_ino-differs\b/, ''))
    .map((line) => (line.includes(' type=d') ? line.replace(/ nlink=\d+/, '') : line))
    .join('\n');
}
