/** What a commit is built of: files and directories that are stored, or already are. */
import { isUtf8 } from 'node:buffer';
import { setImmediate } from 'node:timers/promises';
import { S_IFCHR, S_IFLNK, S_IFMT, S_IFREG, type Name } from '../layers/layer.ts';
import type { ByteString } from '../native.ts';
import type { DirTree, TreeDirectory, TreeFile } from '../ostree/dirtree.ts';
import type { Checksum, Xattr } from '../ostree/objects.ts';
import type { RepositoryWriter } from '../ostree/writer.ts';

/** Of files in a commit that stand for 0:0 devices. */
const WHITEOUT = '.ostree-wh.';
/** Bytes between two looks at signals, and what a file counts besides its bytes. */
const BREATH = 8 * 1024 * 1024;
const FILE_COST = 64 * 1024;

export interface DirectoryObjects {
  tree: Checksum;
  meta: Checksum;
}

/** Something under a name, stored when it is known that it stays; a file perhaps under another one. */
export type Child =
  | { kind: 'file'; store(): Soon<TreeFile | undefined> }
  | { kind: 'directory'; store(): Soon<DirectoryObjects> };
/** Most of what a commit has is stored already, and to wait for each takes longer than to write it down. */
type Soon<T> = T | Promise<T>;

/** What a directory of a commit is to hold: what is put into it, and all that `base` has and is not removed. */
export class Children {
  readonly base: DirTree | undefined;
  readonly #put = new Map<Name, Child>();
  readonly #removed = new Set<Name>();

  /** @param base  its objects are in the repository already. */
  constructor(base?: DirTree) {
    this.base = base;
  }

  put(name: Name, child: Child): void {
    this.#put.set(name, child);
  }

  /** Removes a name, and the file that shows as a device of this name. */
  remove(name: Name): void {
    for (const each of [name, WHITEOUT + name]) {
      this.#put.delete(each);
      if (this.base !== undefined) this.#removed.add(each);
    }
  }

  get removed(): readonly Name[] {
    return [...this.#removed];
  }

  [Symbol.iterator](): IterableIterator<[Name, Child]> {
    return this.#put.entries();
  }
}

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
export type Reader = (use: (data: Data) => Promise<Checksum>) => Promise<Checksum>;

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
    const name = nameOf(path);
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
   * Stores a file or symlink.
   *
   * @param read  has the bytes of a regular file read, perhaps more than once.
   * @returns nothing when it cannot be stored.
   */
  async file(
    path: ByteString,
    from: Description,
    read: Reader | undefined,
  ): Promise<TreeFile | undefined> {
    this.#options.signal?.throwIfAborted();
    const name = nameOf(path);
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
        return undefined;
      }
    } else if (type !== S_IFREG && !isPayload) {
      this.#refuse(path, KINDS.get(type) ?? 'it is neither a file nor a symlink');
      return undefined;
    }
    const checksum =
      read === undefined
        ? await this.writer.writeContent(header)
        : await read((data) => this.writer.writeContent(header, this.#counted(data)));
    if (read !== undefined) this.#options.onFile();
    return { name: isPayload ? WHITEOUT + name : name, checksum };
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
        const file = stored instanceof Promise ? await stored : stored;
        if (file !== undefined) files.push(file);
      } else {
        const stored = child.store();
        const { tree, meta } = stored instanceof Promise ? await stored : stored;
        dirs.push({ name, checksum: tree, meta });
      }
    }
    const { base, removed: gone } = children;
    const tree = this.writer.writeDirTree(files, dirs, base && { tree: base, gone });
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

export function nameOf(path: ByteString): Name {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Those that a commit can hold: for `ostree` one without a value is none, and an object that has one is corrupt. */
function xattrsOf({ xattrs }: Description): Xattr[] {
  return xattrs
    .filter(({ value }) => value.length > 0)
    .map(({ name, value }) => ({ name, value: Buffer.from(value) }));
}
