/** Which extended attributes a file may have, and what setting an ACL does to its mode. */
import { FsError } from '../errors.ts';
import { S_IFDIR, S_IFLNK, S_IFMT, S_ISGID } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import { ACL_ACCESS, ACL_DEFAULT, modeOfAcl, parseAcl } from './acl.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

const CAPABILITY = 'security.capability';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const NAMESPACES = ['user.', 'trusted.', 'security.'];

/** @throws FsError EOPNOTSUPP for a name that no file has, ERANGE for one that is too long. */
export function checkXattrName(name: Name): void {
  if (name.length > 255) throw new FsError('ERANGE');
  if (name === ACL_ACCESS || name === ACL_DEFAULT) return;
  const prefix = NAMESPACES.find((candidate) => name.startsWith(candidate));
  if (prefix === undefined) throw new FsError('EOPNOTSUPP');
  if (name.length === prefix.length) throw new FsError('EINVAL');
}

/** As `Filesystem.getxattr`, on an inode. The kernel asks for the capability before the first write to each file. */
export function getXattr<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  name: Name,
): Uint8Array | undefined {
  if (name !== CAPABILITY) return currentXattr(tree, inode, name);
  if (lacksCapability(tree, inode)) return undefined;
  const value = currentXattr(tree, inode, name);
  inode.hasNoCapability = value === undefined;
  return value;
}

/** Takes away the capability, which no file keeps that is written to. */
export function dropCapability<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  node: Node,
): void {
  if (lacksCapability(tree, inode)) return;
  if (tree.upper.getxattr(node, CAPABILITY) !== undefined) {
    tree.upper.removexattr(node, CAPABILITY);
  }
  inode.hasNoCapability = true;
}

/** Whether nobody need look for it. What a retired inode and another have in common, only one of them is told of. */
function lacksCapability<Node extends object>(tree: Tree<Node>, inode: Inode<Node>): boolean {
  return inode.hasNoCapability && !tree.table.hasRetired;
}

/** As `Filesystem.setxattr`, on an inode. */
export function setXattr<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  name: Name,
  value: Uint8Array,
  flags: number,
  clearSetgid: boolean,
): void {
  const isPresent = flags !== 0 && currentXattr(tree, inode, name) !== undefined;
  if ((flags & XATTR_CREATE) !== 0 && isPresent) throw new FsError('EEXIST');
  if ((flags & XATTR_REPLACE) !== 0 && !isPresent) throw new FsError('ENODATA');
  const node = tree.copyUp(inode);
  if (name === ACL_ACCESS || name === ACL_DEFAULT) {
    setAcl(tree, inode, node, name, value, clearSetgid);
    return;
  }
  tree.upper.setxattr(node, name, value);
  if (name === CAPABILITY) inode.hasNoCapability = false;
  tree.upper.touched(node);
}

/** Of the upper, or else of the lowers: nothing is copied up for it. */
function currentXattr<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  name: Name,
): Uint8Array | undefined {
  if (inode.upper !== undefined) return tree.upper.getxattr(inode.upper, name);
  const [ref] = inode.lowers;
  return ref?.layer.getxattr(ref.node, name);
}

function setAcl<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  node: Node,
  name: Name,
  value: Uint8Array,
  clearSetgid: boolean,
): void {
  if (inode.type === S_IFLNK) throw new FsError('EOPNOTSUPP');
  const entries = parseAcl(value);
  if (name === ACL_DEFAULT) {
    if (inode.type !== S_IFDIR) throw new FsError('EACCES');
    if (entries.length === 0) tree.upper.removexattr(node, name);
    else tree.upper.setxattr(node, name, value);
    inode.directory.defaultAcl = undefined;
    tree.upper.touched(node);
    return;
  }
  if (entries.length === 0) {
    tree.upper.removexattr(node, name);
    tree.upper.touched(node);
    return;
  }
  const { bits, minimal } = modeOfAcl(entries);
  if (minimal) tree.upper.removexattr(node, name);
  else tree.upper.setxattr(node, name, value);
  tree.update(node, (attr) => {
    attr.mode = (attr.mode & (S_IFMT | 0o7000)) | bits;
    if (clearSetgid) attr.mode &= ~S_ISGID;
  });
}

/** As `Filesystem.removexattr`, on an inode. */
export function removeXattr<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  name: Name,
): void {
  if (currentXattr(tree, inode, name) === undefined) {
    // Taking away an ACL that is not there is no error, as in posix_acl.c set_posix_acl().
    if (name === ACL_ACCESS || name === ACL_DEFAULT) return;
    throw new FsError('ENODATA');
  }
  const node = tree.copyUp(inode);
  tree.upper.removexattr(node, name);
  if (name === ACL_DEFAULT) inode.directory.defaultAcl = undefined;
  tree.upper.touched(node);
}
