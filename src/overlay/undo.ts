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
  /** As it was given. */
  path: string;
  /** The same, without what is not needed in it. */
  place: string;
  /** Directories above it. */
  depth: number;
  dir: Inode<Node>;
  name: Name;
  base: LowerRef[] | undefined;
  baseAttr: Attr;
}

const S_IFMT = 0o170000;

/**
 * All of the paths, or none, unless room ends in the middle.
 *
 * @param tell  told of everything that is done, when it is done, for the kernel; also of names that no path was given for.
 * @throws FsError with words: EINVAL the root; ENOENT nothing there or in the lowers; EBUSY the directory is not where the
 *   lowers have it.
 */
export function undo<Node extends object>(
  tree: Tree<Node>,
  paths: readonly string[],
  tell: (undone: Undone) => void,
): Undone[] {
  const work = new Undo(tree, tell);
  try {
    const targets = paths.map((path) => work.locate(path));
    const done = new Map<string, Undone>();
    // What is in a directory that is undone is undone with it, and no more to be found then.
    for (const target of targets.toSorted((a, b) => a.depth - b.depth)) {
      const above = doneAbove(target.place, done);
      const undone = above === undefined ? work.undo(target.place) : undoneWith(target, above);
      done.set(target.place, undone);
    }
    return targets.map(({ path, place }) => ({ ...done.get(place)!, path }));
  } finally {
    work.finish();
  }
}

/** What was done at a path, or at a directory above it. */
function doneAbove(place: string, done: ReadonlyMap<string, Undone>): Undone | undefined {
  for (let at = place; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
    const undone = done.get(at);
    if (undone !== undefined) return undone;
  }
  return undefined;
}

function undoneWith<Node extends object>(
  { place, name, base }: Target<Node>,
  { what }: Undone,
): Undone {
  const own = base === undefined ? 'removed' : 'restored';
  return {
    path: place,
    what: what === 'unchanged' ? what : own,
    parent: 0,
    child: 0,
    name,
  };
}

class Undo<Node extends object> {
  readonly #tree: Tree<Node>;
  readonly #attr: Attr = new Attr();
  /** Inodes that are referred to, parents first, as often as they were met. */
  readonly #met: Inode<Node>[] = [];
  readonly #tell: (undone: Undone) => void;

  constructor(tree: Tree<Node>, tell: (undone: Undone) => void) {
    this.#tree = tree;
    this.#tell = tell;
  }

  finish(): void {
    for (const inode of this.#met.toReversed()) {
      inode.refs--;
      this.#tree.table.settle(inode);
    }
  }

  #find(dir: Inode<Node>, name: Name): Inode<Node> | undefined {
    const inode = this.#tree.find(dir, name, this.#attr);
    if (inode === undefined) return undefined;
    // What the kernel has forgotten must not go while it is worked on.
    inode.refs++;
    this.#met.push(inode);
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
      base = this.#directory(base, each);
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
    const place = `/${[...names, name].join('/')}`;
    return { path, place, depth: names.length, dir, name, base: there, baseAttr };
  }

  /** What the lowers have in a directory of this name; nothing in what is none. */
  #directory(base: readonly LowerRef[], name: Name): readonly LowerRef[] {
    const found = this.#tree.stack.find(base, name, this.#attr);
    return found !== undefined && (this.#attr.mode & S_IFMT) === S_IFDIR ? found : [];
  }

  undo(path: string): Undone {
    const { upper } = this.#tree;
    const { dir, name, base, baseAttr } = this.locate(path);
    const current = this.#find(dir, name);
    const entry = dir.upper === undefined ? undefined : upper.lookup(dir.upper, name);
    const isLinked = base !== undefined && this.#isChangedLink(baseAttr);
    const result: Undone = { path, what: 'unchanged', parent: 0, child: 0, name };
    // In a directory that was moved here, names that the upper does not have are new all the same.
    const isNew = base === undefined && current !== undefined;
    const links =
      current !== undefined && base !== undefined ? this.#separateLinks(path, current, base) : 0;
    if (entry === undefined && !isLinked && !isNew) {
      if (links > 0) result.what = 'restored';
      return result;
    }
    const dirNode = this.#tree.copyUp(dir, true);
    // Made first, since it can be refused.
    const copy = base !== undefined && isLinked ? this.#copyOf(base, baseAttr) : undefined;
    const before = current?.type === S_IFDIR ? 1 : 0;
    const after = base !== undefined && (baseAttr.mode & S_IFMT) === S_IFDIR ? 1 : 0;
    if (current !== undefined) {
      const covers = this.#tree.covers(dir, name, isNew);
      if (current.type === S_IFDIR) this.#discardChildren(current);
      this.#unlink(dir, name, current, covers);
    }
    if (copy !== undefined) upper.put(dirNode, name, copy, true, true);
    else if (base !== undefined) upper.uncover(dirNode, name);
    this.#tree.touchDirectory(dirNode, after - before);
    result.what = base === undefined ? 'removed' : 'restored';
    result.parent = dir.ino;
    result.child = current?.ino ?? 0;
    this.#tell(result);
    if (base !== undefined && after === 1) this.#restoreLinks(path, base);
    return result;
  }

  /**
   * Names of changed files with several, in a directory that is to be the lowers' again: each becomes a file of its own before
   * the directory goes, so that it is counted as a name no more.
   *
   * @returns how many there were.
   */
  #separateLinks(path: string, dir: Inode<Node>, base: readonly LowerRef[]): number {
    if (dir.type !== S_IFDIR || !samePlace(dir.lowers, base)) return 0;
    let count = 0;
    this.#forLinks(base, (name, refs, link) => {
      const child = this.#find(dir, name);
      if (child === undefined) return;
      if (link === undefined) count += this.#separateLinks(`${path}/${name}`, child, refs);
      else if (child.upper === link) {
        this.undo(`${path}/${name}`);
        count++;
      }
    });
    return count;
  }

  /** And when the directory is there again, and with it names that lead to what was changed. */
  #restoreLinks(path: string, base: readonly LowerRef[]): void {
    this.#forLinks(base, (name, refs, link) => {
      if (link === undefined) {
        this.#restoreLinks(`${path}/${name}`, refs);
        return;
      }
      this.#tree.upper.setNlink(link, this.#tree.upper.nlink(link) + 1);
      this.undo(`${path}/${name}`);
    });
  }

  /** Directories, and names of files with several that a session has changed, `link` being what it made of the file. */
  #forLinks(
    base: readonly LowerRef[],
    visit: (name: Name, refs: LowerRef[], link: Node | undefined) => void,
  ): void {
    const [first] = this.#tree.linked();
    if (first === undefined) return;
    for (const name of this.#tree.stack.entries(base).names) {
      const attr = new Attr();
      const refs = this.#tree.stack.find(base, name, attr);
      if (refs === undefined) continue;
      if ((attr.mode & S_IFMT) === S_IFDIR) visit(name, refs, undefined);
      else if (this.#isChangedLink(attr)) visit(name, refs, this.#tree.raised(attr.ino));
    }
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
