/**
 * Names of a directory upper come and go here, each by one rename, link or mknod: whatever is seen after a crash is what
 * was before or what is after. Preparations show nothing, and what is left over is in the work directory.
 */
import { FsError } from '../errors.ts';
import { STAT } from '../native.ts';
import { fillAttr } from './host-attr.ts';
import { Attr } from './layer.ts';
import type { Name } from './layer.ts';
import { Names } from './names.ts';
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from './overlayfs-host.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';
import type { HostTree } from './overlayfs-tree.ts';

export class Publisher {
  readonly #host: Host;
  readonly #marks: Marks;
  readonly #tree: HostTree;
  readonly #work: HostNode;
  readonly #attr: Attr = new Attr();

  constructor(host: Host, marks: Marks, tree: HostTree, work: HostNode) {
    this.#host = host;
    this.#marks = marks;
    this.#tree = tree;
    this.#work = work;
  }

  /** As `UpperLayer.adopt`; the node is real. */
  adopt(dir: HostNode, name: Name, node: HostNode): void {
    const names = this.#tree.names(dir);
    const before = this.#host.stat(dir).slice();
    this.name(node, dir, name);
    names.put(name, node, true, true);
    dir.ctime ??= [before[STAT.CTIME_SEC] ?? 0, before[STAT.CTIME_NSEC] ?? 0];
    // Published is published: times that cannot be put back are no reason to fail.
    this.#host.keepTimes(dir, before, true);
  }

  /** Gives a node a name that nothing has. */
  name(node: HostNode, dir: HostNode, name: Name): void {
    if (node.dir === this.#work) {
      const was = node.name;
      this.#host.rename(this.#work, was, dir, name, RENAME_NOREPLACE);
      node.displace(this.#work, was);
    } else this.#host.link(node, dir, name);
    node.place(dir, name);
  }

  /** As `UpperLayer.put`. */
  put(dir: HostNode, name: Name, node: HostNode, covers: boolean): void {
    const names = this.#tree.names(dir);
    const isOverWhiteout = names.entries.has(name);
    if (!isOverWhiteout) this.name(node, dir, name);
    else if (node.isDirectory) this.#putDirectory(dir, name, node);
    else this.#putOver(dir, name, node);
    names.put(name, node, covers, false);
  }

  /** Puts a directory in the place of a whiteout: it must hide what that hid. */
  #putDirectory(dir: HostNode, name: Name, node: HostNode): void {
    const was = node.name;
    this.#marks.setOpaque(node);
    this.#host.rename(this.#work, was, dir, name, RENAME_EXCHANGE);
    this.#host.discard(this.#host.directory(this.#work), was, false);
    node.displace(this.#work, was);
    node.place(dir, name);
  }

  /** Puts a file in the place of a whiteout. */
  #putOver(dir: HostNode, name: Name, node: HostNode): void {
    const isNamed = node.dir !== this.#work;
    const was = isNamed ? this.#host.workName() : node.name;
    if (isNamed) this.#host.link(node, this.#work, was);
    try {
      this.#host.rename(this.#work, was, dir, name, 0);
    } catch (error) {
      if (isNamed) this.#host.discard(this.#host.directory(this.#work), was, false);
      throw error;
    }
    if (!isNamed) node.displace(this.#work, was);
    node.place(dir, name);
  }

  /** As `UpperLayer.remove`. */
  remove(dir: HostNode, name: Name, covers: boolean): void {
    const names = this.#tree.names(dir);
    const entry = names.entries.get(name);
    const node = entry?.node;
    if (node !== undefined) this.#takeOut(dir, name, node, entry?.covers ?? covers);
    else if (entry === undefined && covers) this.#host.whiteout(dir, name);
    names.remove(name, covers);
  }

  /** As `UpperLayer.uncover`. */
  uncover(dir: HostNode, name: Name): void {
    const names = this.#tree.names(dir);
    const entry = names.entries.get(name);
    if (entry === undefined) return;
    if (entry.node !== undefined) this.#takeOut(dir, name, entry.node, false);
    else this.#host.discard(this.#host.directory(dir), name, false);
    names.uncover(name);
  }

  #takeOut(dir: HostNode, name: Name, node: HostNode, covers: boolean): void {
    const flags = covers ? RENAME_WHITEOUT : 0;
    const aside = this.#host.workName();
    if (node.isDirectory) fillAttr(this.#attr, this.#host.stat(node), 0);
    this.#host.rename(dir, name, this.#work, aside, flags);
    const isLast = node.others === undefined;
    node.displace(dir, name);
    if (node.isDirectory) this.#bury(node, aside, this.#attr);
    // It may be in use: it goes when it is forgotten.
    else if (isLast || this.#host.native.unlinkat(this.#host.directory(this.#work), aside, 0) < 0) {
      node.place(this.#work, aside);
    }
  }

  /** A directory that was removed: whoever is in it sees its attributes and no names. */
  #bury(node: HostNode, aside: Name, attr: Attr): void {
    this.#host.forget(node);
    this.#host.discard(this.#host.directory(this.#work), aside, true);
    node.plan(attr);
    node.names = new Names();
  }

  /** As `UpperLayer.move`. */
  move(
    dir: HostNode,
    name: Name,
    toDir: HostNode,
    toName: Name,
    covers: boolean,
    replaces: boolean,
  ): void {
    const from = this.#tree.names(dir);
    const to = this.#tree.names(toDir);
    const source = from.entries.get(name);
    const node = source?.node;
    if (node === undefined) throw new FsError('ENOENT');
    const entry = to.entries.get(toName);
    const isCovered = entry?.covers ?? covers;
    const leaves = source?.covers ?? false;
    if (node.isDirectory) this.#prepare(node, isCovered);
    const finish = entry?.node === undefined ? undefined : this.#replace(toDir, toName, entry.node);
    try {
      if (node.isDirectory && entry !== undefined && entry.node === undefined) {
        // The whiteout goes where the directory was: wanted there, or of no effect.
        this.#host.rename(dir, name, toDir, toName, RENAME_EXCHANGE);
        if (!leaves) this.#host.discard(this.#host.directory(dir), name, false);
      } else {
        this.#host.rename(dir, name, toDir, toName, leaves ? RENAME_WHITEOUT : 0);
      }
    } catch (error) {
      finish?.(false);
      throw error;
    }
    finish?.(true);
    from.remove(name, false);
    to.put(toName, node, covers, replaces);
    node.displace(dir, name);
    node.place(toDir, toName);
  }

  /** Before a directory moves: its origin must be found from where it goes, and nothing else that may be there. */
  #prepare(node: HostNode, covers: boolean): void {
    if (this.#marks.isOpaque(node)) return;
    if (this.#tree.origin(node).length > 0) {
      const path = this.#tree.lowerPath(node);
      this.#marks.setRedirect(node, path);
      node.redirect = path;
    } else if (covers) this.#marks.setOpaque(node);
  }

  /**
   * Before a name is renamed over: what has it may be in use, so it needs another name; a directory must be empty on the
   * host as well, where there may be whiteouts in it.
   *
   * @returns to be told whether the rename was done.
   */
  #replace(dir: HostNode, name: Name, target: HostNode): (done: boolean) => void {
    const work = this.#host.directory(this.#work);
    const aside = this.#host.workName();
    if (target.isDirectory) {
      const attr = new Attr();
      fillAttr(attr, this.#host.stat(target), 0);
      const cleared =
        this.#tree.names(target).entries.size > 0 ? this.#clear(dir, name, attr) : undefined;
      return (done) => {
        this.#host.forget(target);
        cleared?.(done);
        if (!done) return;
        target.displace(dir, name);
        target.plan(attr);
        target.names = new Names();
      };
    }
    const isLast = target.others === undefined;
    if (isLast) this.#host.link(target, this.#work, aside);
    return (done) => {
      if (!done) {
        if (isLast) this.#host.discard(work, aside, false);
        return;
      }
      target.displace(dir, name);
      if (isLast) target.place(this.#work, aside);
    };
  }

  /**
   * Puts an empty directory in the place of one that holds whiteouts only: both look the same.
   *
   * @returns to be told whether it may stay so.
   */
  #clear(dir: HostNode, name: Name, attr: Attr): (done: boolean) => void {
    const empty = new HostNode(0, attr.mode, 2, false);
    this.#host.create(empty, attr, undefined);
    const was = empty.name;
    const exchange = () => this.#host.rename(this.#work, was, dir, name, RENAME_EXCHANGE);
    try {
      this.#marks.setOpaque(empty);
      exchange();
    } catch (error) {
      this.#host.destroy(empty);
      throw error;
    }
    this.#host.forget(empty);
    return (done) => {
      if (!done) exchange();
      this.#host.discard(this.#host.directory(this.#work), was, true);
    };
  }

  /** As `UpperLayer.exchange`. */
  exchange(dirA: HostNode, nameA: Name, dirB: HostNode, nameB: Name): void {
    const namesA = this.#tree.names(dirA);
    const namesB = this.#tree.names(dirB);
    const a = namesA.entries.get(nameA);
    const b = namesB.entries.get(nameB);
    if (a?.node === undefined || b?.node === undefined) throw new FsError('ENOENT');
    const { node: nodeA } = a;
    const { node: nodeB } = b;
    if (nodeA.isDirectory) this.#prepare(nodeA, b.covers);
    if (nodeB.isDirectory) this.#prepare(nodeB, a.covers);
    this.#host.rename(dirA, nameA, dirB, nameB, RENAME_EXCHANGE);
    a.node = nodeB;
    b.node = nodeA;
    nodeA.displace(dirA, nameA);
    nodeB.displace(dirB, nameB);
    nodeA.place(dirB, nameB);
    nodeB.place(dirA, nameA);
  }
}
