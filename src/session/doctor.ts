/** What this kernel, this user and this system allow, feature by feature. */
import { accessSync, constants, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { SessionError } from '../errors.ts';
import { keeperPath } from '../native.ts';
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

/** The oldest kernel whose FUSE speaks protocol 7.31. */
const OLDEST_KERNEL = [5, 4] as const;
/** statfs(2): what discards sessions at reboot. */
const TMPFS_MAGIC = 0x01021994;
const CAP_SYS_ADMIN = 21n;

/** Looks at everything and starts nothing. Never throws. */
export async function doctor(): Promise<Finding[]> {
  const isRoot = process.getuid?.() === 0;
  return [
    kernel(),
    addon(),
    keeper(),
    device(),
    isRoot ? capability() : fusermount(),
    ...(isRoot ? [] : [others()]),
    registry(),
    memory(),
  ];
}

function kernel(): Finding {
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

/** That this is read at all means that the addon loads. */
function addon(): Finding {
  return { feature: 'addon', state: 'ok', detail: `loads in Node ${process.versions.node}` };
}

function keeper(): Finding {
  try {
    const path = keeperPath();
    accessSync(path, constants.X_OK);
    return { feature: 'keeper', state: 'ok', detail: path };
  } catch (error) {
    return { feature: 'keeper', state: 'missing', ...explained(error) };
  }
}

function device(): Finding {
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
function capability(): Finding {
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

function fusermount(): Finding {
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

function others(): Finding {
  return {
    feature: 'other users',
    state: 'limited',
    detail: 'a session of yours is seen by you alone, not even by root',
    remedy: 'run as root for a session that everybody sees',
  };
}

function registry(): Finding {
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

function memory(): Finding {
  const bytes = memoryBytes();
  const available = /^MemAvailable:\s*(\d+)/m.exec(read('/proc/meminfo'))?.[1];
  const now = available === undefined ? '' : `, ${formatBytes(Number(available) * 1024)} available`;
  return {
    feature: 'memory',
    state: 'ok',
    detail: `${formatBytes(bytes)}${now}: a session may hold half of it unless told otherwise`,
  };
}

function explained(error: unknown): { detail: string; remedy?: string } {
  const detail = error instanceof Error ? error.message : String(error);
  const remedy = error instanceof SessionError ? error.remedy : undefined;
  return { detail, ...(remedy !== undefined && { remedy }) };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
