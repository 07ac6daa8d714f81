/** The bytes of regular files: from a lower until the first change, from the upper after it. */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFREG, Segments } from '../layers/layer.ts';
import { markModified } from './attributes.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from './filesystem.ts';
import type { Caller } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

const attr: Attr = new Attr();
const segments: Segments = new Segments();

/** @throws FsError EISDIR, EINVAL: it is none. */
export function regularFile<Node extends object>(tree: Tree<Node>, ino: number): Inode<Node> {
  const inode = tree.inode(ino);
  if (inode.type === S_IFDIR) throw new FsError('EISDIR');
  if (inode.type !== S_IFREG) throw new FsError('EINVAL');
  return inode;
}

export function read<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  offset: number,
  length: number,
  into: Segments,
): void {
  const source = tree.table.source(inode);
  if (inode.upper !== undefined && source === undefined) {
    tree.upper.read(inode.upper, offset, length, into);
    return;
  }
  const ref = source ?? inode.lowers[0];
  if (ref === undefined) throw new FsError('ESTALE');
  if (offset === 0) tree.ahead.observe(inode);
  // A lower file ends where it ends: the kernel knows its size.
  ref.layer.read(ref.node, offset, length, into);
}

export function seek<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  offset: number,
  whence: number,
): number {
  const source = tree.table.source(inode);
  if (inode.upper !== undefined && source === undefined) {
    return tree.upper.seek(inode.upper, offset, whence);
  }
  const ref = source ?? inode.lowers[0];
  if (ref === undefined) throw new FsError('ESTALE');
  return ref.layer.seek(ref.node, offset, whence);
}

/** fallocate(2). @throws FsError EOPNOTSUPP: a mode other than these. */
export function allocate<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  mode: number,
  offset: number,
  length: number,
  caller: Caller,
): void {
  const keepsSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  const action = mode & ~FALLOC_FL_KEEP_SIZE;
  if (action !== 0 && action !== FALLOC_FL_PUNCH_HOLE && action !== FALLOC_FL_ZERO_RANGE) {
    throw new FsError('EOPNOTSUPP');
  }
  if (action === FALLOC_FL_PUNCH_HOLE && !keepsSize) throw new FsError('EOPNOTSUPP');
  const { upper } = tree;
  const node = tree.copyUp(inode);
  upper.attr(node, attr);
  const { size } = attr;
  const end = offset + length;
  if (action === 0) upper.allocate(node, offset, length);
  else upper.punch(node, offset, Math.max(0, Math.min(end, size) - offset));
  if (!keepsSize && end > size) upper.truncate(node, end);
  markModified(tree, inode, node, !mayKeepPrivileges(caller), caller);
}

/** copy_file_range(2). @returns bytes that were copied: fewer where the source ends, or room. */
export function copyRange<Node extends object>(
  tree: Tree<Node>,
  from: Inode<Node>,
  offsetIn: number,
  to: Inode<Node>,
  offsetOut: number,
  length: number,
  caller: Caller,
): number {
  const source = tree.table.source(from);
  if (source === undefined) tree.attr(from, attr);
  else source.layer.attr(source.node, attr);
  const count = Math.min(length, attr.size - offsetIn);
  if (count <= 0) return 0;
  const node = tree.copyUp(to);
  segments.clear();
  read(tree, from, offsetIn, count, segments);
  const copied = tree.upper.copy(node, offsetOut, segments);
  markModified(tree, to, node, !mayKeepPrivileges(caller), caller);
  return copied;
}

/**
 * Whether a writer may keep setuid and setgid (CAP_FSETID), where the kernel does not say so itself: HANDLE_KILLPRIV_V2
 * has a flag for write, open and setattr, but none for fallocate and copy_file_range.
 */
function mayKeepPrivileges(caller: Caller): boolean {
  return caller.uid === 0;
}
