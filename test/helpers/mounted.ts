/**
 * A session for a test: unlocked by the library, served by its own daemon, ended whatever happens, and checked to have
 * left nothing: no mount, no process, no file, and a lower that is what it was.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Session, type UnlockOptions, unlock } from '../../src/index.ts';
import { listTree } from './checksum.ts';
import { compareListings } from './compare.ts';
import { Hand } from './hand.ts';
import { plant, type Tree } from './trees.ts';

export interface MountedOptions {
  /** The lower: made from a literal in a folder of its own, or a directory that exists. */
  lower: Tree | string;
  options?: Omit<UnlockOptions, 'source' | 'mountpoint'>;
  /** Where changes are kept. Default: `UPPER`. */
  upper?: string;
  /** Leave out the checksum of the lower: it is another test's, or too large to be read twice. */
  unchecked?: boolean;
}

export interface Mounted extends AsyncDisposable {
  readonly session: Session;
  /** The read-only tree. */
  readonly lower: string;
  readonly mountpoint: string;
  /** A folder for whatever the test needs beside them; goes with the session. */
  readonly folder: string;
  /** A hand that starts in the mount's root; ended with the session. */
  hand(timeoutMs?: number): Hand;
}

export async function mounted({
  lower,
  options,
  unchecked,
  upper: kind = UPPER,
}: MountedOptions): Promise<Mounted> {
  const folder = mkdtempSync(join(tmpdir(), 'mounted-'));
  // Other users of the tests go through it.
  await chmod(folder, 0o755);
  const mountpoint = join(folder, 'mnt');
  await mkdir(mountpoint);
  let source: string;
  if (typeof lower === 'string') {
    source = lower;
  } else {
    source = join(folder, 'lower');
    await mkdir(source);
    await using hand = new Hand({ cwd: folder });
    await plant(hand, lower, 'lower');
  }
  const before = unchecked ? undefined : await listTree(source);
  const upper = await upperOf(folder, kind, options ?? {});
  const session = await unlock({ source: [source], mountpoint, ...upper });
  const hands: Hand[] = [];
  return {
    session,
    lower: source,
    mountpoint,
    folder,
    hand(timeoutMs) {
      const hand = new Hand({ cwd: mountpoint, ...(timeoutMs !== undefined && { timeoutMs }) });
      hands.push(hand);
      return hand;
    },
    async [Symbol.asyncDispose]() {
      for (const hand of hands) await hand[Symbol.asyncDispose]();
      try {
        await end(session, mountpoint);
      } finally {
        for (const point of [mountpoint, join(folder, 'disk')]) {
          spawnSync('umount', ['-l', point], { stdio: 'ignore' });
        }
      }
      if (before !== undefined) {
        const changed =
          before === (await listTree(source))
            ? []
            : compareListings(before, await listTree(source));
        if (changed.length > 0) throw new Error(`the lower has changed:\n${changed.join('\n')}`);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Which upper the suites run on: `memory`, `tmpfs`, or `disk`, a directory beside the lower; `passthrough` is a tmpfs with
 * --io=passthrough.
 */
export const UPPER: string = process.env['OSTREE_TS_TEST_UPPER'] ?? 'memory';

/** Options with those that give a session this kind of upper. A size on disk is that of a file system of its own. */
async function upperOf(
  folder: string,
  kind: string,
  options: NonNullable<MountedOptions['options']>,
): Promise<NonNullable<MountedOptions['options']>> {
  if (kind === 'tmpfs') return { upper: 'tmpfs', ...options };
  if (kind === 'passthrough') return { upper: 'tmpfs', io: 'passthrough', ...options };
  if (kind !== 'disk' || options.upper !== undefined) return options;
  const { size, ...others } = options;
  const disk = join(folder, 'disk');
  await mkdir(disk);
  if (size !== undefined) {
    const image = join(folder, 'image');
    execFileSync('truncate', ['-s', size, image]);
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', '-i', '8192', image]);
    execFileSync('mount', ['-o', 'loop', image, disk]);
  }
  const upper = join(disk, 'changes');
  await mkdir(upper);
  return { upper, ...others };
}

/** Locks a session, and throws when it leaves anything or its daemon says that it met a bug. */
async function end(session: Session, mountpoint: string): Promise<void> {
  const status = await session.status();
  const folders = [
    '/run/ostree-ts',
    join(process.env['XDG_RUNTIME_DIR'] ?? '/nonexistent', 'ostree-ts'),
  ].map((base) => ({ path: join(base, session.name), before: identity(join(base, session.name)) }));
  await session.lock();
  // That a small session was filled is what a test may be about.
  const wrong = status.problems.filter((problem) => !problem.endsWith('% full'));
  if (isMounted(mountpoint)) wrong.push(`still mounted: ${mountpoint}`);
  for (const pid of [status.pid, status.keeper]) {
    if (pid !== null && !(await gone(pid, mountpoint))) wrong.push(`process ${pid} still runs`);
  }
  // A name is free at once, and another test of the same suite may have taken it.
  for (const { path, before } of folders) {
    if (before !== undefined && identity(path) === before) wrong.push(`${path} is still there`);
  }
  if (wrong.length > 0) throw new Error(`${session.name}: ${[...wrong, ...status.log].join('\n')}`);
}

/** What tells a folder from a later one of the same name; undefined when there is none. */
function identity(path: string): string | undefined {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats && `${stats.dev}:${stats.ino}:${stats.birthtimeNs}`;
}

export function isMounted(mountpoint: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountpoint} `);
}

/** Waits for a process to end; longer while a copy of its mount is in somebody else's mount namespace, which pins it. */
async function gone(pid: number, mountpoint: string): Promise<boolean> {
  for (let round = 0; round < 1000; round++) {
    if (!existsSync(`/proc/${pid}`)) return true;
    if (round > 50 && !isCopied(mountpoint)) return false;
    await sleep(100);
  }
  return false;
}

/** Whether any process sees the mountpoint as a mount. */
function isCopied(mountpoint: string): boolean {
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/mountinfo`, 'utf8').includes(` ${mountpoint} `);
    } catch {
      return false;
    }
  });
}

/** Bytes of memory that a process has in RAM. */
export function residentBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? Number.NaN) * 1024;
}
