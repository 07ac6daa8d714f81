/** Names of directories: made for what is new, added to what is there, taken away. What a rename does is `rename.ts`. */
import type { Attr, Name } from '../layers/layer.ts';
import { S_IFDIR, S_IFMT } from '../layers/layer.ts';
import { checkFree, createNode } from './creation.ts';
import type { Caller } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/**
 * Makes something new in a directory.
 *
 * @param mode  with the type, not yet masked.
 * @param target  of a symlink.
 * @param device  carries the device numbers.
 * @throws FsError
 */
export function make<Node extends object>(
  tree: Tree<Node>,
  dir: Inode<Node>,
  name: Name,
  mode: number,
  umask: number,
  caller: Caller,
  target?: Name,
  device?: Attr,
): Inode<Node> {
  const covers = checkFree(tree, dir, name);
  const { upper } = tree;
  const dirNode = tree.copyUp(dir);
  upper.require(upper.nameBytes(name));
  const node = createNode(tree, dir, mode, umask, caller, target, device);
  try {
    upper.put(dirNode, name, node, covers, true);
  } catch (error) {
    upper.free(node);
    throw error;
  }
  const type = mode & S_IFMT;
  tree.touchDirectory(dirNode, type === S_IFDIR ? 1 : 0);
  const inode = tree.table.add(type, [], node, dir, name, 0);
  inode.hasNoCapability = true;
  return inode;
}

/** Gives what is no directory one more name. @throws FsError */
export function link<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  dir: Inode<Node>,
  name: Name,
): void {
  const covers = checkFree(tree, dir, name);
  const dirNode = tree.copyUp(dir);
  const node = tree.copyUp(inode);
  const { upper } = tree;
  tree.relink(node, upper.nlink(node) + 1, dirNode, name, () =>
    upper.put(dirNode, name, node, covers, false),
  );
  tree.touchDirectory(dirNode, 0);
  const isPlaced = inode.parent !== undefined || tree.table.isRetired(inode);
  if (!isPlaced) tree.table.place(inode, dir, name);
}

/** Takes a name out of a directory, with one link of what it named. @throws FsError */
export function remove<Node extends object>(
  tree: Tree<Node>,
  dir: Inode<Node>,
  name: Name,
  inode: Inode<Node>,
): void {
  const { upper } = tree;
  const isDirectory = inode.type === S_IFDIR;
  const covers = tree.covers(dir, name, true);
  const dirNode = tree.copyUp(dir, true);
  const node = tree.raise(inode, true);
  tree.unlink(node, isDirectory, dirNode, name, () => upper.remove(dirNode, name, covers));
  tree.touchDirectory(dirNode, isDirectory ? -1 : 0);
  if (inode.parent === dir && inode.name === name) tree.table.displace(inode);
  tree.table.settle(inode);
}
