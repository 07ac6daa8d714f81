/** How a session is: its folder's claims, held against processes, mounts and the daemon's own answer. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hostPath, shown } from './checks.ts';
import { Control, RefusedError } from './control.ts';
import { hasChanges } from './folders.ts';
import { allNamespaces } from './holders.ts';
import { isOf, type Mount, mountsOr, readMounts, topmostAt } from './mountinfo.ts';
import { isAlive } from './processes.ts';
import {
  bootId,
  isOfOtherProcesses,
  readRecord,
  readState,
  type Seclusion,
  type SessionRecord,
  type SessionState,
} from './record.ts';
import { INDEXED } from './upper.ts';

/** A daemon with work to do answers between two requests; a change of caches can keep it for a while. */
export const ANSWER_MS = 5_000;
const LOG_LINES = 10;
const SETTLE_MS = 1_000;
const POLL_MS = 5;

/**
 * How a session is:
 * - `ok`: mounted, served, guarded;
 * - `starting`: not mounted yet;
 * - `unguarded`: its keeper is gone; it works, but nobody unmounts it when the daemon dies;
 * - `draining`: no longer mounted; still served to the processes that hold files of it;
 * - `hung`: the daemon lives but does not answer;
 * - `elsewhere`: it is served, but its processes are in another process namespace: only there it can be ended;
 * - `kept`: it has ended as it should, and what it held is kept for another time; `lock` discards it;
 * - `dead`: the daemon is gone; `lock` cleans up.
 */
export type Health =
  'ok' | 'starting' | 'unguarded' | 'draining' | 'hung' | 'elsewhere' | 'kept' | 'dead';

/** What the worker says of itself. */
export interface WorkerStatus {
  used: number;
  limit: number;
  changes: number;
  moreChanges: boolean;
  requests: Record<string, number>;
  taint?: string;
  warnings: string[];
}

/** Everything that was seen of one session. */
export interface Inspection {
  record: SessionRecord | undefined;
  state: SessionState | undefined;
  health: Health;
  problems: string[];
  isKeeperAlive: boolean;
  isDaemonAlive: boolean;
  /** Where the session is mounted, in its own namespace. */
  mounts: Mount[];
  /** A process of that namespace. */
  home: number | 'self';
  answer: WorkerStatus | undefined;
}

/** Looks; never throws and never asks the mount. */
export async function inspect(folder: string): Promise<Inspection> {
  const record = readRecord(folder);
  const before = await settled(folder);
  // Where /run is no tmpfs a record may be of an earlier boot, and its processes others.
  const isCurrent = record === undefined || record.boot === bootId();
  const wasDaemonAlive = isCurrent && before !== undefined && isAlive(before.daemon);
  const isForeign = isCurrent && isOfOtherProcesses(record);
  const asked =
    (wasDaemonAlive || isForeign) && before !== undefined && before.phase !== 'starting'
      ? await ask(folder)
      : NOBODY;
  const { answer } = asked;
  // One that gives no answer may have died meanwhile, and the keeper says how.
  const isDaemonAlive = wasDaemonAlive && (answer !== undefined || isAlive(before.daemon));
  const state = wasDaemonAlive && !isDaemonAlive ? await settled(folder) : before;
  const isKeeperAlive = isCurrent && state !== undefined && isAlive(state.keeper);
  const where = findMounts(basename(folder), state, isKeeperAlive, record?.seclusion);
  const seen = { record, state, isKeeperAlive, isDaemonAlive, ...where };
  const problems: string[] = [];
  if (record === undefined) problems.push('its record is missing or damaged');
  const isLeft = record !== undefined && isResumable(folder, record);
  const isKept = isLeft && state?.ended?.how === 'kept';
  const health = judge(
    { ...seen, answer, isKept, isForeign: isForeign && asked.isThere, refusal: asked.refusal },
    problems,
  );
  if (health === 'dead' && isLeft) {
    problems.push(`its changes are kept: ostree-ts unlock --name=${record.name} brings it back`);
  }
  if (where.isElsewhere && record?.seclusion === undefined)
    problems.push('it is mounted in another mount namespace, and not seen in this one');
  if (record?.readonlyFor === 'index') problems.push(`it is read-only: ${INDEXED}`);
  if (where.isCovered) problems.push('another filesystem is mounted over it');
  if (answer?.taint !== undefined) problems.push(`a bug was met: ${answer.taint}`);
  problems.push(...(answer?.warnings ?? []));
  return { ...seen, answer, health, problems };
}

/** The state; when the daemon has just died, what the keeper is about to say of it. */
async function settled(folder: string): Promise<SessionState | undefined> {
  for (let end = Date.now() + SETTLE_MS; Date.now() < end; await sleep(POLL_MS)) {
    const state = readState(folder);
    if (state === undefined || isAlive(state.daemon) || !isAlive(state.keeper)) return state;
  }
  return readState(folder);
}

/** Whether the changes of a session whose daemon has died are still there. */
export function isResumable(folder: string, { upper, isForeign }: SessionRecord): boolean {
  if (upper === 'memory' || isForeign === true) return false;
  return upper === 'tmpfs' ? hasChanges(folder) : existsSync(hostPath(upper));
}

function judge(
  seen: Omit<Inspection, 'health' | 'problems'> & {
    isKept: boolean;
    isForeign: boolean;
    refusal: string | undefined;
  },
  problems: string[],
): Health {
  const { record, state, isKeeperAlive, isDaemonAlive, mounts, answer, isKept, refusal } = seen;
  if (seen.isForeign) {
    problems.push('its processes are in another process namespace: only there it can be ended');
    return 'elsewhere';
  }
  if (state === undefined || state.phase === 'starting') {
    if (
      isKeeperAlive ||
      (state === undefined && record !== undefined && isAlive(record.launcher))
    ) {
      return 'starting';
    }
    if (!isDaemonAlive) {
      problems.push('it never came up, and the command that started it has gone');
      return 'dead';
    }
  }
  if (!isDaemonAlive && isKept) return 'kept';
  if (!isDaemonAlive) {
    problems.push(howItEnded(state));
    for (const mount of mounts) problems.push(`a dead mount is left at ${shown(mount.path)}`);
    return 'dead';
  }
  if (refusal !== undefined) problems.push(`the daemon cannot say how it is: ${refusal}`);
  else if (answer === undefined) problems.push('the daemon does not answer');
  if (!isKeeperAlive) problems.push('the keeper has gone: nobody unmounts it when the daemon dies');
  if (mounts.length === 0 && state?.phase === 'serving')
    problems.push('it was unmounted from outside');
  if (answer === undefined && refusal === undefined) return 'hung';
  if (mounts.length === 0) return 'draining';
  return isKeeperAlive ? 'ok' : 'unguarded';
}

function howItEnded(state: SessionState | undefined): string {
  const ended = state?.ended;
  if (ended === undefined) return 'the daemon has gone';
  const at = Number.isNaN(ended.time.valueOf()) ? '' : ` at ${ended.time.toISOString()}`;
  return ended.how === 'signal'
    ? `the daemon was killed by signal ${ended.code}${at}`
    : `the daemon ended with exit code ${ended.code}${at}`;
}

interface Whereabouts {
  mounts: Mount[];
  home: number | 'self';
  isElsewhere: boolean;
  /** Something else is mounted at the same place, later. */
  isCovered: boolean;
}

/** The session's mounts in the keeper's namespace, or in ours, or in any other when neither shows them. */
function findMounts(
  name: string,
  state: SessionState | undefined,
  isKeeperAlive: boolean,
  seclusion: Seclusion,
): Whereabouts {
  const nowhere: Whereabouts = { mounts: [], home: 'self', isElsewhere: false, isCovered: false };
  if (state === undefined || state.device === '0:0') return nowhere;
  const isOurs = (mount: Mount) => isOf(mount, name, state.device, seclusion);
  const isHere = readMounts().some(isOurs);
  const look = (home: number | 'self', all: Mount[]): Whereabouts => {
    const mounts = all.filter(isOurs);
    return {
      mounts,
      home,
      isElsewhere: mounts.length > 0 && !isHere,
      isCovered: mounts.some(({ path, device }) => topmostAt(all, path)?.device !== device),
    };
  };
  if (isKeeperAlive) {
    const mounts = mountsOr(state.keeper.pid, undefined);
    // Otherwise it has ended this moment.
    if (mounts !== undefined) return look(state.keeper.pid, mounts);
  }
  if (isHere) return look('self', readMounts());
  for (const { pid, mounts } of allNamespaces()) {
    const there = look(pid, mounts);
    if (there.mounts.length > 0) return there;
  }
  return nowhere;
}

/** What asking the daemon came to. */
interface Asked {
  /** Somebody listens. */
  isThere: boolean;
  answer?: WorkerStatus;
  /** It has answered, but not what it was asked. */
  refusal?: string;
}

const NOBODY: Asked = { isThere: false };

async function ask(folder: string): Promise<Asked> {
  try {
    using control = await Control.open(folder, ANSWER_MS);
    const answer = await control.call<WorkerStatus>('status', {}, ANSWER_MS);
    return { isThere: true, answer };
  } catch (error) {
    if (error instanceof RefusedError) return { isThere: true, refusal: error.message };
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    return { isThere: code !== 'ECONNREFUSED' && code !== 'ENOENT' };
  }
}

/** The last lines of a session's log. */
export function logTail(folder: string): string[] {
  try {
    const lines = readFileSync(join(folder, 'log'), 'utf8').trimEnd().split('\n');
    return lines.filter((line) => line !== '').slice(-LOG_LINES);
  } catch {
    return [];
  }
}
