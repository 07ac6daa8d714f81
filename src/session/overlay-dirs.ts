/**
 * An upper that is somebody else's: an upper and a work directory in the format of kernel overlayfs, as a container engine
 * makes, moves and removes them. Nothing is put beside them, and nothing about them is remembered once the mount is gone.
 */
import { statSync } from 'node:fs';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { type HostPath, hostPath, type Places, shown } from './checks.ts';
import { release } from './folders.ts';
import { clear } from './lock.ts';
import { readRecord } from './record.ts';
import { listSessions } from './registry.ts';
import { inspect } from './status.ts';
import { findUpper, isInside, refuseKernelState } from './upper.ts';

export interface OverlayDirs {
  upperdir: HostPath;
  /** Where files are made before they get a name: on the filesystem of `upperdir`. What is in `work` below it is removed. */
  workdir: HostPath;
  /** Nothing is synced: after a crash of the machine the upper may be damaged. */
  isVolatile?: boolean;
}

/** Real paths. */
export interface FoundDirs {
  upperdir: ByteString;
  workdir: ByteString;
}

/** @throws SessionError they cannot be used. */
export function findDirs({ upperdir, workdir }: OverlayDirs, isOthersIds: boolean): FoundDirs {
  const found = {
    upperdir: findUpper(upperdir, isOthersIds),
    workdir: findUpper(workdir, isOthersIds),
  };
  const [upper, work] = [shown(found.upperdir), shown(found.workdir)];
  if (statSync(hostPath(found.upperdir)).dev !== statSync(hostPath(found.workdir)).dev) {
    throw new SessionError(
      `workdir ${work} is not on the filesystem of upperdir ${upper}`,
      'name a directory beside the upperdir',
    );
  }
  if (isInside(found.upperdir, found.workdir) || isInside(found.workdir, found.upperdir)) {
    throw new SessionError(
      `workdir ${work} and upperdir ${upper} are one inside the other`,
      'name a directory beside the upperdir',
    );
  }
  return found;
}

/** @throws SessionError the mount would show or hide what it is made of. */
export function checkDirs({ upperdir, workdir }: FoundDirs, places: Places): void {
  for (const path of [upperdir, workdir]) {
    const around = [...places.sources, places.mountpoint].find(
      (place) => isInside(path, place) || isInside(place, path),
    );
    if (around === undefined) continue;
    throw new SessionError(
      `${shown(path)} and ${shown(around)} are one inside the other`,
      'name directories that have nothing to do with each other',
    );
  }
  refuseKernelState(upperdir, workdir);
}

/** Forgets sessions whose daemon has died and whose place is taken now: nobody else would, since they are an engine's. */
export async function buryDead(mountpoint: ByteString, dirs: FoundDirs | undefined): Promise<void> {
  for (const { folder } of await listSessions()) {
    const record = readRecord(folder);
    if (record?.isForeign !== true) continue;
    if (record.mountpoint !== mountpoint && record.upper !== dirs?.upperdir) continue;
    const seen = await inspect(folder);
    if (seen.health !== 'dead') continue;
    await clear(folder, seen);
    release(folder);
  }
}
