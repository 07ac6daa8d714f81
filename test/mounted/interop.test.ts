/**
 * Uppers in directories are kernel overlayfs's: what a session has written the kernel shows over the same lower, and the
 * other way round. Hard links of the lower are left out, since the kernel breaks them at copy-up by default; and the link
 * counts of directories, which it does not count, and d_ino, which it translates in its own uppers only.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unlock } from '../../src/index.ts';
import { compareListings } from '../helpers/compare.ts';
import { Hand } from '../helpers/hand.ts';
import { keepable, Random, randomScript, randomTree } from '../helpers/random.ts';
import { link, PLANTED, plantScript, type Tree } from '../helpers/trees.ts';

const SCALE =
  process.env['OSTREE_TS_TEST_SCALE'] === 'long'
    ? 10
    : Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
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
  const root = mkdtempSync(join(tmpdir(), 'interop-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256M', 'tmpfs', root]);
  t.teardown(() => {
    spawnSync('umount', ['-l', join(root, 'mnt')]);
    spawnSync('umount', ['-l', root]);
    rmSync(root, { recursive: true });
  });
  const [lower, changes, mountpoint] = [
    join(root, 'lower'),
    join(root, 'changes'),
    join(root, 'mnt'),
  ];
  for (const folder of [lower, changes, mountpoint]) mkdirSync(folder);
  const tree: Tree = Object.fromEntries(
    Object.entries(randomTree(new Random(seed))).filter(
      ([, node]) => typeof node === 'string' || node.kind !== 'link',
    ),
  );
  await using hand = new Hand({ cwd: root });
  await hand.must([...plantScript(tree, 'lower'), `utimens lower ${PLANTED} ${PLANTED}`]);
  const script = keepable(randomScript(new Random(seed), tree, LINES, LINES), false).filter(
    (line) => !line.startsWith('tree '),
  );
  return { lower, changes, mountpoint, script };
}

/** Runs what is to be done, and lists the tree afterwards. */
async function work(mountpoint: string, script: readonly string[]): Promise<string> {
  await using hand = new Hand({ cwd: mountpoint, timeoutMs: 60_000 });
  if (script.length > 0) await hand.script([...script]);
  return list(mountpoint);
}

async function list(mountpoint: string): Promise<string> {
  await using hand = new Hand({ cwd: mountpoint });
  const listing = await hand.do(`tree . ${Number.MAX_SAFE_INTEGER}`);
  return listing
    .split('\n')
    .map((line) => line.replace(/ d_ino-differs\b/, ''))
    .map((line) => (line.includes(' type=d') ? line.replace(/ nlink=\d+/, '') : line))
    .join('\n');
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
  'changes with an index of hard links are shown, and nothing else is done with them',
  async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'interop-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64M', 'tmpfs', root]);
    t.teardown(() => {
      spawnSync('umount', ['-l', join(root, 'mnt')]);
      spawnSync('umount', ['-l', root]);
      rmSync(root, { recursive: true });
    });
    const [lower, changes, mountpoint] = [join(root, 'l'), join(root, 'c'), join(root, 'mnt')];
    for (const folder of [lower, changes, mountpoint, `${changes}/upper`, `${changes}/work`]) {
      mkdirSync(folder);
    }
    await using hand = new Hand({ cwd: root });
    const tree: Tree = { 'd/one': 'text', 'd/two': link('d/one'), 'd/e/three': 'x', gone: '' };
    await hand.must([...plantScript(tree, 'l'), `utimens l ${PLANTED} ${PLANTED}`]);
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
