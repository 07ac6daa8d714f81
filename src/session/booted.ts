/**
 * Unlocks the booted deployment of an OSTree host, as `ostree admin unlock` does: what is different from a session over any
 * other directory. Refusals come first; what has been done when a later step fails is undone.
 */
import { readlinkSync } from 'node:fs';
import { SessionError, UsageError } from '../errors.ts';
import { hasHotfix, DeploymentFolder, hasHotfixFiles, HOTFIX_NAMES } from './deployment-folder.ts';
import { recordedState, removeMarkers, writeMarker } from '../ostree/deployment-state.ts';
import type { UnlockedState } from '../ostree/deployment-state.ts';
import { type Deployment, isSysroot, Sysroot } from '../ostree/sysroot.ts';
import { bytes, type HostPath, shown } from './checks.ts';
import type { UnlockOptions } from './options.ts';
import { isOf, mountsOr, readMounts } from './mountinfo.ts';
import { type DeploymentRecord, readState, type SessionRecord } from './record.ts';
import { checkOstree, ensureRollback } from './rollback.ts';
import { bootedSessions, USR, usrState } from './usr-state.ts';

/** Where the host's own sysroot is. */
export const HOST_SYSROOT = '/';

/** As text, which is what OSTree takes. */
export function sysrootOf(path: HostPath | undefined): string {
  return path === undefined ? HOST_SYSROOT : shown(bytes(path));
}

/** The deployment that runs. @throws SessionError in ostree's words: there is none, or it is not of this sysroot. */
export function findBooted(
  path: string,
  remedy: string = 'name a directory instead: ostree-ts unlock SOURCE [MOUNTPOINT]',
): { sysroot: Sysroot; deployment: Deployment } {
  let deployment: Deployment | undefined;
  try {
    const sysroot = new Sysroot(path);
    deployment = sysroot.booted();
    if (deployment !== undefined) return { sysroot, deployment };
  } catch (error) {
    // A machine that is no OSTree host has no sysroot either.
    if (path !== HOST_SYSROOT) throw error;
  }
  throw new SessionError('Not currently booted into an OSTree system', remedy);
}

/** @throws SessionError another user than root. */
export function checkRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new SessionError(
    'You must be root to perform this command',
    'the booted deployment is everybody’s: use sudo, or unlock a directory of your own',
  );
}

export class BootedUnlock implements Disposable {
  readonly record: DeploymentRecord;
  readonly #sysroot: Sysroot;
  readonly #deployment: Deployment;
  readonly #isNew: boolean;
  readonly #undos: (() => void)[] = [];
  #folder: DeploymentFolder | undefined;

  private constructor(
    sysroot: Sysroot,
    deployment: Deployment,
    state: UnlockedState,
    isNew: boolean,
  ) {
    this.#sysroot = sysroot;
    this.#deployment = deployment;
    this.#isNew = isNew;
    const { path, checksum, serial } = deployment;
    this.record = { sysroot: sysroot.path, path, checksum, serial, state };
  }

  /**
   * Looks whether the booted deployment can be unlocked; changes nothing.
   *
   * @param left  The record of the session to be brought back, if any.
   * @throws UsageError, SessionError what forbids it.
   */
  static async find(
    options: UnlockOptions,
    left: SessionRecord | undefined,
  ): Promise<BootedUnlock> {
    checkOptions(options);
    checkRoot();
    const path = left?.deployment?.sysroot ?? sysrootOf(options.sysroot);
    if (options.name !== undefined && options.sysroot === undefined && !isSysroot(path)) {
      throw new SessionError(
        `there is no session ${options.name} to be brought back, and this is no OSTree host`,
        'name a directory: ostree-ts unlock SOURCE [MOUNTPOINT]',
      );
    }
    const { sysroot, deployment } = findBooted(path);
    if (left?.deployment !== undefined) {
      return new BootedUnlock(sysroot, deployment, left.deployment.state, false);
    }
    const state =
      options.hotfix === true ? 'hotfix' : options.transient === true ? 'transient' : 'development';
    const sessions = await bootedSessions();
    const before = usrState(readMounts(), sessions)?.state ?? recordedState(deployment);
    if (before !== undefined) {
      throw new SessionError(
        `Deployment is already in unlocked state: ${before}`,
        `see how it is: ostree-ts status; end it: ostree-ts lock${before === 'hotfix' ? ' --hotfix' : ''}`,
      );
    }
    if (state === 'hotfix') {
      checkOstree();
      if (hasHotfixFiles(deployment.path)) {
        throw new SessionError(
          `changes of an earlier hotfix are left in ${deployment.path}`,
          'remove them: ostree-ts lock --hotfix',
        );
      }
    }
    return new BootedUnlock(sysroot, deployment, state, true);
  }

  get #isHotfix(): boolean {
    return this.record.state === 'hotfix';
  }

  /** The directory that the upper of a hotfix is in, as it is recorded. */
  get upper(): string | undefined {
    return this.#isHotfix ? this.record.path : undefined;
  }

  /** The same, writable. Only while this object lives. */
  get upperPath(): string | undefined {
    return this.#folder?.root;
  }

  /**
   * Makes what must be there before the mount: for a hotfix a rollback deployment, and a place for the changes.
   *
   * @param folder  The session's.
   * @throws SessionError, after which `undo` is to be called.
   */
  prepare(folder: string): void {
    if (!this.#isHotfix) return;
    const deployments = new DeploymentFolder(this.record);
    this.#folder = deployments;
    if (!this.#isNew) return;
    const rollback = ensureRollback(
      this.record.sysroot,
      this.#deployment,
      folder,
      deployments.origin(),
    );
    this.#undos.push(() => rollback.undo());
    deployments.makeUpper(USR);
    this.#undos.push(() => deployments.removeUpper());
  }

  /**
   * Puts on record what is mounted now, where ostree looks for it.
   *
   * @returns what deserves a word.
   * @throws SessionError the mount is not the host's, or cannot be put on record; to be undone, the mount first.
   */
  finish(folder: string, name: string): string[] {
    checkVisible(folder, name);
    if (!this.#isNew) return [];
    if (this.#isHotfix) {
      this.#folder?.setHotfix(true);
      this.#undos.push(() => this.#folder?.setHotfix(false));
      this.#folder?.touch();
      return [];
    }
    try {
      writeMarker(this.record, this.record.state === 'transient' ? 'transient' : 'development');
    } catch (error) {
      removeMarkers(this.record);
      throw new SessionError(
        `ostree cannot be told that /usr is unlocked: ${(error as Error).message}`,
        'see what /run/ostree is',
        { cause: error },
      );
    }
    return [...noteOfTouch(this.#sysroot), ...noteOfHotfix(this.#deployment)];
  }

  /** Undoes what was done, the last first. @returns what could not be undone, one line each. */
  undo(): string[] {
    return this.#undos
      .splice(0)
      .toReversed()
      .flatMap((undo) => {
        try {
          undo();
          return [];
        } catch (error) {
          return [(error as Error).message];
        }
      });
  }

  [Symbol.dispose](): void {
    this.#folder?.[Symbol.dispose]();
  }
}

/** @throws UsageError options that make no sense together. */
export function checkOptions(options: UnlockOptions): void {
  const { hotfix, transient, upper, foreground, links } = options;
  if (hotfix === true && transient === true) {
    throw new UsageError(
      'Cannot specify both --hotfix and --transient',
      'a hotfix survives reboots, a transient session is writable for one process only: choose one',
    );
  }
  if (hotfix === true && (upper !== undefined || foreground === true)) {
    throw new UsageError(
      'the changes of a hotfix are kept in the deployment, and outlive the command',
      'leave --upper and --foreground out',
    );
  }
  if (upper !== undefined && upper !== 'memory' && upper !== 'tmpfs') {
    throw new UsageError(
      'changes of the booted deployment are kept in memory, on a tmpfs, or as a hotfix',
      'for changes that survive a reboot: --hotfix',
    );
  }
  if (links === 'shared') {
    throw new UsageError(
      'the hard links of a deployment only save space',
      'leave --links out: every path is a file of its own',
    );
  }
}

/** Options that are for the booted deployment only. @throws UsageError a source was named with them. */
export function refuseForDirectories({ hotfix, transient, sysroot }: UnlockOptions): void {
  if (hotfix !== true && transient !== true && sysroot === undefined) return;
  throw new UsageError(
    '--hotfix, --transient and --sysroot are for the booted deployment',
    'leave SOURCE out',
  );
}

/**
 * A mount in a namespace that nothing reaches the host from would be a success that nobody sees.
 *
 * @throws SessionError.
 */
function checkVisible(folder: string, name: string): void {
  if (readlinkSync('/proc/self/ns/mnt') === readlinkSync('/proc/1/ns/mnt')) return;
  const device = readState(folder)?.device ?? '';
  if (mountsOr(1, []).some((mount) => isOf(mount, name, device, undefined))) return;
  throw new SessionError(
    'the host would not see it: this process is in a mount namespace from which no mount reaches the host',
    'do it in that of the host: nsenter --target=1 --mount ostree-ts unlock',
  );
}

/** What is watched is told. @returns a note when it cannot be. */
export function noteOfTouch(sysroot: Sysroot): string[] {
  const why = sysroot.touch();
  if (why === undefined) return [];
  const reason = why === 'EROFS' ? 'the sysroot is read-only' : why;
  return [
    `programs that watch ostree/deploy are not told (${reason}); 'ostree admin status' is right`,
  ];
}

function noteOfHotfix({ path }: Deployment): string[] {
  if (!hasHotfix(path)) return [];
  return [
    `at the next boot ${HOTFIX_NAMES.upper} in the deployment is mounted over /usr; see ostree-ts status`,
  ];
}
