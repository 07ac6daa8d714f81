/**
 * The nodes of a directory upper: read from the host when they are first asked for, true for ever after, since nobody else
 * writes there; and what the lowers have behind each directory.
 */
import { check, FsError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import { Attr, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG } from './layer.ts';
import type { Name } from './layer.ts';
import { Names } from './names.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';
import type { LowerStack } from './stack.ts';
import type { LowerRef } from './upper.ts';

const DT_DIR = 4;
const BATCH = 64;

/** Numbers of files that no lower has begin here: above every lower's. */
const FIRST_INO: number = 2 ** 52;

const NOTHING: readonly LowerRef[] = [];

export class HostTree {
  readonly #host: Host;
  readonly #marks: Marks;
  readonly #root: HostNode;
  #stack: LowerStack | undefined;
  #nextIno = FIRST_INO;
  /** Files with several names on the host, by their number there. */
  readonly #linked: Map<number, HostNode> = new Map();
  readonly #batch: Float64Array = new Float64Array(STAT_FIELDS * BATCH);
  readonly #attr: Attr = new Attr();

  constructor(host: Host, marks: Marks, root: HostNode) {
    this.#host = host;
    this.#marks = marks;
    this.#root = root;
  }

  attach(stack: LowerStack): void {
    this.#stack = stack;
    this.#root.origin = this.#marks.isOpaque(this.#root) ? NOTHING : stack.roots;
    const [top] = stack.roots;
    if (top === undefined) this.#root.ino = this.nextIno();
    else {
      top.layer.attr(top.node, this.#attr);
      this.#root.ino = this.#attr.ino;
    }
  }

  /** Whether what a path from the root of the upper refers to is in the lowers: where a directory was, or a file's data. */
  hasReferred(path: Name): boolean {
    let node: HostNode | undefined = this.#root;
    for (const name of path.split('/')) node = node && this.names(node).entries.get(name)?.node;
    if (node === undefined) return false;
    const behind = node.isDirectory ? this.origin(node) : this.#behind(node, this.#attr);
    return behind.length > 0 && (node.isDirectory || (this.#attr.mode & S_IFMT) === S_IFREG);
  }

  nextIno(): number {
    return this.#nextIno++;
  }

  names(dir: HostNode): Names<HostNode> {
    if (!dir.isDirectory) throw new FsError('ENOTDIR');
    if (dir.names === undefined) {
      dir.names = this.#load(dir);
      if (dir.nlink < 0) dir.nlink = this.#countLinks(dir, dir.names);
    }
    return dir.names;
  }

  #load(dir: HostNode): Names<HostNode> {
    const loaded = new Names<HostNode>();
    const { names } = this.#host.list(dir);
    const origin = this.origin(dir);
    for (let at = 0; at < names.length; at += BATCH) {
      const count = Math.min(BATCH, names.length - at);
      check(this.#host.native.statMany(this.#host.directory(dir), names, at, count, this.#batch));
      for (let i = 0; i < count; i++) {
        this.#enter(loaded, dir, origin, names[at + i] ?? '', i * STAT_FIELDS);
      }
    }
    return loaded;
  }

  /** One name of a directory, of which the host has told at `at` in the batch. */
  #enter(
    into: Names<HostNode>,
    dir: HostNode,
    origin: readonly LowerRef[],
    name: Name,
    at: number,
  ): void {
    check(-(this.#batch[at + STAT.ERRNO] ?? 0));
    const mode = this.#batch[at + STAT.MODE] ?? 0;
    const isDevice = (mode & S_IFMT) === S_IFCHR;
    if (
      isDevice &&
      this.#batch[at + STAT.RDEV_MAJOR] === 0 &&
      this.#batch[at + STAT.RDEV_MINOR] === 0
    ) {
      into.remove(name, true);
      return;
    }
    const node = this.#nodeOf(mode, at);
    node.place(dir, name);
    const covers = this.#stack?.find(origin, name, this.#attr) !== undefined;
    into.put(name, node, covers, covers);
  }

  #nodeOf(mode: number, at: number): HostNode {
    const isFile = (mode & S_IFMT) !== S_IFDIR;
    const nlink = this.#batch[at + STAT.NLINK] ?? 1;
    const isRegular = (mode & S_IFMT) === S_IFREG;
    if (!isFile || nlink === 1) {
      return new HostNode(this.#nextIno++, mode, isFile ? nlink : -1, isRegular);
    }
    const number = hostNumber(this.#batch, at);
    const known = this.#linked.get(number);
    if (known !== undefined) return known;
    const node = new HostNode(this.#nextIno++, mode, nlink, isRegular);
    this.#linked.set(number, node);
    return node;
  }

  /** The node of a file in the folder of links, read at the start. */
  link(dir: HostNode, name: Name): HostNode {
    check(this.#host.native.statx(this.#host.directory(dir), name, 0, this.#batch));
    const mode = this.#batch[STAT.MODE] ?? 0;
    const isRegular = (mode & S_IFMT) === S_IFREG;
    const node = new HostNode(this.#nextIno++, mode, this.#batch[STAT.NLINK] ?? 1, isRegular);
    this.#linked.set(hostNumber(this.#batch, 0), node);
    node.place(dir, name);
    node.nlink += this.#marks.extraLinks(node) ?? -1;
    node.link = Number(name);
    return node;
  }

  /** What the lowers have behind a directory. */
  origin(node: HostNode): readonly LowerRef[] {
    if (node.origin !== undefined) return node.origin;
    if (!node.isDirectory) return NOTHING;
    node.origin = this.#marks.isOpaque(node) ? NOTHING : this.#behind(node, this.#attr);
    if (node.origin.length > 0 && (this.#attr.mode & S_IFMT) !== S_IFDIR) node.origin = NOTHING;
    return node.origin;
  }

  /** What the lowers have where a directory or file of the upper is, or came from; the attributes of the topmost in `attr`. */
  #behind(node: HostNode, attr: Attr): readonly LowerRef[] {
    const { dir } = node;
    if (dir === undefined || this.#stack === undefined) return NOTHING;
    const redirect = this.#marks.redirect(node);
    if (redirect?.startsWith('/') !== true) {
      const name = redirect ?? node.name;
      if (redirect !== undefined) node.redirect = `${this.lowerPath(dir)}/${redirect}`;
      return this.#stack.find(this.origin(dir), name, attr) ?? NOTHING;
    }
    node.redirect = redirect;
    let refs: readonly LowerRef[] = this.#stack.roots;
    for (const name of redirect.slice(1).split('/')) {
      refs = this.#stack.find(refs, name, attr) ?? NOTHING;
    }
    return refs;
  }

  /** Where the data of a file is that was copied up without. @throws FsError EIO when it is gone. */
  dataOf(node: HostNode): LowerRef {
    const [from] = this.#behind(node, this.#attr);
    if (from === undefined || (this.#attr.mode & S_IFMT) !== S_IFREG) {
      throw new FsError('EIO', `${node.name}: its data is not in the lower`);
    }
    return from;
  }

  /** Where a directory's origin is, from the root of the lowers, '' for the root itself. */
  lowerPath(node: HostNode): Name {
    if (node === this.#root) return '';
    this.origin(node);
    if (node.redirect !== undefined) return node.redirect;
    if (node.dir === undefined) throw new FsError('ESTALE');
    return `${this.lowerPath(node.dir)}/${node.name}`;
  }

  /** A node's links; a directory's are counted when its names are read. */
  nlink(node: HostNode): number {
    if (node.nlink < 0) this.names(node);
    return node.nlink;
  }

  /** Two, and one for each subdirectory that can be seen. */
  #countLinks(dir: HostNode, { entries }: Names<HostNode>): number {
    let nlink = 2;
    for (const entry of entries.values()) if (entry.node?.isDirectory === true) nlink++;
    const origin = this.origin(dir);
    if (origin.length === 0 || this.#stack === undefined) return nlink;
    const { names, types } = this.#stack.entries(origin);
    for (const [i, name] of names.entries()) {
      if (types[i] === DT_DIR && !entries.has(name)) nlink++;
    }
    return nlink;
  }
}

/** A file's number on its filesystem. Two numbers beyond 2^53 may meet; a filesystem that has such is not known. */
export function hostNumber(stat: Float64Array, at: number): number {
  return (stat[at + STAT.INO_HIGH] ?? 0) * 2 ** 32 + (stat[at + STAT.INO_LOW] ?? 0);
}
