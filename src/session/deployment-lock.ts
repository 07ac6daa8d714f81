/**
 * Locks the booted deployment again, by whatever it was unlocked and whatever has become of that: a session of ours, an
 * overlay of the kernel that ostree or the boot code has mounted, or mere records of one that has gone.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { SessionError } from '../errors.ts';
import { native } from '../native.ts';
import { markerOf, recordedState, removeMarkers } from '../ostree/deployment-state.ts';
import { isHotfix } from '../ostree/origin.ts';
import { Sysroot } from '../ostree/sysroot.ts';
import { checkRoot, findBooted, noteOfTouch, sysrootOf } from './booted.ts';
import { bytes, type HostPath } from './checks.ts';
import { DeploymentFolder, hasHotfixFiles } from './deployment-folder.ts';
import { BusyError, type LockResult } from './lock.ts';
import { findHolders, type Holder, NAMESPACE } from './holders.ts';
import { readMounts } from './mountinfo.ts';
import { selfAndAncestors } from './processes.ts';
import type { DeploymentRecord } from './record.ts';
import { bootedSessions, sessionAt, USR, type UsrState, usrState } from './usr-state.ts';

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const ST_RDONLY = 1;
/** Of the results of fstatfs. */
const FLAGS_FIELD = 8;

export interface BootedLockOptions {
  /** Give the base back at once, whoever still holds files. */
  lazy?: boolean;
  /** A hotfix may be ended: its changes are removed, and survive no reboot any more. */
  hotfix?: boolean;
  sysroot?: HostPath;
}

/** @throws SessionError a hotfix is not ended by accident. */
export function refuseHotfix(name: string): never {
  throw new SessionError(
    `${name} is a hotfix, which is made to survive`,
    'throw it away all the same: ostree-ts lock --hotfix',
  );
}

/**
 * Ends whatever has unlocked the booted deployment, and sets the records right.
 *
 * @throws BusyError processes hold /usr, and `lazy` is not set.
 * @throws SessionError it is not unlocked, it is a hotfix and `hotfix` is not set, or a step fails; later ones then wait for
 *   the next call.
 */
export async function lockBooted(options: BootedLockOptions = {}): Promise<LockResult> {
  checkRoot();
  const { sysroot, deployment } = findBooted(
    sysrootOf(options.sysroot),
    'there is nothing of it to lock: see ostree-ts status',
  );
  const mayEndHotfix = options.hotfix === true;
  const sessions = await bootedSessions();
  const usr = usrState(readMounts(), sessions);
  // One that is no longer mounted may still be there, for who holds files of it.
  const seen = usr === undefined ? undefined : sessionAt(usr.mount, sessions);
  const ours = seen ?? (usr === undefined ? sessions[0] : undefined);
  if (ours !== undefined) {
    return ours.session.lock({ lazy: options.lazy ?? false, hotfix: mayEndHotfix });
  }
  const recorded = recordedState(deployment);
  const hasFiles = hasHotfixFiles(deployment.path);
  const isToEndHotfix = isHotfix(deployment.origin) || hasFiles;
  const isVolatile =
    markerOf(deployment) !== undefined || (usr !== undefined && usr.state !== 'hotfix');
  if (usr === undefined && recorded === undefined && !hasFiles) {
    throw new SessionError('the booted deployment is not unlocked', 'see ostree-ts status');
  }
  if (isToEndHotfix && !mayEndHotfix && !isVolatile) refuseHotfix(USR);
  const found = describe(usr, recorded, hasFiles);
  const holders = usr === undefined ? [] : detach(usr, options.lazy ?? false);
  const { path, checksum, serial } = deployment;
  const record: DeploymentRecord = {
    sysroot: sysroot.path,
    path,
    checksum,
    serial,
    state: isToEndHotfix && mayEndHotfix ? 'hotfix' : 'development',
  };
  found.push(...settle(record, holders.length > 0));
  const draining = holders.length > 0;
  return {
    name: 'usr',
    mountpoint: USR,
    changes: null,
    moreChanges: false,
    used: null,
    draining,
    holders,
    found,
    kept: null,
  };
}

/** What was met, one line each. */
function describe(
  usr: UsrState | undefined,
  recorded: string | undefined,
  hasFiles: boolean,
): string[] {
  if (usr !== undefined) {
    const what =
      usr.by === 'ostree' ? 'an overlay of the kernel, not of ostree-ts,' : 'a dead session';
    return [`${what} was mounted over ${USR} (${usr.state})`];
  }
  const found: string[] = [];
  if (recorded !== undefined)
    found.push(`ostree had it as unlocked (${recorded}), but nothing was mounted over ${USR}`);
  if (hasFiles && recorded !== 'hotfix')
    found.push('changes of a hotfix were in the deployment, which its origin does not say');
  return found;
}

/** Takes the mount away. @returns who still holds it. @throws BusyError, SessionError. */
function detach({ mount, by }: UsrState, lazy: boolean): Holder[] {
  const family = selfAndAncestors();
  const holders = findHolders(mount.device, 'self').filter(
    ({ pid, by: what }) => !family.has(pid) && what.some((one) => one !== NAMESPACE),
  );
  if (holders.length > 0 && !lazy) throw new BusyError(USR, holders);
  const result = native.umount2(bytes(USR), MNT_DETACH | UMOUNT_NOFOLLOW);
  if (result < 0) throw new SessionError(`cannot unmount ${USR}: errno ${-result}`);
  if (by === 'ostree') protectBase();
  return holders;
}

/** Beneath a hotfix that was mounted at boot there is the deployment itself, which is writable where / is. */
function protectBase(): void {
  const base = openSync(USR, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const statfs = new Float64Array(FLAGS_FIELD + 1);
    native.fstatfs(base, statfs);
    if (((statfs[FLAGS_FIELD] ?? 0) & ST_RDONLY) !== 0) return;
    const result = native.bindReadonlyOver(base, bytes(USR));
    if (result < 0) throw new SessionError(`${USR} cannot be made read-only: errno ${-result}`);
  } finally {
    closeSync(base);
  }
}

/**
 * `settle`, after a session has ended; not when another one unlocks the deployment meanwhile: the records are of that.
 *
 * @returns what deserves a word, one line each.
 */
export async function settleAfter(record: DeploymentRecord, isHeld: boolean): Promise<string[]> {
  const isUnlocked = usrState(readMounts(), await bootedSessions()) !== undefined;
  return isUnlocked ? [] : settle(record, isHeld);
}

/**
 * Sets the records right when nothing is unlocked any more: takes the marker away, and of a hotfix the changes and the key
 * in the origin.
 *
 * @param isHeld  Something still uses the changes: they are put aside, where no boot finds them.
 * @returns what deserves a word, one line each.
 */
function settle(record: DeploymentRecord, isHeld: boolean): string[] {
  removeMarkers(record);
  if (record.state !== 'hotfix') return noteOfTouch(new Sysroot(record.sysroot));
  using folder = new DeploymentFolder(record);
  // First what decides about the next boot.
  folder.setHotfix(false);
  if (isHeld) folder.putUpperAside();
  else folder.removeUpper();
  folder.touch();
  return isHeld
    ? ['the changes are still in use: they go with the deployment, or with its next hotfix']
    : [];
}
