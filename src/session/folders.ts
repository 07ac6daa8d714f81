/** Where sessions are recorded: a folder each, on a tmpfs, named as the session. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError, UsageError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import { readState } from './record.ts';

export const NAME: RegExp = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** Bytes. Room for a number at the end of a name that we choose. */
const NAME_LENGTH = 64;
const CHOSEN_LENGTH = 48;
const ENDING_MS = 2000;
const POLL_MS = 20;
/** Where the keeper mounts the tmpfs of a session's changes. */
export const UPPER_NAME = 'upper';
/** Where a session is mounted that has no other place. */
export const OWN_PLACE = 'root';
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * The folder of this user's sessions; it is there only while there are any.
 *
 * @throws SessionError an ordinary user without a runtime directory of his own.
 */
export function registryFolder(): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return '/run/ostree-ts';
  for (const folder of [process.env['XDG_RUNTIME_DIR'], `/run/user/${uid}`]) {
    if (folder === undefined || !folder.startsWith('/')) continue;
    const stat = statSync(folder, { throwIfNoEntry: false });
    // After su(1) the variable may still name the directory of somebody else.
    if (stat?.isDirectory() === true && stat.uid === uid) return join(folder, 'ostree-ts');
  }
  throw new SessionError(
    `no place for sessions: XDG_RUNTIME_DIR names no directory of yours and there is no /run/user/${uid}`,
    'set XDG_RUNTIME_DIR to a directory that is yours alone (mode 0700), best on a tmpfs',
  );
}

/** @throws UsageError a name that could not be a folder's, or would read badly in a list of mounts. */
export function checkName(name: string): string {
  if (NAME.test(name) && name.length <= NAME_LENGTH) return name;
  throw new UsageError(
    `'${name}' cannot be a session's name`,
    `use up to ${NAME_LENGTH} letters, digits, dots, dashes and underscores, a letter or digit first`,
  );
}

/** The mountpoint's last component, made to fit. */
export function nameFor(mountpoint: ByteString): string {
  const name = basename(mountpoint)
    .replaceAll(/[^A-Za-z0-9._-]/g, '_')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, CHOSEN_LENGTH);
  return name === '' ? 'session' : name;
}

/**
 * Makes the session's folder, which takes the name.
 *
 * @param wanted  The name asked for, or `undefined` to choose one like `chosen`.
 * @throws SessionError the name is taken.
 */
export async function reserve(
  wanted: string | undefined,
  chosen: string,
): Promise<{ name: string; folder: string }> {
  const registry = registryFolder();
  const patience = Date.now() + ENDING_MS;
  let number = 1;
  for (let vanished = 0; ;) {
    const name = wanted ?? (number === 1 ? chosen : `${chosen}-${number}`);
    const folder = join(registry, name);
    try {
      makeRegistry(registry);
      mkdirSync(folder, { mode: 0o700 });
      return { name, folder };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The last session of all took the registry with it just now.
      if (code === 'ENOENT' && vanished++ < 1000) continue;
      if (code !== 'EEXIST') {
        throw new SessionError(`cannot make ${folder}: ${code}`, undefined, { cause: error });
      }
    }
    if (wanted === undefined) {
      number++;
      continue;
    }
    // Ended a moment ago by a command that ran from its tree: it goes when that command has gone. While a folder is
    // being removed, its state may be the first thing to go.
    const phase = readState(folder)?.phase;
    if ((phase !== undefined && phase !== 'detached') || Date.now() >= patience) {
      throw new SessionError(
        `there is already a session named ${name}`,
        `choose another name, or end it with: ostree-ts lock ${name}`,
      );
    }
    await sleep(POLL_MS);
  }
}

/** Whether the session's changes are still there: on a tmpfs that is mounted, or of an ordinary user in its folder. */
export function hasChanges(folder: string): boolean {
  return process.getuid?.() === 0 ? hasTmpfs(folder) : existsSync(join(folder, UPPER_NAME));
}

function hasTmpfs(folder: string): boolean {
  const upper = statSync(join(folder, UPPER_NAME), { throwIfNoEntry: false });
  return upper !== undefined && upper.dev !== statSync(folder).dev;
}

/** Only root's sessions are in a place that others can look into, and they see no names there. */
function makeRegistry(registry: string): void {
  try {
    mkdirSync(registry, { mode: 0o700 });
    chmodSync(registry, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Which folder is at a path: another one of the same name has another number. `undefined`: none. */
export function identityOf(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

/** Removes a session's folder with the tmpfs that may be mounted in it, and the registry when it was the last one. */
export function release(folder: string): void {
  if (hasTmpfs(folder)) {
    const mount = Buffer.from(join(folder, UPPER_NAME)).toString('latin1');
    native.umount2(mount, MNT_DETACH | UMOUNT_NOFOLLOW);
  }
  removeTree(folder);
  removeRegistry(join(folder, '..'));
}

/** Removes the registry, unless a session is in it, or it is a mountpoint. */
export function removeRegistry(registry: string): void {
  try {
    rmdirSync(registry);
  } catch {
    // It is in use.
  }
}

/** Removes a folder with all that is in it, also directories that are read-only to their owner. */
export function removeTree(path: string | Buffer): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
    makeRemovable(path);
    rmSync(path, { recursive: true, force: true });
  }
}

function makeRemovable(path: string | Buffer): void {
  chmodSync(path, 0o700);
  for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory()) {
      makeRemovable(Buffer.concat([Buffer.from(path), Buffer.from('/'), entry.name]));
    }
  }
}
