/** Brings sessions back whose daemon has died, when their changes were kept outside it. */
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { bytes, type HostPath, hostPath, realPath, shown } from './checks.ts';
import { OWN_PLACE, registryFolder } from './folders.ts';
import type { UnlockOptions } from './options.ts';
import { clear } from './lock.ts';
import { readRecord, type SessionRecord, type SessionSettings } from './record.ts';
import { listSessions } from './registry.ts';
import { formatBytes, memoryBytes, parseSize } from './size.ts';
import { inspect, isResumable } from './status.ts';
import { keepsInFolder } from './upper.ts';

export interface Left {
  folder: string;
  record: SessionRecord;
}

/**
 * The dead session that these options mean: by its name, or by the directory of its changes.
 *
 * @throws SessionError they ask for something else than what it was.
 */
export async function findLeft(
  options: UnlockOptions,
  upper: ByteString | undefined,
): Promise<Left | undefined> {
  const { name, source } = options;
  const folders =
    name === undefined
      ? (await listSessions()).map((session) => session.folder)
      : [join(registryFolder(), name)];
  for (const folder of folders) {
    const record = readRecord(folder);
    if (record === undefined || record.upper === 'memory' || record.isForeign === true) continue;
    if (name === undefined && (record.upper === 'tmpfs' || record.upper !== upper)) continue;
    const seen = await inspect(folder);
    const isLeft = seen.health === 'kept' || seen.health === 'dead';
    if (!isLeft || !isResumable(folder, record)) continue;
    if (upper !== undefined && upper !== record.upper)
      refuse(record, 'keeps its changes elsewhere');
    const isSame =
      source.length === 0 ||
      record.mode === 'commit' ||
      source.every((path, i) => realPath(path) === record.source[i]);
    if (!isSame || (source.length > 0 && source.length !== record.source.length)) {
      refuse(record, 'is over another source');
    }
    checkPlace(options, record);
    checkSameSize(options, record);
    return { folder, record };
  }
  return undefined;
}

/** A session that only its command has seen may be mounted anywhere. */
function checkPlace({ mountpoint }: UnlockOptions, record: SessionRecord): void {
  if (mountpoint === undefined || record.seclusion !== undefined) return;
  if (realPath(mountpoint) === record.mountpoint) return;
  refuse(record, `was mounted at ${shown(record.mountpoint)}`);
}

/** The tmpfs is there already. */
function checkSameSize({ size }: UnlockOptions, record: SessionRecord): void {
  if (size === undefined || record.upper !== 'tmpfs' || keepsInFolder(record.upper)) return;
  if (parseSize(size, memoryBytes()) === record.limitBytes) return;
  refuse(record, `has a size of ${formatBytes(record.limitBytes)}`);
}

function refuse({ name, source }: SessionRecord, why: string): never {
  throw new SessionError(
    `the session ${name}, whose daemon has died, ${why} (${source.map(shown).join(':')})`,
    `bring it back with: ostree-ts unlock --name=${name}; or discard it: ostree-ts lock ${name}`,
  );
}

/** What of the options is remembered as it was given. */
export function settingsOf(options: UnlockOptions): SessionSettings {
  const { history, verify, allowPartial, mountOptions, suid, dev } = options;
  return {
    ...(history !== undefined && { history }),
    ...(verify !== undefined && { verify }),
    ...(allowPartial !== undefined && { allowPartial }),
    ...(mountOptions !== undefined && { mountOptions }),
    ...(suid !== undefined && { suid }),
    ...(dev !== undefined && { dev }),
  };
}

/** The options that a session was started with, so that it is what it was; what is given anew goes before. */
export function resumed(given: UnlockOptions, { folder, record }: Left): UnlockOptions {
  return {
    ...record.settings,
    ...given,
    name: record.name,
    source: (record.commit === undefined ? record.source : [record.commit]).map(hostPath),
    mountpoint: placeOf(given, folder, record),
    upper: record.upper === 'tmpfs' ? 'tmpfs' : hostPath(record.upper),
    io: given.io ?? record.io ?? 'cached',
    transport: given.transport ?? record.transport ?? 'kernel',
    ...(record.repo === undefined ? { links: record.links } : { repo: hostPath(record.repo) }),
    ...(record.upper === 'tmpfs' &&
      !keepsInFolder(record.upper) && { size: String(record.limitBytes) }),
  };
}

/** A session that only its command has seen may have been mounted in its own folder. */
function placeOf(given: UnlockOptions, folder: string, record: SessionRecord): HostPath {
  const isOwn = record.mountpoint === bytes(join(folder, OWN_PLACE));
  const [source, another] = record.mode === 'directory' ? record.source : [];
  if (record.seclusion !== undefined && given.mountpoint !== undefined) return given.mountpoint;
  return hostPath(
    isOwn && another === undefined ? (source ?? record.mountpoint) : record.mountpoint,
  );
}

/** Takes away what the dead daemon may have left mounted. @throws SessionError it cannot be, or somebody has brought it back. */
export async function clearLeft({ folder, record: { name } }: Left): Promise<void> {
  const seen = await inspect(folder);
  if (seen.health !== 'dead' && seen.health !== 'kept') {
    throw new SessionError(
      `another command has just brought the session ${name} back, or ended it`,
      'see how it is: ostree-ts status',
    );
  }
  await clear(folder, seen);
}
