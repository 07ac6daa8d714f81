/**
 * Directory uppers whose host refuses a step, or whose process ends there: every step of every kind of change is tried. What
 * fails leaves what was there before, to the session itself and to whoever attaches the upper next; and a session that ends
 * leaves what was there before or what is there after.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FsError } from '../../src/errors.ts';
import type { DirectoryUpperOptions } from '../../src/layers/overlayfs-dir.ts';
import {
  FATTR_MODE,
  FATTR_SIZE,
  FATTR_UID,
  RENAME_EXCHANGE,
} from '../../src/overlay/filesystem.ts';
import { FaultyHost } from '../helpers/faults.ts';
import { Hand } from '../helpers/hand.ts';
import { InProcess } from '../helpers/in-process.ts';
import { dir, file, link, plantScript, symlink, type Tree } from '../helpers/trees.ts';

const [EIO, ENOSPC] = [5, 28];
/** Thrown where the process is to end. */
const END = 'the process ends here';

const LOWER: Tree = {
  d: dir(),
  'd/a': file('a'.repeat(5000)),
  'd/b': file('b'),
  'd/sub': dir(),
  'd/sub/c': file('c'),
  e: dir(),
  'e/x': file('x'),
  empty: dir(),
  l: symlink('d/a'),
  // One file; the next has a copy in the upper already, the last has lost a name.
  n1: file('n'.repeat(3000)),
  'd/n2': link('n1'),
  'e/n3': link('n1'),
  m1: file('m'),
  'e/m2': link('m1'),
  m3: link('m1'),
  p1: file('p'),
  p2: link('p1'),
  p3: link('p1'),
};

/** What is done before, so that there are whiteouts and files of the upper's own, and what is tried. */
const CHANGES: Record<string, (tree: InProcess) => void> = {
  'chmod of a lower file': (tree) => tree.setattr('d/a', { valid: FATTR_MODE, mode: 0o600 }),
  'chown of a lower directory': (tree) => tree.setattr('d/sub', { valid: FATTR_UID, uid: 7 }),
  'write to a lower file': (tree) => tree.write(tree.ino('d/sub/c'), 1, 'new'),
  'write beyond the end': (tree) => tree.write(tree.ino('own/f'), 9000, 'far'),
  'truncation of a lower file': (tree) => tree.setattr('d/a', { valid: FATTR_SIZE, size: 10 }),
  'an attribute of a lower file': (tree) =>
    tree.overlay.setxattr(tree.ino('d/a'), 'user.k', Buffer.from('v'), 0, false),
  'a new file': (tree) => tree.create('d', 'new'),
  'a new file over a whiteout': (tree) => tree.create('e', 'gone'),
  'a new directory over a whiteout': (tree) => tree.mkdir('e', 'gone'),
  'a new symlink': (tree) => tree.symlink('d/sub', 'new', 'target'),
  'a link to a lower file': (tree) => tree.link('d/a', 'e', 'linked'),
  'a link over a whiteout': (tree) => tree.link('own/f', 'e', 'gone'),
  'removal of a lower file': (tree) => tree.overlay.unlink(tree.ino('d'), 'a'),
  'removal of an own file': (tree) => tree.overlay.unlink(tree.ino('own'), 'f'),
  'removal of a lower directory': (tree) => tree.overlay.rmdir(1, 'empty'),
  'removal of a directory of whiteouts': (tree) => tree.overlay.rmdir(1, 'bare'),
  'rename of a lower file': (tree) => tree.rename('d', 'a', 'e', 'moved'),
  'rename over a lower file': (tree) => tree.rename('own', 'f', 'd', 'b'),
  'rename over a whiteout': (tree) => tree.rename('own', 'f', 'e', 'gone'),
  'rename of a lower directory': (tree) => tree.rename('', 'd', 'e', 'moved'),
  'rename of a directory over a whiteout': (tree) => tree.rename('', 'd', 'e', 'gone'),
  'rename of a directory over one of whiteouts': (tree) => tree.rename('', 'd', '', 'bare'),
  'write to one of several names': (tree) => tree.write(tree.ino('d/n2'), 1, 'new'),
  'removal of one of several names': (tree) => tree.overlay.unlink(tree.ino('d'), 'n2'),
  'removal of a name of a copy': (tree) => tree.overlay.unlink(1, 'm1'),
  'removal of a lower name of a copy': (tree) => tree.overlay.unlink(tree.ino('e'), 'm2'),
  'removal of one more of several names': (tree) => tree.overlay.unlink(1, 'p2'),
  'write to what has lost a name': (tree) => tree.write(tree.ino('p3'), 1, 'new'),
  'one more link of several': (tree) => tree.link('n1', 'd', 'n4'),
  'one more link of a copy': (tree) => tree.link('m3', 'd', 'm4'),
  'one more link of what has lost a name': (tree) => tree.link('p3', 'd', 'p4'),
  'rename over one of several names': (tree) => tree.rename('own', 'f', 'd', 'n2'),
  'rename over a name of a copy': (tree) => tree.rename('own', 'f', '', 'm1'),
  'rename of one of several names': (tree) => tree.rename('d', 'n2', 'e', 'moved'),
  'rename of a lower name of a copy': (tree) => tree.rename('e', 'm2', 'd', 'moved'),
  'exchange of a file and a directory': (tree) => tree.rename('d', 'a', '', 'e', RENAME_EXCHANGE),
};

function prepareUpper(tree: InProcess): void {
  tree.mkdir('', 'own');
  tree.write(tree.create('own', 'f'), 0, 'own');
  tree.overlay.unlink(tree.ino('e'), 'gone');
  tree.overlay.unlink(tree.ino('bare'), 'w');
  tree.write(tree.ino('m1'), 0, 'M');
  tree.overlay.unlink(1, 'p1');
}

interface Place {
  lower: string;
  /** Changes that have been prepared, in a new folder. */
  fresh(): string;
}

async function place(t: ExecutionContext, options: DirectoryUpperOptions): Promise<Place> {
  const root = mkdtempSync(join(tmpdir(), 'faults-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64M', 'tmpfs', root]);
  t.teardown(() => {
    spawnSync('umount', ['-l', root]);
    rmSync(root, { recursive: true });
  });
  const lower = join(root, 'lower');
  mkdirSync(lower);
  await using hand = new Hand({ cwd: root });
  const tree: Tree = { ...LOWER, 'e/gone': file('hidden'), bare: dir(), 'bare/w': file('w') };
  await hand.must(plantScript(tree, 'lower'));
  let copies = 0;
  return {
    lower,
    fresh() {
      const copy = join(root, `changes-${copies++}`);
      mkdirSync(copy);
      using session = new InProcess(lower, copy, new FaultyHost().native, options);
      prepareUpper(session);
      return copy;
    },
  };
}

function listOf(lower: string, changes: string, options: DirectoryUpperOptions): string[] {
  using again = new InProcess(lower, changes, new FaultyHost().native, options);
  return again.list();
}

/** Times are not listed, and directories' links are counted anew by whoever attaches. */
const KINDS: Record<string, DirectoryUpperOptions> = {
  'a tmpfs': { isDurable: false },
  'a disk': { isDurable: true },
  'no redirects': { isDurable: false, redirects: false },
  metacopy: { isDurable: true, metacopy: true },
};

/** What went wrong, one line each. */
type Report = (message: string) => void;

function same(report: Report, what: string, found: string[], wanted: string[]): void {
  const lines = wanted.filter((line) => !found.includes(line)).map((line) => `-${line}`);
  lines.push(...found.filter((line) => !wanted.includes(line)).map((line) => `+${line}`));
  if (lines.length > 0) report(`${what}: ${lines.join(' ').slice(0, 300)}`);
}

for (const [kind, options] of Object.entries(KINDS)) {
  test.serial(`a refused step changes nothing: ${kind}`, async (t) => {
    const here = await place(t, options);
    const problems: string[] = [];
    const struck = new Map<string, number>();
    for (const what of Object.keys(CHANGES)) {
      for (const errno of [ENOSPC, EIO]) {
        for (let at = 1; ; at++) {
          const step = refuse({ here, options, what, at, errno }, (line) => problems.push(line));
          if (step === undefined) break;
          const [call = ''] = step.split(' ');
          struck.set(call, (struck.get(call) ?? 0) + 1);
        }
      }
    }
    t.log(`steps refused: ${[...struck].map(([call, count]) => `${call} ${count}`).join(', ')}`);
    t.deepEqual(problems, []);
  });

  test.serial(`an end at any step leaves the old or the new: ${kind}`, async (t) => {
    const here = await place(t, options);
    const problems: string[] = [];
    let count = 0;
    for (const what of Object.keys(CHANGES)) {
      const after = done(here, options, what);
      for (let at = 1; ; at++, count++) {
        const report: Report = (line) => problems.push(line);
        if (!endAt({ here, options, what, at, after }, report)) break;
      }
    }
    t.log(`ends: ${count}`);
    t.deepEqual(problems, []);
  });
}

interface Try {
  here: Place;
  options: DirectoryUpperOptions;
  what: string;
  /** The step, from 1 on. */
  at: number;
}

/** @returns the step that was refused, or nothing when there are fewer. */
function refuse(
  { here, options, what, at, errno }: Try & { errno: number },
  report: Report,
): string | undefined {
  const host = new FaultyHost();
  const changes = here.fresh();
  using session = new InProcess(here.lower, changes, host.native, options);
  const change = CHANGES[what] ?? (() => {});
  const before = session.list();
  host.arm(at, () => -errno);
  const failure = attempt(session, change);
  const step = host.steps[at - 1];
  const last = (call: string) =>
    host.steps.slice(0, at - 1).findLastIndex((word) => word.startsWith(call));
  const cut = last('ftruncate');
  const isCut = cut >= 0 && last('renameat2') > cut;
  host.arm(0);
  const label = `${what}, ${errno} at step ${at}, ${step}`;
  const now = session.list();
  if (isCut && what.startsWith('truncation')) {
    // The contents have gone: only the times are refused.
  } else if (failure !== undefined) {
    if (!(failure instanceof FsError)) report(`${label}: ${failure.stack}`);
    same(report, label, now, before);
    same(report, `${label}, attached again`, listOf(here.lower, changes, options), before);
    const again = attempt(session, change);
    if (again !== undefined) report(`${label}, tried again: ${again.stack}`);
  } else if (step !== undefined) {
    same(report, `${label}, attached again`, listOf(here.lower, changes, options), now);
  }
  rmSync(changes, { recursive: true });
  return step;
}

function attempt(session: InProcess, change: (tree: InProcess) => void): Error | undefined {
  try {
    change(session);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** The tree after a change, as whoever attaches it next sees it. */
function done(here: Place, options: DirectoryUpperOptions, what: string): string[] {
  const changes = here.fresh();
  {
    using session = new InProcess(here.lower, changes, new FaultyHost().native, options);
    CHANGES[what]?.(session);
  }
  return listOf(here.lower, changes, options);
}

/** @returns whether there was such a step. */
function endAt(
  { here, options, what, at, after }: Try & { after: string[] },
  report: Report,
): boolean {
  const host = new FaultyHost();
  const changes = here.fresh();
  // Closing changes nothing: it has ended before.
  using session = new InProcess(here.lower, changes, host.native, options);
  const before = session.list();
  host.end(at, END);
  const change = CHANGES[what] ?? (() => {});
  const failure = attempt(session, change);
  if (failure === undefined) return false;
  const label = `${what}, ended at step ${at}, ${host.steps[at - 1]}`;
  if (failure.message !== END) report(`${label}: ${failure.stack}`);
  try {
    const found = listOf(here.lower, changes, options);
    if (found.join('\n') !== before.join('\n')) same(report, label, found, after);
  } catch (error) {
    report(`${label}: ${(error as Error).stack}`);
  }
  return true;
}
