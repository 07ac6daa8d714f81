/** What is mounted, as /proc/PID/mountinfo tells it. Byte strings throughout. See proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../native.ts';
import type { Seclusion } from './record.ts';

/** As our mounts are called there. */
export const MOUNT_TYPE = 'fuse.ostree-ts';

export interface Mount {
  id: number;
  parent: number;
  /** `major:minor`. */
  device: string;
  path: ByteString;
  /** What is mounted: for a session, its name. */
  source: ByteString;
  type: string;
  /** Of a FUSE mount, the user who mounted it. */
  owner?: number;
  /** Mounts and unmounts of another namespace reach the directory above this mount. */
  isPropagated: boolean;
  /** This mount is read-only; its filesystem may not be. */
  isReadonly: boolean;
  /** An overlay of the kernel that keeps changes: the directory they are in, as it was given. */
  upperdir?: string;
}

/**
 * Mounts of the namespace of `pid`, in the order they were made: the last one of a path is the one that is seen.
 *
 * @throws the system's error when there is no such process, or none that we may ask.
 */
export function readMounts(pid: number | 'self' = 'self'): Mount[] {
  return parseMounts(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
}

/** `readMounts`, or `fallback` when the process has gone or may not be asked. */
export function mountsOr<T>(pid: number | 'self', fallback: T): Mount[] | T {
  try {
    return readMounts(pid);
  } catch {
    return fallback;
  }
}

export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  const shared = new Set<number>();
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - ', 2);
    const [id, parent, device, , path, options = '', ...optional] = before.split(' ');
    const [type, source, superOptions = ''] = after.split(' ');
    const owner = /(?:^|,)user_id=(\d+)/.exec(superOptions)?.[1];
    const upperdir = /(?:^|,)upperdir=([^,]*)/.exec(superOptions)?.[1];
    if (path === undefined || source === undefined || type === undefined) continue;
    if (optional.some((field) => /^(shared|master):/.test(field))) shared.add(Number(id));
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      device: device ?? '',
      path: unescape(path),
      source: unescape(source),
      type,
      ...(owner !== undefined && { owner: Number(owner) }),
      isPropagated: shared.has(Number(parent)),
      isReadonly: options.split(',').includes('ro'),
      ...(upperdir !== undefined && type === 'overlay' && { upperdir: unescape(upperdir) }),
    });
  }
  return mounts;
}

/**
 * Whether this is a mount of the session `name` of this user. Device numbers are used again after an unmount, so one
 * alone says nothing.
 *
 * @param seclusion  As in the session's record: in a user namespace, its user is root.
 */
export function isOf(mount: Mount, name: string, device: string, seclusion?: Seclusion): boolean {
  return (
    mount.device === device &&
    mount.type === MOUNT_TYPE &&
    mount.source === name &&
    mount.owner === (seclusion === 'users' ? 0 : process.getuid?.())
  );
}

/** The mount that is seen at exactly this path, if it is a mountpoint. */
export function topmostAt(mounts: Mount[], path: ByteString): Mount | undefined {
  return mounts.findLast((mount) => mount.path === path);
}

/** Mounts at paths below this one. */
export function below(mounts: Mount[], path: ByteString): Mount[] {
  const prefix = path === '/' ? '/' : `${path}/`;
  return mounts.filter((mount) => mount.path.startsWith(prefix) && mount.path !== path);
}

/** Space, tab, newline, backslash and '#' are written as a backslash and three octal digits. */
function unescape(text: string): ByteString {
  return text.replaceAll(/\\([0-3][0-7]{2})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
