/** Which sessions exist. */
import type { Session } from './session.ts';

/** Every session of this user, sorted by name; dead ones and stale records too. */
export async function listSessions(): Promise<Session[]> {
  throw new Error('not yet');
}

/**
 * The session of this name or at this mountpoint; the only one, when neither is given.
 *
 * @throws SessionError there is no such session; there is none at all; there are several and none is named.
 */
export async function findSession(_nameOrMountpoint?: string): Promise<Session> {
  throw new Error('not yet');
}
