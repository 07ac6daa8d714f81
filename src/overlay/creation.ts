/** Making new files: owner, group and mode by the parent's setgid bit, its default ACL and the umask. */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_ISGID } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import { ACL_ACCESS, ACL_DEFAULT, encodeAcl, inheritAcl, parseAcl } from './acl.ts';
import type { AclEntry } from './acl.ts';
import type { Caller } from './filesystem.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

const fresh: Attr = new Attr();
const parentAttr: Attr = new Attr();
const now: Float64Array = new Float64Array(2);

/** @returns whether a lower entry lies under the name. @throws FsError EEXIST when the name can be seen. */
export function checkFree<Node extends object>(
  tree: Tree<Node>,
  dir: Inode<Node>,
  name: Name,
): boolean {
  const entry = dir.upper === undefined ? undefined : tree.upper.lookup(dir.upper, name);
  if (entry?.node !== undefined) throw new FsError('EEXIST');
  if (entry !== undefined) return entry.covers;
  if (tree.stack.find(dir.lowers, name, fresh) !== undefined) throw new FsError('EEXIST');
  return false;
}

/**
 * A new upper node without a name.
 *
 * @param mode  with the type, not yet masked.
 * @param target  of a symlink.
 * @param device  carries the device numbers.
 */
export function createNode<Node extends object>(
  tree: Tree<Node>,
  dir: Inode<Node>,
  mode: number,
  umask: number,
  caller: Caller,
  target: Name | undefined,
  device?: Attr,
): Node {
  const { upper } = tree;
  tree.attr(dir, parentAttr);
  const type = mode & S_IFMT;
  const isSetgid = (parentAttr.mode & S_ISGID) !== 0;
  const defaults = type === S_IFLNK ? null : defaultAclOf(tree, dir);
  const inherited = defaults === null ? undefined : inheritAcl(defaults, mode);
  upper.now(now);
  fresh.ino = 0;
  fresh.mode = inherited?.mode ?? (type === S_IFLNK ? mode : mode & ~umask);
  if (isSetgid && type === S_IFDIR) fresh.mode |= S_ISGID;
  fresh.nlink = type === S_IFDIR ? 2 : 1;
  fresh.uid = caller.uid;
  fresh.gid = isSetgid ? parentAttr.gid : caller.gid;
  fresh.rdevMajor = device?.rdevMajor ?? 0;
  fresh.rdevMinor = device?.rdevMinor ?? 0;
  fresh.size = 0;
  fresh.atimeSec = fresh.mtimeSec = fresh.ctimeSec = fresh.btimeSec = now[0] ?? 0;
  fresh.atimeNsec = fresh.mtimeNsec = fresh.ctimeNsec = fresh.btimeNsec = now[1] ?? 0;
  const node = upper.make(fresh, [], target, false);
  if (defaults === null) return node;
  try {
    if (inherited?.access !== undefined) {
      upper.setxattr(node, ACL_ACCESS, encodeAcl(inherited.access));
    }
    if (type === S_IFDIR) upper.setxattr(node, ACL_DEFAULT, encodeAcl(defaults));
  } catch (error) {
    upper.free(node);
    throw error;
  }
  return node;
}

/** A directory's default ACL, `null` when it has none. */
function defaultAclOf<Node extends object>(
  tree: Tree<Node>,
  dir: Inode<Node>,
): readonly AclEntry[] | null {
  if (!tree.hasAcl) return null;
  if (dir.directory.defaultAcl !== undefined) return dir.directory.defaultAcl;
  const [ref] = dir.lowers;
  const value =
    dir.upper === undefined
      ? ref?.layer.getxattr(ref.node, ACL_DEFAULT)
      : tree.upper.getxattr(dir.upper, ACL_DEFAULT);
  const entries = value === undefined ? [] : parseAcl(value);
  dir.directory.defaultAcl = entries.length === 0 ? null : entries;
  return dir.directory.defaultAcl;
}
