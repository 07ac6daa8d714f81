/**
 * Cases that hold on any POSIX file system, each written once and run on several subjects: in a session on files that
 * only the lower has (`lower`), on files that were copied up (`copied`) and on files made there (`new`); and on a plain
 * tmpfs (`tmpfs`), so that an expectation that is ours alone shows at once. Others, by OSTREE_TS_TEST_SUBJECTS:
 * `ext4` (whatever holds the temp folder), `overlay-lower`, `overlay-copied`, `overlay-new` (kernel overlayfs).
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hand, type Stat } from './hand.ts';
import type { Mounted } from './mounted.ts';
import { copyUpScript, plantScript, type Tree } from './trees.ts';

const SUBJECTS = (process.env['OSTREE_TS_TEST_SUBJECTS'] ?? 'lower,copied,new,tmpfs').split(',');

/** A case at work on one subject: the hand's folder holds the case's tree and nothing else. */
export class Trial {
  readonly subject: string;
  readonly #t: ExecutionContext;
  readonly #hand: Hand;
  readonly #folder: string;
  readonly #more: Hand[] = [];

  constructor(subject: string, t: ExecutionContext, hand: Hand, folder: string) {
    this.subject = subject;
    this.#t = t;
    this.#hand = hand;
    this.#folder = folder;
  }

  /** Whether a session serves this subject. */
  get isSession(): boolean {
    return ['lower', 'copied', 'new'].includes(this.subject);
  }

  /** Carries out one line. */
  sys(line: string): Promise<string> {
    return this.#hand.do(line);
  }

  stat(path: string): Promise<Stat> {
    return this.#hand.stat(path);
  }

  /**
   * Carries out a script of lines and compares each answer: `rename a b => EEXIST`; without an arrow the answer is `ok`,
   * alone or with more after it.
   */
  async gives(script: string): Promise<void> {
    await runScript(this.#t, this.#hand, script);
  }

  /** One more process in the same folder. */
  async other(): Promise<Hand> {
    const hand = new Hand({ cwd: this.#folder, timeoutMs: 30_000 });
    this.#more.push(hand);
    return hand;
  }

  async close(): Promise<void> {
    for (const hand of this.#more) await hand[Symbol.asyncDispose]();
  }
}

export async function runScript(t: ExecutionContext, hand: Hand, script: string): Promise<void> {
  const steps = script
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => line.split(/ +=> +/) as [string, string?]);
  const answers = await hand.script(steps.map(([line]) => line));
  for (const [index, [line, expected]] of steps.entries()) {
    const answer = answers[index] ?? '';
    if (expected === undefined) t.regex(answer, /^ok/, line);
    else t.is(answer, expected, line);
  }
}

/** Whether any of the subjects asked for begins so. */
function wants(prefix: string): boolean {
  return SUBJECTS.some((subject) => subject.startsWith(prefix));
}

type Case = (t: ExecutionContext, trial: Trial) => Promise<void>;

/** Declares a suite; what it returns declares the cases. Hooks of ava set the subjects up and end them. */
export function posixSuite(): (title: string, tree: Tree, run: Case) => void {
  const trees: Tree[] = [];
  let bench: Bench | undefined;
  test.before(async (t) => {
    t.timeout(120_000);
    bench = await Bench.setUp(trees);
  });
  test.after.always('subjects end, and leave nothing', async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  return (title, tree, run) => {
    const index = trees.push(tree) - 1;
    for (const subject of SUBJECTS) {
      test.serial(`${title} [${subject}]`, async (t) => {
        t.timeout(90_000);
        if (!bench) throw new Error('no bench');
        const folder = join(bench.root(subject), String(index));
        await using hand = new Hand({ cwd: folder, timeoutMs: 60_000 });
        const trial = new Trial(subject, t, hand, folder);
        try {
          await run(t, trial);
        } finally {
          await trial.close();
        }
      });
    }
  };
}

/** The subjects of one suite, each a folder with a numbered folder for each case. */
class Bench {
  readonly #folder: string;
  readonly #roots = new Map<string, string>();
  readonly #ends: (() => unknown)[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  static async setUp(trees: readonly Tree[]): Promise<Bench> {
    const folder = mkdtempSync(join(tmpdir(), 'posix-'));
    chmodSync(folder, 0o755);
    const bench = new Bench(folder);
    await using hand = new Hand({ cwd: folder });
    const plantAll = async (root: string) => {
      mkdirSync(root, { recursive: true });
      await hand.must(
        trees.flatMap((tree, index) => [
          `mkdir ${root}/${index}`,
          ...plantScript(tree, `${root}/${index}`),
        ]),
      );
    };
    const copyUpAll = (root: string) =>
      hand.must(trees.flatMap((tree, index) => copyUpScript(tree, `${root}/${index}`)));
    try {
      if (wants('tmpfs')) {
        bench.#mount('tmpfs', ['-t', 'tmpfs', 'tmpfs']);
        await plantAll(bench.root('tmpfs'));
      }
      if (wants('ext4')) {
        bench.#roots.set('ext4', join(folder, 'ext4'));
        await plantAll(bench.root('ext4'));
      }
      if (wants('overlay-')) {
        for (const name of ['lower', 'upper', 'work'])
          mkdirSync(join(folder, 'k', name), { recursive: true });
        for (const part of ['lower', 'copied']) await plantAll(join(folder, 'k/lower', part));
        const k = join(folder, 'k');
        const top = bench.#mount('overlay', [
          '-t',
          'overlay',
          'overlay',
          '-o',
          `lowerdir=${k}/lower,upperdir=${k}/upper,workdir=${k}/work`,
        ]);
        await bench.#three(top, 'overlay-', plantAll, copyUpAll);
      }
      if (wants('lower') || wants('copied') || wants('new')) {
        const { mounted } = await import('./mounted.ts');
        for (const part of ['lower', 'copied']) await plantAll(join(folder, 'lower', part));
        const session: Mounted = await mounted({ lower: join(folder, 'lower') });
        bench.#ends.push(() => session[Symbol.asyncDispose]());
        await bench.#three(session.mountpoint, '', plantAll, copyUpAll);
      }
    } catch (error) {
      await bench[Symbol.asyncDispose]();
      throw error;
    }
    return bench;
  }

  root(subject: string): string {
    const root = this.#roots.get(subject);
    if (root === undefined) throw new Error(`no such subject: ${subject}`);
    return root;
  }

  #mount(name: string, words: string[]): string {
    const point = join(this.#folder, name);
    mkdirSync(point);
    execFileSync('mount', [...words, point]);
    this.#roots.set(name, point);
    this.#ends.push(() => spawnSync('umount', ['-l', point]));
    return point;
  }

  async #three(
    top: string,
    prefix: string,
    plantAll: (root: string) => Promise<void>,
    copyUpAll: (root: string) => Promise<void>,
  ): Promise<void> {
    for (const part of ['lower', 'copied', 'new']) this.#roots.set(prefix + part, join(top, part));
    await plantAll(join(top, 'new'));
    await copyUpAll(join(top, 'copied'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const end of this.#ends.toReversed()) await end();
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}
