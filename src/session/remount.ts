/** Changes the mount options of a session that is mounted: `ro`, `rw`, `noexec` and their like. */
import { spawnSync } from 'node:child_process';
import { SessionError } from '../errors.ts';
import { findProgram } from './checks.ts';
import { mountFlags } from './mount-flags.ts';
import { readRecord } from './record.ts';
import { findSession } from './registry.ts';
import { INDEXED } from './upper.ts';

/**
 * @param words  As mount(8) has them; what is not named stays as it is.
 * @throws SessionError there is no session at the mountpoint, it must stay read-only, or the kernel refuses.
 */
export async function remount(mountpoint: string, words: readonly string[]): Promise<void> {
  const session = await findSession(mountpoint);
  const why = readRecord(session.folder)?.readonlyFor;
  if (why !== undefined && words.includes('rw') && !mountFlags(words).includes('ro')) {
    if (why === 'index') {
      throw new SessionError(
        `${session.mountpoint} stays read-only: ${INDEXED}`,
        'mount its changes with kernel overlayfs to change more',
      );
    }
    throw new SessionError(
      `${session.mountpoint} has no upperdir, so there is nowhere to keep changes`,
      'unmount it, and mount it with upperdir and workdir',
    );
  }
  // -i: by itself, since it is mount(8) that has called us.
  const args = ['-i', '-o', ['remount', ...words].join(','), '--', session.mountpoint];
  const { status, stderr, error } = spawnSync(findProgram('mount') ?? 'mount', args, {
    encoding: 'utf8',
  });
  if (status === 0) return;
  throw new SessionError(`cannot remount: ${error?.message ?? stderr.trim()}`);
}
