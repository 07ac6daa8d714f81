/**
 * Random operations on a session over a populated lower and on a plain tmpfs with the same tree: answers, errnos, trees,
 * contents, metadata, link groups and attributes must be equal.
 *
 * Left out, and why: atime, st_blocks and sizes of directories, which POSIX leaves open; bytes stored past the end of a
 * file through a mapping, which a FUSE server is given like any others; where holes begin, which file systems round;
 * mtimes of fifos and devices that were written through, which the kernel does not stamp on FUSE.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hand } from '../helpers/hand.ts';
import { mounted, UPPER } from '../helpers/mounted.ts';
import { type Difference, race, shrink } from '../helpers/race.ts';
import { keepable, Random, randomScript, randomTree } from '../helpers/random.ts';
import { PLANTED, plantScript, type Tree } from '../helpers/trees.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
/** OSTREE_TS_TEST_SEED repeats one seed. */
const ONLY = process.env['OSTREE_TS_TEST_SEED'];
const FIRST_SEED = ONLY === undefined ? 20_261 : Number(ONLY);
const SEEDS = ONLY === undefined ? 10 * SCALE : 1;
const LINES_PER_SEED = 2000;
const SNAPSHOT_EVERY = 250;
const SHRINK_ATTEMPTS = 800;

/** A tmpfs of one's own, gone at the end. */
function tmpfs(t: ExecutionContext): string {
  const point = mkdtempSync(join(tmpdir(), 'model-'));
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', point]);
  t.teardown(() => {
    spawnSync('umount', ['-l', point]);
    rmSync(point, { recursive: true });
  });
  return point;
}

/** The lines that plant each of `trees` in a numbered folder. */
async function plantAll(root: string, trees: readonly Tree[]): Promise<void> {
  await using hand = new Hand({ cwd: root });
  await hand.must(
    trees.flatMap((tree, index) => [
      `mkdir ${index} 0777`,
      ...plantScript(tree, String(index)),
      `utimens ${index} ${PLANTED} ${PLANTED}`,
    ]),
  );
}

test.serial(
  'two tmpfs trees are equal, whatever is done to both; and a change in one is found',
  async (t) => {
    const root = tmpfs(t);
    const tree = randomTree(new Random(7));
    for (const name of ['a', 'b']) {
      mkdirSync(join(root, name));
      await plantAll(join(root, name), [tree]);
    }
    const folders = [join(root, 'a/0'), join(root, 'b/0')] as const;
    const script = randomScript(new Random(7), tree, 3000, 500);
    t.is(await race(script, folders), undefined);
    await using hand = new Hand({ cwd: folders[1] });
    await hand.must(['open 0 planted-difference O_CREAT|O_RDWR 0644']);
    const found = await race(script, folders);
    t.regex(found?.first ?? '', /planted-difference/);
  },
);

test.serial(
  `a session and a tmpfs are equal, over ${SEEDS} seeds from ${FIRST_SEED}`,
  async (t) => {
    t.timeout(3_600_000);
    const histogram = new Map<string, number>();
    const trees = Array.from({ length: SEEDS }, (_, index) =>
      randomTree(new Random(FIRST_SEED + index)),
    );
    const model = tmpfs(t);
    await plantAll(model, trees);
    const lower = mkdtempSync(join(tmpdir(), 'random-'));
    t.teardown(() => rmSync(lower, { recursive: true }));
    await plantAll(lower, trees);
    await using session = await mounted({ lower });
    const started = Date.now();
    let lines = 0;
    for (const [index, tree] of trees.entries()) {
      const seed = FIRST_SEED + index;
      const whole = randomScript(new Random(seed), tree, LINES_PER_SEED, SNAPSHOT_EVERY);
      const script = UPPER === 'memory' ? whole : keepable(whole, UPPER === 'disk');
      const folders = [
        join(session.mountpoint, String(index)),
        join(model, String(index)),
      ] as const;
      const found = await race(script, folders, histogram);
      lines += script.length;
      if (found) {
        t.fail(await reproduction(t, seed, tree, script, found));
        return;
      }
    }
    const seconds = (Date.now() - started) / 1000;
    t.log(
      `${lines} operations in ${seconds.toFixed(1)} s, seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`,
    );
    for (const [operation, count] of [...histogram].sort(([a], [b]) => a.localeCompare(b)))
      t.log(`${String(count).padStart(7)} ${operation}`);
    if (ONLY !== undefined) return;
    for (const operation of MUST_OCCUR.filter(
      (name) => UPPER === 'memory' || !WHITEOUTS.test(name),
    ))
      t.true((histogram.get(operation) ?? 0) > 0, `never: ${operation}`);
  },
);

/** What uppers in overlayfs format refuse: it would be taken for a whiteout. */
const WHITEOUTS = /RENAME_WHITEOUT|S_IFCHR\|0600 0 0$/;

/** What no run may quietly leave out. */
const MUST_OCCUR = [
  'open done',
  'open O_TMPFILE done',
  'open O_APPEND done',
  'open O_TRUNC done',
  'open O_DIRECT done',
  'pwrite done',
  'write done',
  'pread done',
  'truncate done',
  'resize done',
  'mkdir done',
  'rmdir done',
  'rmdir refused',
  'unlink done',
  'link done',
  'symlink done',
  'mknod done',
  'rename done',
  'rename refused',
  'rename RENAME_NOREPLACE done',
  'rename RENAME_EXCHANGE done',
  'rename RENAME_WHITEOUT done',
  'chmod done',
  'chmod refused',
  'chown done',
  'utimens done',
  'setxattr done',
  'setxattr refused',
  'removexattr done',
  'getxattr done',
  'listxattr done',
  'fallocate done',
  'fallocate FALLOC_FL_PUNCH_HOLE done',
  'fallocate FALLOC_FL_ZERO_RANGE done',
  'copyrange done',
  'holes done',
  'mmap done',
  'mput done',
  'mget done',
  'readlink done',
  'look done',
  'list done',
  'tree done',
  'drop done',
];

function told(difference: Difference): string {
  return `${difference.line}\n  session: ${difference.first}\n  tmpfs:   ${difference.second}`;
}

/** The shortest script that still fails, in a file and as text. */
async function reproduction(
  t: ExecutionContext,
  seed: number,
  tree: Tree,
  script: readonly string[],
  found: Difference,
): Promise<string> {
  t.log(`seed ${seed}, line ${found.index}: ${told(found)}`);
  let last = found;
  await using fresh = new FreshTrees(tree);
  const fails = async (candidate: readonly string[]): Promise<boolean> => {
    const difference = await fresh.race(candidate);
    // Another difference is another bug.
    if (difference?.line.split(' ')[0] !== found.line.split(' ')[0]) return false;
    last = difference ?? last;
    return true;
  };
  const shortest = await shrink(script.slice(0, found.index + 1), fails, SHRINK_ATTEMPTS);
  const text = [
    `# seed ${seed}`,
    ...plantScript(tree, '.').map((line) => `# ${line}`),
    ...shortest,
  ].join('\n');
  const path = join('/tmp', `ostree-ts-random-${seed}.txt`);
  writeFileSync(path, text, 'latin1');
  const summary = `${shortest.join('\n')}\n=> ${told(last)}`.replaceAll(/x{40,}/g, 'x..');
  return `seed ${seed}: ${shortest.length} lines are enough (${path}):\n${summary}`;
}

/** Pairs of fresh trees, many to a session: a shrinking script needs hundreds. */
class FreshTrees implements AsyncDisposable {
  readonly #tree: Tree;
  readonly #ends: (() => unknown)[] = [];
  #pairs: (readonly [string, string])[] = [];

  constructor(tree: Tree) {
    this.#tree = tree;
  }

  async race(script: readonly string[]): Promise<Difference | undefined> {
    const pair = this.#pairs.pop() ?? (await this.#more());
    return race(script, pair);
  }

  async #more(): Promise<readonly [string, string]> {
    const trees = Array.from({ length: 60 }, () => this.#tree);
    const folder = mkdtempSync(join(tmpdir(), 'random-'));
    const [lower, model] = [join(folder, 'lower'), join(folder, 'model')];
    for (const each of [lower, model]) mkdirSync(each);
    this.#ends.push(() => rmSync(folder, { recursive: true }));
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', model]);
    this.#ends.push(() => spawnSync('umount', ['-l', model]));
    for (const each of [lower, model]) await plantAll(each, trees);
    const session = await mounted({ lower, unchecked: true });
    this.#ends.push(() => session[Symbol.asyncDispose]());
    this.#pairs = trees.map(
      (_, index) => [join(session.mountpoint, String(index)), join(model, String(index))] as const,
    );
    return this.#pairs.pop() ?? ['', ''];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
  }
}
