/**
 * rename(2) over stacked layers. A directory keeps its lowers wherever it goes, so nothing is copied, and only the upper's
 * names change; only where the upper cannot say that a directory of the lowers has moved, it becomes a copy before.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFCHR, S_IFDIR } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import { createNode } from './creation.ts';
import { detach } from './detach.ts';
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from './filesystem.ts';
import type { Caller } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import type { Tree } from './tree.ts';

/** One end of a rename. */
interface Place<Node extends object> {
  dir: Inode<Node>;
  name: Name;
}

const scratch: Attr = new Attr();

/** As `Filesystem.rename`, on inodes. */
export function rename<Node extends object>(
  tree: Tree<Node>,
  listing: Listing<Node>,
  from: Place<Node>,
  to: Place<Node>,
  flags: number,
  caller: Caller,
): void {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) {
    throw new FsError('EINVAL');
  }
  // The device it leaves would be taken for a whiteout.
  if ((flags & RENAME_WHITEOUT) !== 0 && tree.upper.hasDeviceWhiteouts) {
    throw new FsError('EINVAL');
  }
  const moved = tree.find(from.dir, from.name, scratch);
  if (moved === undefined) throw new FsError('ENOENT');
  const target = tree.find(to.dir, to.name, scratch);
  try {
    if ((flags & RENAME_NOREPLACE) !== 0 && target !== undefined) throw new FsError('EEXIST');
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (target === undefined) throw new FsError('ENOENT');
      if (target === moved) return;
      detach(tree, listing, moved);
      detach(tree, listing, target);
      exchange(tree, from, moved, to, target);
      return;
    }
    if (target === moved) return;
    if (target !== undefined) checkReplace(listing, moved, target);
    detach(tree, listing, moved);
    move(tree, from, moved, to, target, (flags & RENAME_WHITEOUT) !== 0 ? caller : undefined);
  } finally {
    tree.table.settle(moved);
    if (target !== undefined) tree.table.settle(target);
  }
}

/** @throws FsError as rename(2) has it for a target that may not be replaced. */
function checkReplace<Node extends object>(
  listing: Listing<Node>,
  moved: Inode<Node>,
  target: Inode<Node>,
): void {
  if (target.type === S_IFDIR) {
    if (moved.type !== S_IFDIR) throw new FsError('EISDIR');
    if (!listing.isEmpty(target)) throw new FsError('ENOTEMPTY');
  } else if (moved.type === S_IFDIR) throw new FsError('ENOTDIR');
}

/** @param whiteout  who leaves a 0:0 device at the old name; `undefined`: nothing stays there. */
function move<Node extends object>(
  tree: Tree<Node>,
  from: Place<Node>,
  moved: Inode<Node>,
  to: Place<Node>,
  target: Inode<Node> | undefined,
  whiteout: Caller | undefined,
): void {
  const { upper } = tree;
  const fromNode = tree.copyUp(from.dir);
  const toNode = tree.copyUp(to.dir);
  upper.require(3 * upper.nodeBytes + upper.nameBytes(from.name) + upper.nameBytes(to.name));
  // A whiteout is a file like any other: it inherits group and ACL. Made first, since it may be refused.
  const left =
    whiteout === undefined
      ? undefined
      : createNode(tree, from.dir, S_IFCHR, 0, whiteout, undefined);
  const movedNode = tree.copyUpAt(from.dir, from.name, moved);
  const targetNode = target === undefined ? undefined : tree.raise(target, true);
  const toCovers = tree.covers(to.dir, to.name, target !== undefined);
  const act = () =>
    upper.move(fromNode, from.name, toNode, to.name, toCovers, target !== undefined);
  if (target === undefined || targetNode === undefined) act();
  else {
    const isDirectory = target.type === S_IFDIR;
    tree.unlink(targetNode, isDirectory, toNode, to.name, act);
    if (isDirectory) tree.touchDirectory(toNode, -1);
    if (isAt(target, to)) tree.table.displace(target);
  }
  const wasHere = isAt(moved, from) || moved.parent === undefined;
  if (wasHere) tree.table.place(moved, to.dir, to.name);
  const changedParent = moved.type === S_IFDIR && from.dir !== to.dir ? 1 : 0;
  tree.touchDirectory(fromNode, -changedParent);
  tree.touchDirectory(toNode, changedParent);
  upper.touched(movedNode);
  if (left !== undefined) upper.put(fromNode, from.name, left, false, true);
}

function exchange<Node extends object>(
  tree: Tree<Node>,
  a: Place<Node>,
  inodeA: Inode<Node>,
  b: Place<Node>,
  inodeB: Inode<Node>,
): void {
  const { upper } = tree;
  const dirA = tree.copyUp(a.dir);
  const dirB = tree.copyUp(b.dir);
  upper.require(2 * upper.nodeBytes + upper.nameBytes(a.name) + upper.nameBytes(b.name));
  const nodeA = tree.copyUpAt(a.dir, a.name, inodeA);
  const nodeB = tree.copyUpAt(b.dir, b.name, inodeB);
  upper.exchange(dirA, a.name, dirB, b.name);
  const wasA = isAt(inodeA, a);
  const wasB = isAt(inodeB, b);
  if (wasA) tree.table.displace(inodeA);
  if (wasB) tree.table.displace(inodeB);
  if (wasA) tree.table.place(inodeA, b.dir, b.name);
  if (wasB) tree.table.place(inodeB, a.dir, a.name);
  const isDirA = inodeA.type === S_IFDIR ? 1 : 0;
  const isDirB = inodeB.type === S_IFDIR ? 1 : 0;
  const gained = a.dir === b.dir ? 0 : isDirB - isDirA;
  tree.touchDirectory(dirA, gained);
  tree.touchDirectory(dirB, -gained);
  upper.touched(nodeA);
  upper.touched(nodeB);
}

/** Whether this is the place that the inode is found by. */
function isAt<Node extends object>(inode: Inode<Node>, { dir, name }: Place<Node>): boolean {
  return inode.parent === dir && inode.name === name;
}
