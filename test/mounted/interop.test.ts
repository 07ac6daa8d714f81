/**
 * Uppers in directories are kernel overlayfs's: what a session has written the kernel shows over the same lower, and the
 * other way round.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlock } from '../../src/index.ts';
import { compareListings } from '../helpers/compare.ts';
import { Hand } from '../helpers/hand.ts';
import { comparableScript, ground, list, plantAt, unlinkedTree } from '../helpers/overlayfs.ts';
import { Random } from '../helpers/random.ts';
import { link } from '../helpers/trees.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
const ROUNDS = SCALE < 2 ? 5 : 10 * SCALE;
const FIRST_SEED = 7001;
const LINES = 400;

interface Place {
  lower: string;
  changes: string;
  mountpoint: string;
  script: string[];
}

/** A planted lower, an empty folder for changes and operations to be done, on a tmpfs of their own. */
async function prepare(t: ExecutionContext, seed: number): Promise<Place> {
  const root = ground(t, '256M', ['lower', 'changes']);
  const tree = unlinkedTree(new Random(seed));
  await plantAt(root, 'lower', tree);
  return {
    lower: join(root, 'lower'),
    changes: join(root, 'changes'),
    mountpoint: join(root, 'mnt'),
    script: comparableScript(new Random(seed), tree, LINES),
  };
}

/** Runs what is to be done, and lists the tree afterwards. */
async function work(mountpoint: string, script: readonly string[]): Promise<string> {
  await using hand = new Hand({ cwd: mountpoint, timeoutMs: 60_000 });
  if (script.length > 0) await hand.script([...script]);
  return list(mountpoint);
}

function mountKernel({ lower, changes, mountpoint }: Place, options: string): void {
  const all = `lowerdir=${lower},upperdir=${changes}/upper,workdir=${changes}/work${options}`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', all, mountpoint]);
}

for (const metacopy of [false, true]) {
  test.serial(
    `the kernel shows what a session has written, ${ROUNDS} times${metacopy ? ', metacopy' : ''}`,
    async (t) => {
      for (let round = 0; round < ROUNDS; round++) {
        const seed = FIRST_SEED + round;
        const here = await prepare(t, seed);
        const { lower, changes, mountpoint, script } = here;
        const before = await list(lower);
        const session = await unlock({ source: [lower], mountpoint, upper: changes, metacopy });
        const ours = await work(mountpoint, script);
        await session.lock({ lazy: true });
        for (const options of metacopy
          ? [',redirect_dir=on,metacopy=on']
          : ['', ',redirect_dir=on']) {
          mountKernel(here, options);
          const theirs = await list(mountpoint);
          execFileSync('umount', [mountpoint]);
          t.deepEqual(compareListings(ours, theirs), [], `seed ${seed}${options}`);
        }
        // It can go on where the kernel has been.
        const again = await unlock({ source: [lower], mountpoint, upper: changes });
        t.deepEqual(compareListings(ours, await list(mountpoint)), [], `seed ${seed}, again`);
        await again.lock({ lazy: true });
        t.is(await list(lower), before);
      }
    },
  );
}

for (const options of ['', ',redirect_dir=on', ',redirect_dir=on,metacopy=on']) {
  test.serial(
    `a session shows what the kernel has written (${options || 'defaults'})`,
    async (t) => {
      for (let round = 0; round < ROUNDS; round++) {
        const seed = FIRST_SEED + 1000 + round;
        const here = await prepare(t, seed);
        const { lower, changes, mountpoint, script } = here;
        mkdirSync(join(changes, 'upper'));
        mkdirSync(join(changes, 'work'));
        mountKernel(here, options);
        const theirs = await work(mountpoint, script);
        execFileSync('umount', ['-l', mountpoint]);
        const session = await unlock({ source: [lower], mountpoint, upper: changes });
        const ours = await list(mountpoint);
        await session.lock({ lazy: true });
        t.deepEqual(compareListings(theirs, ours), [], `seed ${seed}`);
      }
    },
  );
}

test.serial(
  'what is written to a hard link of the lowers after another has gone has a name in the changes',
  async (t) => {
    const root = ground(t, '64M', ['l', 'c']);
    const [lower, changes, mountpoint] = [join(root, 'l'), join(root, 'c'), join(root, 'mnt')];
    await plantAt(root, 'l', {
      'd/one': 'text',
      'e/two': link('d/one'),
      'e/three': 'other',
      'e/four': link('e/three'),
    });
    const session = await unlock({ source: [lower], mountpoint, upper: changes, links: 'shared' });
    for (const name of ['d/one', 'e/three']) rmSync(join(mountpoint, name));
    writeFileSync(join(mountpoint, 'e/two'), 'changed');
    chmodSync(join(mountpoint, 'e/four'), 0o600);
    const ours = await list(mountpoint);
    await session.lock({ lazy: true });
    mountKernel({ lower, changes, mountpoint, script: [] }, '');
    const theirs = await list(mountpoint);
    execFileSync('umount', [mountpoint]);
    // The kernel counts the link by which sessions know the file as well.
    t.deepEqual(compareListings(ours, theirs), ['e/four: nlink: 1 != 2', 'e/two: nlink: 1 != 2']);
    t.deepEqual(readdirSync(join(changes, 'upper/e')), ['four', 'three', 'two']);
  },
);

test.serial(
  'changes with an index of hard links are shown, and nothing else is done with them',
  async (t) => {
    const root = ground(t, '64M', ['l', 'c', 'c/upper', 'c/work']);
    const [lower, changes, mountpoint] = [join(root, 'l'), join(root, 'c'), join(root, 'mnt')];
    await plantAt(root, 'l', {
      'd/one': 'text',
      'd/two': link('d/one'),
      'd/e/three': 'x',
      gone: '',
    });
    mountKernel({ lower, changes, mountpoint, script: [] }, ',index=on');
    writeFileSync(join(mountpoint, 'd/one'), 'changed');
    writeFileSync(join(mountpoint, 'new'), 'new');
    rmSync(join(mountpoint, 'gone'));
    const theirs = await list(mountpoint);
    execFileSync('umount', [mountpoint]);
    const [upper, index] = [
      await list(`${changes}/upper`),
      readdirSync(join(changes, 'work', 'index')),
    ];

    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const session = await unlock({ source: [lower], mountpoint, upper: changes, onWarning });
    t.deepEqual(warnings, [
      'read-only: its changes have an index of hard links of kernel overlayfs (index=on)',
    ]);
    // A name that the kernel has not copied up: only the index says that it is the changed file's.
    const different = compareListings(theirs, await list(mountpoint));
    t.deepEqual(
      different.filter((line) => !line.startsWith('d/two: ')),
      [],
    );
    for (const change of [
      () => writeFileSync(join(mountpoint, 'd/two'), ''),
      () => rmSync(join(mountpoint, 'new')),
    ]) {
      t.throws(change, { code: 'EROFS' });
    }
    await t.throwsAsync(session.undo(['/new']), { message: /read-only/ });
    const { health, problems } = await session.status();
    t.is(health, 'ok');
    t.regex(problems.join(), /it is read-only: its changes have an index/);
    await session.lock();
    t.is(await list(`${changes}/upper`), upper);
    t.deepEqual(readdirSync(join(changes, 'work', 'index')), index);
    // The kernel goes on where it was.
    mountKernel({ lower, changes, mountpoint, script: [] }, ',index=on');
    t.deepEqual(compareListings(theirs, await list(mountpoint)), []);
    writeFileSync(join(mountpoint, 'd/two'), 'more');
    t.is(readFileSync(join(mountpoint, 'd/one'), 'utf8'), 'more');
  },
);
