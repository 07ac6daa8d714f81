/** What /usr is, whatever is on record of it: the mount that is seen there says whether and how it is unlocked. */
import type { UnlockedState } from '../ostree/deployment-state.ts';
import { bytes } from './checks.ts';
import { HOTFIX_NAMES } from './deployment-folder.ts';
import { isOf, type Mount, MOUNT_TYPE, topmostAt } from './mountinfo.ts';
import { readRecord, readState, type SessionRecord } from './record.ts';
import { listSessions } from './registry.ts';
import type { Session } from './session.ts';

export const USR = '/usr';

/** A session that unlocks the booted deployment, whether it is well or not. */
export interface BootedSession {
  session: Session;
  record: SessionRecord;
}

export interface UsrState {
  state: UnlockedState;
  by: 'ostree-ts' | 'ostree';
  mount: Mount;
}

/** Sessions over /usr of the host, whether they were started for the booted deployment or for the directory. */
export async function bootedSessions(): Promise<BootedSession[]> {
  return (await listSessions()).flatMap((session) => {
    const record = readRecord(session.folder);
    const isOverUsr =
      record?.deployment !== undefined ||
      (record?.mountpoint === USR && record.seclusion === undefined);
    return record !== undefined && isOverUsr ? [{ session, record }] : [];
  });
}

/** Which session is mounted there, if any. */
export function sessionAt(mount: Mount, sessions: BootedSession[]): BootedSession | undefined {
  return sessions.find(({ session, record }) => {
    const device = readState(session.folder)?.device ?? '';
    return isOf(mount, record.name, device, record.seclusion);
  });
}

/**
 * How /usr is unlocked, as it is mounted in this namespace; `undefined` when it is not.
 *
 * @param sessions  Those that may be what is mounted there.
 */
export function usrState(mounts: Mount[], sessions: BootedSession[]): UsrState | undefined {
  const mount = topmostAt(mounts, bytes(USR));
  if (mount?.type === MOUNT_TYPE) {
    const state =
      sessionAt(mount, sessions)?.record.deployment?.state ??
      (mount.isReadonly ? 'transient' : 'development');
    return { state, by: 'ostree-ts', mount };
  }
  // Without an upper it is how composefs shows a deployment.
  if (mount?.upperdir === undefined) return undefined;
  const isHotfix = mount.upperdir.split('/').at(-1) === HOTFIX_NAMES.upper;
  const state = isHotfix ? 'hotfix' : mount.isReadonly ? 'transient' : 'development';
  return { state, by: 'ostree', mount };
}
