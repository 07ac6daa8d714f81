/** Copy-up into a directory upper: made in the work directory, complete, before it gets a name. */
import { check, FsError } from '../errors.ts';
import { S_IFCHR, S_IFLNK, S_IFREG } from './layer.ts';
import type { Name } from './layer.ts';
import { copyContents } from './overlayfs-data.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import type { HostNode } from './overlayfs-node.ts';
import type { LowerRef } from './upper.ts';

const EOPNOTSUPP = 'EOPNOTSUPP';
/** Of a file: what it may do as a program. */
const CAPABILITY = 'security.capability';

/**
 * Makes a planned node real: an object in the work directory with its attributes, contents and extended attributes.
 *
 * @param how  `isDurable`: its data must be on disk before a name may lead to it. `path`: the data of a file stays where it is,
 *   there from the root of the lowers.
 * @returns bytes of data copied.
 * @throws FsError EPERM for a 0:0 device, which would be a whiteout; whatever the host says. Nothing is left then.
 */
export function realise(
  host: Host,
  marks: Marks,
  node: HostNode,
  { isDurable, path }: { isDurable: boolean; path: Name | undefined },
): number {
  const attr = node.planned;
  const [source] = node.source;
  if (attr === undefined) return 0;
  if (source === undefined) throw new FsError('ENOENT');
  if (node.type === S_IFCHR && attr.rdevMajor === 0 && attr.rdevMinor === 0) {
    throw new FsError('EPERM');
  }
  const target = node.type === S_IFLNK ? source.layer.readlink(source.node) : undefined;
  host.create(node, attr, target);
  let copied = 0;
  try {
    if (node.type === S_IFREG) {
      const fd = host.file(node);
      if (path === undefined || attr.size === 0) {
        copied = copyContents(host.native, fd, source, attr.size);
      } else {
        check(host.native.ftruncate(fd, attr.size));
        marks.setMetacopy(node, path);
        node.isUnread = true;
      }
      node.size = attr.size;
    }
    copyXattrs(host, marks, node, source);
    host.times(node, attr);
    if (isDurable && node.type === S_IFREG) check(host.native.fsync(host.file(node), false));
  } catch (error) {
    host.destroy(node);
    throw error;
  }
  node.planned = undefined;
  node.ctime = [attr.ctimeSec, attr.ctimeNsec];
  return copied;
}

/** Attributes of a kind that the upper's filesystem does not know are left out only where they say nothing (SELinux off). */
function copyXattrs(
  host: Host,
  marks: Marks,
  node: HostNode,
  { layer, node: from }: LowerRef,
): void {
  for (const name of layer.listxattr(from)) {
    const value = layer.getxattr(from, name);
    if (value === undefined) continue;
    try {
      host.setxattr(node, marks.outward(name), value);
    } catch (error) {
      const isLabel = name === 'security.selinux';
      if (!isLabel || !(error instanceof FsError) || error.code !== EOPNOTSUPP) throw error;
    }
  }
}

/** Gives a file that was copied up without data its data. @returns bytes copied. */
export function completeData(
  host: Host,
  marks: Marks,
  node: HostNode,
  { from, size, isDurable }: { from: LowerRef; size: number; isDurable: boolean },
): number {
  const stat = host.stat(node).slice();
  const capability = host.getxattr(node, CAPABILITY);
  const fd = host.file(node);
  const copied = copyContents(host.native, fd, from, size);
  // The host drops them from a file that is written to, and here nobody has.
  if (capability !== undefined) host.setxattr(node, CAPABILITY, capability);
  if (isDurable) check(host.native.fsync(fd, false));
  host.keepTimes(node, stat);
  marks.endMetacopy(node);
  return copied;
}
