/**
 * Several lowers, with whiteouts and opaque directories that kernel overlayfs has made, are what it shows of them: the
 * layers of a tree are made by changing it through the kernel, again and again.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlock } from '../../src/index.ts';
import { compareListings, parseListing } from '../helpers/compare.ts';
import { Hand } from '../helpers/hand.ts';
import { comparableScript, ground, list, plantAt, unlinkedTree } from '../helpers/overlayfs.ts';
import { Random } from '../helpers/random.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
const ROUNDS = 3 * SCALE;
const FIRST_SEED = 9001;
/** Operations for each layer. */
const LINES = 150;
/** One more in each round, up to these. */
const LAYERS_MIN = 2;
const LAYERS_MAX = 9;

/** Layers, topmost first, on a tmpfs of their own. */
async function prepare(t: ExecutionContext, seed: number, count: number): Promise<string[]> {
  const root = ground(t, '256M', ['work', 'layer-0']);
  const mountpoint = join(root, 'mnt');
  const layers = [join(root, 'layer-0')];
  const tree = unlinkedTree(new Random(seed));
  await plantAt(root, 'layer-0', tree);
  while (layers.length < count) {
    const layer = join(root, `layer-${layers.length}`);
    mkdirSync(layer);
    const random = new Random(seed + 100 * layers.length);
    const dirs = `lowerdir=${layers.join(':')},upperdir=${layer},workdir=${root}/work`;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', dirs, mountpoint]);
    await using hand = new Hand({ cwd: mountpoint, timeoutMs: 60_000 });
    await hand.script(comparableScript(random, tree, LINES));
    removeAndMake(mountpoint, random);
    execFileSync('umount', ['-l', mountpoint]);
    layers.unshift(layer);
  }
  return layers;
}

/** A directory anew, with something else in it: opaque. */
function removeAndMake(root: string, random: Random): void {
  const folders = readdirSync(root, { withFileTypes: true }).filter(
    // What is no UTF-8 has another name here.
    (each) => each.isDirectory() && !each.name.includes('\ufffd'),
  );
  if (folders.length === 0) return;
  const folder = join(root, random.pick(folders).name);
  rmSync(folder, { recursive: true });
  mkdirSync(folder);
  mkdirSync(join(folder, 'anew'));
  writeFileSync(join(folder, `anew-${random.below(3)}`), folder);
}

/** What stat(2) says of each path, names that are not there between them. */
async function look(root: string, paths: readonly string[]): Promise<string[]> {
  await using hand = new Hand({ cwd: root });
  const answers: string[] = [];
  for (const path of paths) {
    for (const each of [path, `${path}-not`]) answers.push(await hand.do(`stat ${each}`));
  }
  return answers.map((answer) => answer.replaceAll(/ (?:ino|dev|nlink|atime|blocks)=\S+/g, ''));
}

test.serial(`many lowers are what the kernel shows of them, ${ROUNDS} times`, async (t) => {
  for (let round = 0; round < ROUNDS; round++) {
    const seed = FIRST_SEED + round;
    const count = LAYERS_MIN + ((3 * round) % (LAYERS_MAX - LAYERS_MIN + 1));
    const layers = await prepare(t, seed, count);
    const mountpoint = join(layers[0] ?? '', '..', 'mnt');
    const before = await Promise.all(layers.map(list));
    const dirs = `lowerdir=${layers.join(':')}`;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', dirs, mountpoint]);
    const theirs = await list(mountpoint);
    const paths = [...parseListing(theirs).keys()].toReversed();
    const seen = await look(mountpoint, paths);
    execFileSync('umount', [mountpoint]);
    t.log(`${count} layers, ${paths.length} files`);

    // As a walk asks, and as somebody does who knows the names.
    for (const isListed of [true, false]) {
      const session = await unlock({ source: layers, mountpoint });
      if (isListed)
        t.deepEqual(compareListings(theirs, await list(mountpoint)), [], `seed ${seed}`);
      t.deepEqual(await look(mountpoint, paths), seen, `seed ${seed}`);
      t.deepEqual(compareListings(theirs, await list(mountpoint)), [], `seed ${seed}`);
      await session.lock({ lazy: true });
    }
    t.deepEqual(await Promise.all(layers.map(list)), before);
  }
});
