/** What forbids a session that the package fuse-native serves. */
import { SessionError } from '../errors.ts';
import { fuseNativePath, loadFuseNative } from '../fuse/libfuse-mount.ts';
import { packagePath } from '../built.ts';
import { bytes, hostPath, type Places, shown } from './checks.ts';
import { type Mount, topmostAt } from './mountinfo.ts';

/**
 * The daemon of such a session stays in this mount namespace, and sees its own mount.
 *
 * @throws SessionError the package is not there or does not fit, or the mountpoint is none for it.
 */
export function checkFuseNative(
  { mountpoint }: Places,
  mounts: Mount[],
  isSecluded: boolean,
): void {
  if (isSecluded) {
    throw new SessionError(
      'fuse-native cannot serve a session that only its command sees: its daemon mounts where it is',
      'leave --transport out',
    );
  }
  loadFuseNative();
  const name = shown(mountpoint);
  const otherwise = 'name another MOUNTPOINT, or leave --transport out';
  if (hostPath(mountpoint).compare(Buffer.from(name, 'utf8')) !== 0) {
    throw new SessionError(`fuse-native cannot mount at ${name}, which is not UTF-8`, otherwise);
  }
  if (topmostAt(mounts, mountpoint) !== undefined) {
    throw new SessionError(
      `fuse-native cannot mount at ${name}, which is a mountpoint already`,
      otherwise,
    );
  }
  const covered = [process.execPath, packagePath(), fuseNativePath()].find((path) =>
    bytes(path).startsWith(`${mountpoint}/`),
  );
  if (covered === undefined) return;
  throw new SessionError(
    `with fuse-native, a session over ${name} would cover what serves it: ${covered}`,
    otherwise,
  );
}
