/**
 * The objects of a repository as a layer needs them: parsed, checked, and kept within bounds. Whatever is wrong with an
 * object becomes EIO, is told once, and is remembered.
 */
import { LRUCache } from 'lru-cache';
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { fileInfo, fileXattrs, openData, type FileInfo } from '../ostree/content.ts';
import { inflateWhole, verifyData, verifySymlink } from '../ostree/data.ts';
import type { Checksum, DirTree, Meta, Xattr } from '../ostree/objects.ts';
import { ObjectError, type Repository } from '../ostree/repo.ts';
import { S_IFLNK, S_IFMT } from './layer.ts';
import type { Name } from './layer.ts';

const DT_REG = 8;
const DT_LNK = 10;

/** What libostree turns into a 0:0 device when it deploys. */
export const WHITEOUT_PREFIX = '.ostree-wh.';

/** Bounds of what is kept: parsed dirtrees by bytes, the others by number. */
const TREES_MAX_BYTES = 24 * 1024 * 1024;
const METAS_MAX = 2048;
const INFOS_MAX = 16_384;
const XATTRS_MAX = 4096;
const OPEN_FILES_MAX = 1024;
/** Inflated data of archive objects. The kernel keeps what has been read, so this serves files that are being read. */
const INFLATED_MAX_BYTES = 128 * 1024 * 1024;
/** Broken objects that are remembered by name. */
const PROBLEMS_MAX = 100;

const BLOCK = 4096;

export interface ObjectCacheOptions {
  /** Check the data of files in bare modes too, when they are opened. Archive objects are checked anyway. */
  verify?: boolean;
  /** Told once of each object that is missing or corrupt: one line. */
  onProblem?: (message: string) => void;
  /** Of inflated data. */
  cacheBytes?: number;
}

/** The data of a file: an object of the repository, or a memfd with what was in one. */
export interface OpenFile {
  fd: number;
  /** Bytes of memory. */
  cost: number;
  isInflated: boolean;
}

/** A parsed dirtree as it is shown. */
export interface View {
  tree: DirTree;
  /** Names of whiteouts, each with its index among the files; `undefined` when there is none. */
  whiteouts: Map<Name, number> | undefined;
  /** Bytes, roughly. */
  cost: number;
}

const NO_XATTRS: readonly Xattr[] = [];

export class ObjectCache {
  readonly #native: Native;
  readonly #repo: Repository;
  readonly #verify: boolean;
  readonly #onProblem: ((message: string) => void) | undefined;
  readonly #problems: Map<string, string> = new Map();
  readonly #views: LRUCache<Checksum, View>;
  readonly #metas: LRUCache<Checksum, Meta>;
  readonly #infos: LRUCache<Checksum, FileInfo>;
  readonly #xattrs: LRUCache<Checksum, readonly Xattr[]>;
  readonly #files: LRUCache<Checksum, OpenFile>;
  readonly #cacheBytes: number;
  /** The one file, if any, that is larger than the whole cache. */
  #huge: { checksum: Checksum; file: OpenFile } | undefined;

  /** @param repo  closed with the cache. */
  constructor(native: Native, repo: Repository, options: ObjectCacheOptions) {
    this.#native = native;
    this.#repo = repo;
    this.#verify = options.verify ?? false;
    this.#onProblem = options.onProblem;
    this.#cacheBytes = options.cacheBytes ?? INFLATED_MAX_BYTES;
    this.#views = new LRUCache({
      maxSize: TREES_MAX_BYTES,
      sizeCalculation: ({ cost }) => cost,
    });
    this.#metas = new LRUCache({ max: METAS_MAX });
    this.#infos = new LRUCache({ max: INFOS_MAX });
    this.#xattrs = new LRUCache({ max: XATTRS_MAX });
    this.#files = new LRUCache({
      max: OPEN_FILES_MAX,
      maxSize: this.#cacheBytes + OPEN_FILES_MAX,
      sizeCalculation: ({ cost }) => cost + 1,
      dispose: ({ fd }) => void native.close(fd),
    });
  }

  /** One line for each broken object that was met, the first hundred of them. */
  problems(): string[] {
    return [...this.#problems.values()];
  }

  /** A directory's content. */
  view(checksum: Checksum): View {
    let view = this.#views.get(checksum);
    if (view === undefined) {
      view = this.#guarded(() => this.#viewOf(this.#repo.dirTree(checksum)));
      this.#views.set(checksum, view);
    }
    return view;
  }

  #viewOf(tree: DirTree): View {
    const { files, dirs } = tree;
    let cost = 512;
    let whiteouts: Map<Name, number> | undefined;
    for (const [index, name] of files.names.entries()) {
      cost += 88 + 2 * name.length;
      if (!name.startsWith(WHITEOUT_PREFIX)) continue;
      const shown = name.slice(WHITEOUT_PREFIX.length);
      // Where the deployment could make no device of that name, the file stays a file.
      if (shown === '' || shown === '.' || shown === '..') continue;
      if (files.find(shown) !== -1 || dirs.find(shown) !== -1) continue;
      if (this.typeOf(files.checksum(index)) !== DT_REG) continue;
      whiteouts ??= new Map();
      whiteouts.set(shown, index);
    }
    for (const name of dirs.names) cost += 120 + 2 * name.length;
    return { tree, whiteouts, cost };
  }

  /** DT_* of a content object; of one that is broken, what most are. */
  typeOf(checksum: Checksum): number {
    try {
      const { mode } = this.info(checksum);
      return (mode & S_IFMT) === S_IFLNK ? DT_LNK : DT_REG;
    } catch (error) {
      if (error instanceof FsError) return DT_REG;
      throw error;
    }
  }

  info(checksum: Checksum): FileInfo {
    let info = this.#infos.get(checksum);
    if (info === undefined) {
      info = this.#guarded(() => fileInfo(this.#repo, checksum));
      this.#infos.set(checksum, info);
    }
    return info;
  }

  meta(checksum: Checksum): Meta {
    let meta = this.#metas.get(checksum);
    if (meta === undefined) {
      meta = this.#guarded(() => this.#repo.dirMeta(checksum));
      this.#metas.set(checksum, meta);
    }
    return meta;
  }

  xattrs(checksum: Checksum): readonly Xattr[] {
    let xattrs = this.#xattrs.get(checksum);
    if (xattrs === undefined) {
      xattrs = this.info(checksum).xattrs ?? this.#guarded(() => fileXattrs(this.#repo, checksum));
      this.#xattrs.set(checksum, xattrs.length === 0 ? NO_XATTRS : xattrs);
    }
    return xattrs;
  }

  /** The target of a symlink; '' of anything else. */
  target(checksum: Checksum): Name {
    const { target } = this.info(checksum);
    if (this.#verify && target !== '') {
      this.#guarded(() => this.#checked(() => verifySymlink(this.#repo, checksum)));
    }
    return target;
  }

  /** The open data of a regular file; it stays the cache's. */
  file(checksum: Checksum): OpenFile {
    const known = this.#files.get(checksum);
    if (known !== undefined) return known;
    if (this.#huge?.checksum === checksum) return this.#huge.file;
    const file = this.#guarded(() => this.#open(checksum));
    if (file.cost <= this.#cacheBytes) {
      this.#files.set(checksum, file);
    } else {
      if (this.#huge !== undefined) this.#native.close(this.#huge.file.fd);
      this.#huge = { checksum, file };
    }
    return file;
  }

  #open(checksum: Checksum): OpenFile {
    const data = openData(this.#repo, checksum);
    let isKept = false;
    try {
      if (data.deflated) return this.#inMemory(inflateWhole(this.#native, checksum, data));
      if (this.#verify) this.#checked(() => verifyData(this.#repo, checksum, data));
      isKept = true;
      return { fd: data.fd, cost: 0, isInflated: false };
    } finally {
      if (!isKept) this.#native.close(data.fd);
    }
  }

  #inMemory(bytes: Buffer): OpenFile {
    const fd = check(this.#native.memfd('object'));
    const written = this.#native.pwriteRange(fd, bytes, 0, bytes.length, 0);
    if (written < 0) {
      this.#native.close(fd);
      check(written);
    }
    return { fd, cost: Math.ceil(bytes.length / BLOCK) * BLOCK, isInflated: true };
  }

  /** Runs a check. In bare-user-only, objects from other repositories need not match their names: they are only told of. */
  #checked(verify: () => void): void {
    try {
      verify();
    } catch (error) {
      if (!(error instanceof ObjectError) || this.#repo.mode !== 'bare-user-only') throw error;
      this.#report(error);
    }
  }

  close(): void {
    this.#files.clear();
    if (this.#huge !== undefined) this.#native.close(this.#huge.file.fd);
    this.#huge = undefined;
    this.#repo.close();
  }

  /** Runs `use`; an object that cannot be used becomes EIO, and is told once. */
  #guarded<T>(use: () => T): T {
    try {
      return use();
    } catch (error) {
      if (!(error instanceof ObjectError)) throw error;
      this.#report(error);
      throw new FsError('EIO', error.message);
    }
  }

  #report({ object, message }: ObjectError): void {
    if (this.#problems.has(object) || this.#problems.size >= PROBLEMS_MAX) return;
    this.#problems.set(object, message);
    this.#onProblem?.(message);
  }
}
