/** How large a session may become: the `size` option, and the memory there is. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../errors.ts';

export const DEFAULT_SIZE = '50%';

const UNITS: Record<string, number> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/**
 * Bytes of `50%` (of `totalBytes`), `4096`, `512K`, `1.5G` or `2GiB`; units are powers of 1024.
 *
 * @throws UsageError for anything else, and for what is less than one byte.
 */
export function parseSize(text: string, totalBytes: number): number {
  const remedy = 'say how much as 50%, 512M or 2G';
  const match = /^(\d+(?:\.\d+)?)(?:(%)|([KMGT]?)(?:i?B)?)$/i.exec(text.trim());
  if (match === null) throw new UsageError(`'${text}' is not a size`, remedy);
  const number = Number(match[1]);
  const unit = UNITS[(match[3] ?? '').toUpperCase()] ?? 1;
  const bytes = Math.floor(match[2] === '%' ? (number * totalBytes) / 100 : number * unit);
  if (bytes < 1) throw new UsageError(`a session of size ${text} could hold nothing`, remedy);
  if (bytes > Number.MAX_SAFE_INTEGER) throw new UsageError(`'${text}' is too large`, remedy);
  return bytes;
}

/** Bytes of RAM, or of the memory cgroup that this process is in, whichever is less. */
export function memoryBytes(): number {
  return Math.min(totalmem(), ...cgroupLimits(readOr('/proc/self/cgroup', '')));
}

/** Limits of the memory cgroup and of those above it, version 1 and version 2. */
function cgroupLimits(membership: string): number[] {
  const limits: number[] = [];
  for (const line of membership.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const isV1 = controllers.split(',').includes('memory');
    if (!isV1 && controllers !== '') continue;
    const roots = isV1 ? ['/sys/fs/cgroup/memory'] : ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];
    const file = isV1 ? 'memory.limit_in_bytes' : 'memory.max';
    for (let group = path; ; group = join(group, '..')) {
      for (const root of roots) {
        const limit = Number(readOr(join(root, group, file), 'max'));
        if (Number.isFinite(limit) && limit > 0) limits.push(limit);
      }
      if (group === '/' || group === '.') break;
    }
  }
  return limits;
}

function readOr(path: string, fallback: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return fallback;
  }
}

/** `3.2 GiB`, for messages. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let number = bytes;
  for (; number >= 1024 && unit < units.length - 1; unit++) number /= 1024;
  return `${unit === 0 ? number : number.toFixed(1)} ${units[unit]}`;
}
