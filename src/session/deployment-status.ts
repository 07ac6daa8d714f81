/** How each deployment of an OSTree host is: what is mounted and what lies in it, held against what is on record. */
import { recordedState, type UnlockedState } from '../ostree/deployment-state.ts';
import { isHotfix, refspecOf } from '../ostree/origin.ts';
import { type Deployment, isSysroot, Sysroot } from '../ostree/sysroot.ts';
import { HOST_SYSROOT, sysrootOf } from './booted.ts';
import type { HostPath } from './checks.ts';
import { hasHotfix, HOTFIX_NAMES } from './deployment-folder.ts';
import { readMounts } from './mountinfo.ts';
import { bootedSessions, USR, type UsrState, usrState } from './usr-state.ts';

export interface DeploymentStatus {
  /** `STATEROOT CSUM.SERIAL`, as ostree says it. */
  deployment: string;
  stateroot: string;
  checksum: string;
  serial: number;
  booted: boolean;
  /** Its place in the boot order, 0 the default; `null` when no boot entry leads to it. */
  order: number | null;
  /** The ref or image it is from; `null` when its origin does not say. */
  origin: string | null;
  /** As it is: how /usr is mounted, and of a deployment that does not run, how it would be. */
  unlocked: UnlockedState | 'none';
  /** As `ostree admin status` has it. */
  recorded: UnlockedState | 'none';
  /** Who has mounted what unlocks it; `null` when nothing is mounted. */
  by: 'ostree-ts' | 'ostree' | null;
  /** Where the three do not agree, one line each. */
  problems: string[];
}

/**
 * The deployments, in the boot order. None where there is no sysroot, or where it is not for this user to see.
 *
 * @param sysroot  Another one than the host's.
 * @throws SessionError a sysroot that was named is none, or it cannot be read.
 */
export async function listDeployments(sysroot?: HostPath): Promise<DeploymentStatus[]> {
  // Most machines are no OSTree hosts.
  if (sysroot === undefined && !isSysroot(HOST_SYSROOT)) return [];
  let all: Deployment[];
  try {
    all = new Sysroot(sysrootOf(sysroot)).deployments();
  } catch (error) {
    if (sysroot === undefined && process.getuid?.() !== 0) return [];
    throw error;
  }
  const usr = usrState(readMounts(), await bootedSessions());
  return all.map((deployment) => statusOf(deployment, deployment.isBooted ? usr : undefined));
}

function statusOf(deployment: Deployment, usr: UsrState | undefined): DeploymentStatus {
  const { stateroot, checksum, serial, isBooted, order, origin, path } = deployment;
  const onDisk = hasHotfix(path) ? 'hotfix' : undefined;
  const unlocked = isBooted ? usr?.state : onDisk;
  const recorded = recordedState(deployment);
  return {
    deployment: `${stateroot} ${checksum}.${serial}`,
    stateroot,
    checksum,
    serial,
    booted: isBooted,
    order: order ?? null,
    origin: refspecOf(origin) ?? null,
    unlocked: unlocked ?? 'none',
    recorded: recorded ?? 'none',
    by: usr?.by ?? null,
    problems: problemsOf(deployment, unlocked, recorded),
  };
}

function problemsOf(
  { isBooted, origin, path }: Deployment,
  unlocked: UnlockedState | undefined,
  recorded: UnlockedState | undefined,
): string[] {
  const problems: string[] = [];
  const flag = recorded === 'hotfix' || isHotfix(origin) ? ' --hotfix' : '';
  if (isBooted && recorded !== unlocked) {
    const is = unlocked === undefined ? `nothing is mounted over ${USR}` : `it is (${unlocked})`;
    const says = recorded === undefined ? 'it is not unlocked' : `it is unlocked (${recorded})`;
    problems.push(`ostree says that ${says}, but ${is}: 'ostree-ts lock${flag}' sets that right`);
  }
  if (isHotfix(origin) && !hasHotfix(path))
    problems.push('its origin says hotfix, but the changes are gone: it boots without them');
  if (!isHotfix(origin) && hasHotfix(path)) {
    const remedy = isBooted ? ": 'ostree-ts lock --hotfix' removes it" : '';
    problems.push(
      `its origin does not say hotfix, but ${HOTFIX_NAMES.upper} is mounted over ${USR} when it boots${remedy}`,
    );
  }
  return problems;
}
