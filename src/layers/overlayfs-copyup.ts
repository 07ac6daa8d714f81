/** Copy-up into a directory upper: made in the work directory, complete, before it gets a name. */
import { check, FsError } from '../errors.ts';
import { S_IFCHR, S_IFLNK, S_IFREG } from './layer.ts';
import { copyContents } from './overlayfs-data.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import type { HostNode } from './overlayfs-node.ts';
import type { LowerRef } from './upper.ts';

const EOPNOTSUPP = 'EOPNOTSUPP';

/**
 * Makes a planned node real: an object in the work directory with its attributes, contents and extended attributes.
 *
 * @param isDurable  its data must be on disk before a name may lead to it.
 * @returns bytes of data copied.
 * @throws FsError EPERM for a 0:0 device, which would be a whiteout; whatever the host says. Nothing is left then.
 */
export function realise(host: Host, marks: Marks, node: HostNode, isDurable: boolean): number {
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
      copied = copyContents(host.native, host.file(node), source, attr.size);
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

/** Gives a file that the kernel copied up without data its data. */
export function completeData(
  host: Host,
  marks: Marks,
  node: HostNode,
  find: () => { from: LowerRef; size: number },
): number {
  if (!marks.isMetacopy(node)) return 0;
  const { from, size } = find();
  const stat = host.stat(node).slice();
  const copied = copyContents(host.native, host.file(node), from, size);
  host.keepTimes(node, stat);
  marks.endMetacopy(node);
  return copied;
}
