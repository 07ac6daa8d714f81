/** Making a directory independent of the lowers, where the upper cannot say that a directory of theirs has moved. */
import { Attr, S_IFDIR } from '../layers/layer.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import type { Tree } from './tree.ts';

const attr: Attr = new Attr();

/**
 * Copies a directory up with all that is in it, if the lowers have a part of it and the upper needs that. Every step leaves
 * the tree looking as before, so one that fails leaves copies and no change.
 */
export function detach<Node extends object>(
  tree: Tree<Node>,
  listing: Listing<Node>,
  dir: Inode<Node>,
): void {
  if (tree.upper.movesLowers || dir.type !== S_IFDIR || dir.lowers.length === 0) return;
  const node = tree.copyUp(dir);
  for (const name of listing.names(dir)) {
    const child = tree.find(dir, name, attr);
    if (child === undefined) continue;
    try {
      tree.copyUpAt(dir, name, child);
      detach(tree, listing, child);
    } finally {
      tree.table.settle(child);
    }
  }
  tree.upper.seal(node);
}
