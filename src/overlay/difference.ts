/** What differs between a file of a session and the lowers' file of its path. */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Segments } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/** A kind of difference. The content of a symlink is its target, that of a device its numbers. */
export type Difference = 'type' | 'content' | 'mode' | 'owner' | 'xattrs' | 'times';

/** What of a file is compared. */
export type Current<Node extends object> = Pick<Inode<Node>, 'upper' | 'lowers' | 'type'>;

/** A file as it is in the lowers. */
export interface Base {
  refs: readonly LowerRef[];
  attr: Attr;
}

export class Comparer<Node extends object> {
  readonly #tree: Tree<Node>;
  readonly #ours: Segments = new Segments();
  readonly #theirs: Segments = new Segments();
  readonly #mustStop: (() => boolean) | undefined;

  /** @param mustStop  asked now and then: to take contents for the same without having read them all. */
  constructor(tree: Tree<Node>, mustStop?: () => boolean) {
    this.#tree = tree;
    this.#mustStop = mustStop;
  }

  /** Whether anything but times does. */
  differs(inode: Current<Node>, attr: Attr, base: Base): boolean {
    if (this.isSame(inode, base)) return false;
    return (
      attr.mode !== base.attr.mode ||
      ownerDiffers(attr, base.attr) ||
      deviceDiffers(attr, base.attr) ||
      this.#xattrNames(inode, base, true).length > 0 ||
      this.#contentDiffers(inode, attr, base)
    );
  }

  /** Everything that does. A directory's times are left out, since every name that comes or goes changes them. */
  all(inode: Current<Node>, attr: Attr, base: Base): Difference[] {
    if (this.isSame(inode, base)) return [];
    const isOther = (attr.mode & S_IFMT) !== (base.attr.mode & S_IFMT);
    const found: Difference[] = [];
    if (isOther) found.push('type');
    else if (deviceDiffers(attr, base.attr) || this.#contentDiffers(inode, attr, base)) {
      found.push('content');
    }
    if (((attr.mode ^ base.attr.mode) & 0o7777) !== 0) found.push('mode');
    if (ownerDiffers(attr, base.attr)) found.push('owner');
    if (this.#xattrNames(inode, base, true).length > 0) found.push('xattrs');
    if (inode.type !== S_IFDIR && timesDiffer(attr, base.attr)) found.push('times');
    return found;
  }

  /** Names of extended attributes that have come, gone or another value, sorted. */
  xattrs(inode: Current<Node>, base: Base): Name[] {
    return this.#xattrNames(inode, base, false).sort();
  }

  /** Whether it is the lowers' file itself, or another with the same object. */
  isSame(inode: Current<Node>, { refs }: Base): boolean {
    if (inode.upper !== undefined) return false;
    return samePlace(inode.lowers, refs) || sameObject(inode.lowers, refs);
  }

  /** What cannot be read, for want of rights, is taken for other contents. */
  #contentDiffers(inode: Current<Node>, attr: Attr, base: Base): boolean {
    try {
      return this.#bytesDiffer(inode, attr, base);
    } catch (error) {
      if (error instanceof FsError) return true;
      throw error;
    }
  }

  #bytesDiffer(inode: Current<Node>, attr: Attr, base: Base): boolean {
    const [lower] = base.refs;
    if (lower === undefined || inode.type === S_IFDIR) return false;
    if (inode.type === S_IFLNK) {
      return this.readlink(inode) !== lower.layer.readlink(lower.node);
    }
    if (inode.type !== S_IFREG) return false;
    if (attr.size !== base.attr.size) return true;
    if (inode.upper !== undefined) {
      const origin = this.#tree.upper.origin(inode.upper);
      if (samePlace(origin, base.refs) || sameObject(origin, base.refs)) {
        return this.#tree.upper.contentDiffers(inode.upper, this.#mustStop);
      }
    }
    this.#ours.clear();
    this.#theirs.clear();
    if (inode.upper !== undefined) {
      this.#tree.upper.read(inode.upper, 0, attr.size, this.#ours);
    } else {
      for (const { layer, node } of inode.lowers) layer.read(node, 0, attr.size, this.#ours);
    }
    lower.layer.read(lower.node, 0, attr.size, this.#theirs);
    return this.#tree.upper.bytesDiffer(this.#ours, this.#theirs, this.#mustStop);
  }

  /** Of a symlink. */
  readlink(inode: Current<Node>): Name {
    if (inode.upper !== undefined) return this.#tree.upper.readlink(inode.upper);
    const [ref] = inode.lowers;
    return ref?.layer.readlink(ref.node) ?? '';
  }

  /**
   * None, when they cannot be read.
   *
   * @param isFirstEnough  one is told of several.
   */
  #xattrNames(inode: Current<Node>, { refs: [lower] }: Base, isFirstEnough: boolean): Name[] {
    if (lower === undefined) return [];
    try {
      return this.#xattrsDiffer(inode, lower, isFirstEnough);
    } catch (error) {
      if (error instanceof FsError) return [];
      throw error;
    }
  }

  #xattrsDiffer(inode: Current<Node>, lower: LowerRef, isFirstEnough: boolean): Name[] {
    const { upper } = this.#tree;
    const [own] = inode.lowers;
    const names =
      inode.upper === undefined
        ? (own?.layer.listxattr(own.node) ?? [])
        : upper.listxattr(inode.upper);
    const before = lower.layer.listxattr(lower.node);
    const found: Name[] = [];
    for (const name of new Set([...names, ...before])) {
      const now =
        inode.upper === undefined
          ? own?.layer.getxattr(own.node, name)
          : upper.getxattr(inode.upper, name);
      const then = lower.layer.getxattr(lower.node, name);
      if (now === undefined && then === undefined) continue;
      if (now !== undefined && then !== undefined && Buffer.compare(now, then) === 0) continue;
      found.push(name);
      if (isFirstEnough) break;
    }
    return found;
  }
}

function ownerDiffers(a: Attr, b: Attr): boolean {
  return a.uid !== b.uid || a.gid !== b.gid;
}

function deviceDiffers(a: Attr, b: Attr): boolean {
  return a.rdevMajor !== b.rdevMajor || a.rdevMinor !== b.rdevMinor;
}

/** Of the last change of the contents; when a file was read, or its attributes were changed, is no work of anybody's. */
export function timesDiffer(a: Attr, b: Attr): boolean {
  return a.mtimeSec !== b.mtimeSec || a.mtimeNsec !== b.mtimeNsec;
}

/** Whether two stacks of lower nodes are the same place: a node is a place, and places have numbers. */
export function samePlace(a: readonly LowerRef[], b: readonly LowerRef[]): boolean {
  const [first] = a;
  const [second] = b;
  if (first === undefined || second === undefined) return first === second;
  if (first.layer !== second.layer) return false;
  if (first.node === second.node) return true;
  return numberOf(first) === numberOf(second);
}

/** Whether two places of commits have one object: then contents, owner, mode and attributes are the same. */
function sameObject([a]: readonly LowerRef[], [b]: readonly LowerRef[]): boolean {
  if (a === undefined || b === undefined) return false;
  const one = a.layer.place(a.node);
  const other = b.layer.place(b.node);
  return one.checksum !== undefined && one.checksum === other.checksum && one.meta === other.meta;
}

const numbered: Attr = new Attr();

/** The number of a lower's place, which no other place of that lower has. */
export function numberOf({ layer, node }: LowerRef): number {
  layer.attr(node, numbered);
  return numbered.ino;
}
