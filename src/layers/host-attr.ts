/** Attributes of files of the host. */
import { STAT } from '../native.ts';
import type { Attr } from './layer.ts';

/** Fills in what statx(2) has told, from `at` on; number and links are the layer's own affair. */
export function fillAttr(attr: Attr, stat: Float64Array, at: number): void {
  attr.mode = stat[at + STAT.MODE] ?? 0;
  attr.uid = stat[at + STAT.UID] ?? 0;
  attr.gid = stat[at + STAT.GID] ?? 0;
  attr.rdevMajor = stat[at + STAT.RDEV_MAJOR] ?? 0;
  attr.rdevMinor = stat[at + STAT.RDEV_MINOR] ?? 0;
  attr.size = stat[at + STAT.SIZE] ?? 0;
  attr.blocks = stat[at + STAT.BLOCKS] ?? 0;
  attr.atimeSec = stat[at + STAT.ATIME_SEC] ?? 0;
  attr.atimeNsec = stat[at + STAT.ATIME_NSEC] ?? 0;
  attr.mtimeSec = stat[at + STAT.MTIME_SEC] ?? 0;
  attr.mtimeNsec = stat[at + STAT.MTIME_NSEC] ?? 0;
  attr.ctimeSec = stat[at + STAT.CTIME_SEC] ?? 0;
  attr.ctimeNsec = stat[at + STAT.CTIME_NSEC] ?? 0;
  attr.btimeSec = stat[at + STAT.BTIME_SEC] ?? 0;
  attr.btimeNsec = stat[at + STAT.BTIME_NSEC] ?? 0;
}
