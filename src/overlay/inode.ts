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

/** One for all: arrays made where inodes are would have V8 compile that anew when many have survived. */
const NO_LOWERS: readonly LowerRef[] = [];

/** What only a directory has. */
export class Directory<Node extends object> {
  /** Inodes that have this one as parent. */
  pins = 0;
  /** Known children with one link, by name. */
  children: Map<Name, Inode<Node>> | undefined = undefined;
  /** The default ACL, once asked for; `null`: it has none. */
  defaultAcl: readonly AclEntry[] | null | undefined = undefined;
  /** What stat(2) shows as its number, for listings, once asked for. */
  shownIno: number | undefined = undefined;
  /** What lowers below the topmost have here. */
  below: readonly LowerRef[] = NO_LOWERS;
}

/**
 * There is one of every file that the kernel knows, so its bytes count: 112, and no other object belongs to a file. Fields
 * that may hold large numbers begin as `undefined`, or V8 gives each inode a box for them.
 */
export class Inode<Node extends object> {
  /** The transport's handle; never used again. */
  readonly ino: number;
  /** S_IFMT bits: they never change. */
  readonly type: number;
  upper: Node | undefined;
  /** Where it was found, for copy-up; `undefined` for the root, and when that name is gone. */
  parent: Inode<Node> | undefined;
  name: Name;
  /** References that the kernel holds. */
  refs = 0;
  /** It is known to have no security.capability, so nobody need look for it. */
  hasNoCapability = false;
  /** The lower file's number, when it has several links and is found by it. */
  linkIno: number | undefined = undefined;
  /** What the topmost of the lowers that have it has. */
  readonly #layer: LowerRef['layer'] | undefined;
  readonly #node: object | undefined;
  #directory: Directory<Node> | undefined = undefined;

  constructor(
    ino: number,
    type: number,
    lowers: readonly LowerRef[],
    upper: Node | undefined,
    name: Name,
  ) {
    this.ino = ino;
    this.type = type;
    this.upper = upper;
    this.parent = undefined;
    this.name = name;
    this.#layer = lowers[0]?.layer;
    this.#node = lowers[0]?.node;
    if (lowers.length > 1) this.directory.below = lowers.slice(1);
  }

  /** What the lowers have here, topmost first; several only for a directory. */
  get lowers(): readonly LowerRef[] {
    const layer = this.#layer;
    const node = this.#node;
    if (layer === undefined || node === undefined) return NO_LOWERS;
    const below = this.#directory?.below ?? NO_LOWERS;
    return below.length === 0 ? [{ layer, node }] : [{ layer, node }, ...below];
  }

  /** Made when it is first needed. */
  get directory(): Directory<Node> {
    return (this.#directory ??= new Directory());
  }

  child(name: Name): Inode<Node> | undefined {
    return this.#directory?.children?.get(name);
  }

  get hasChildren(): boolean {
    return (this.#directory?.children?.size ?? 0) > 0;
  }

  /** Whether another inode has it as parent. */
  get isPinned(): boolean {
    return this.#directory !== undefined && this.#directory.pins > 0;
  }
}

export class InodeTable<Node extends object> {
  readonly #byIno: Map<number, Inode<Node>> = new Map();
  readonly #byUpper: Map<Node, Inode<Node>> = new Map();
  readonly #byLink: Map<number, Inode<Node>> = new Map();
  /** Those whose names lead to others by now, with what they show the bytes of. */
  readonly #retired: Map<Inode<Node>, LowerRef | undefined> = new Map();
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
    const inode = new Inode(this.#next++, type, lowers, upper, name);
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

  /** Has the names of an inode lead to another, that is made when one of them is looked up next. */
  retire(inode: Inode<Node>): void {
    this.#retired.set(inode, inode.lowers[0]);
    this.displace(inode);
    if (inode.upper !== undefined) this.#byUpper.delete(inode.upper);
    if (inode.linkIno !== undefined) this.#byLink.delete(inode.linkIno);
  }

  get hasRetired(): boolean {
    return this.#retired.size > 0;
  }

  isRetired(inode: Inode<Node>): boolean {
    return this.#retired.has(inode);
  }

  /** Of a retired inode: whose bytes it shows, where that is not the upper. */
  source(inode: Inode<Node>): LowerRef | undefined {
    return this.#retired.get(inode);
  }

  /** Whether any inode has this upper node. */
  has(node: Node): boolean {
    if (this.#byUpper.has(node)) return true;
    for (const { upper } of this.#retired.keys()) if (upper === node) return true;
    return false;
  }

  /** Records that `name` in `parent` is where the inode is found from now on. */
  place(inode: Inode<Node>, parent: Inode<Node>, name: Name): void {
    this.displace(inode);
    inode.parent = parent;
    inode.name = name;
    const { directory } = parent;
    directory.pins++;
    directory.children ??= new Map();
    directory.children.set(name, inode);
  }

  /** Records that the inode is no longer where it was found. */
  displace(inode: Inode<Node>): void {
    const { parent } = inode;
    if (parent === undefined) return;
    const { directory } = parent;
    if (parent.child(inode.name) === inode) directory.children?.delete(inode.name);
    inode.parent = undefined;
    directory.pins--;
    this.settle(parent);
  }

  /** Drops an inode, and then its parents, if nobody refers to it. */
  settle(inode: Inode<Node>): void {
    if (inode.refs > 0 || inode.isPinned || inode.ino === ROOT_INO) return;
    if (!this.#byIno.delete(inode.ino)) return;
    if (!this.#retired.delete(inode)) {
      if (inode.upper !== undefined) this.#byUpper.delete(inode.upper);
      if (inode.linkIno !== undefined) this.#byLink.delete(inode.linkIno);
    }
    this.#onDrop(inode);
    this.displace(inode);
  }

  *[Symbol.iterator](): Generator<Inode<Node>> {
    yield* this.#byIno.values();
  }
}
