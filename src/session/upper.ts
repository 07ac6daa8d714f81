/** Where a session keeps its changes, and what is left of one whose daemon has died. */
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { SessionError, UsageError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { bytes, type HostPath, hostPath, shown } from './checks.ts';
import { registryFolder, removeTree, UPPER_NAME } from './folders.ts';
import { checkLabel, LABEL_NAMES, type Lower } from './upper-label.ts';

/** `memory`, `tmpfs`, or the path of a directory. */
export type UpperOption = HostPath;

/** Of statfs(2). */
const TMPFS_MAGIC = 0x0102_1994;

/** Why a session is read-only. */
export const INDEXED = 'its changes have an index of hard links of kernel overlayfs (index=on)';

const OURS = new Set(['upper', 'upper.new', 'work', ...LABEL_NAMES]);

/**
 * The kind of an upper, or the real path of its directory.
 *
 * @param isOthersIds  the session is in a user namespace, whose owners an ordinary user's files cannot have.
 * @throws UsageError, SessionError.
 */
export function findUpper(option: UpperOption | undefined, isOthersIds: boolean): ByteString {
  if (option === undefined || option === 'memory') return 'memory';
  if (isOthersIds) {
    throw new SessionError(
      `an ordinary user's run keeps its changes in memory: files in ${option === 'tmpfs' ? 'a tmpfs' : 'a directory'} of yours cannot have the owners of its user namespace`,
      'leave --upper out',
    );
  }
  if (option === 'tmpfs') {
    if (keepsInFolder(option)) checkRuntimeFolder();
    return 'tmpfs';
  }
  const name = shown(bytes(option));
  try {
    const real = realpathSync.native(option, 'buffer');
    if (statSync(real).isDirectory()) return real.toString('latin1');
  } catch (error) {
    throw new SessionError(
      `the directory for changes ${name} cannot be used: ${(error as NodeJS.ErrnoException).code}`,
      'make it first, or look for a mistake in the name',
      { cause: error },
    );
  }
  throw new SessionError(`${name} is not a directory`, 'name a directory for the changes');
}

/** A directory for changes must be nobody else's. @throws SessionError. */
export function checkFolder(
  path: ByteString,
  places: { sources: readonly ByteString[]; mountpoint: ByteString },
  lower: Lower,
  force: boolean,
): void {
  const around = [...places.sources, places.mountpoint].find((place) => isInside(path, place));
  if (around !== undefined) {
    throw new SessionError(
      `the directory for changes ${shown(path)} is inside ${shown(around)}, which the session shows`,
      'name a directory elsewhere',
    );
  }
  checkWritable(path);
  const foreign = readdirSync(hostPath(path), 'latin1').find((name) => !OURS.has(name));
  if (foreign !== undefined) {
    throw new SessionError(
      `${shown(path)} holds ${shown(foreign)}, which is nothing of a session`,
      'name an empty directory, or one that a session has left',
    );
  }
  refuseKernelState(path, `${path}/work`);
  checkLabel(path, lower, force);
}

/** @throws SessionError nothing can be made in a directory. */
function checkWritable(path: ByteString): void {
  try {
    accessSync(hostPath(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why =
      code === 'EROFS' ? 'its filesystem is read-only' : `you may not write there (${code})`;
    throw new SessionError(
      `the directory for changes ${shown(path)} cannot be used: ${why}`,
      'name a directory that you may write to',
    );
  }
}

/** @throws SessionError kernel overlayfs had the upper in a volatile mount that did not end cleanly. */
export function refuseKernelState(path: ByteString, work: ByteString): void {
  if (existsSync(hostPath(`${work}/work/incompat/volatile`))) {
    throw new SessionError(
      `the changes in ${shown(path)} are of a volatile overlay mount that did not end cleanly: parts may be missing`,
      'name another directory',
    );
  }
}

/**
 * Whether kernel overlayfs keeps an index of hard links beside an upper (index=on), which changes of ours would make untrue:
 * such an upper is shown, and stays as it is.
 */
export function hasIndex(work: ByteString): boolean {
  const index = hostPath(`${work}/index`);
  return existsSync(index) && readdirSync(index).length > 0;
}

export function isInside(path: ByteString, place: ByteString): boolean {
  return path === place || path.startsWith(place === '/' ? '/' : `${place}/`);
}

/** Throws the changes of a session away. */
export function discardFolder(path: ByteString): void {
  for (const name of OURS) removeTree(hostPath(`${path}/${name}`));
}

/**
 * Whether changes on a tmpfs are in the session's own folder: only root can mount a tmpfs that outlives the daemon, and the
 * runtime directory of an ordinary user is on one.
 */
export function keepsInFolder(upper: UpperOption): boolean {
  return upper === 'tmpfs' && process.getuid?.() !== 0;
}

/** The directory of changes in the session's folder, made when it is not there. */
export function ownUpper(folder: string): string {
  const path = join(folder, UPPER_NAME);
  mkdirSync(path, { mode: 0o700, recursive: true });
  return path;
}

function checkRuntimeFolder(): void {
  const folder = dirname(registryFolder());
  if (statfsSync(folder).type === TMPFS_MAGIC) return;
  throw new SessionError(
    `${folder} is not on a tmpfs, and an ordinary user cannot mount one that outlives the daemon`,
    'name a directory for the changes, or leave --upper out: they are then kept in memory',
  );
}

/** Whether changes of attributes copy no data. @throws UsageError where the format does not allow it. */
export function checkMetacopy(
  metacopy: boolean | undefined,
  upper: string,
  isWithoutRedirects: boolean,
): boolean {
  if (metacopy !== true) return false;
  if (process.getuid?.() === 0 && upper !== 'memory' && !isWithoutRedirects) return true;
  throw new UsageError(
    upper === 'memory'
      ? 'changes in memory copy no data anyway'
      : 'files without data of their own (metacopy) need redirects, which this upper may not have',
    'leave --metacopy out',
  );
}

/** Refuses what an upper on disk has no use for. */
export function checkSize(size: string | undefined, upper: string): void {
  if (size === undefined || upper === 'memory') return;
  if (keepsInFolder(upper)) {
    throw new UsageError(
      "an ordinary user's session on a tmpfs is in the runtime directory, and may hold what that holds",
      'leave --size out',
    );
  }
  if (upper === 'tmpfs') return;
  throw new UsageError(
    'a session in a directory may hold what its filesystem holds',
    'leave --size out',
  );
}
