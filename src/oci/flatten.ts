/**
 * The tree that the layers of an image make together, one applied after the other. Of files it knows where their data is:
 * in which layer, as which entry; contents are never held.
 *
 * As in a container, a symlink in the way to an entry is followed, and never leads out of the tree. What no image of an
 * honest tool has is refused by name: absolute paths, `..`, names twice in a layer, links to what is not there.
 */
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import type { Meta } from '../ostree/objects.ts';
import { pathParts } from './paths.ts';
import type { TarEntry } from './tar.ts';
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from './whiteouts.ts';

const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFDIR = 0o040000;
/** As the kernel: symlinks followed on the way to one name. */
const LINKS_MAX = 40;

/** A regular file, under as many names as it has. */
export interface ImageFile {
  kind: 'file';
  meta: Meta;
  /** The layer that has the data, and which of its entries it is, counted from 0. */
  layer: number;
  index: number;
  size: number;
}

export interface ImageLink {
  kind: 'symlink';
  meta: Meta;
  target: ByteString;
}

/** A device or fifo, which a commit cannot hold. */
interface Special {
  kind: 'special';
  what: string;
}

export interface ImageDirectory {
  kind: 'directory';
  meta: Meta;
  children: Map<ByteString, ImageNode>;
}

export type ImageNode = ImageFile | ImageLink | ImageDirectory | Special;

export class ImageTree {
  readonly root: ImageDirectory = directory(0o755);
  /** Most files have one of a few owners and modes, and no attributes. */
  readonly #metas: Map<string, Meta> = new Map();

  /** Begins the next layer, counted from 0. */
  layer(number: number): LayerApplication {
    return new LayerApplication(this, number);
  }

  /** Owner, mode and attributes of an entry; those without a value no commit can hold. @param type  S_IFMT bits. */
  meta(entry: TarEntry, type: number): Meta {
    const mode = type === S_IFLNK ? 0o777 : entry.mode;
    const xattrs = [...entry.xattrs]
      .filter(([, value]) => value.length > 0)
      .map(([name, value]) => ({ name, value: Buffer.from(value) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    if (xattrs.length > 0) {
      return { uid: entry.uid, gid: entry.gid, mode: type | mode, xattrs };
    }
    const key = `${entry.uid} ${entry.gid} ${type | mode}`;
    let meta = this.#metas.get(key);
    if (meta === undefined) {
      meta = { uid: entry.uid, gid: entry.gid, mode: type | mode, xattrs: [] };
      this.#metas.set(key, meta);
    }
    return meta;
  }

  /** Everything but the root: parents before what is in them, sorted by name. */
  *walk(): Generator<{ path: ByteString; node: ImageNode }> {
    yield* walkBelow('', this.root);
  }
}

function* walkBelow(
  path: ByteString,
  { children }: ImageDirectory,
): Generator<{ path: ByteString; node: ImageNode }> {
  for (const name of [...children.keys()].sort()) {
    const node = children.get(name);
    if (node === undefined) continue;
    const here = `${path}/${name}`;
    yield { path: here, node };
    if (node.kind === 'directory') yield* walkBelow(here, node);
  }
}

function directory(mode: number): ImageDirectory {
  const meta = { uid: 0, gid: 0, mode: S_IFDIR | mode, xattrs: [] };
  return { kind: 'directory', meta, children: new Map() };
}

/** One layer on its way into the tree. */
class LayerApplication {
  readonly #tree: ImageTree;
  readonly #layer: number;
  /** Names that this layer has made: whiteouts are about what is below it, whatever their order. */
  readonly #made: Map<ImageDirectory, Set<ByteString>> = new Map();
  #index = -1;

  constructor(tree: ImageTree, layer: number) {
    this.#tree = tree;
    this.#layer = layer;
  }

  /** Applies the next entry. @throws SessionError it is refused; the message names it. */
  apply(entry: TarEntry): void {
    this.#index++;
    const parts = pathParts(entry.path, 'the layer');
    const name = parts.pop();
    if (name === undefined) {
      if (entry.kind === 'directory') this.#tree.root.meta = this.#tree.meta(entry, S_IFDIR);
      return;
    }
    if (name.startsWith(WHITEOUT_PREFIX)) {
      const dir = this.#existing(parts);
      if (dir !== undefined) this.#whiteout(dir, name);
    } else this.#put(this.#directoryAt(parts, entry), name, entry);
  }

  #put(dir: ImageDirectory, name: ByteString, entry: TarEntry): void {
    const before = dir.children.get(name);
    const made = this.#madeIn(dir);
    const isAgain = entry.kind === 'directory' && before?.kind === 'directory';
    if (made.has(name) && !isAgain) throw refusal(entry, 'is in the layer twice');
    const node = this.#node(entry);
    if (node.kind === 'directory' && before?.kind === 'directory') before.meta = node.meta;
    else dir.children.set(name, node);
    made.add(name);
  }

  #node(entry: TarEntry): ImageNode {
    const tree = this.#tree;
    switch (entry.kind) {
      case 'directory':
        return { kind: 'directory', meta: tree.meta(entry, S_IFDIR), children: new Map() };
      case 'symlink':
        return { kind: 'symlink', meta: tree.meta(entry, S_IFLNK), target: entry.target };
      case 'link':
        return this.#linked(entry);
      case 'file': {
        const meta = tree.meta(entry, S_IFREG);
        return { kind: 'file', meta, layer: this.#layer, index: this.#index, size: entry.size };
      }
      default:
        return { kind: 'special', what: entry.kind.replace('-', ' ') };
    }
  }

  /** What a hard link leads to. */
  #linked(entry: TarEntry): ImageNode {
    const parts = pathParts(entry.target, 'a link of the layer');
    const name = parts.pop() ?? '';
    const node = this.#existing(parts)?.children.get(name);
    if (node === undefined)
      throw refusal(entry, `is a link to ${text(entry.target)}, which is not there`);
    if (node.kind === 'directory') throw refusal(entry, 'is a link to a directory');
    return node;
  }

  #whiteout(dir: ImageDirectory, name: ByteString): void {
    if (name === OPAQUE_MARKER) this.#prune(dir);
    // Others that begin so are aufs's own.
    else if (!name.startsWith(`${WHITEOUT_PREFIX}${WHITEOUT_PREFIX}`)) {
      this.#remove(dir, name.slice(WHITEOUT_PREFIX.length));
    }
  }

  /** Takes away what layers below have at a name. */
  #remove(dir: ImageDirectory, name: ByteString): void {
    const node = dir.children.get(name);
    if (!this.#madeIn(dir).has(name)) dir.children.delete(name);
    else if (node?.kind === 'directory') this.#prune(node);
  }

  #prune(dir: ImageDirectory): void {
    for (const name of dir.children.keys()) this.#remove(dir, name);
  }

  #madeIn(dir: ImageDirectory): Set<ByteString> {
    let made = this.#made.get(dir);
    if (made === undefined) this.#made.set(dir, (made = new Set()));
    return made;
  }

  /** The directory of an entry; what is missing of it is made. */
  #directoryAt(parts: ByteString[], entry: TarEntry): ImageDirectory {
    const dir = this.#resolve(parts, true);
    if (dir === undefined) throw refusal(entry, 'lies below what is no directory');
    return dir;
  }

  #existing(parts: ByteString[]): ImageDirectory | undefined {
    return this.#resolve(parts, false);
  }

  /** Follows directories and symlinks from the root, which nothing leads out of. */
  #resolve(parts: readonly ByteString[], makes: boolean): ImageDirectory | undefined {
    const stack: ImageDirectory[] = [this.#tree.root];
    const left = parts.toReversed();
    let links = 0;
    for (let name; (name = left.pop()) !== undefined;) {
      const dir = stack.at(-1) ?? this.#tree.root;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (stack.length > 1) stack.pop();
        continue;
      }
      let node = dir.children.get(name);
      if (node === undefined) {
        if (!makes) return undefined;
        node = directory(0o755);
        dir.children.set(name, node);
      }
      // What leads to an entry is as much of this layer as the entry.
      if (makes) this.#madeIn(dir).add(name);
      if (node.kind === 'directory') stack.push(node);
      else if (node.kind === 'symlink' && ++links <= LINKS_MAX) {
        if (node.target.startsWith('/')) stack.length = 1;
        left.push(...node.target.split('/').toReversed());
      } else return undefined;
    }
    return stack.at(-1);
  }
}

function text(path: ByteString): string {
  return Buffer.from(path, 'latin1').toString();
}

function refusal(entry: TarEntry, why: string): SessionError {
  return new SessionError(
    `${text(entry.path)} ${why}`,
    'have the image made again by a tool that keeps to the rules',
  );
}
