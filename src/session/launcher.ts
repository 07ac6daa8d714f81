/**
 * Starts sessions: checks everything that can be checked, reserves the name, starts the keeper, which starts the daemon,
 * and waits until the mount answers. When anything fails, nothing is left.
 */
import { SessionError } from '../errors.ts';
import {
  findMounter,
  findPlaces,
  refuseRecursion,
  warnings as placeWarnings,
  type HostPath,
  type Places,
} from './checks.ts';
import { checkName, nameFor, release, reserve } from './folders.ts';
import { findKeeper, start } from './keeper.ts';
import { linksOf } from './links.ts';
import { readMounts } from './mountinfo.ts';
import { self } from './processes.ts';
import { bootId, readRecord, type SessionRecord, writeRecord } from './record.ts';
import { listSessions } from './registry.ts';
import { Session } from './session.ts';
import { clearLeft, findLeft, resumed } from './resume.ts';
import { openStore, type Store } from './store.ts';
import { checkFolder, checkSize, findUpper, label, type Lower, type UpperOption } from './upper.ts';
import { DEFAULT_SIZE, formatBytes, memoryBytes, parseSize } from './size.ts';

export type { HostPath } from './checks.ts';
export type { UpperOption } from './upper.ts';

export interface UnlockOptions {
  /** The directories to show, topmost first. At least one; with `repo`, one ref, commit or beginning of a commit. */
  source: HostPath[];
  /** An OSTree repository: the session shows a commit of it. */
  repo?: HostPath;
  /** With `repo`: check the contents of files of bare repositories too, when they are opened. */
  verify?: boolean;
  /** With `repo`: take a commit of which objects are missing; what needs them fails with EIO. */
  allowPartial?: boolean;
  /** Where to mount; the source itself (in place) when there is one source and this is left out. */
  mountpoint?: HostPath;
  /** How much the session may hold: `50%` (of RAM or the memory cgroup; the default), or bytes as `512M`, `2G`. */
  size?: string;
  /**
   * Where changes are kept: in memory (the default), on a tmpfs of their own, or in a directory, which outlives the session
   * and the machine. A session on the latter two whose daemon has died is brought back by its name.
   */
  upper?: UpperOption;
  /** With a directory: take the changes in it for this source, though they were made over another. */
  force?: boolean;
  /** The session's name: the mountpoint's last component when left out, with a number when taken. */
  name?: string;
  /**
   * Hard links of the source: links that stay links, or a file of its own for each name. Default: `separate` for commits
   * and in deployments, otherwise `shared`; needed where files look like a repository's objects.
   */
  links?: 'shared' | 'separate';
  /** Ties the session to this process: it ends when this process does. See `Session.ended`. */
  foreground?: boolean;
  /** Honour setuid bits (default true for root; never for others). */
  suid?: boolean;
  /** Honour device nodes (default true for root; never for others). */
  dev?: boolean;
  /** Told of everything that deserves a word but does not stop the session, one line each. */
  onWarning?: (message: string) => void;
}

/**
 * Starts a session, and returns when its mount answers.
 *
 * @throws UsageError for what can only be a mistake of the caller: a bad size, a bad name, no source.
 * @throws SessionError when the session cannot start; nothing is left behind.
 */
export async function unlock(given: UnlockOptions): Promise<Session> {
  const wanted = given.name === undefined ? undefined : checkName(given.name);
  const mounter = findMounter();
  const keeper = findKeeper();
  const asked = given.upper === undefined ? undefined : findUpper(given.upper, mounter === '');
  const left = await findLeft(given, asked);
  if (left !== undefined) await clearLeft(left);
  const options = left === undefined ? given : resumed(given, left);
  const upper = left?.record.upper ?? asked ?? 'memory';
  checkSize(options.size, upper);
  using store = options.repo === undefined ? undefined : openStore(options, options.repo);
  const places = findPlaces(
    store === undefined ? options.source : [store.path],
    options.mountpoint,
    readMounts(),
  );
  if (store !== undefined && places.isInPlace) {
    throw new SessionError('the mountpoint is the repository itself', 'name another directory');
  }
  if (mounter !== '') refuseRecursion(places);
  const total = memoryBytes();
  const isBounded = upper === 'memory' || upper === 'tmpfs';
  const limitBytes = isBounded ? parseSize(options.size ?? DEFAULT_SIZE, total) : 0;
  const warnings = [...placeWarnings(places), ...sizeWarnings(limitBytes, total, await limits())];

  const lower = lowerOf(options, places, store);
  if (!isBounded) checkFolder(upper, places, lower, options.force ?? false);
  const { name, folder } =
    left === undefined
      ? await reserve(wanted, nameFor(places.mountpoint))
      : { name: left.record.name, folder: left.folder };
  const record: SessionRecord = {
    version: 1,
    name,
    mountpoint: places.mountpoint,
    ...lower,
    mode: store === undefined ? 'directory' : 'commit',
    upper,
    limitBytes,
    started: new Date().toISOString(),
    launcher: self(),
    boot: bootId(),
  };
  const undo = isBounded ? undefined : label(upper, lower);
  try {
    writeRecord(folder, record);
    const programs = { keeper, mounter };
    const child = await start(folder, record, places, programs, options, store, left !== undefined);
    for (const warning of warnings) options.onWarning?.(warning);
    return new Session(folder, name, record, child);
  } catch (error) {
    // What a session has left stays as it was.
    if (left === undefined) {
      undo?.();
      release(folder);
    }
    throw error;
  }
}

function lowerOf(options: UnlockOptions, places: Places, store: Store | undefined): Lower {
  if (store === undefined)
    return { source: places.sources, links: options.links ?? linksOf(places.sources) };
  return {
    source: [store.revision],
    repo: places.sources[0] ?? '',
    commit: store.checksum,
    links: 'separate',
  };
}

/** What the other sessions of this user may hold, together. */
async function limits(): Promise<number> {
  const sessions = await listSessions();
  return sessions
    .map((session) => readRecord(session.folder)?.limitBytes ?? 0)
    .reduce((sum, bytes) => sum + bytes, 0);
}

function sizeWarnings(limitBytes: number, total: number, others: number): string[] {
  if (limitBytes > total) {
    return [
      `the size of ${formatBytes(limitBytes)} is more than the memory there is (${formatBytes(total)})`,
    ];
  }
  if (others > 0 && limitBytes + others > total) {
    return [
      `all sessions together may hold ${formatBytes(limitBytes + others)}, more than the memory there is (${formatBytes(total)})`,
    ];
  }
  return [];
}
