/** Which sessions exist: a folder each, on a tmpfs, named as the session. */
import { chmodSync, mkdirSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { SessionError, UsageError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { Session } from './session.ts';
import { readRecord } from './record.ts';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** Bytes. Room for a number at the end of a name that we choose. */
const NAME_LENGTH = 64;
const CHOSEN_LENGTH = 48;

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
export function reserve(
  wanted: string | undefined,
  chosen: string,
): { name: string; folder: string } {
  const registry = registryFolder();
  for (let number = 1; ; number++) {
    const name = wanted ?? (number === 1 ? chosen : `${chosen}-${number}`);
    const folder = join(registry, name);
    try {
      makeRegistry(registry);
      mkdirSync(folder, { mode: 0o700 });
      return { name, folder };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The last session of all took the registry with it just now.
      if (code === 'ENOENT' && number < 1000) continue;
      if (code !== 'EEXIST') {
        throw new SessionError(`cannot make ${folder}: ${code}`, undefined, { cause: error });
      }
      if (wanted !== undefined) {
        throw new SessionError(
          `there is already a session named ${name}`,
          `choose another name, or end it with: ostree-ts lock ${name}`,
        );
      }
    }
  }
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

/** Removes a session's folder, and the registry when it was the last one. */
export function release(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  try {
    rmdirSync(join(folder, '..'));
  } catch {
    // Others are in it.
  }
}

/** Every session of this user, sorted by name; dead ones and stale records too. */
export async function listSessions(): Promise<Session[]> {
  const registry = registryFolder();
  let names: string[];
  try {
    names = readdirSync(registry);
  } catch {
    return [];
  }
  return names
    .filter((name) => NAME.test(name))
    .sort()
    .map((name) => open(join(registry, name), name));
}

function open(folder: string, name: string): Session {
  return new Session(folder, name, readRecord(folder));
}

/**
 * The session of this name or at this mountpoint; the only one, when neither is given.
 *
 * @throws SessionError there is no such session; there is none at all; there are several and none is named.
 */
export async function findSession(nameOrMountpoint?: string): Promise<Session> {
  const sessions = await listSessions();
  const list = sessions.map((session) => session.name).join(', ');
  if (nameOrMountpoint === undefined) {
    const [only, another] = sessions;
    if (only === undefined) {
      throw new SessionError('there is no session', 'start one with: ostree-ts unlock');
    }
    if (another !== undefined) {
      throw new SessionError(
        `there are ${sessions.length} sessions, and none is named`,
        `name one: ${list}`,
      );
    }
    return only;
  }
  // Not resolved through symlinks: that would ask the mount, which may be dead.
  const path = resolve(nameOrMountpoint);
  const found =
    sessions.find((session) => session.name === nameOrMountpoint) ??
    sessions.findLast((session) => session.mountpoint === path);
  if (found !== undefined) return found;
  throw new SessionError(
    `there is no session '${nameOrMountpoint}'`,
    sessions.length === 0 ? 'there is none at all: see ostree-ts unlock' : `there are: ${list}`,
  );
}
