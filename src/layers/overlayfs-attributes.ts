/** Attributes of a directory upper's files: the host's, but for those that are planned only, and the ctime of a copy-up. */
import { check } from '../errors.ts';
import { fillAttr } from './host-attr.ts';
import { Attr, S_IFLNK } from './layer.ts';
import type { Host } from './overlayfs-host.ts';
import type { HostNode } from './overlayfs-node.ts';
import type { HostTree } from './overlayfs-tree.ts';

export class Attributes {
  readonly #host: Host;
  readonly #tree: HostTree;
  readonly #now: Float64Array = new Float64Array(2);

  constructor(host: Host, tree: HostTree) {
    this.#host = host;
    this.#tree = tree;
  }

  get(node: HostNode, attr: Attr): void {
    if (node.planned === undefined) fillAttr(attr, this.#host.stat(node), 0);
    else Object.assign(attr, node.planned);
    if (node.untouched !== undefined) noticeWrites(node, attr);
    if (node.ctime !== undefined) [attr.ctimeSec, attr.ctimeNsec] = node.ctime;
    attr.ino = node.ino;
    attr.nlink = this.#tree.nlink(node);
  }

  set(node: HostNode, attr: Attr): void {
    if (node.planned !== undefined) {
      node.plan(attr);
      return;
    }
    node.ctime = undefined;
    const before = new Attr();
    fillAttr(before, this.#host.stat(node), 0);
    try {
      this.#apply(node, before, attr);
    } catch (error) {
      // Some of it may be done.
      try {
        const now = new Attr();
        fillAttr(now, this.#host.stat(node), 0);
        this.#apply(node, now, before);
      } catch {
        // What refuses to be changed refuses to be changed back.
      }
      throw error;
    }
  }

  #apply(node: HostNode, before: Attr, attr: Attr): void {
    const { native } = this.#host;
    const fd = this.#host.at(node);
    const isGiven = before.uid !== attr.uid || before.gid !== attr.gid;
    if (isGiven) check(native.fchownat(fd, node.name, attr.uid, attr.gid));
    const isTimed =
      before.atimeSec !== attr.atimeSec ||
      before.atimeNsec !== attr.atimeNsec ||
      before.mtimeSec !== attr.mtimeSec ||
      before.mtimeNsec !== attr.mtimeNsec;
    // chown(2) clears setuid and setgid by its own rules; and a change to what was there is one, for ctime.
    if (node.type !== S_IFLNK && (isGiven || !isTimed || before.mode !== attr.mode)) {
      check(native.fchmodat(fd, node.name, attr.mode & 0o7777));
    }
    if (isTimed) this.#host.times(node, attr);
  }

  /** The contents have changed. */
  modified(node: HostNode): void {
    this.touched(node);
    if (node.planned === undefined) return;
    node.planned.mtimeSec = node.planned.ctimeSec;
    node.planned.mtimeNsec = node.planned.ctimeNsec;
  }

  /** The host has seen to it, unless the node is none of its own. */
  touched(node: HostNode): void {
    node.ctime = undefined;
    if (node.planned === undefined) return;
    this.#host.native.now(this.#now, true);
    node.planned.ctimeSec = this.#now[0] ?? 0;
    node.planned.ctimeNsec = this.#now[1] ?? 0;
  }
}

/** @param attr  the host's. */
function noticeWrites(node: HostNode, attr: Attr): void {
  const { ctimeSec, ctimeNsec, mtimeSec, mtimeNsec } = attr;
  const times = [ctimeSec, ctimeNsec, mtimeSec, mtimeNsec];
  if (node.untouched?.every((time, i) => time === times[i]) === true) return;
  node.untouched = undefined;
  node.ctime = undefined;
}
