/** What forbids a session whose files the kernel reads and writes by itself. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { SessionError, UsageError } from '../errors.ts';
import type { UnlockOptions } from './options.ts';

/** The first kernel that lets FUSE filesystems do so. */
const OLDEST = [6, 9] as const;
/** All ids, as they are: what /proc/self/uid_map says outside of user namespaces. */
const ALL_IDS = /^\s*0\s+0\s+4294967295\s*$/;

const OTHERWISE = 'leave --io out';

/**
 * @param upper  as it is recorded.
 * @throws UsageError for options that exclude it. SessionError where the system does not have it.
 */
export function checkIo({ io, repo, transport, presentation }: UnlockOptions, upper: string): void {
  if (io !== 'passthrough') return;
  if (transport === 'fuse-native') {
    throw new UsageError('--io=passthrough is nothing that fuse-native can do', OTHERWISE);
  }
  if (repo !== undefined) {
    throw new UsageError(
      "--io=passthrough is for directories: a commit's files are not as the host has them",
      OTHERWISE,
    );
  }
  if (upper === 'memory') {
    throw new UsageError(
      '--io=passthrough needs files that the kernel can write to, and changes in memory are in none',
      'add --upper=tmpfs, or --upper=DIR',
    );
  }
  if (presentation !== undefined) {
    throw new UsageError('--io=passthrough shows files as they are kept', OTHERWISE);
  }
  if (process.getuid?.() !== 0 || !ALL_IDS.test(readFileSync('/proc/self/uid_map', 'latin1'))) {
    throw new SessionError(
      '--io=passthrough is for root, outside of user namespaces',
      `run as root, or ${OTHERWISE}`,
    );
  }
  checkKernel(release());
}

/** @throws SessionError it is too old. */
export function checkKernel(version: string): void {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new SessionError(
    `--io=passthrough needs Linux ${OLDEST.join('.')} or newer, and this is ${version}`,
    `use a newer kernel, or ${OTHERWISE}`,
  );
}
