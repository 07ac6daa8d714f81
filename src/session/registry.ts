/** Which sessions exist. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import { absolute } from './checks.ts';
import { NAME, registryFolder, removeRegistry } from './folders.ts';
import { readRecord } from './record.ts';
import { Session } from './session.ts';

/** Every session of this user, sorted by name; dead ones and stale records too. */
export async function listSessions(): Promise<Session[]> {
  const registry = registryFolder();
  let names: string[];
  try {
    names = readdirSync(registry);
  } catch {
    return [];
  }
  // Whoever makes a session, and is killed before it has a name, leaves it empty.
  if (names.length === 0) removeRegistry(registry);
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
  const found =
    sessions.find((session) => session.name === nameOrMountpoint) ?? at(sessions, nameOrMountpoint);
  if (found !== undefined) return found;
  throw new SessionError(
    `there is no session '${nameOrMountpoint}'`,
    sessions.length === 0 ? 'there is none at all: see ostree-ts unlock' : `there are: ${list}`,
  );
}

/** Not resolved through symlinks: that would ask the mount, which may be dead. */
function at(sessions: Session[], mountpoint: string): Session | undefined {
  const path = absolute(mountpoint);
  return sessions.findLast((session) => session.mountpoint === path);
}
