/**
 * The files that the kernel knows, and the tables that find them.
 *
 * An inode is a stack of layer nodes: at most one of the upper, above what the lowers have. It is found by its place (a
 * directory's `children`), by its upper node, or, for a lower file with several links, by its number; never by a path.
 */
import type { Name } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import type { AclEntry } from './acl.ts';
import { ROOT_INO } from './filesystem.ts';

export class Inode<Node extends object> {
  /** The transport's handle; never used again. */
  readonly ino: number;
  /** S_IFMT bits: they never change. */
  readonly type: number;
  /** What the lowers have here, topmost first; several only for a directory. */
  readonly lowers: readonly LowerRef[];
  upper: Node | undefined;
  /** Where it was found, for copy-up; `undefined` for the root, and when that name is gone. */
  parent: Inode<Node> | undefined;
  name: Name;
  /** References that the kernel holds. */
  refs = 0;
  /** Inodes that have this one as parent. */
  pins = 0;
  /** Known children with one link, by name: a directory's. */
  children: Map<Name, Inode<Node>> | undefined = undefined;
  /** A directory's default ACL, once asked for; `null`: it has none. */
  defaultAcl: readonly AclEntry[] | null | undefined = undefined;
  /** It is known to have no security.capability, so a write need not look for it. */
  hasNoCapability = false;
  /** What stat(2) shows as a directory's number, for listings; 0 until it is asked for. */
  shownIno = 0;
  /** The lower file's number, when it has several links and is found by it. */
  linkIno = 0;

  constructor(
    ino: number,
    type: number,
    lowers: readonly LowerRef[],
    upper: Node | undefined,
    parent: Inode<Node> | undefined,
    name: Name,
  ) {
    this.ino = ino;
    this.type = type;
    this.lowers = lowers;
    this.upper = upper;
    this.parent = parent;
    this.name = name;
  }
}

export class InodeTable<Node extends object> {
  readonly #byIno: Map<number, Inode<Node>> = new Map();
  readonly #byUpper: Map<Node, Inode<Node>> = new Map();
  readonly #byLink: Map<number, Inode<Node>> = new Map();
  readonly #onDrop: (inode: Inode<Node>) => void;
  #next = ROOT_INO;

  /** @param onDrop  told of each inode that nobody refers to any more. */
  constructor(onDrop: (inode: Inode<Node>) => void) {
    this.#onDrop = onDrop;
  }

  get size(): number {
    return this.#byIno.size;
  }

  get(ino: number): Inode<Node> | undefined {
    return this.#byIno.get(ino);
  }

  ofUpper(node: Node): Inode<Node> | undefined {
    return this.#byUpper.get(node);
  }

  /** The inode of a lower file with several links. */
  ofLink(linkIno: number): Inode<Node> | undefined {
    return this.#byLink.get(linkIno);
  }

  /**
   * Makes the inode of a place.
   *
   * @param linkIno  the number of a lower file with several links; 0 otherwise.
   */
  add(
    type: number,
    lowers: readonly LowerRef[],
    upper: Node | undefined,
    parent: Inode<Node> | undefined,
    name: Name,
    linkIno: number,
  ): Inode<Node> {
    const inode = new Inode(this.#next++, type, lowers, upper, undefined, name);
    this.#byIno.set(inode.ino, inode);
    if (upper !== undefined) this.#byUpper.set(upper, inode);
    if (linkIno !== 0) {
      inode.linkIno = linkIno;
      this.#byLink.set(linkIno, inode);
    }
    if (parent !== undefined) this.place(inode, parent, name);
    return inode;
  }

  /** Gives an inode its upper node. */
  raise(inode: Inode<Node>, upper: Node): void {
    inode.upper = upper;
    this.#byUpper.set(upper, inode);
  }

  /** Records that `name` in `parent` is where the inode is found from now on. */
  place(inode: Inode<Node>, parent: Inode<Node>, name: Name): void {
    this.displace(inode);
    inode.parent = parent;
    inode.name = name;
    parent.pins++;
    parent.children ??= new Map();
    parent.children.set(name, inode);
  }

  /** Records that the inode is no longer where it was found. */
  displace(inode: Inode<Node>): void {
    const { parent } = inode;
    if (parent === undefined) return;
    if (parent.children?.get(inode.name) === inode) parent.children.delete(inode.name);
    inode.parent = undefined;
    parent.pins--;
    this.settle(parent);
  }

  /** Drops an inode, and then its parents, if nobody refers to it. */
  settle(inode: Inode<Node>): void {
    if (inode.refs > 0 || inode.pins > 0 || inode.ino === ROOT_INO) return;
    if (!this.#byIno.delete(inode.ino)) return;
    if (inode.upper !== undefined) this.#byUpper.delete(inode.upper);
    if (inode.linkIno !== 0) this.#byLink.delete(inode.linkIno);
    this.#onDrop(inode);
    this.displace(inode);
  }

  *[Symbol.iterator](): Generator<Inode<Node>> {
    yield* this.#byIno.values();
  }
}
