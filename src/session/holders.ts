/**
 * Which processes hold a session's mount: whoever has a file of it open, mapped, running, or as its directory, in any
 * mount namespace. The mount itself is never asked, so a dead one does no harm. What this user may not look into is not
 * found.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type ByteString, native, STAT, STAT_FIELDS } from '../native.ts';
import { shown } from './checks.ts';
import { type Mount, mountsOr, readMounts } from './mountinfo.ts';
import { readStat } from './processes.ts';

/** open(2), statx(2). */
const O_PATH = 0o10000000;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;

/** Words per process: who holds ten thousand files is named once. */
const WORDS = 4;

/** Of a process whose mount namespace has a copy of the mount that no unmount reaches. */
export const NAMESPACE = 'namespace';

/** One process that holds the mount, and by what. */
export interface Holder {
  /** 0 for what is held by no process but by the kernel: a mount on top. */
  pid: number;
  /** As /proc/PID/comm has it; the type of a filesystem for a mount on top. */
  name: string;
  /** `cwd`, `root`, `exe`, `mapped`, `fd 3`, `namespace`, or a mount's path; at most a few of each process. */
  by: string[];
}

/** Pids of everything that runs, ourselves included. */
export function allProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** The mounts of each mount namespace, with one process that lives in it; those that we may not look into are left out. */
export function allNamespaces(): { namespace: string; pid: number; mounts: Mount[] }[] {
  const found = new Map<string, { namespace: string; pid: number; mounts: Mount[] }>();
  for (const pid of allProcesses()) {
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (!found.has(namespace)) found.set(namespace, { namespace, pid, mounts: readMounts(pid) });
    } catch {
      // It has gone, or is another user's.
    }
  }
  return [...found.values()];
}

/**
 * Finds the holders of the filesystem `device` (`major:minor`).
 *
 * @param home  A process of the namespace in which the session was mounted: mounts there end with it.
 */
export function findHolders(device: string, home: number | 'self'): Holder[] {
  const homeMounts = mountsOr(home, undefined);
  // It has ended meanwhile: our own namespace is the only one from which anything can be unmounted now.
  if (homeMounts === undefined) return findHolders(device, 'self');
  const homeNamespace = readlinkSync(`/proc/${home}/ns/mnt`);
  const pinning = new Set<string>();
  const ids = new Set<number>();
  const others = new Set<number>();
  for (const { namespace, mounts } of allNamespaces()) {
    for (const mount of mounts) {
      (mount.device === device ? ids : others).add(mount.id);
      if (mount.device !== device) continue;
      // Elsewhere the unmount arrives by propagation only.
      if (namespace !== homeNamespace && !mount.isPropagated) pinning.add(namespace);
    }
  }
  const holders = mountsOnTop(homeMounts, device);
  for (const pid of allProcesses()) {
    const by = holdsBy(pid, device, { ids, others }, pinning);
    if (by.length === 0) continue;
    const words = by.length > WORDS ? [...by.slice(0, WORDS), `and ${by.length - WORDS} more`] : by;
    holders.push({ pid, name: shown(readStat(pid)?.comm ?? '?'), by: words });
  }
  return holders;
}

/** Other filesystems that are mounted inside the session: they would go with it. */
function mountsOnTop(mounts: Mount[], device: string): Holder[] {
  const ours = new Set(mounts.filter((mount) => mount.device === device).map((mount) => mount.id));
  const onTop = mounts.filter((mount) => ours.has(mount.parent) && !ours.has(mount.id));
  return onTop.map((mount) => ({
    pid: 0,
    name: mount.type,
    by: [`mounted at ${shown(mount.path)}`],
  }));
}

function holdsBy(
  pid: number,
  device: string,
  known: { ids: Set<number>; others: Set<number> },
  namespaces: Set<string>,
): string[] {
  const by: string[] = [];
  const folder = `/proc/${pid}`;
  for (const link of ['cwd', 'root', 'exe']) {
    if (deviceOf(`${folder}/${link}`) === device) by.push(link);
  }
  attempt(() => {
    // address permissions offset major:minor inode path; hexadecimal numbers.
    const [major, minor] = device
      .split(':')
      .map((part) => Number(part).toString(16).padStart(2, '0'));
    if (readFileSync(`${folder}/maps`, 'latin1').includes(` ${major}:${minor} `)) by.push('mapped');
  });
  attempt(() => {
    if (namespaces.size > 0 && namespaces.has(readlinkSync(`${folder}/ns/mnt`))) by.push(NAMESPACE);
  });
  attempt(() => {
    for (const fd of readdirSync(`${folder}/fd`)) {
      attempt(() => {
        const info = readFileSync(`${folder}/fdinfo/${fd}`, 'latin1');
        const id = Number(/^mnt_id:\s*(\d+)/m.exec(info)?.[1]);
        // A file of a mount that is in no namespace, or in none any more, is known by its device only.
        const isOurs =
          known.ids.has(id) || (!known.others.has(id) && deviceOf(`${folder}/fd/${fd}`) === device);
        if (isOurs) by.push(`fd ${fd}`);
      });
    }
  });
  return by;
}

/** Looks at a process that may have gone, or be another user's. */
function attempt(look: () => void): void {
  try {
    look();
  } catch {
    // Then it is not known to hold anything.
  }
}

/** `major:minor` of what a link of /proc leads to, as the kernel knows it without asking a server; '' when unknown. */
function deviceOf(path: ByteString): string {
  const fd = native.open(path, O_PATH, 0);
  if (fd < 0) return '';
  const stat = new Float64Array(STAT_FIELDS);
  const result = native.statx(fd, '', AT_EMPTY_PATH | AT_STATX_DONT_SYNC, stat);
  native.close(fd);
  return result < 0 ? '' : `${stat[STAT.DEV_MAJOR]}:${stat[STAT.DEV_MINOR]}`;
}

/** `vim (12: cwd, fd 3)` for each, in one line. */
export function describeHolders(holders: Holder[]): string {
  const named = holders
    .slice(0, 8)
    .map(({ pid, name, by }) =>
      pid === 0 ? `${name} ${by.join(', ')}` : `${name} (${pid}: ${by.join(', ')})`,
    );
  if (holders.length > named.length) named.push(`and ${holders.length - named.length} more`);
  return named.join(', ');
}
