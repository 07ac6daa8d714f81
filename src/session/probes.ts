/** One question each to this kernel, user or system. None of them throws, and none leaves anything. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, statfsSync } from 'node:fs';
import { constants as system, release } from 'node:os';
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import { GLIBC_FLOOR, programPath } from '../built.ts';
import { native } from '../native.ts';
import { findFusermount, findMounter } from './checks.ts';
import { registryFolder } from './folders.ts';
import { formatBytes, memoryBytes } from './size.ts';

export interface Finding {
  /** A short name: `kernel`, `mount`, `keeper`, ... */
  feature: string;
  /** `ok`; `limited`: works with restrictions; `missing`: sessions do not start without it. */
  state: 'ok' | 'limited' | 'missing';
  /** What was seen, in one line. */
  detail: string;
  /** What to do about it, in one line. */
  remedy?: string;
}

/** The oldest kernel with openat2(2); its FUSE is newer than the oldest protocol spoken here, 7.31 of Linux 5.4. */
const OLDEST_KERNEL = [5, 6] as const;
/** statfs(2): what discards sessions at reboot. */
const TMPFS_MAGIC = 0x01021994;
const CAP_SYS_ADMIN = 21n;

/** Fewer descriptors than this, and a session that shows many directories has to open them again and again. */
const FEW_FILES = 4096;
const O_TMPFILE = 0o20200000;

export function kernel(): Finding {
  const version = release();
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const isNew =
    major > OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor >= OLDEST_KERNEL[1]);
  if (isNew) return { feature: 'kernel', state: 'ok', detail: `Linux ${version}` };
  return {
    feature: 'kernel',
    state: 'missing',
    detail: `Linux ${version} is older than ${OLDEST_KERNEL.join('.')}`,
    remedy: 'use a newer kernel',
  };
}

export function cLibrary(): Finding {
  const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const version = report.header.glibcVersionRuntime;
  return version === undefined
    ? {
        feature: 'C library',
        state: 'limited',
        detail: 'not glibc, so the prebuilt addon does not fit: this one was built here',
      }
    : {
        feature: 'C library',
        state: 'ok',
        detail: `glibc ${version} (the prebuilt addon needs ${GLIBC_FLOOR})`,
      };
}

/** That this is read at all means that the addon loads. */
export function addon(): Finding {
  const path = loadedAddon();
  const where = path === undefined ? '' : `: ${path}`;
  return {
    feature: 'addon',
    state: 'ok',
    detail: `loads in Node ${process.versions.node}${where}`,
  };
}

/** The file that the addon has been loaded from, as the kernel knows it. */
function loadedAddon(): string | undefined {
  return /\s(\/.*\/ostree_ts\.node)$/m.exec(read('/proc/self/maps'))?.[1];
}

export function keeper(): Finding {
  try {
    const path = programPath('keeper');
    accessSync(path, constants.X_OK);
    return { feature: 'keeper', state: 'ok', detail: path };
  } catch (error) {
    return { feature: 'keeper', state: 'missing', ...explained(error) };
  }
}

export function device(): Finding {
  try {
    const path = findMounter();
    return {
      feature: 'FUSE device',
      state: 'ok',
      detail: path === '' ? '/dev/fuse opens' : `/dev/fuse opens, and ${path} mounts`,
    };
  } catch (error) {
    return { feature: 'FUSE device', state: 'missing', ...explained(error) };
  }
}

/** Mounting as root, and the namespace of the daemon. */
export function capability(): Finding {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(read('/proc/self/status'))?.[1] ?? '0';
  if ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) {
    return { feature: 'mount', state: 'ok', detail: 'root with CAP_SYS_ADMIN' };
  }
  return {
    feature: 'mount',
    state: 'missing',
    detail: 'root without CAP_SYS_ADMIN cannot mount',
    remedy: 'give the container CAP_SYS_ADMIN, or run as an ordinary user with fusermount3',
  };
}

export function fusermount(): Finding {
  const path = findFusermount();
  if (path === undefined) {
    return {
      feature: 'mount',
      state: 'missing',
      detail: 'there is no fusermount3',
      remedy: 'install it: apt install fuse3, or dnf install fuse3',
    };
  }
  return {
    feature: 'mount',
    state: 'limited',
    detail: `by ${path}: no setuid programs and no devices in a session, over directories of your own only`,
    remedy: 'run as root for a session over /usr',
  };
}

export function others(): Finding {
  return {
    feature: 'other users',
    state: 'limited',
    detail: 'a session of yours is seen by you alone, not even by root',
    remedy: 'run as root for a session that everybody sees',
  };
}

/** How the source is looked into: no symlink in it may lead out. */
export function lookup(): Finding {
  const root = native.open('/', constants.O_RDONLY | constants.O_DIRECTORY, 0);
  const fd = root < 0 ? root : native.openBeneath(root, '.', constants.O_RDONLY, 0);
  for (const opened of [root, fd]) if (opened >= 0) native.close(opened);
  if (fd >= 0) return { feature: 'openat2', state: 'ok', detail: 'paths of the source stay in it' };
  return {
    feature: 'openat2',
    state: 'missing',
    detail: `openat2(2) fails with ${errnoName(-fd)}`,
    remedy:
      fd === -system.errno.ENOSYS
        ? 'use Linux 5.6 or newer'
        : 'a seccomp filter forbids it: use a container engine that knows openat2',
  };
}

/** The source is also held through a read-only mount of it, which takes open_tree(2) and mount_setattr(2). */
export function readonlyBind(): Finding {
  const root = native.open('/', constants.O_RDONLY | constants.O_DIRECTORY, 0);
  const fd = root < 0 ? root : native.detachedReadonlyBind(root);
  for (const opened of [root, fd]) if (opened >= 0) native.close(opened);
  return fd >= 0
    ? { feature: 'read-only bind', state: 'ok', detail: 'the kernel itself keeps us from writing' }
    : {
        feature: 'read-only bind',
        state: 'limited',
        detail: `not permitted (${errnoName(-fd)}): the source is only opened for reading`,
        remedy: 'Linux 5.12 or newer and CAP_SYS_ADMIN would allow it',
      };
}

export function registry(): Finding {
  try {
    const folder = registryFolder();
    const parent = folder.slice(0, folder.lastIndexOf('/'));
    accessSync(parent, constants.W_OK | constants.X_OK);
    if (statfsSync(parent).type === TMPFS_MAGIC) {
      return { feature: 'records', state: 'ok', detail: `in ${folder}, gone at reboot` };
    }
    return {
      feature: 'records',
      state: 'limited',
      detail: `in ${folder}, which is on no tmpfs: records of sessions outlive a reboot`,
      remedy: `clean up after a reboot with: ostree-ts lock`,
    };
  } catch (error) {
    return { feature: 'records', state: 'missing', ...explained(error) };
  }
}

/** Whether files where sessions are kept can carry extended attributes; the memory upper needs none. */
export function attributes(): Finding {
  const feature = 'tmpfs xattrs';
  const folder = runtimeFolder();
  if (folder === undefined) return { feature, state: 'limited', detail: 'no runtime directory' };
  const kinds = process.getuid?.() === 0 ? ['user', 'trusted'] : ['user'];
  const fd = native.open(folder, O_TMPFILE | constants.O_RDWR, 0o600);
  if (fd < 0) return { feature, state: 'limited', detail: `${folder}: ${errnoName(-fd)}` };
  const refused = kinds.filter(
    (kind) => native.setxattr(fd, '', `${kind}.ostree-ts`, Buffer.from('1'), 0) < 0,
  );
  native.close(fd);
  if (refused.length === 0) {
    return { feature, state: 'ok', detail: `${kinds.join(' and ')} attributes work in ${folder}` };
  }
  return {
    feature,
    state: 'limited',
    detail: `no ${refused.join(' and no ')} attributes in ${folder}; sessions in memory need none`,
    remedy: 'tmpfs has user attributes since Linux 6.6',
  };
}

function runtimeFolder(): string | undefined {
  try {
    return join(registryFolder(), '..');
  } catch {
    return undefined;
  }
}

export function files(): Finding {
  const [, hard = ''] = /^Max open files\s+\S+\s+(\S+)/m.exec(read('/proc/self/limits')) ?? [];
  const feature = 'open files';
  const detail = `up to ${hard} (RLIMIT_NOFILE, hard)`;
  if (hard === 'unlimited' || Number(hard) >= FEW_FILES) return { feature, state: 'ok', detail };
  return {
    feature,
    state: 'limited',
    detail,
    remedy: `allow ${FEW_FILES}: ulimit -Hn, LimitNOFILE= or limits.conf(5)`,
  };
}

/** No session needs them yet: an ordinary user's private sessions will. */
export function userNamespaces(): Finding {
  const feature = 'user namespaces';
  const { status, error, stderr } = spawnSync('unshare', ['--user', '--map-root-user', 'true'], {
    encoding: 'utf8',
    timeout: 5000,
  });
  if (status === 0) return { feature, state: 'ok', detail: 'can be made' };
  const max = read('/proc/sys/user/max_user_namespaces').trim();
  const apparmor = read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns').trim();
  return {
    feature,
    state: 'limited',
    detail: `cannot be made (${error?.message ?? stderr.trim()}); sessions do not need them`,
    remedy:
      apparmor === '1'
        ? 'as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0'
        : `as root: sysctl user.max_user_namespaces=10000 (${max === '' ? 'not known' : max} now)`,
  };
}

/** What went wrong and what to do, of a refusal of ours or of the system. */
export function explained(error: unknown): { detail: string; remedy?: string } {
  const detail = error instanceof Error ? error.message : String(error);
  const remedy = error instanceof SessionError ? error.remedy : undefined;
  return { detail, ...(remedy !== undefined && { remedy }) };
}

function errnoName(errno: number): string {
  const found = Object.entries(system.errno).find(([, value]) => value === errno);
  return found?.[0] ?? `errno ${errno}`;
}

export function memory(): Finding {
  const bytes = memoryBytes();
  const available = /^MemAvailable:\s*(\d+)/m.exec(read('/proc/meminfo'))?.[1];
  const now = available === undefined ? '' : `, ${formatBytes(Number(available) * 1024)} available`;
  return {
    feature: 'memory',
    state: 'ok',
    detail: `${formatBytes(bytes)}${now}: a session may hold half of it unless told otherwise`,
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
