/**
 * The deployment that a hotfix can be rolled back to: the same commit without the hotfix. Only the real `ostree` makes and
 * unmakes deployments, since boot loaders, kernels and /etc are its business.
 */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import { isHotfix, withoutHotfix } from '../ostree/origin.ts';
import { type Deployment, Sysroot } from '../ostree/sysroot.ts';
import { hasHotfixFiles } from './deployment-folder.ts';

/** A deployment may copy a kernel to a slow disk, and wait for another ostree. */
const DEPLOY_MS = 600_000;

export interface Rollback {
  deployment: Deployment;
  /** Unmakes the deployment, if it was made now. @throws SessionError ostree could not. */
  undo(): void;
}

/** @throws SessionError there is no `ostree`. */
export function checkOstree(): void {
  if (spawnSync('ostree', ['--version'], { stdio: 'ignore' }).status === 0) return;
  throw new SessionError(
    "a hotfix needs the program 'ostree', which makes its rollback deployment, and it does not run",
    'install it (package ostree), or leave --hotfix out: changes are then kept in memory',
  );
}

/**
 * Finds a clean deployment of the booted commit, or has one made: not the default, with no other deployment removed.
 *
 * @param folder  Where a file can be put for a moment.
 * @param origin  The text of the booted deployment's origin.
 * @throws SessionError ostree refuses; its words are the message's.
 */
export function ensureRollback(
  sysroot: string,
  booted: Deployment,
  folder: string,
  origin: string,
): Rollback {
  const find = () => new Sysroot(sysroot).deployments().filter((one) => isClean(one, booted));
  const [before] = find();
  if (before !== undefined) return { deployment: before, undo: () => {} };
  const file = join(folder, 'rollback.origin');
  writeFileSync(file, withoutHotfix(origin));
  try {
    const words = ['--not-as-default', '--retain', `--origin-file=${file}`, booted.checksum];
    ostree('make the rollback deployment', 'deploy', sysroot, [
      `--os=${booted.stateroot}`,
      ...words,
    ]);
  } finally {
    rmSync(file, { force: true });
  }
  const [made] = find();
  if (made === undefined) {
    throw new SessionError(
      'ostree made no rollback deployment, though it says so',
      'see what there is: ostree admin status',
    );
  }
  return { deployment: made, undo: () => undeploy(sysroot, made) };
}

function isClean(one: Deployment, { stateroot, checksum }: Deployment): boolean {
  return (
    !one.isBooted &&
    one.order !== undefined &&
    one.stateroot === stateroot &&
    one.checksum === checksum &&
    !isHotfix(one.origin) &&
    !hasHotfixFiles(one.path)
  );
}

function undeploy(sysroot: string, { path }: Deployment): void {
  // Its place, in which ostree counts, may be another by now.
  const found = new Sysroot(sysroot).deployments().find((one) => one.path === path);
  if (found?.order === undefined) return;
  ostree('unmake the rollback deployment', 'undeploy', sysroot, [String(found.order)]);
}

function ostree(what: string, verb: string, sysroot: string, words: string[]): void {
  const place = sysroot === '/' ? [] : [`--sysroot=${sysroot}`];
  const { status, stderr, error } = spawnSync('ostree', ['admin', verb, ...place, ...words], {
    encoding: 'utf8',
    timeout: DEPLOY_MS,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  if (status === 0) return;
  const last = stderr
    ?.trim()
    .split('\n')
    .at(-1)
    ?.replace(/^error: /, '');
  throw new SessionError(
    `ostree cannot ${what}: ${error?.message ?? last ?? `exit ${status}`}`,
    `try it by hand: ostree admin ${verb} ${words.join(' ')}`,
  );
}
