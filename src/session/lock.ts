/** Ends sessions, living and dead. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError } from '../errors.ts';
import { native } from '../native.ts';
import { findFusermount, hostPath, shown } from './checks.ts';
import { Control } from './control.ts';
import { identityOf, release } from './folders.ts';
import { describeHolders, findHolders, type Holder, NAMESPACE } from './holders.ts';
import { isOf, type Mount, mountsOr, readMounts } from './mountinfo.ts';
import type { Seclusion } from './record.ts';
import { isAlive, selfAndAncestors, signal } from './processes.ts';
import { ANSWER_MS, inspect, type Inspection } from './status.ts';

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
/** How long the daemon may take to end once nothing holds the mount. */
const DRAIN_MS = 10_000;
/** How long a keeper may take to notice that its daemon has gone. */
const BURY_MS = 2_000;
/** A daemon that starts has a copy of every mount for a moment. */
const NAMESPACE_MS = 3_000;
/** How long the rest of a folder may take to go after its record. */
const ENDING_MS = 500;
const POLL_MS = 10;

export interface LockResult {
  name: string;
  mountpoint: string;
  /** Paths thrown away; `null` when the daemon could not be asked. */
  changes: number | null;
  /** There were more. */
  moreChanges: boolean;
  /** Bytes thrown away; `null` when the daemon could not be asked, and where others keep files in the same filesystem. */
  used: number | null;
  /**
   * The base is visible again, but the daemon serves on until the last holder has ended. When this process is the only
   * one (it was started from the tree), that is its end, and this is false.
   */
  draining: boolean;
  /** Who still holds it when `draining`, as far as this user may see. */
  holders: Holder[];
  /** What was found wrong and cleaned up, or could not be done, one line each. */
  found: string[];
  /** Where the changes are still; `null` when they are gone. */
  kept: string | null;
}

/** Processes hold the mount, and `lazy` was not asked for. */
export class BusyError extends SessionError {
  override readonly name: string = 'BusyError';
  readonly holders: Holder[];

  constructor(session: string, holders: Holder[]) {
    super(
      `session ${session} is in use: ${describeHolders(holders)}`,
      'end what uses it, or give the base back now and let them finish: --lazy',
    );
    this.holders = holders;
  }
}

/**
 * Ends the session in `folder`. This process and its parents do not count as holders: they may run from the tree.
 *
 * @throws BusyError others hold it, and `lazy` is false. SessionError it cannot be unmounted, or is just starting.
 */
export async function lock(folder: string, name: string, lazy: boolean): Promise<LockResult> {
  const identity = identityOf(folder);
  // The keeper removes it as well, and then the name may be another session's at once.
  const releaseSame = () => {
    if (identityOf(folder) === identity) release(folder);
  };
  const seen = await inspect(folder);
  if (seen.record === undefined) await refuseEnded(folder, name);
  const result: LockResult = {
    name,
    mountpoint: shown(seen.record?.mountpoint ?? ''),
    changes: seen.answer?.changes ?? null,
    moreChanges: seen.answer?.moreChanges ?? false,
    used: (isBounded(seen) ? seen.answer?.used : undefined) ?? null,
    draining: false,
    holders: [],
    found: seen.problems,
    kept: null,
  };
  if (seen.health === 'starting') {
    throw new SessionError(`session ${name} is just starting`, 'try again in a moment');
  }
  if (seen.health === 'elsewhere') {
    throw new SessionError(
      `session ${name} belongs to another process namespace`,
      `lock it where it was started: ostree-ts lock ${name}`,
    );
  }
  if (seen.health === 'dead' || seen.health === 'kept') {
    await bury(folder, seen, result);
    releaseSame();
    return result;
  }
  const holders = findHolders(seen.state?.device ?? '', seen.home);
  const family = selfAndAncestors();
  // A namespace that merely has a copy of the mount uses nothing of it: it does not forbid, it makes it drain.
  const others = holders.filter(
    ({ pid, by }) => !family.has(pid) && by.some((what) => what !== NAMESPACE),
  );
  // It may have died while we looked, and its device number be another filesystem's by now.
  if (seen.state !== undefined && !isAlive(seen.state.daemon)) {
    return lock(folder, name, lazy);
  }
  if (others.length > 0 && !lazy && seen.mounts.length > 0) throw new BusyError(name, others);
  if (seen.mounts.length > 0) await detach(folder, seen);
  if (seen.health === 'hung') await killHung(seen, result);
  if (await drain(folder, seen, holders, result)) releaseSame();
  return result;
}

/** Without its record a session is damaged, or somebody else is just ending it. @throws SessionError it is gone. */
async function refuseEnded(folder: string, name: string): Promise<void> {
  if (!(await until(() => !existsSync(folder), ENDING_MS))) return;
  throw new SessionError(`there is no session '${name}'`, 'see what there is: ostree-ts status');
}

/** Whether what it holds is kept in memory, or in a filesystem of its own. */
function isBounded({ record }: Inspection): boolean {
  return record !== undefined && record.limitBytes > 0;
}

/** Cleans up after a daemon that has gone. */
async function bury(folder: string, seen: Inspection, result: LockResult): Promise<void> {
  await clear(folder, seen);
  if (seen.mounts.length > 0 && seen.home !== 'self') {
    result.found.push('it was mounted in another mount namespace, where a dead mount may be left');
  }
}

/** Takes away the mount that a dead daemon may have left. @throws SessionError it cannot be. */
export async function clear(folder: string, seen: Inspection): Promise<void> {
  // A keeper that lives is about to do this itself.
  const keeper = seen.isKeeperAlive ? seen.state?.keeper : undefined;
  await until(() => keeper === undefined || !isAlive(keeper), BURY_MS);
  const device = seen.state?.device ?? '';
  const failed = unmountHere(basename(folder), device, seen.record?.seclusion);
  if (failed !== undefined) throw failed;
}

/** Takes the mount away, by whoever can. */
async function detach(folder: string, seen: Inspection): Promise<void> {
  const name = basename(folder);
  const device = seen.state?.device ?? '';
  const seclusion = seen.record?.seclusion;
  const keeper = seen.state?.keeper;
  const hasKeeper = () => seen.isKeeperAlive && keeper !== undefined && isAlive(keeper);
  const isGone = () => {
    const home = hasKeeper() ? seen.home : 'self';
    return !mountsOr(home, []).some((mount) => isOf(mount, name, device, seclusion));
  };
  let why: unknown;
  try {
    // Through the daemon, so that the keeper's refusal comes back.
    if (!hasKeeper() || seen.answer === undefined)
      throw new SessionError('the daemon does not answer');
    using control = await Control.open(folder, ANSWER_MS);
    await control.call('unmount', {}, ANSWER_MS);
  } catch (error) {
    why = error;
    if (keeper !== undefined && hasKeeper() && !isGone()) signal(keeper, 'SIGTERM');
  }
  if (hasKeeper() && (await until(isGone, ANSWER_MS))) return;
  const failed = unmountHere(name, device, seclusion);
  if (failed === undefined && isGone()) return;
  throw new SessionError(
    `cannot unmount ${seen.mounts.map((mount) => shown(mount.path)).join(', ')}`,
    failed?.message ?? (why instanceof Error ? why.message : 'see the log: ostree-ts status'),
    { cause: why },
  );
}

/** Detaches every mount of a session in this namespace. @returns what forbids it. */
function unmountHere(name: string, device: string, seclusion: Seclusion): SessionError | undefined {
  const isOurs = (mount: Mount) => isOf(mount, name, device, seclusion);
  // Bind mounts of it, and what lies on top of it, take a turn each.
  for (let turn = 0; turn < 64; turn++) {
    const mount = readMounts().findLast(isOurs);
    if (mount === undefined) return undefined;
    const why = unmountOne(mount);
    if (why !== undefined) {
      return new SessionError(
        `cannot unmount ${shown(mount.path)}: ${why}`,
        `try: umount -l ${shown(mount.path)}`,
      );
    }
  }
  return new SessionError('the mount does not go away', 'see findmnt -t fuse.ostree-ts');
}

function unmountOne(mount: Mount): string | undefined {
  if (process.getuid?.() === 0) {
    const result = native.umount2(mount.path, MNT_DETACH | UMOUNT_NOFOLLOW);
    return result < 0 ? `errno ${-result}` : undefined;
  }
  const { status, stderr, error } = spawnSync(
    findFusermount() ?? 'fusermount3',
    ['-u', '-z', '--', hostPath(mount.path).toString('utf8')],
    { encoding: 'utf8', timeout: ANSWER_MS },
  );
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/** A daemon that does not answer will not drain either. */
async function killHung(seen: Inspection, result: LockResult): Promise<void> {
  const daemon = seen.state?.daemon;
  if (daemon === undefined || !isAlive(daemon)) return;
  signal(daemon, 'SIGKILL');
  result.found.push('the daemon did not answer and was killed');
  await until(() => !isAlive(daemon), ANSWER_MS);
}

/** Waits until the daemon has gone and the folder with it; not at all when somebody still holds files. @returns whether it has. */
async function drain(
  folder: string,
  seen: Inspection,
  holders: Holder[],
  result: LockResult,
): Promise<boolean> {
  const { state } = seen;
  const hasEnded = () =>
    !existsSync(folder) ||
    (state !== undefined && !isAlive(state.daemon) && !isAlive(state.keeper));
  const isUsed = holders.some(({ by }) => by.some((what) => what !== NAMESPACE));
  const patienceMs = isUsed ? POLL_MS : holders.length > 0 ? NAMESPACE_MS : DRAIN_MS;
  if (await until(hasEnded, patienceMs)) return true;
  // Without a holder that was found there is one that may not be looked at.
  result.holders = holders.filter(({ pid }) => pid !== process.pid);
  result.draining = result.holders.length > 0 || holders.length === 0;
  return false;
}

async function until(isTrue: () => boolean, timeoutMs: number): Promise<boolean> {
  const end = Date.now() + timeoutMs;
  while (!isTrue()) {
    if (Date.now() > end) return false;
    await sleep(POLL_MS);
  }
  return true;
}
