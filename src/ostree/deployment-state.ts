/**
 * What OSTree has on record of a deployment that was unlocked: for this boot a marker in /run, for ever a key of its origin.
 * Neither says what is mounted.
 */
import { existsSync, mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isHotfix } from './origin.ts';
import type { Deployment } from './sysroot.ts';

/** What tells a deployment from all others of its stateroot. */
export type DeploymentId = Pick<Deployment, 'checksum' | 'serial'>;

export type UnlockedState = 'development' | 'transient' | 'hotfix';
/** Those that end with the boot. */
export type VolatileState = Exclude<UnlockedState, 'hotfix'>;

const FOLDER = '/run/ostree/deployment-state';
const VOLATILE: readonly VolatileState[] = ['development', 'transient'];

/** Of the booted deployment: `admin status` of ostree shows what is in it. */
export function stateFolder({ checksum, serial }: DeploymentId): string {
  return join(FOLDER, `${checksum}.${serial}`);
}

/** What ostree says: the marker counts more than the origin. `undefined`: it is not unlocked. */
export function recordedState(deployment: Deployment): UnlockedState | undefined {
  return markerOf(deployment) ?? (isHotfix(deployment.origin) ? 'hotfix' : undefined);
}

/** Markers are of the running system, whatever sysroot was named. */
export function markerOf(deployment: Deployment): VolatileState | undefined {
  if (!deployment.isBooted) return undefined;
  return VOLATILE.find((state) => existsSync(join(stateFolder(deployment), marker(state))));
}

export function writeMarker(deployment: DeploymentId, state: VolatileState): void {
  const folder = stateFolder(deployment);
  // One by one: of several at once, mkdir(2)'s own reason does not come through.
  for (const path of [dirname(FOLDER), FOLDER, folder]) {
    if (!existsSync(path)) mkdirSync(path, { mode: 0o755 });
  }
  writeFileSync(join(folder, marker(state)), '', { mode: 0o644 });
}

/** Takes the marker away, and the folders that would be left empty. Nothing when there is none. */
export function removeMarkers(deployment: DeploymentId): void {
  const folder = stateFolder(deployment);
  for (const state of VOLATILE) rmSync(join(folder, marker(state)), { force: true });
  for (const path of [folder, FOLDER, dirname(FOLDER)]) {
    try {
      rmdirSync(path);
    } catch {
      // Never made, or something else is in it.
      return;
    }
  }
}

function marker(state: VolatileState): string {
  return `unlocked-${state}`;
}
