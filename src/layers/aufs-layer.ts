/**
 * A directory with the whiteouts of image layers in it, as container engines leave them when they unpack one for a mount
 * program: an empty file `.wh.NAME` hides NAME in the layers below, `.wh..wh..opq` all that they have in this directory.
 */
import type { ByteString } from '../native.ts';
import type { DirectoryLayer, DirectoryNode } from './directory.ts';
import { ListedEntries } from './entries.ts';
import { Attr, S_IFCHR } from './layer.ts';
import type { Entries, LowerLayer, Name, Place, Segments } from './layer.ts';

const PREFIX = '.wh.';
/** Names that begin with this are no whiteouts, and hidden. */
const META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
const DT_CHR = 2;
const NAME_MAX = 255;

/** Whiteouts are told as overlayfs has them: 0:0 devices. */
export class AufsLayer implements LowerLayer<DirectoryNode> {
  readonly root: DirectoryNode;
  readonly #inner: DirectoryLayer;
  readonly #above: boolean;
  readonly #attr: Attr = new Attr();

  /** @param above  There is a layer below; otherwise there is nothing to hide, and whiteouts are only left out. */
  constructor(inner: DirectoryLayer, above: boolean) {
    this.root = inner.root;
    this.#inner = inner;
    this.#above = above;
  }

  lookup(dir: DirectoryNode, name: Name, attr: Attr): DirectoryNode | undefined {
    if (name.startsWith(PREFIX)) return undefined;
    const found = this.#inner.lookup(dir, name, attr);
    if (found !== undefined || !this.#above) return found;
    const whiteout = this.#marker(dir, PREFIX + name, attr);
    if (whiteout === undefined) return undefined;
    attr.mode = S_IFCHR;
    attr.rdevMajor = 0;
    attr.rdevMinor = 0;
    return whiteout;
  }

  #marker(dir: DirectoryNode, name: Name, attr: Attr): DirectoryNode | undefined {
    return name.length > NAME_MAX ? undefined : this.#inner.lookup(dir, name, attr);
  }

  entries(dir: DirectoryNode): Entries {
    const all = this.#inner.entries(dir);
    if (!all.names.some((name) => name.startsWith(PREFIX))) return all;
    const seen = new Set(all.names);
    const names: Name[] = [];
    const types: number[] = [];
    const inos: number[] = [];
    for (const [i, name] of all.names.entries()) {
      const isMarker = name.startsWith(PREFIX);
      const hidden = name.slice(PREFIX.length);
      if (isMarker && (!this.#above || name.startsWith(META) || seen.has(hidden))) continue;
      names.push(isMarker ? hidden : name);
      types.push(isMarker ? DT_CHR : (all.types[i] ?? 0));
      inos.push(all.inos[i] ?? 0);
    }
    return new ListedEntries(names, Uint8Array.from(types), Float64Array.from(inos));
  }

  isOpaque(dir: DirectoryNode): boolean {
    if (!this.#above) return false;
    if (this.#inner.isOpaque(dir)) return true;
    if (this.#marker(dir, OPAQUE, this.#attr) !== undefined) return true;
    const { parent, name } = dir;
    // Removed, and made anew.
    return parent !== undefined && this.#marker(parent, PREFIX + name, this.#attr) !== undefined;
  }

  statMany(
    dir: DirectoryNode,
    names: Name[],
    from: number,
    count: number,
    visit: (index: number, attr: Attr) => void,
  ): void {
    this.#inner.statMany(dir, names, from, count, visit);
  }

  child(dir: DirectoryNode, name: Name): DirectoryNode {
    return this.#inner.child(dir, name);
  }

  attr(node: DirectoryNode, attr: Attr): void {
    this.#inner.attr(node, attr);
  }

  readlink(node: DirectoryNode): Name {
    return this.#inner.readlink(node);
  }

  read(node: DirectoryNode, offset: number, length: number, into: Segments): void {
    this.#inner.read(node, offset, length, into);
  }

  seek(node: DirectoryNode, offset: number, whence: number): number {
    return this.#inner.seek(node, offset, whence);
  }

  getxattr(node: DirectoryNode, name: ByteString): Uint8Array | undefined {
    return this.#inner.getxattr(node, name);
  }

  listxattr(node: DirectoryNode): ByteString[] {
    return this.#inner.listxattr(node);
  }

  place(node: DirectoryNode): Place {
    return this.#inner.place(node);
  }

  problems(): string[] {
    return this.#inner.problems();
  }

  close(): void {
    this.#inner.close();
  }
}
