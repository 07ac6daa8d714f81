/**
 * What a commit is built of: files and directories that are stored, or already are. Where they come from is of three kinds:
 * the session's snapshot, the commit that the session is over, and directories that it is over.
 */
import { isUtf8 } from 'node:buffer';
import { setImmediate } from 'node:timers/promises';
import type { DirectoryLayer, DirectoryNode } from '../layers/directory.ts';
import { Attr, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Segments } from '../layers/layer.ts';
import type { Name, Place } from '../layers/layer.ts';
import { native, type ByteString } from '../native.ts';
import { fileInfo, fileXattrs } from '../ostree/content.ts';
import { contents } from '../ostree/data.ts';
import type { Checksum, Xattr } from '../ostree/objects.ts';
import type { TreeDirectory, TreeFile } from '../ostree/object-bytes.ts';
import type { Repository } from '../ostree/repo.ts';
import type { RepositoryWriter } from '../ostree/writer.ts';
import { SessionError } from '../errors.ts';

/** Of files in a commit that stand for 0:0 devices. */
const WHITEOUT = '.ostree-wh.';
const CHUNK = 256 * 1024;
/** Bytes between two looks at signals, and what a file counts besides its bytes. */
const BREATH = 8 * 1024 * 1024;
const FILE_COST = 64 * 1024;

export interface DirectoryObjects {
  tree: Checksum;
  meta: Checksum;
}

/** Something under a name, stored when it is known that it stays. */
export type Child =
  | { kind: 'file'; store(): Soon<Checksum | undefined> }
  | { kind: 'directory'; store(): Soon<DirectoryObjects> };
/** Most of what a commit has is stored already, and to wait for each takes longer than to write it down. */
type Soon<T> = T | Promise<T>;
export type Children = Map<Name, Child>;

/** What is known of a file or directory, its data apart. */
export interface Description {
  mode: number;
  uid: number;
  gid: number;
  rdevMajor: number;
  rdevMinor: number;
  target?: Name | undefined;
  xattrs: readonly { name: ByteString; value: Uint8Array }[];
}

export interface StoreOptions {
  /** Leave out what cannot be stored, instead of refusing it. */
  skipSpecial: boolean;
  /** Take names that would become whiteouts when they are checked out. */
  allowWhiteouts: boolean;
  /** Told of the bytes of each piece of a file that has been read. */
  onBytes: (bytes: number) => void;
  /** Told of each file that has been read. */
  onFile: () => void;
  signal: AbortSignal | undefined;
}

type Data = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
type Reader = (use: (data: Data) => Promise<Checksum>) => Promise<Checksum>;

export class CommitStore {
  readonly writer: RepositoryWriter;
  /** What cannot be stored, each with why; all of it, so that it can be told at once. */
  readonly refused: { path: ByteString; why: string }[] = [];
  /** What was left out instead. */
  readonly skipped: ByteString[] = [];
  readonly #options: StoreOptions;
  #sinceBreath = 0;

  constructor(writer: RepositoryWriter, options: StoreOptions) {
    this.writer = writer;
    this.#options = options;
  }

  /** @returns whether the name can be stored. */
  checkName(path: ByteString): boolean {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (!isUtf8(Buffer.from(name, 'latin1'))) return this.#refuse(path, 'its name is not UTF-8');
    if (!name.startsWith(WHITEOUT) || this.#options.allowWhiteouts) return true;
    this.refused.push({ path, why: 'its name would make it a whiteout' });
    return false;
  }

  #refuse(path: ByteString, why: string): false {
    if (this.#options.skipSpecial) this.skipped.push(path);
    else this.refused.push({ path, why });
    return false;
  }

  /**
   * Stores a file or symlink, and puts it among the children of its directory.
   *
   * @param read  has the bytes of a regular file read, perhaps more than once.
   */
  async file(
    children: Children,
    path: ByteString,
    from: Description,
    read: Reader | undefined,
  ): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const name = path.slice(path.lastIndexOf('/') + 1);
    const type = from.mode & S_IFMT;
    const isPayload = type === S_IFCHR && from.rdevMajor === 0 && from.rdevMinor === 0;
    const header = {
      uid: from.uid,
      gid: from.gid,
      mode: isPayload ? S_IFREG | (from.mode & 0o7777) : from.mode,
      target: '',
      xattrs: xattrsOf(from),
    };
    if (type === S_IFLNK) {
      header.target = from.target ?? '';
      header.mode = S_IFLNK | 0o777;
      if (!isUtf8(Buffer.from(header.target, 'latin1'))) {
        this.#refuse(path, 'its target is not UTF-8');
        return;
      }
    } else if (type !== S_IFREG && !isPayload) {
      this.#refuse(path, KINDS.get(type) ?? 'it is neither a file nor a symlink');
      return;
    }
    const checksum =
      read === undefined
        ? await this.writer.writeContent(header)
        : await read((data) => this.writer.writeContent(header, this.#counted(data)));
    if (read !== undefined) this.#options.onFile();
    children.set(isPayload ? WHITEOUT + name : name, { kind: 'file', store: () => checksum });
  }

  async *#counted(data: Data): AsyncGenerator<Uint8Array> {
    for await (const chunk of data) {
      this.#options.signal?.throwIfAborted();
      this.#options.onBytes(chunk.length);
      this.#sinceBreath += chunk.length + FILE_COST;
      if (this.#sinceBreath > BREATH) {
        this.#sinceBreath = 0;
        await setImmediate();
      }
      yield chunk;
    }
  }

  /**
   * Stores a directory and all that is in it.
   *
   * @param given  its dirmeta, when it stays what it was.
   */
  async directory(
    from: Description,
    children: Children,
    given?: Checksum,
  ): Promise<DirectoryObjects> {
    const files: TreeFile[] = [];
    const dirs: TreeDirectory[] = [];
    for (const [name, child] of children) {
      if (child.kind === 'file') {
        const stored = child.store();
        const checksum = stored instanceof Promise ? await stored : stored;
        if (checksum !== undefined) files.push({ name, checksum });
      } else {
        const stored = child.store();
        const { tree, meta } = stored instanceof Promise ? await stored : stored;
        dirs.push({ name, checksum: tree, meta });
      }
    }
    const tree = this.writer.writeDirTree(files, dirs);
    if (given !== undefined && this.writer.has(given, 'dirmeta')) return { tree, meta: given };
    const { uid, gid, mode } = from;
    return { tree, meta: this.writer.writeDirMeta({ uid, gid, mode, xattrs: xattrsOf(from) }) };
  }
}

const KINDS = new Map([
  [S_IFCHR, 'it is a device'],
  [0o060000, 'it is a device'],
  [0o010000, 'it is a fifo'],
  [0o140000, 'it is a socket'],
]);

function xattrsOf({ xattrs }: Description): Xattr[] {
  return xattrs.map(({ name, value }) => ({ name, value: Buffer.from(value) }));
}

/** Removes a name, and the file of the commit that shows as a device of this name. */
export function removeChild(children: Children, name: Name): void {
  children.delete(name);
  children.delete(WHITEOUT + name);
}

/** What the session is over, by places of it. */
export interface Base {
  /** What a directory holds. */
  children(place: Place): Promise<Children>;
  child(place: Place): Promise<Child | undefined>;
}

/** A commit: what did not change keeps its checksums. */
export class CommitBase implements Base {
  readonly #source: Repository;
  readonly #store: CommitStore;
  readonly #isThere: boolean;

  /** @param isThere  the repository that is written has all of the commit; else what it lacks is copied. */
  constructor(source: Repository, store: CommitStore, isThere: boolean) {
    this.#source = source;
    this.#store = store;
    this.#isThere = isThere;
  }

  children({ checksum = '' }: Place): Promise<Children> {
    const children: Children = new Map();
    const { files, dirs } = this.#source.dirTree(checksum);
    for (const [index, name] of files.names.entries()) {
      children.set(name, this.#childOf({ checksum: files.checksum(index) }));
    }
    for (const [index, name] of dirs.names.entries()) {
      const meta = dirs.checksum(index, 1);
      children.set(name, this.#childOf({ checksum: dirs.checksum(index), meta }));
    }
    return Promise.resolve(children);
  }

  child(place: Place): Promise<Child> {
    return Promise.resolve(this.#childOf(place));
  }

  #childOf(place: Place): Child {
    const { checksum = '', meta } = place;
    if (meta === undefined) {
      return { kind: 'file', store: () => (this.#isThere ? checksum : this.#copied(checksum)) };
    }
    if (this.#isThere) return { kind: 'directory', store: () => ({ tree: checksum, meta }) };
    return {
      kind: 'directory',
      store: async () => {
        const from = { ...this.#source.dirMeta(meta), rdevMajor: 0, rdevMinor: 0 };
        return this.#store.directory(from, await this.children(place));
      },
    };
  }

  #copied(checksum: Checksum): Promise<Checksum> {
    const info = fileInfo(this.#source, checksum);
    const header = { ...info, xattrs: info.xattrs ?? fileXattrs(this.#source, checksum) };
    const isRegular = (info.mode & S_IFMT) === S_IFREG;
    return this.#store.writer.writeContent(
      header,
      isRegular ? contents(this.#source, checksum) : undefined,
    );
  }
}

/** Directories of the host: everything in them is read and stored. */
export class DirectoryBase implements Base {
  readonly #layer: (index: number) => DirectoryLayer;
  readonly #store: CommitStore;
  readonly #segments: Segments = new Segments();

  /** @param layer  the lower of an index, topmost first. */
  constructor(layer: (index: number) => DirectoryLayer, store: CommitStore) {
    this.#layer = layer;
    this.#store = store;
  }

  children(place: Place & { layer?: number }): Promise<Children> {
    const { layer, node } = this.#find(place);
    return this.#childrenOf(layer, node, `/${place.path ?? ''}`.replace(/\/$/, ''));
  }

  async child(place: Place & { layer?: number }): Promise<Child | undefined> {
    const { layer, node } = this.#find(place);
    const children: Children = new Map();
    const parent = `/${place.path ?? ''}`.replace(/\/[^/]*$/, '');
    await this.#add(children, layer, node, parent);
    return [...children.values()][0];
  }

  #find({ layer: index = 0, path = '' }: Place & { layer?: number }): {
    layer: DirectoryLayer;
    node: DirectoryNode;
  } {
    const layer = this.#layer(index);
    let node = layer.root;
    for (const name of path.split('/')) if (name !== '') node = layer.child(node, name);
    return { layer, node };
  }

  async #childrenOf(layer: DirectoryLayer, dir: DirectoryNode, path: string): Promise<Children> {
    const children: Children = new Map();
    for (const name of layer.entries(dir).names) {
      await this.#add(children, layer, layer.child(dir, name), path);
    }
    return children;
  }

  async #add(
    children: Children,
    layer: DirectoryLayer,
    node: DirectoryNode,
    parent: string,
  ): Promise<void> {
    const path = `${parent}/${node.name}`;
    // A name that stays what it is is asked for once it is known to stay.
    const attr = new Attr();
    layer.attr(node, attr);
    if ((attr.mode & S_IFMT) === S_IFDIR) {
      children.set(node.name, {
        kind: 'directory',
        store: async () => {
          this.#store.checkName(path);
          const from = this.#described(layer, node, attr);
          return this.#store.directory(from, await this.#childrenOf(layer, node, path));
        },
      });
      return;
    }
    children.set(node.name, {
      kind: 'file',
      store: async () => {
        if (!this.#store.checkName(path)) return undefined;
        const stored: Children = new Map();
        const read: Reader | undefined =
          (attr.mode & S_IFMT) === S_IFREG
            ? (use) => use(this.#data(layer, node, attr.size))
            : undefined;
        await this.#store.file(stored, path, this.#described(layer, node, attr), read);
        const [child] = stored.values();
        return child?.kind === 'file' ? child.store() : undefined;
      },
    });
  }

  #described(layer: DirectoryLayer, node: DirectoryNode, attr: Attr): Description {
    const { mode, uid, gid, rdevMajor, rdevMinor } = attr;
    const xattrs = layer.listxattr(node).flatMap((name) => {
      const value = layer.getxattr(node, name);
      return value === undefined ? [] : [{ name, value }];
    });
    const target = (mode & S_IFMT) === S_IFLNK ? layer.readlink(node) : undefined;
    return { mode, uid, gid, rdevMajor, rdevMinor, target, xattrs };
  }

  *#data(layer: DirectoryLayer, node: DirectoryNode, size: number): Generator<Uint8Array> {
    for (let at = 0; at < size; at += CHUNK) {
      const chunk = Buffer.alloc(Math.min(CHUNK, size - at));
      this.#segments.clear();
      layer.read(node, at, chunk.length, this.#segments);
      const got = native.pread(this.#segments.values[0] ?? -1, chunk, at);
      if (got < chunk.length) {
        throw new SessionError(
          `a file of the source cannot be read: ${got < 0 ? got : 'too short'}`,
        );
      }
      yield chunk;
    }
  }
}
