/**
 * Taking single paths back to what the lowers have. The kernel has not asked for it, so what it remembers of the names is
 * no longer so: whoever calls this tells it. What is open goes on as if it had been removed.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import { samePlace } from './difference.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/** What became of a path. */
export interface Undone {
  /** As in `Change`. */
  path: string;
  /** The lowers' file is there again; nothing is there, as in the lowers; it was theirs already. */
  what: 'restored' | 'removed' | 'unchanged';
  /** Handles of the directory and of what its name stood for, to tell the kernel of; 0: nothing. */
  parent: number;
  child: number;
  name: Name;
}

/** Where a path is, and what the lowers have there. */
interface Target<Node extends object> {
  path: string;
  dir: Inode<Node>;
  name: Name;
  base: LowerRef[] | undefined;
  baseAttr: Attr;
}

const S_IFMT = 0o170000;

/**
 * All of the paths, or none.
 *
 * @throws FsError with words: EINVAL the root; ENOENT nothing there or in the lowers; EBUSY the directory is not where the
 *   lowers have it.
 */
export function undo<Node extends object>(tree: Tree<Node>, paths: readonly string[]): Undone[] {
  const work = new Undo(tree);
  try {
    for (const path of paths) work.locate(path);
    return paths.map((path) => work.undo(path));
  } finally {
    work.finish();
  }
}

class Undo<Node extends object> {
  readonly #tree: Tree<Node>;
  readonly #attr: Attr = new Attr();
  /** Inodes that the kernel may not know, and so nobody else settles; parents first. */
  readonly #met: Inode<Node>[] = [];

  constructor(tree: Tree<Node>) {
    this.#tree = tree;
  }

  finish(): void {
    for (const inode of this.#met.toReversed()) this.#tree.table.settle(inode);
  }

  #find(dir: Inode<Node>, name: Name): Inode<Node> | undefined {
    const inode = this.#tree.find(dir, name, this.#attr);
    if (inode !== undefined) this.#met.push(inode);
    return inode;
  }

  /** Finds a path, and refuses what cannot be undone. */
  locate(path: string): Target<Node> {
    const { root, stack } = this.#tree;
    const names = path.split('/').filter((name) => name !== '');
    const name = names.pop();
    if (name === undefined) throw new FsError('EINVAL', 'the root cannot be undone');
    let dir = root;
    let base: readonly LowerRef[] = root.lowers;
    for (const [index, each] of names.entries()) {
      const child = this.#find(dir, each);
      if (child?.type !== S_IFDIR) {
        const gone = `/${names.slice(0, index + 1).join('/')}`;
        throw new FsError('ENOENT', `${gone} is no directory now; undo that`);
      }
      base = stack.find(base, each, this.#attr) ?? [];
      dir = child;
    }
    const baseAttr = new Attr();
    const there = stack.find(base, name, baseAttr);
    if (there === undefined && this.#find(dir, name) === undefined) {
      throw new FsError('ENOENT', `${path} is neither in the session nor in its source`);
    }
    if (there !== undefined && !samePlace(dir.lowers, base)) {
      const moved = `/${names.join('/')}`;
      throw new FsError('EBUSY', `${moved} is not the directory that the source has; undo that`);
    }
    return { path, dir, name, base: there, baseAttr };
  }

  undo(path: string): Undone {
    const { upper } = this.#tree;
    const { dir, name, base, baseAttr } = this.locate(path);
    const current = this.#find(dir, name);
    const entry = dir.upper === undefined ? undefined : upper.lookup(dir.upper, name);
    const isLinked = base !== undefined && this.#isChangedLink(baseAttr);
    const result: Undone = { path, what: 'unchanged', parent: 0, child: 0, name };
    if (entry === undefined && !isLinked) return result;
    const dirNode = this.#tree.copyUp(dir, true);
    // Made first, since it can be refused.
    const copy = base !== undefined && isLinked ? this.#copyOf(base, baseAttr) : undefined;
    const before = current?.type === S_IFDIR ? 1 : 0;
    const after = base !== undefined && (baseAttr.mode & S_IFMT) === S_IFDIR ? 1 : 0;
    if (current !== undefined) {
      const covers = this.#tree.covers(dir, name, false);
      if (current.type === S_IFDIR) this.#discardChildren(current);
      this.#unlink(dir, name, current, covers);
    }
    if (copy !== undefined) upper.put(dirNode, name, copy, true, true);
    else if (base !== undefined) upper.uncover(dirNode, name);
    this.#tree.touchDirectory(dirNode, after - before);
    result.what = base === undefined ? 'removed' : 'restored';
    result.parent = dir.ino;
    result.child = current?.ino ?? 0;
    return result;
  }

  /** Whether a lower file has several names that lead to what a session made of it. */
  #isChangedLink(attr: Attr): boolean {
    const isDirectory = (attr.mode & S_IFMT) === S_IFDIR;
    return !isDirectory && attr.nlink > 1 && this.#tree.raised(attr.ino) !== undefined;
  }

  /** A file of its own, as the lowers have it. */
  #copyOf(base: LowerRef[], attr: Attr): Node {
    attr.ino = 0;
    attr.nlink = 1;
    return this.#tree.upper.make(attr, base, undefined, false);
  }

  /** Takes away everything in a directory, as if it had been removed: what is in use stays until it is forgotten. */
  #discardChildren(dir: Inode<Node>): void {
    const children = new Map(dir.directory.children);
    if (dir.upper !== undefined) {
      for (const { name, node } of this.#tree.upper.entries(dir.upper)) {
        const child = node === undefined ? undefined : this.#find(dir, name);
        if (child !== undefined) children.set(name, child);
      }
    }
    for (const [name, child] of children) {
      if (child.type === S_IFDIR) this.#discardChildren(child);
      const isNamed = dir.upper !== undefined && this.#tree.upper.lookup(dir.upper, name);
      // Of a file with more names in the lowers, those stay what they are.
      if (isNamed || child.linkIno === undefined) this.#unlink(dir, name, child, false);
      else this.#displace(dir, name, child);
    }
  }

  #unlink(dir: Inode<Node>, name: Name, inode: Inode<Node>, covers: boolean): void {
    const { upper } = this.#tree;
    const node = this.#tree.raise(inode, true);
    const parent = dir.upper;
    const isDirectory = inode.type === S_IFDIR;
    if (parent === undefined) {
      upper.setNlink(node, isDirectory ? 0 : upper.nlink(node) - 1);
      upper.touched(node);
    } else {
      this.#tree.unlink(node, isDirectory, parent, name, () => upper.remove(parent, name, covers));
    }
    this.#displace(dir, name, inode);
  }

  #displace(dir: Inode<Node>, name: Name, inode: Inode<Node>): void {
    if (inode.parent === dir && inode.name === name) this.#tree.table.displace(inode);
  }
}
