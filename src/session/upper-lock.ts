/** Which session has a directory for changes: only one at a time. */
import { closeSync, constants, openSync } from 'node:fs';
import { constants as system } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import { hostPath, shown } from './checks.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** A session whose mount has just gone, unmounted by others, holds it for a moment. */
const LOCK_MS = 2000;
const POLL_MS = 5;

/** The lock on a directory, which lasts while its descriptor is open, here or with the keeper and daemon that were given it. */
export class UpperLock implements Disposable {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** @throws SessionError another session has it, or it cannot be opened. */
  static async take(path: ByteString): Promise<UpperLock> {
    const lock = new UpperLock(open(path));
    // What else may be wrong with locks there, the keeper says.
    for (const end = Date.now() + LOCK_MS; isTaken(lock.fd); await sleep(POLL_MS)) {
      if (Date.now() < end) continue;
      lock[Symbol.dispose]();
      throw new SessionError(
        `the directory for changes ${shown(path)} is in use by another session`,
        'see which: ostree-ts status; or name another directory',
      );
    }
    return lock;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

function isTaken(fd: number): boolean {
  return native.flock(fd) === -system.errno.EAGAIN;
}

function open(path: ByteString): number {
  try {
    return openSync(hostPath(path), FLAGS);
  } catch (error) {
    throw new SessionError(
      `the directory for changes ${shown(path)} cannot be opened: ${(error as NodeJS.ErrnoException).code}`,
      'name a directory that you may read and write',
      { cause: error },
    );
  }
}
