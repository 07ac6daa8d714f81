/** Where the host has the bytes of a file, for a kernel that reads and writes them by itself. */
import type { Backing } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/** As `Backed.backing`, of a regular file. */
export function backingOf<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  isForWriting: boolean,
): Backing | undefined {
  const { upper } = tree;
  if (upper.file === undefined) return undefined;
  const node = isForWriting ? tree.copyUp(inode) : inode.upper;
  const found = node === undefined ? inode.lowers[0] : upper.file(node, isForWriting);
  if (typeof found === 'number') return { fd: found, lower: undefined };
  const fd = found?.layer.file?.(found.node);
  return fd === undefined ? undefined : { fd, lower: found?.layer };
}
