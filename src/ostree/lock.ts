/** The lock of a repository, which the ostree tool takes as well: `.lock`, shared by writers, alone by those that prune. */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError } from '../errors.ts';
import type { Native } from '../native.ts';
import { booleanOf, type KeyFile } from './keyfile.ts';
import { errnoName } from './failures.ts';

const { errno } = constants;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_NOFOLLOW = 0o400000;

const F_RDLCK = 0;
const F_WRLCK = 1;

/** Between two tries. */
const POLL_MS = 100;
/** As long as the tool waits, when `lock-timeout-secs` does not say. */
const TIMEOUT_SECONDS = 30;

export interface WaitOptions {
  /** Told once, in words, when another process has to be waited for. */
  onWait?: (message: string) => void;
  signal?: AbortSignal;
}

/**
 * Waits for the shared lock.
 *
 * @returns the descriptor that holds it until it is closed; -1 in a repository that wants none.
 * @throws SessionError when it cannot be had in the time that the repository grants, or the repository cannot be written.
 */
export async function lockShared(
  native: Native,
  fd: number,
  label: string,
  config: KeyFile,
  options: WaitOptions,
): Promise<number> {
  const core = config.get('core');
  if (!booleanOf(core?.get('locking') ?? 'true')) return -1;
  const seconds = Number(core?.get('lock-timeout-secs') ?? TIMEOUT_SECONDS);
  const deadline = seconds < 0 ? Infinity : Date.now() + 1000 * seconds;
  const file = native.openBeneath(fd, '.lock', O_RDWR | O_CREAT | O_NOFOLLOW, 0o660);
  if (file < 0) throw unwritable(label, file);
  for (let isTold = false; ; isTold = true) {
    const result = native.ofdLock(file, F_RDLCK);
    if (result >= 0) return file;
    const isBusy = result === -errno.EAGAIN;
    if (!isBusy || Date.now() >= deadline || options.signal?.aborted === true) {
      native.close(file);
      options.signal?.throwIfAborted();
      throw isBusy
        ? new SessionError(
            `another process has had ${label} locked for ${seconds} s`,
            'try again when it has finished (a prune, perhaps)',
          )
        : new SessionError(
            `cannot lock ${label}: ${errnoName(result)}`,
            'see whether its file system has locks (as NFS may not): core.locking=false in its config',
          );
    }
    if (!isTold) options.onWait?.(`another process has locked ${label}; waiting for it`);
    await sleep(POLL_MS);
  }
}

/** Locks a file against everybody else, without waiting. @returns its descriptor, or -errno. */
export function lockAlone(native: Native, dirfd: number, name: string): number {
  const file = native.openBeneath(dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  if (file < 0) return file;
  const result = native.ofdLock(file, F_WRLCK);
  if (result >= 0) return file;
  native.close(file);
  return result;
}

/** Why nothing can be written, as something to be told. */
export function unwritable(label: string, result: number): SessionError {
  if (result === -errno.EROFS) {
    return new SessionError(
      `${label} is on a read-only file system`,
      'remount it: mount -o remount,rw; or write to another one: --repo=REPO',
    );
  }
  if (result === -errno.EACCES || result === -errno.EPERM) {
    return new SessionError(`${label} may not be written by this user`, 'run this as its owner');
  }
  if (result === -errno.ENOSPC || result === -errno.EDQUOT) return full(label);
  return new SessionError(
    `cannot write to ${label}: ${errnoName(result)}`,
    'look at the kernel log and at the disk, and try again',
  );
}

export function full(label: string): SessionError {
  return new SessionError(
    `there is no space left for ${label}: nothing was committed`,
    'make room there, or `ostree prune` what is no longer wanted',
  );
}
