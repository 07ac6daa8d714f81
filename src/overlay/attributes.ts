/** Changing a file's attributes, and what a change of contents or owner does to its privileges. */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID } from '../layers/layer.ts';
import { ACL_ACCESS, chmodAcl, encodeAcl, parseAcl } from './acl.ts';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
} from './filesystem.ts';
import type { Caller, SetAttr } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';
import { dropCapability } from './xattr.ts';

const S_IXGRP = 0o010;

const before: Attr = new Attr();

/** As `Filesystem.setattr`, on an inode. */
export function changeAttributes<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  wanted: SetAttr,
  caller: Caller,
): void {
  const { valid } = wanted;
  if ((valid & FATTR_SIZE) !== 0) {
    if (inode.type === S_IFDIR) throw new FsError('EISDIR');
    if (inode.type !== S_IFREG) throw new FsError('EINVAL');
  }
  const node = (valid & FATTR_SIZE) === 0 ? tree.copyUp(inode) : resize(tree, inode, wanted.size);
  if ((valid & FATTR_MODE) !== 0) changeAcl(tree, node, wanted.mode);
  const isDirectory = inode.type === S_IFDIR;
  const changesOwner = (valid & (FATTR_UID | FATTR_GID)) !== 0 && !isDirectory;
  const losesPrivileges = changesOwner || ((valid & FATTR_KILL_SUIDGID) !== 0 && !isDirectory);
  if ((valid & FATTR_SIZE) !== 0 || changesOwner) dropCapability(tree, inode, node);
  tree.update(node, (attr) => {
    if (losesPrivileges) clearPrivileges(attr, caller);
    if ((valid & FATTR_MODE) !== 0) attr.mode = (attr.mode & S_IFMT) | (wanted.mode & 0o7777);
    if ((valid & FATTR_UID) !== 0) attr.uid = wanted.uid;
    if ((valid & FATTR_GID) !== 0) attr.gid = wanted.gid;
    setTimes(attr, wanted);
  });
}

/** What is cut as it is copied up is not copied first, and is cut in one step with that. */
function resize<Node extends object>(tree: Tree<Node>, inode: Inode<Node>, size: number): Node {
  if (inode.upper === undefined) {
    tree.attr(inode, before);
    const node = tree.copyUp(inode, false, size);
    if (before.size > size) return node;
  }
  const node = tree.copyUp(inode);
  tree.upper.truncate(node, size);
  return node;
}

/** Times as asked for; a change of size is a modification. `attr.ctime` is the time now. */
function setTimes(attr: Attr, wanted: SetAttr): void {
  const { valid } = wanted;
  if ((valid & FATTR_ATIME_NOW) !== 0) {
    attr.atimeSec = attr.ctimeSec;
    attr.atimeNsec = attr.ctimeNsec;
  } else if ((valid & FATTR_ATIME) !== 0) {
    attr.atimeSec = wanted.atimeSec;
    attr.atimeNsec = wanted.atimeNsec;
  }
  if ((valid & FATTR_MTIME) !== 0 && (valid & FATTR_MTIME_NOW) === 0) {
    attr.mtimeSec = wanted.mtimeSec;
    attr.mtimeNsec = wanted.mtimeNsec;
  } else if ((valid & (FATTR_MTIME | FATTR_MTIME_NOW | FATTR_SIZE)) !== 0) {
    attr.mtimeSec = attr.ctimeSec;
    attr.mtimeNsec = attr.ctimeNsec;
  }
  if ((valid & FATTR_CTIME) !== 0) {
    attr.ctimeSec = wanted.ctimeSec;
    attr.ctimeNsec = wanted.ctimeNsec;
  }
}

/** chmod(2) on a file with an access ACL changes the ACL as well. */
function changeAcl<Node extends object>(tree: Tree<Node>, node: Node, mode: number): void {
  const acl = tree.upper.getxattr(node, ACL_ACCESS);
  if (acl === undefined) return;
  tree.upper.setxattr(node, ACL_ACCESS, encodeAcl(chmodAcl(parseAcl(acl), mode)));
}

/** A file's contents have changed: its times, its capability and, if the writer may not keep them, its setuid bits. */
export function markModified<Node extends object>(
  tree: Tree<Node>,
  inode: Inode<Node>,
  node: Node,
  mustClearPrivileges: boolean,
  caller: Caller,
): void {
  dropCapability(tree, inode, node);
  tree.upper.modified(node);
  if (mustClearPrivileges) tree.update(node, (attr) => clearPrivileges(attr, caller));
}

/**
 * setgid without group execution was mandatory locking: it stays for root and the file's group, as in the kernel's
 * setattr_should_drop_sgid(). Of the caller's groups only the first is known here.
 */
function clearPrivileges(attr: Attr, caller: Caller): void {
  attr.mode &= ~S_ISUID;
  const isMember = caller.uid === 0 || caller.gid === attr.gid;
  if ((attr.mode & S_IXGRP) !== 0 || !isMember) attr.mode &= ~S_ISGID;
}
