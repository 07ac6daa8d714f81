/**
 * One tree made of layers: what a name means, what a directory holds, and how a file gets into the upper.
 */
import { LRUCache } from 'lru-cache';
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFMT } from '../layers/layer.ts';
import type { Entries, LowerLayer, Name } from '../layers/layer.ts';
import { LowerStack } from '../layers/stack.ts';
import type { LowerRef, UpperLayer } from '../layers/upper.ts';
import { BegunListing } from './begun-listing.ts';
import { InodeTable } from './inode.ts';
import type { Inode } from './inode.ts';
import { ReadAhead } from './read-ahead.ts';

const DT_DIR = 4;

/** Names of lower directories that are kept between requests. */
const CACHED_NAMES_MAX = 100_000;

export class Tree<Node extends object> {
  readonly upper: UpperLayer<Node>;
  readonly table: InodeTable<Node>;
  readonly root: Inode<Node>;
  readonly stack: LowerStack;
  readonly ahead: ReadAhead<Node>;
  /** The listing to go on with between requests. */
  readonly begun: BegunListing = new BegunListing();
  /** Default ACLs are heeded. */
  readonly hasAcl: boolean;
  /** Upper nodes of lower files with several links, by their number: every name of the file leads here. */
  readonly #links: Map<number, Node> = new Map();
  /** And back. */
  readonly #numbers: WeakMap<Node, number> = new WeakMap();
  readonly #entries: LRUCache<Inode<Node>, Entries> = new LRUCache({
    maxSize: CACHED_NAMES_MAX,
    // A directory with more is the only one that is kept, but it is: each part of a listing would read it as a whole.
    sizeCalculation: (entries) =>
      entries.isComplete === false ? 1 : Math.min(entries.length + 16, CACHED_NAMES_MAX),
  });
  readonly #attr: Attr = new Attr();
  readonly #now: Float64Array = new Float64Array(2);

  /** @param lowers  topmost first. */
  constructor(lowers: readonly LowerLayer<object>[], upper: UpperLayer<Node>, hasAcl: boolean) {
    this.upper = upper;
    this.hasAcl = hasAcl;
    this.stack = new LowerStack(lowers);
    this.ahead = new ReadAhead(this);
    this.table = new InodeTable((inode) => this.#dropped(inode));
    const root = upper.attach(this.stack);
    const refs = root === undefined ? this.stack.roots : upper.origin(root);
    this.root = this.table.add(S_IFDIR, refs, root, undefined, '', 0);
    for (const [number, node] of upper.links()) this.#keep(number, node);
  }

  /** The inode of a handle. @throws FsError ESTALE. */
  inode(ino: number): Inode<Node> {
    const inode = this.table.get(ino);
    if (inode === undefined) throw new FsError('ESTALE');
    return inode;
  }

  /** A directory that still has a name. @throws FsError ENOTDIR, ENOENT. */
  directory(ino: number): Inode<Node> {
    const inode = this.inode(ino);
    if (inode.type !== S_IFDIR) throw new FsError('ENOTDIR');
    return inode;
  }

  attr(inode: Inode<Node>, attr: Attr): void {
    if (inode.upper !== undefined) {
      this.upper.attr(inode.upper, attr);
      return;
    }
    const { lowers } = inode;
    const [ref] = lowers;
    if (ref === undefined) throw new FsError('ESTALE');
    ref.layer.attr(ref.node, attr);
    if (lowers.length > 1) attr.nlink = this.#mergedLinks(inode);
  }

  /** The number of a directory as stat(2) shows it, which never changes. */
  shownIno(dir: Inode<Node>): number {
    const { directory } = dir;
    if (directory.shownIno === undefined) {
      this.attr(dir, this.#attr);
      directory.shownIno = this.#attr.ino;
    }
    return directory.shownIno;
  }

  /**
   * Finds a child, with its attributes. An inode that the kernel does not know yet has no references: whoever does not
   * give it one settles it.
   */
  find(parent: Inode<Node>, name: Name, attr: Attr): Inode<Node> | undefined {
    const known = parent.child(name);
    if (known !== undefined) {
      this.attr(known, attr);
      return known;
    }
    if (parent.upper !== undefined) {
      const entry = this.upper.lookup(parent.upper, name);
      if (entry !== undefined) {
        return entry.node === undefined
          ? undefined
          : this.#upperInode(parent, name, entry.node, attr);
      }
    }
    const lowers = this.stack.find(parent.lowers, name, attr);
    return lowers === undefined ? undefined : this.lowerInode(parent, name, lowers, attr);
  }

  /** The inode of a name that has no upper entry; `attr` are the lower's, and become the file's. */
  lowerInode(
    parent: Inode<Node>,
    name: Name,
    lowers: readonly LowerRef[],
    attr: Attr,
  ): Inode<Node> {
    const type = attr.mode & S_IFMT;
    if (type === S_IFDIR) {
      const inode = this.table.add(type, lowers, undefined, parent, name, 0);
      inode.directory.shownIno = attr.ino;
      if (lowers.length > 1) attr.nlink = this.#mergedLinks(inode);
      return inode;
    }
    if (attr.nlink <= 1) return this.table.add(type, lowers, undefined, parent, name, 0);
    const linkIno = attr.ino;
    const raised = this.#links.get(linkIno) ?? this.#lessened(linkIno, lowers, attr);
    if (raised === undefined) {
      return (
        this.table.ofLink(linkIno) ?? this.table.add(type, lowers, undefined, parent, name, linkIno)
      );
    }
    return this.#upperInode(parent, name, raised, attr);
  }

  /** What stands for a lower file that a session before this one has taken names from, and changed nothing else of. */
  #lessened(linkIno: number, lowers: readonly LowerRef[], attr: Attr): Node | undefined {
    const left = this.upper.linksLeft(linkIno);
    if (left === undefined) return undefined;
    attr.nlink = left;
    const node = this.upper.make(attr, lowers, undefined, true);
    this.upper.keepLink(linkIno, node);
    this.#keep(linkIno, node);
    return node;
  }

  #keep(number: number, node: Node): void {
    this.#links.set(number, node);
    this.#numbers.set(node, number);
  }

  #upperInode(parent: Inode<Node>, name: Name, node: Node, attr: Attr): Inode<Node> {
    this.upper.attr(node, attr);
    const known = this.table.ofUpper(node);
    if (known !== undefined) {
      // The name that it was known by has gone.
      if (known.parent === undefined) this.table.place(known, parent, name);
      return known;
    }
    const type = attr.mode & S_IFMT;
    const lowers = type === S_IFDIR ? this.upper.origin(node) : [];
    return this.table.add(type, lowers, node, parent, name, 0);
  }

  /** Whether a lower entry lies under a name: one that can be seen now, or not. */
  covers(parent: Inode<Node>, name: Name, isVisible: boolean): boolean {
    const entry = parent.upper === undefined ? undefined : this.upper.lookup(parent.upper, name);
    // A visible name without an entry is the lowers'.
    return entry?.covers ?? isVisible;
  }

  /** The upper node of a lower file with several links, by its number. */
  raised(linkIno: number): Node | undefined {
    return this.#links.get(linkIno);
  }

  /** Upper nodes of lower files that have, or had, several names. */
  linked(): Iterable<Node> {
    return this.#links.values();
  }

  /**
   * Brings an inode, and the directories above it, into the upper. Nothing that can be seen changes.
   *
   * @param mayOverdraw  for a removal, which a full layer must allow.
   * @param most  bytes of a file that are needed: it is cut to them.
   */
  copyUp(inode: Inode<Node>, mayOverdraw: boolean = false, most: number = Infinity): Node {
    const { parent, upper } = inode;
    if (upper !== undefined) {
      // The name that it was copied up by may have gone, and the lowers alone have this one.
      const isLinked = this.#links.size > 0 && this.#numbers.has(upper);
      if (isLinked && parent !== undefined) this.#nameAt(parent, inode.name, upper, mayOverdraw);
      return upper;
    }
    const directory = parent === undefined ? undefined : this.copyUp(parent, mayOverdraw);
    if (!mayOverdraw) {
      this.upper.require(this.upper.nodeBytes + this.upper.nameBytes(inode.name));
    }
    const node = this.#make(inode, mayOverdraw, most);
    if (directory !== undefined) this.#adopt(directory, inode.name, node, true);
    this.#raised(inode, node);
    return node;
  }

  /** As `copyUp`, and gives the upper node this name of the inode as well, if it has it in the lowers only. */
  copyUpAt(dir: Inode<Node>, name: Name, inode: Inode<Node>): Node {
    const node = this.copyUp(inode);
    this.#nameAt(dir, name, node, false);
    return node;
  }

  #nameAt(dir: Inode<Node>, name: Name, node: Node, mayOverdraw: boolean): void {
    const directory = this.copyUp(dir, mayOverdraw);
    if (this.upper.lookup(directory, name) !== undefined) return;
    if (!mayOverdraw) this.upper.require(this.upper.nameBytes(name));
    this.#adopt(directory, name, node, false);
  }

  /** @param isNew  the node has no other name, and goes when it cannot have this one. */
  #adopt(directory: Node, name: Name, node: Node, isNew: boolean): void {
    try {
      this.upper.adopt(directory, name, node);
    } catch (error) {
      if (isNew) this.upper.free(node);
      throw error;
    }
  }

  /** Gives an inode an upper node without a name, or the one it has. */
  raise(inode: Inode<Node>, mayOverdraw: boolean): Node {
    if (inode.upper !== undefined) return inode.upper;
    const node = this.#make(inode, mayOverdraw);
    this.#raised(inode, node);
    return node;
  }

  #make(inode: Inode<Node>, mayOverdraw: boolean, most: number = Infinity): Node {
    this.attr(inode, this.#attr);
    this.#attr.size = Math.min(this.#attr.size, most);
    const node = this.upper.make(this.#attr, inode.lowers, undefined, mayOverdraw);
    if (inode.linkIno !== undefined) this.upper.keepLink(inode.linkIno, node);
    return node;
  }

  #raised(inode: Inode<Node>, node: Node): void {
    this.table.raise(inode, node);
    if (inode.linkIno !== undefined) this.#keep(inode.linkIno, node);
  }

  /** Changes attributes of an upper node; `change` sees the old ones, with the time now in ctime. */
  update(node: Node, change: (attr: Attr) => void): void {
    const attr = this.#attr;
    this.upper.attr(node, attr);
    this.upper.now(this.#now);
    attr.ctimeSec = this.#now[0] ?? 0;
    attr.ctimeNsec = this.#now[1] ?? 0;
    change(attr);
    this.upper.setAttr(node, attr);
  }

  /** Names have come or gone in a directory: its times, and its links when a subdirectory did. */
  touchDirectory(node: Node, subdirectories: number): void {
    this.upper.modified(node);
    if (subdirectories === 0) return;
    const nlink = this.upper.nlink(node);
    // A file system that does not count subdirectories says 1.
    if (nlink > 1) this.upper.setNlink(node, nlink + subdirectories);
  }

  /** Takes a name of a node away by `act`: its links and its times. */
  unlink(node: Node, isDirectory: boolean, dir: Node, name: Name, act: () => void): void {
    this.relink(node, isDirectory ? 0 : this.upper.nlink(node) - 1, dir, name, act);
  }

  /** Gives or takes a name of a node by `act`: its links, as one step with it, and its times. */
  relink(node: Node, nlink: number, dir: Node, name: Name, act: () => void): void {
    this.upper.foretell(node, nlink, dir, name);
    try {
      act();
    } catch (error) {
      this.upper.setNlink(node, this.upper.nlink(node));
      throw error;
    }
    this.upper.setNlink(node, nlink);
    this.upper.touched(node);
  }

  /** Whether a directory that still exists was asked for; the root always does. */
  isRemoved(inode: Inode<Node>): boolean {
    return inode.upper !== undefined && this.upper.nlink(inode.upper) === 0;
  }

  /** Nobody knows the inode any more: an upper node without a name goes with it. */
  #dropped(inode: Inode<Node>): void {
    if (inode.type === S_IFDIR) this.#entries.delete(inode);
    if (inode.upper === undefined || this.upper.nlink(inode.upper) > 0) return;
    if (this.table.has(inode.upper)) return;
    const number = this.#numbers.get(inode.upper);
    if (number !== undefined) this.#links.delete(number);
    this.upper.free(inode.upper);
  }

  /** A merged directory's links: two, and one for each subdirectory. */
  #mergedLinks(inode: Inode<Node>): number {
    let links = 2;
    for (const type of this.lowerEntries(inode).types) if (type === DT_DIR) links++;
    return links;
  }

  /** The lowers' names of a directory, the upper apart; in the same order each time. */
  lowerEntries(dir: Inode<Node>): Entries {
    const cached = this.#entries.get(dir);
    if (cached !== undefined) return cached;
    const entries = this.stack.entries(dir.lowers);
    this.#entries.set(dir, entries);
    if (entries.isComplete === false) {
      // Complete, it counts for what it is.
      this.begun.begin(entries, () => {
        if (this.#entries.peek(dir) === entries) this.#entries.set(dir, entries);
      });
    }
    return entries;
  }

  /** The same, if somebody has listed the directory lately. */
  knownEntries(dir: Inode<Node>): Entries | undefined {
    return this.#entries.peek(dir);
  }
}
