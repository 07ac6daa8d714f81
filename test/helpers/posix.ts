/**
 * The contract: cases that hold on any POSIX file system, each written once and run on several subjects. In a session
 * (`KIND:lower`) on files that only the lower has, (`KIND:copied`) on files that were copied up, (`KIND:new`) on files made
 * there, where KIND is an upper (`memory`, `tmpfs`, `disk`), the other transport (`fuse-native`) or an upper with
 * --io=passthrough (`passthrough`, `passthrough-disk`); exceptions.ts says what they cannot do. And on a plain tmpfs (`plain`), so that an expectation that is ours alone shows at once. Others, by
 * OSTREE_TS_TEST_SUBJECTS: `ext4` (whatever holds the temp folder), `overlay:lower` and so on (kernel overlayfs).
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exceptionOf } from './exceptions.ts';
import { Hand, type Stat } from './hand.ts';
import type { Mounted, MountedOptions } from './mounted.ts';
import { copyUpScript, plantScript, type Tree } from './trees.ts';

const PARTS = ['lower', 'copied', 'new'];
const USUAL = ['memory', 'tmpfs', 'disk', 'fuse-native'];
/** Where it makes a difference; everywhere at a scale above 1. */
const SPECIAL = ['passthrough', 'passthrough-disk'];
const SESSIONS = [...USUAL, ...SPECIAL];
const ASKED = process.env['OSTREE_TS_TEST_SUBJECTS']?.split(',');
const IS_LONG = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) > 1;

function subjectsOf(special: readonly string[]): string[] {
  const kinds = [...USUAL, ...(IS_LONG ? SPECIAL : special)];
  return ASKED ?? ['plain', ...kinds.flatMap((kind) => PARTS.map((part) => `${kind}:${part}`))];
}

/** What a session of this kind is asked for. */
function sessionOf(kind: string): Pick<MountedOptions, 'upper' | 'options'> {
  if (kind === 'fuse-native') return { upper: 'memory', options: { transport: kind } };
  if (!SPECIAL.includes(kind)) return { upper: kind };
  return {
    upper: kind === 'passthrough' ? 'tmpfs' : 'disk',
    options: { io: 'passthrough' },
  };
}

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
    return SESSIONS.includes(this.kind);
  }

  /** The upper, or `fuse-native`; otherwise the file system. */
  get kind(): string {
    return kindOf(this.subject);
  }

  /** Where a session keeps its changes. */
  get upper(): string | undefined {
    return this.isSession ? sessionOf(this.kind).upper : undefined;
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

function kindOf(subject: string): string {
  return subject.split(':', 1)[0] ?? subject;
}

interface Planted {
  title: string;
  tree: Tree;
}

type Case = (t: ExecutionContext, trial: Trial) => Promise<void>;

/**
 * Declares a suite; what it returns declares the cases. Hooks of ava set the subjects up and end them.
 *
 * @param special  kinds of sessions besides the usual ones.
 */
export function posixSuite(
  special: readonly string[] = [],
): (title: string, tree: Tree, run: Case) => void {
  const subjects = subjectsOf(special);
  const trees: Planted[] = [];
  let bench: Bench | undefined;
  test.before(async (t) => {
    t.timeout(120_000);
    bench = await Bench.setUp(trees, new Set(subjects.map(kindOf)));
  });
  test.after.always('subjects end, and leave nothing', async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  return (title, tree, run) => {
    const index = trees.push({ title, tree }) - 1;
    for (const subject of subjects) {
      const exception = exceptionOf(title, subject);
      const declare = exception === undefined ? test.serial : test.serial.failing;
      const label = exception === undefined ? subject : `${subject}, which cannot: ${exception}`;
      declare(`${title} [${label}]`, async (t) => {
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

  static async setUp(planted: readonly Planted[], wanted: ReadonlySet<string>): Promise<Bench> {
    const wants = (kind: string) => wanted.has(kind);
    const folder = mkdtempSync(join(tmpdir(), 'posix-'));
    chmodSync(folder, 0o755);
    const bench = new Bench(folder);
    await using hand = new Hand({ cwd: folder });
    /** @param kind  Whatever it cannot hold is left out. */
    const linesFor = (kind: string, root: string, script: (tree: Tree, root: string) => string[]) =>
      planted.flatMap(({ title, tree }, index) =>
        exceptionOf(title, kind) === undefined ? script(tree, `${root}/${index}`) : [],
      );
    const plantAll = async (root: string, kind: string) => {
      mkdirSync(root, { recursive: true });
      await hand.must(planted.map((_, index) => `mkdir ${root}/${index}`));
      await hand.must(linesFor(kind, root, plantScript));
    };
    const copyUpAll = (root: string, kind: string) => hand.must(linesFor(kind, root, copyUpScript));
    try {
      if (wants('plain')) {
        bench.#mount('plain', ['-t', 'tmpfs', 'tmpfs']);
        await plantAll(bench.root('plain'), 'plain');
      }
      if (wants('ext4')) {
        bench.#roots.set('ext4', join(folder, 'ext4'));
        await plantAll(bench.root('ext4'), 'ext4');
      }
      if (wants('overlay')) {
        for (const name of ['lower', 'upper', 'work'])
          mkdirSync(join(folder, 'k', name), { recursive: true });
        for (const part of ['lower', 'copied'])
          await plantAll(join(folder, 'k/lower', part), 'overlay');
        const k = join(folder, 'k');
        const top = bench.#mount('overlay', [
          '-t',
          'overlay',
          'overlay',
          '-o',
          `lowerdir=${k}/lower,upperdir=${k}/upper,workdir=${k}/work`,
        ]);
        await bench.#three(top, 'overlay', plantAll, copyUpAll);
      }
      const kinds = SESSIONS.filter(wants);
      if (kinds.length > 0) {
        const { mounted } = await import('./mounted.ts');
        const lower = join(folder, 'lower');
        for (const part of ['lower', 'copied']) await plantAll(join(lower, part), 'lower');
        for (const [index, kind] of kinds.entries()) {
          const session: Mounted = await mounted({
            lower,
            // The first to begin is the last to end, and looks whether the lower is what it was.
            unchecked: index > 0,
            ...sessionOf(kind),
          });
          bench.#ends.push(() => session[Symbol.asyncDispose]());
          await bench.#three(session.mountpoint, kind, plantAll, copyUpAll);
        }
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
    kind: string,
    plantAll: (root: string, kind: string) => Promise<void>,
    copyUpAll: (root: string, kind: string) => Promise<void>,
  ): Promise<void> {
    for (const part of PARTS) this.#roots.set(`${kind}:${part}`, join(top, part));
    await plantAll(join(top, 'new'), kind);
    await copyUpAll(join(top, 'copied'), kind);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const end of this.#ends.toReversed()) await end();
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}
