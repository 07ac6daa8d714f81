/**
 * Starts sessions: checks everything that can be checked, reserves the name, starts the keeper, which starts the daemon,
 * and waits until the mount answers. When anything fails, nothing is left.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SessionError, UsageError } from '../errors.ts';
import { BootedUnlock, findBooted, HOST_SYSROOT, refuseForDirectories } from './booted.ts';
import type { IdMaps } from '../layers/ids.ts';
import type { ByteString } from '../native.ts';
import {
  bytes as byteString,
  checkDevice,
  findMounter,
  findPlaces,
  refuseRecursion,
  refuseSession,
  warnings as placeWarnings,
  type Places,
} from './checks.ts';
import { DirectoryLock } from './directory-lock.ts';
import { checkName, nameFor, OWN_PLACE, release, reserve } from './folders.ts';
import { checkFuseNative } from './fuse-native.ts';
import { findKeeper, start } from './keeper.ts';
import { checkIo } from './io.ts';
import { linksOf } from './links.ts';
import { lock } from './lock.ts';
import { readMounts } from './mountinfo.ts';
import { buryDead, checkDirs, findDirs, type FoundDirs, type OverlayDirs } from './overlay-dirs.ts';
import { ownProcesses, readRecord, type SessionRecord, writeRecord } from './record.ts';
import type { UnlockOptions } from './options.ts';
import { listSessions } from './registry.ts';
import { checkContext } from './selinux.ts';
import { Session } from './session.ts';
import { clearLeft, findLeft, type Left, resumed, settingsOf } from './resume.ts';
import type { Store } from './store.ts';
import {
  checkFolder,
  checkMetacopy,
  checkSize,
  discardFolder,
  findUpper,
  hasIndex,
  INDEXED,
  keepsInFolder,
} from './upper.ts';
import { label, type Lower } from './upper-label.ts';
import { DEFAULT_SIZE, formatBytes, memoryBytes, parseSize } from './size.ts';
import { USR } from './usr-state.ts';

/** What a session may hold that is to hold nothing: its root. */
const READONLY_SIZE = '1M';

/** A session that is mounted where only its command sees it. */
export interface Secluded {
  /** In a user namespace with these ids. */
  ids?: IdMaps;
  /** In the namespaces of this keeper, instead of new ones. */
  join?: number;
  /** What it holds is kept when it ends. */
  keep: boolean;
  /** It is mounted in its own folder, instead of over its source. */
  inFolder: boolean;
}

/** A session, and its keeper when it is tied to this process. */
export interface Launched {
  session: Session;
  record: SessionRecord;
  keeper: ChildProcess | undefined;
  /** As `Secluded.keep`: its changes outlive its daemon. */
  keep: boolean;
}

/**
 * Starts a session, and returns when its mount answers.
 *
 * @throws UsageError for what can only be a mistake of the caller: a bad size, a bad name, no source.
 * @throws SessionError when the session cannot start; nothing is left behind.
 */
export async function unlock(given: UnlockOptions): Promise<Session> {
  return (await launch(given)).session;
}

/** `unlock`, also for a session that others do not see. */
export async function launch(given: UnlockOptions, secluded?: Secluded): Promise<Launched> {
  const wanted = given.name === undefined ? undefined : checkName(given.name);
  checkHistory(given.history);
  if (secluded !== undefined) checkDevice();
  const mounter = secluded === undefined ? findMounter() : '';
  const keeper = findKeeper();
  const { upper } = given;
  const isOthersIds = secluded?.ids !== undefined;
  const dirs = isDirs(upper) ? findDirs(upper, isOthersIds) : undefined;
  const asked =
    upper === undefined || isDirs(upper) ? dirs?.upperdir : findUpper(upper, isOthersIds);
  const isForeign = dirs !== undefined || given.readonly === true;
  const left = isForeign ? undefined : await findLeft(given, asked);
  if (left !== undefined) await clearLeft(left);
  const options = left === undefined ? given : resumed(given, left);
  if (secluded === undefined && isForBooted(given, left)) {
    using booted = await BootedUnlock.find(given, left?.record);
    return await begin(
      { ...options, source: [USR], links: 'separate' },
      { mounter, keeper, left, asked, dirs, secluded, booted },
    );
  }
  refuseForDirectories(given);
  if (isForBooted(given, left))
    return runOverUsr(given, { mounter, keeper, left, asked, dirs, secluded });
  if (secluded?.inFolder !== true)
    return begin(options, { mounter, keeper, left, asked, dirs, secluded });
  // The session's folder comes first: it has the mountpoint.
  const place = left ?? (await reserve(wanted, nameFor(byteString(given.source[0] ?? ''))));
  const mountpoint = join(place.folder, OWN_PLACE);
  try {
    mkdirSync(mountpoint, { mode: 0o755, recursive: true });
    return await begin(
      { ...options, mountpoint },
      { mounter, keeper, left, asked, dirs, secluded, place },
    );
  } catch (error) {
    if (left === undefined) release(place.folder);
    throw error;
  }
}

/** What `launch` has found out. */
interface Found {
  mounter: string;
  keeper: string;
  left: Left | undefined;
  asked: ByteString | undefined;
  dirs: FoundDirs | undefined;
  secluded: Secluded | undefined;
  /** The session's folder, when it is there already. */
  place?: { folder: string };
  /** It is over the booted deployment. */
  booted?: BootedUnlock;
}

/** The booted deployment, seen by a command only: nothing of it is on record. */
async function runOverUsr(options: UnlockOptions, found: Found): Promise<Launched> {
  findBooted(HOST_SYSROOT, 'name a directory instead: ostree-ts run SOURCE -- COMMAND');
  if (found.secluded?.inFolder === true) {
    throw new UsageError('what is to be the root is not named', 'name it: SOURCE');
  }
  return begin({ ...options, source: [USR], links: 'separate' }, found);
}

function isForBooted({ source, repo }: UnlockOptions, left: Left | undefined): boolean {
  if (left !== undefined) return left.record.deployment !== undefined;
  return source.length === 0 && repo === undefined;
}

async function begin(options: UnlockOptions, found: Found): Promise<Launched> {
  const { mounter, left, dirs, secluded, booted } = found;
  const upper = booted?.upper ?? left?.record.upper ?? found.asked ?? 'memory';
  checkSize(options.size, upper);
  const metacopy = checkMetacopy(
    options.metacopy ?? left?.record.metacopy,
    upper,
    booted !== undefined || dirs !== undefined,
  );
  checkIo(options, upper);
  using store = await findStore(options);
  const places = findPlaces(
    store === undefined ? options.source : [store.path],
    options.mountpoint,
    readMounts(),
    secluded !== undefined,
  );
  using mountLock =
    secluded === undefined ? await DirectoryLock.ofMountpoint(places.mountpoint) : undefined;
  if (mountLock !== undefined) refuseSession(places.mountpoint, readMounts());
  if (store !== undefined && places.isInPlace) {
    throw new SessionError('the mountpoint is the repository itself', 'name another directory');
  }
  if (mounter !== '' || options.transport === 'fuse-native') refuseRecursion(places);
  if (options.transport === 'fuse-native') {
    checkFuseNative(places, readMounts(), secluded !== undefined);
  }
  const context = options.context ?? left?.record.context;
  if (secluded === undefined) checkContext(context, places.mountpoint === USR);
  const total = memoryBytes();
  const isBounded = upper === 'memory' || (upper === 'tmpfs' && !keepsInFolder(upper));
  const size = options.size ?? (options.readonly === true ? READONLY_SIZE : DEFAULT_SIZE);
  const limitBytes = isBounded ? parseSize(size, total) : 0;
  const warnings = [...placeWarnings(places), ...sizeWarnings(limitBytes, total, await limits())];

  const lower = lowerOf(options, places, store);
  const isForeign = dirs !== undefined || options.readonly === true;
  const isDirectory = upper !== 'memory' && upper !== 'tmpfs';
  const hasOwnFolder = isDirectory && booted?.upper === undefined && !isForeign;
  if (dirs !== undefined) checkDirs(dirs, places);
  // From here on what is in it is nobody else's.
  using upperLock = hasOwnFolder ? await DirectoryLock.ofUpper(upper) : undefined;
  if (hasOwnFolder) checkFolder(upper, places, lower, options.force ?? false);
  if (isForeign) await buryDead(places.mountpoint, dirs);
  const work = dirs?.workdir ?? (hasOwnFolder ? `${upper}/work` : undefined);
  const isIndexed = work !== undefined && hasIndex(work);
  if (isIndexed) warnings.push(`read-only: ${INDEXED}`);
  const folder =
    found.place?.folder ??
    left?.folder ??
    (await reserve(options.name, nameFor(places.mountpoint))).folder;
  const name = basename(folder);
  const record: SessionRecord = {
    version: 1,
    name,
    mountpoint: places.mountpoint,
    ...lower,
    mode: store === undefined ? 'directory' : 'commit',
    upper,
    ...(metacopy && { metacopy }),
    ...(isForeign && { isForeign }),
    ...(options.readonly === true && { readonlyFor: 'no-upper' as const }),
    ...(isIndexed && { readonlyFor: 'index' as const }),
    ...(secluded !== undefined && { seclusion: secluded.ids === undefined ? 'mounts' : 'users' }),
    ...(options.io === 'passthrough' && { io: options.io }),
    ...(options.transport !== undefined && { transport: options.transport }),
    ...(booted !== undefined && { deployment: booted.record }),
    ...(context !== undefined && { context }),
    settings: settingsOf(options),
    limitBytes,
    started: new Date().toISOString(),
    ...ownProcesses(),
  };
  let undo: (() => void) | undefined;
  try {
    if (hasOwnFolder) undo = label(upper, lower, discardFolder);
    writeRecord(folder, record);
    booted?.prepare(folder);
    const programs = { keeper: found.keeper, mounter };
    const keeper = await start({
      folder,
      record,
      places,
      programs,
      options,
      store,
      secluded,
      workdir: dirs?.workdir,
      isLeft: left !== undefined,
      upperPath: booted?.upperPath,
      upperFd: upperLock?.fd,
    });
    warnings.push(...(await finish(booted, folder, name)));
    for (const warning of warnings) options.onWarning?.(warning);
    const session = new Session(folder, name, record, keeper);
    return { session, record, keeper, keep: secluded?.keep === true };
  } catch (error) {
    for (const still of booted?.undo() ?? []) options.onWarning?.(`not undone: ${still}`);
    // What a session has left stays as it was.
    if (left === undefined) {
      release(folder);
      undo?.();
    }
    throw error;
  }
}

/** The last step over a booted deployment, without which there is no session. @returns warnings. */
async function finish(
  booted: BootedUnlock | undefined,
  folder: string,
  name: string,
): Promise<string[]> {
  try {
    return booted?.finish(folder, name) ?? [];
  } catch (error) {
    await lock(folder, name, true);
    throw error;
  }
}

/** Changes remembered at most: they take 68 MB. */
const HISTORY_MAX = 1_000_000;

function checkHistory(count: number = 0): void {
  if (Number.isInteger(count) && count >= 0 && count <= HISTORY_MAX) return;
  throw new UsageError(
    `a history of ${count} changes cannot be kept`,
    `say how many, from 0 to ${HISTORY_MAX}`,
  );
}

function isDirs(upper: UnlockOptions['upper']): upper is OverlayDirs {
  return typeof upper === 'object' && 'upperdir' in upper;
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

async function findStore(options: UnlockOptions): Promise<Store | undefined> {
  if (options.repo === undefined) return undefined;
  // Not needed by sessions over directories.
  const { openStore } = await import('./store.ts');
  return openStore(options, options.repo);
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
