/** Locks on directories: one session at a time has one for its changes, and one `unlock` at a time mounts over another. */
import { closeSync, constants, openSync } from 'node:fs';
import { constants as system } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import { hostPath, shown } from './checks.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** A session whose mount has just gone, unmounted by others, holds its directory for a moment. */
const UPPER_MS = 2000;
/** Another `unlock` is at work there, and is done soon. */
const MOUNTPOINT_MS = 10_000;
const POLL_MS = 5;

/** The lock on a directory, which lasts while its descriptor is open, here or with the keeper and daemon that were given it. */
export class DirectoryLock implements Disposable {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** @throws SessionError another session has it, or it cannot be opened. */
  static async ofUpper(path: ByteString): Promise<DirectoryLock> {
    const lock = new DirectoryLock(open(path));
    // What else may be wrong with locks there, the keeper says.
    if (await lock.#isFree(UPPER_MS)) return lock;
    lock[Symbol.dispose]();
    throw new SessionError(
      `the directory for changes ${shown(path)} is in use by another session`,
      'see which: ostree-ts status; or name another directory',
    );
  }

  /**
   * Whoever has it looks at what is mounted there again, for another may have had it until now. One that cannot be locked is
   * not.
   *
   * @throws SessionError another `unlock` has it, and does not get on.
   */
  static async ofMountpoint(path: ByteString): Promise<DirectoryLock | undefined> {
    let lock: DirectoryLock;
    try {
      lock = new DirectoryLock(openSync(hostPath(path), FLAGS));
    } catch {
      return undefined;
    }
    if (await lock.#isFree(MOUNTPOINT_MS)) return lock;
    lock[Symbol.dispose]();
    throw new SessionError(
      `another command is starting a session over ${shown(path)}`,
      'see what came of it: ostree-ts status',
    );
  }

  async #isFree(waitMs: number): Promise<boolean> {
    for (const end = Date.now() + waitMs; Date.now() < end; await sleep(POLL_MS)) {
      if (native.flock(this.fd) !== -system.errno.EAGAIN) return true;
    }
    return false;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
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
