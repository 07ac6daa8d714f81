/**
 * The objects of a repository as a layer needs them: parsed, checked, and kept within bounds. Whatever is wrong with an
 * object becomes EIO, is told once, and is remembered.
 */
import { LRUCache } from 'lru-cache';
import { FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { fileInfo, fileXattrs, type FileInfo } from '../ostree/content.ts';
import { verifySymlink } from '../ostree/data.ts';
import { checksumOf } from '../ostree/objects.ts';
import type { DirTree } from '../ostree/dirtree.ts';
import type { Digest, Meta, Xattr } from '../ostree/objects.ts';
import { ObjectError } from '../ostree/failures.ts';
import { type Repository } from '../ostree/repo.ts';
import { FileCache, type FileCacheOptions, type OpenFile } from './file-cache.ts';
import { S_IFLNK, S_IFMT } from './layer.ts';
import type { Name } from './layer.ts';

const DT_REG = 8;
const DT_LNK = 10;

/** What libostree turns into a 0:0 device when it deploys. */
export const WHITEOUT_PREFIX = '.ostree-wh.';

/** Bounds of what is kept: parsed dirtrees by bytes, the others by number. */
const TREES_MAX_BYTES = 12 * 1024 * 1024;
const METAS_MAX = 2048;
const INFOS_MAX = 16_384;
const XATTRS_MAX = 4096;
/** What a dirtree takes besides its bytes: two lists, each with its arrays; and for each name, where it is. */
const VIEW_BYTES = 1536;
const NAME_BYTES = 8;
/** Broken objects that are remembered by name. */
const PROBLEMS_MAX = 100;

export interface ObjectCacheOptions extends Omit<FileCacheOptions, 'onMismatch'> {
  /** Told once of each object that is missing or corrupt: one line. */
  onProblem?: (message: string) => void;
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
  readonly #repo: Repository;
  readonly #verify: boolean;
  readonly #onProblem: ((message: string) => void) | undefined;
  readonly #problems: Map<string, string> = new Map();
  readonly #views: LRUCache<Digest, View>;
  readonly #metas: LRUCache<Digest, Meta>;
  readonly #infos: LRUCache<Digest, FileInfo>;
  readonly #xattrs: LRUCache<Digest, readonly Xattr[]>;
  readonly #files: FileCache;

  /** @param repo  closed with the cache. */
  constructor(native: Native, repo: Repository, options: ObjectCacheOptions) {
    this.#repo = repo;
    this.#verify = options.verify ?? false;
    this.#onProblem = options.onProblem;
    this.#views = new LRUCache({
      maxSize: TREES_MAX_BYTES,
      sizeCalculation: ({ cost }) => cost,
    });
    this.#metas = new LRUCache({ max: METAS_MAX });
    this.#infos = new LRUCache({ max: INFOS_MAX });
    this.#xattrs = new LRUCache({ max: XATTRS_MAX });
    // Objects that came from other repositories need not match their names there.
    const mayMismatch = repo.mode === 'bare-user-only';
    this.#files = new FileCache(native, repo, {
      ...options,
      ...(mayMismatch && { onMismatch: (error) => this.#report(error) }),
    });
  }

  /** One line for each broken object that was met, the first hundred of them. */
  problems(): string[] {
    return [...this.#problems.values()];
  }

  /** A directory's content. */
  view(digest: Digest): View {
    let view = this.#views.get(digest);
    if (view === undefined) {
      view = this.#guarded(() => this.#viewOf(this.#repo.dirTree(checksumOf(digest))));
      this.#views.set(digest, view);
    }
    return view;
  }

  #viewOf(tree: DirTree): View {
    const { files, dirs } = tree;
    let whiteouts: Map<Name, number> | undefined;
    for (let index = files.from(WHITEOUT_PREFIX); index < files.length; index++) {
      const name = files.name(index);
      if (!name.startsWith(WHITEOUT_PREFIX)) break;
      const shown = name.slice(WHITEOUT_PREFIX.length);
      // Where the deployment could make no device of that name, the file stays a file.
      if (shown === '' || shown === '.' || shown === '..') continue;
      if (files.find(shown) !== -1 || dirs.find(shown) !== -1) continue;
      if (this.typeOf(files.digest(index)) !== DT_REG) continue;
      whiteouts ??= new Map();
      whiteouts.set(shown, index);
    }
    const names = files.length + dirs.length;
    const cost = VIEW_BYTES + NAME_BYTES * names + files.size + dirs.size;
    return { tree, whiteouts, cost };
  }

  /** DT_* of a content object; of one that is broken, what most are. */
  typeOf(digest: Digest): number {
    try {
      const { mode } = this.info(digest);
      return (mode & S_IFMT) === S_IFLNK ? DT_LNK : DT_REG;
    } catch (error) {
      if (error instanceof FsError) return DT_REG;
      throw error;
    }
  }

  info(digest: Digest): FileInfo {
    let info = this.#infos.get(digest);
    if (info === undefined) {
      info = this.#guarded(() => fileInfo(this.#repo, checksumOf(digest)));
      this.#infos.set(digest, info);
    }
    return info;
  }

  meta(digest: Digest): Meta {
    let meta = this.#metas.get(digest);
    if (meta === undefined) {
      meta = this.#guarded(() => this.#repo.dirMeta(checksumOf(digest)));
      this.#metas.set(digest, meta);
    }
    return meta;
  }

  xattrs(digest: Digest): readonly Xattr[] {
    let xattrs = this.#xattrs.get(digest);
    if (xattrs === undefined) {
      xattrs =
        this.info(digest).xattrs ?? this.#guarded(() => fileXattrs(this.#repo, checksumOf(digest)));
      this.#xattrs.set(digest, xattrs.length === 0 ? NO_XATTRS : xattrs);
    }
    return xattrs;
  }

  /** The target of a symlink; '' of anything else. */
  target(digest: Digest): Name {
    const { target } = this.info(digest);
    if (this.#verify && target !== '') {
      this.#guarded(() => this.#checked(() => verifySymlink(this.#repo, checksumOf(digest))));
    }
    return target;
  }

  /**
   * The open data of a regular file; it stays the cache's.
   *
   * @throws NotYet while a large one is being inflated or checked.
   */
  file(digest: Digest): OpenFile {
    return this.#guarded(() => this.#files.get(checksumOf(digest)));
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
    this.#files.close();
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
