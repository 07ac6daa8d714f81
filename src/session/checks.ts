/** Everything that can be known to be wrong before a session starts. */
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { SessionError, UsageError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { below, type Mount, MOUNT_TYPE, topmostAt } from './mountinfo.ts';

/** A path as node:fs takes it: text, or bytes when it is not UTF-8. */
export type HostPath = string | Buffer;

/** open(2): only a name for a directory, no access. */
const O_PATH = 0o10000000;

/** Where everything is, as absolute byte strings without symlinks; `sources` topmost first. */
export interface Places {
  sources: ByteString[];
  mountpoint: ByteString;
  isInPlace: boolean;
  /** Mounts that the session would cover, without those below another; none, unless it may. */
  covered: ByteString[];
}

/** A byte string as node:fs takes it. */
export function hostPath(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1');
}

/** As a person reads it. */
export function shown(path: ByteString): string {
  return hostPath(path).toString('utf8');
}

/** A path as a byte string. */
export function bytes(path: HostPath): ByteString {
  return (typeof path === 'string' ? Buffer.from(path, 'utf8') : path).toString('latin1');
}

/**
 * Finds the sources and the mountpoint.
 *
 * @param mounts  Those of this namespace.
 * @param mayCover  Mounts below the mountpoint are no obstacle.
 * @throws UsageError no source, or several and no mountpoint.
 * @throws SessionError whatever forbids the session; the message names it.
 */
export function findPlaces(
  source: HostPath[],
  mountpoint: HostPath | undefined,
  mounts: Mount[],
  mayCover = false,
): Places {
  const [first] = source;
  if (first === undefined) {
    throw new UsageError(
      'no source is given',
      'name a directory: ostree-ts unlock SOURCE MOUNTPOINT',
    );
  }
  if (mountpoint === undefined && source.length > 1) {
    throw new UsageError(
      'several directories cannot be unlocked in place',
      'name a MOUNTPOINT: ostree-ts unlock A:B MOUNTPOINT',
    );
  }
  refuseSession(bytes(mountpoint ?? first), mounts);
  const sources = source.map((path) => directory(bytes(path), 'the source'));
  const at =
    mountpoint === undefined ? sources[0]! : directory(bytes(mountpoint), 'the mountpoint');
  refuseSession(at, mounts);
  const isInPlace = sources.includes(at);
  if (at === '/') {
    throw new SessionError(
      'nothing would see a mount over /',
      'unlock a directory below it, or name another MOUNTPOINT',
    );
  }
  if (!mayCover) refuseMountsBelow(at, isInPlace, mounts);
  return { sources, mountpoint: at, isInPlace, covered: mayCover ? outermost(at, mounts) : [] };
}

/** The real path of a directory that we may read. */
function directory(path: ByteString, what: string): ByteString {
  const name = shown(path);
  try {
    const real = realpathSync.native(hostPath(path), 'buffer');
    if (!statSync(real).isDirectory()) {
      throw new SessionError(`${what} ${name} is not a directory`, 'name a directory');
    }
    if (what === 'the source') accessSync(real, constants.R_OK | constants.X_OK);
    return real.toString('latin1');
  } catch (error) {
    if (error instanceof SessionError) throw error;
    throw new SessionError(`${what} ${name} ${reason(error)}`, remedyFor(error, name), {
      cause: error,
    });
  }
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOENT':
      return 'does not exist';
    case 'ENOTDIR':
      return 'is not a directory';
    case 'EACCES':
    case 'EPERM':
      return 'is not readable for you';
    case 'ENOTCONN':
      return 'is a mount whose server is dead';
    default:
      return `cannot be used: ${code ?? message}`;
  }
}

function remedyFor(error: unknown, name: string): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return `make it first, or look for a mistake in the name`;
    case 'ENOTCONN':
      return `unmount it first: ostree-ts lock ${name}, or umount -l ${name}`;
    default:
      return 'name a directory that you may read and enter';
  }
}

/**
 * Without asking the file system: what is there may be dead.
 *
 * @throws SessionError the path is relative to a directory that has gone.
 */
export function absolute(path: string): string {
  try {
    return resolve(path);
  } catch (error) {
    throw new SessionError(
      'the current directory has gone',
      'go to one that is there (cd), or name an absolute path',
      { cause: error },
    );
  }
}

/** Before the path is touched: the mount there may be dead. @throws SessionError a session is there. */
export function refuseSession(path: ByteString, mounts: Mount[]): void {
  const at = absolute(shown(path));
  const mount = topmostAt(mounts, bytes(at)) ?? topmostAt(mounts, path);
  if (mount?.type !== MOUNT_TYPE) return;
  throw new SessionError(
    `${at} is already the session ${shown(mount.source)}`,
    `end it first: ostree-ts lock ${at}`,
  );
}

function outermost(path: ByteString, mounts: Mount[]): ByteString[] {
  const paths = new Set(below(mounts, path).map((mount) => mount.path));
  return [...paths].filter((one) => ![...paths].some((other) => one.startsWith(`${other}/`)));
}

/** What is mounted below would be covered: silently losing /usr/local, say, is worse than not starting. */
function refuseMountsBelow(path: ByteString, isInPlace: boolean, mounts: Mount[]): void {
  const names = [...new Set(below(mounts, path).map((mount) => shown(mount.path)))];
  if (names.length === 0) return;
  const list = names.length > 5 ? `${names.slice(0, 5).join(', ')}, ...` : names.join(', ');
  throw new SessionError(
    `there are mounts below ${shown(path)}, which the session would cover: ${list}`,
    isInPlace ? 'unmount them first, or name another MOUNTPOINT' : 'unmount them first',
  );
}

/** What deserves a word about the places, one line each. */
export function warnings(places: Places): string[] {
  if (places.isInPlace) return [];
  try {
    if (readdirSync(hostPath(places.mountpoint)).length === 0) return [];
  } catch {
    return [];
  }
  return [
    `${shown(places.mountpoint)} is not empty: what is in it is hidden while the session lasts`,
  ];
}

/**
 * What mounts for this user.
 *
 * @returns the path of fusermount3, or '' when we may mount by ourselves.
 * @throws SessionError there is no way to mount.
 */
export function findMounter(): string {
  checkDevice();
  return process.getuid?.() === 0 ? '' : findSetuidFusermount();
}

/** @throws SessionError /dev/fuse is not there, or not for us. */
export function checkDevice(): void {
  const isRoot = process.getuid?.() === 0;
  if (statSync('/dev/fuse', { throwIfNoEntry: false }) === undefined) {
    throw new SessionError(
      '/dev/fuse is not there',
      'load the module as root: modprobe fuse; in a container, pass the device in',
    );
  }
  try {
    closeSync(openSync('/dev/fuse', constants.O_RDWR));
  } catch (error) {
    throw new SessionError(
      `/dev/fuse cannot be opened: ${(error as NodeJS.ErrnoException).code}`,
      isRoot
        ? 'in a container, allow the device (10:229)'
        : 'as root: chmod 666 /dev/fuse, as udev does on most systems',
      { cause: error },
    );
  }
}

function findSetuidFusermount(): string {
  const path = findFusermount();
  if (path === undefined) {
    throw new SessionError(
      'fusermount3 is not there, and only root can mount without it',
      'install it: apt install fuse3, or dnf install fuse3',
    );
  }
  const stat = statSync(path);
  if ((stat.mode & 0o4000) === 0 || stat.uid !== 0) {
    throw new SessionError(
      `${path} is not setuid root, so it cannot mount for you`,
      `as root: chown root ${path} && chmod u+s ${path}`,
    );
  }
  return path;
}

export function findFusermount(): string | undefined {
  return findProgram('fusermount3');
}

/** A program of the PATH, or where it usually is. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/bin'];
  return folders
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        return statSync(path).isFile();
      } catch {
        // Not there, or in a folder that is not for us.
        return false;
      }
    });
}

/** An ordinary user's daemon sees every mount, its own as well: it must not find itself in its source. */
export function refuseRecursion(places: Places): void {
  const around = places.sources.find((source) => places.mountpoint.startsWith(`${source}/`));
  if (around === undefined) return;
  throw new SessionError(
    `the mountpoint ${shown(places.mountpoint)} is inside the source ${shown(around)}`,
    'name a MOUNTPOINT outside it, or unlock the source in place',
  );
}

/** Where a path leads, or the path itself when it leads nowhere. */
export function realPath(path: HostPath): ByteString {
  try {
    return realpathSync.native(path, 'buffer').toString('latin1');
  } catch {
    return bytes(path);
  }
}

/** Opens a directory as a name only. @returns a descriptor. */
export function openPlace(path: ByteString): number {
  return openSync(hostPath(path), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}
