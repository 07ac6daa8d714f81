/**
 * What a session that is kept is over: a commit, a deployment of one, or directories. Of each its parts, to be stored when
 * it is known that they stay.
 */
import type { DirectoryLayer, DirectoryNode } from '../layers/directory.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type Place, Segments } from '../layers/layer.ts';
import { native, type ByteString } from '../native.ts';
import { fileInfo, fileXattrs } from '../ostree/content.ts';
import { contents } from '../ostree/data.ts';
import type { Checksum, Commit } from '../ostree/objects.ts';
import type { Repository } from '../ostree/repo.ts';
import { SessionError } from '../errors.ts';
import {
  Children,
  nameOf,
  type Child,
  type CommitStore,
  type Description,
  type Reader,
} from './commit-store.ts';

const CHUNK = 256 * 1024;

/** What the session is over, by places of it. */
export interface Base {
  /** What a directory holds. @param path  as of `child`. */
  children(path: ByteString, place: Place): Children;
  /** @param path  that it has in the session. */
  child(path: ByteString, place: Place): Child | undefined;
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

  children(path: ByteString, { checksum = '' }: Place): Children {
    const tree = this.#source.dirTree(checksum);
    if (this.#isThere) return new Children(tree);
    const children = new Children();
    const { files, dirs } = tree;
    for (const [index, name] of files.names.entries()) {
      children.put(name, this.child(`${path}/${name}`, { checksum: files.checksum(index) }));
    }
    for (const [index, name] of dirs.names.entries()) {
      const meta = dirs.checksum(index, 1);
      children.put(name, this.child(`${path}/${name}`, { checksum: dirs.checksum(index), meta }));
    }
    return children;
  }

  child(path: ByteString, place: Place): Child {
    const { checksum = '', meta } = place;
    if (meta === undefined) {
      const name = nameOf(path);
      return {
        kind: 'file',
        store: () =>
          this.#isThere
            ? { name, checksum }
            : this.#copied(checksum).then((copy) => ({ name, checksum: copy })),
      };
    }
    if (this.#isThere) return { kind: 'directory', store: () => ({ tree: checksum, meta }) };
    return {
      kind: 'directory',
      store: () => {
        const from = { ...this.#source.dirMeta(meta), rdevMajor: 0, rdevMinor: 0 };
        return this.#store.directory(from, this.children(path, place));
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

  children(path: ByteString, place: Place & { layer?: number }): Children {
    const { layer, node } = this.#find(place);
    return this.#childrenOf(layer, node, path);
  }

  child(path: ByteString, place: Place & { layer?: number }): Child {
    const { layer, node } = this.#find(place);
    return this.#childOf(layer, node, path);
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

  #childrenOf(layer: DirectoryLayer, dir: DirectoryNode, path: ByteString): Children {
    const children = new Children();
    for (const name of layer.entries(dir).names) {
      children.put(name, this.#childOf(layer, layer.child(dir, name), `${path}/${name}`));
    }
    return children;
  }

  #childOf(layer: DirectoryLayer, node: DirectoryNode, path: ByteString): Child {
    // A name that stays what it is is asked for once it is known to stay.
    const attr = new Attr();
    layer.attr(node, attr);
    if ((attr.mode & S_IFMT) === S_IFDIR) {
      return {
        kind: 'directory',
        store: () => {
          this.#store.checkName(path);
          const from = this.#described(layer, node, attr);
          return this.#store.directory(from, this.#childrenOf(layer, node, path));
        },
      };
    }
    return {
      kind: 'file',
      store: async () => {
        if (!this.#store.checkName(path)) return undefined;
        const read: Reader | undefined =
          (attr.mode & S_IFMT) === S_IFREG
            ? (use) => use(this.#data(layer, node, attr.size))
            : undefined;
        return this.#store.file(path, this.#described(layer, node, attr), read);
      },
    };
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
/** What a deployment is a checkout of. */
interface DeploymentSource {
  repository: Repository;
  base: Commit;
  /** Which directory of the commit the session is over. */
  prefix: string;
}

/** A deployment: its files are those of its commit. What is not in the commit (its /etc) is read. */
export class DeploymentBase implements Base {
  readonly #source: DeploymentSource;
  readonly #commit: CommitBase;
  readonly #directories: DirectoryBase;

  constructor(source: DeploymentSource, commit: CommitBase, directories: DirectoryBase) {
    this.#source = source;
    this.#commit = commit;
    this.#directories = directories;
  }

  children(path: ByteString, place: Place): Children {
    const found = this.#find(place);
    return found?.meta === undefined
      ? this.#directories.children(path, place)
      : this.#commit.children(path, found);
  }

  child(path: ByteString, place: Place): Child | undefined {
    const found = this.#find(place);
    return found === undefined
      ? this.#directories.child(path, place)
      : this.#commit.child(path, found);
  }

  #find({ path = '' }: Place): Place | undefined {
    const { base, prefix, repository } = this.#source;
    let at: Place | undefined = { checksum: base.tree, meta: base.meta };
    for (const name of `${prefix}/${path}`.split('/')) {
      if (name === '') continue;
      if (at?.meta === undefined) return undefined;
      at = placeIn(repository, at.checksum ?? '', name);
    }
    return at;
  }
}

/** What a dirtree has under a name. */
export function placeIn(
  repository: Repository,
  tree: Checksum,
  name: ByteString,
): { checksum: Checksum; meta?: Checksum } | undefined {
  const { files, dirs } = repository.dirTree(tree);
  const dir = dirs.find(name);
  if (dir !== -1) return { checksum: dirs.checksum(dir), meta: dirs.checksum(dir, 1) };
  const file = files.find(name);
  return file === -1 ? undefined : { checksum: files.checksum(file) };
}
