/**
 * The writable layer: a tree of nodes over the lowers, made of what a session has changed.
 *
 * A node may exist without a name (O_TMPFILE, a file that is unlinked but in use). Whoever holds a node without a name
 * and without users gives it back with `free`. A call that throws has changed nothing.
 */
import type { ByteString } from '../native.ts';
import type { Attr, LowerLayer, Name, Segments } from './layer.ts';
import type { LowerStack } from './stack.ts';

/** A place in a lower layer. */
export interface LowerRef {
  readonly layer: LowerLayer<object>;
  readonly node: object;
}

/** What a directory of the upper says of one name. */
export interface UpperEntry<Node extends object> {
  readonly name: Name;
  /** `undefined`: a whiteout, the name is gone. */
  node: Node | undefined;
  /**
   * Where readdir goes on after this name, above `OWN_COOKIES`; 0 when the entry is the copy-up of a lower entry of
   * this name, which keeps its place among the lower names.
   */
  readonly cookie: number;
  /** A lower entry of this name exists: when the entry goes, a whiteout must stay. */
  readonly covers: boolean;
  /** The entry has been taken out of its directory. */
  gone: boolean;
}

/** Cookies of the upper's own entries are above this, those of lower entries below. */
export const OWN_COOKIES: number = 2 ** 40;

/** A file's contents as they were, however the file changes. */
export interface Frozen {
  readonly size: number;
  /** The caller has clipped the range to the size. */
  read(offset: number, length: number, into: Segments): void;
  release(): void;
}

export interface UpperUsage {
  /** Bytes by the layer's formula, and the most it takes. */
  used: number;
  limit: number;
  nodes: number;
  /** Bytes that programs have written, and bytes that had to be copied from the lowers to keep a partial block whole. */
  bytesWritten: number;
  bytesCopied: number;
}

/** What statfs(2) says of where the layer is kept. */
export interface UpperSpace {
  blockBytes: number;
  blocks: number;
  free: number;
  available: number;
  files: number;
  freeFiles: number;
}

export interface UpperLayer<Node extends object> {
  /** A whiteout is kept as a 0:0 character device, so that no program can have such a device. */
  readonly hasDeviceWhiteouts: boolean;
  /** A directory of the lowers can be moved. Otherwise it is sealed before. */
  readonly movesLowers: boolean;

  /** Told of the lowers once, before anything else. @returns the root, unless it has yet to be made. */
  attach(lowers: LowerStack): Node | undefined;

  // Lower files with several links: what stands for each, by its number, so that every name leads there.
  links(): Iterable<readonly [number: number, node: Node]>;
  /** How many names are left of one that nothing stands for, where the lowers' number is no longer true. */
  linksLeft(number: number): number | undefined;
  /** Before the node has a name. */
  keepLink(number: number, node: Node): void;
  /**
   * A name of a node is about to come or go. `setNlink` follows, whatever became of it; whoever attaches this upper after an end
   * in between finds the links that go with the name as it is then.
   */
  foretell(node: Node, nlink: number, dir: Node, name: Name): void;

  /** Refuses now what could not be charged later. @throws FsError ENOSPC. */
  require(bytes: number): void;
  /** What a new node, and a name of this length, will cost. */
  readonly nodeBytes: number;
  nameBytes(name: Name): number;

  /**
   * A node without a name.
   *
   * @param attr  its attributes, `ino` 0 for a number that no other file has. A regular file's size is that of `origin`, or 0;
   *   times of a node without origin are now.
   * @param origin  what it is a copy-up of, topmost first (several only for directories): contents, extended attributes
   *   and symlink target come from there until they are changed.
   * @param target  of a symlink without origin.
   * @throws FsError ENOSPC unless `mayOverdraw`: removing must work in a full layer.
   */
  make(
    attr: Attr,
    origin: readonly LowerRef[],
    target: Name | undefined,
    mayOverdraw: boolean,
  ): Node;
  free(node: Node): void;

  /** What the lowers have behind a directory, or what a file was copied up from, as far as that is known. */
  origin(node: Node): readonly LowerRef[];

  // Directories. Each change is one step: whatever happens, a name means what it did before or what it does after.
  lookup(dir: Node, name: Name): UpperEntry<Node> | undefined;
  /** Everything, whiteouts too. */
  entries(dir: Node): Iterable<UpperEntry<Node>>;
  /** Entries with a cookie of their own above `cookie`, in the order of their cookies; more may be added meanwhile. */
  ownEntries(dir: Node, cookie: number): Iterable<UpperEntry<Node>>;
  /** Gives a copy-up the name of what it is a copy of, which has no entry yet: nothing that can be seen changes. */
  adopt(dir: Node, name: Name, node: Node): void;
  /**
   * Gives `node` a name that could not be seen.
   *
   * @param covers  a lower entry of this name exists.
   */
  put(dir: Node, name: Name, node: Node, covers: boolean, mayOverdraw: boolean): void;
  /**
   * Moves an entry to another name, in place of what was there. A name that could be seen keeps its cookie; a whiteout
   * stays where a lower entry was covered.
   *
   * @param covers  a lower entry of the new name exists; only asked when there is no entry.
   * @param replaces  the new name could be seen.
   */
  move(dir: Node, name: Name, toDir: Node, toName: Name, covers: boolean, replaces: boolean): void;
  /** Exchanges two entries. */
  exchange(dirA: Node, nameA: Name, dirB: Node, nameB: Name): void;
  /** Forgets what the lowers have behind a directory, all of which has entries, for whoever attaches this upper next. */
  seal(dir: Node): void;
  /** Takes a name out; a whiteout stays if it covers a lower entry. `covers` tells it for names without an entry. */
  remove(dir: Node, name: Name, covers: boolean): void;
  /** Takes out what the upper has of a name, a whiteout too, so that the lowers' is seen again. */
  uncover(dir: Node, name: Name): void;

  // Attributes.
  attr(node: Node, attr: Attr): void;
  /** Stores mode, uid, gid and times. */
  setAttr(node: Node, attr: Attr): void;
  nlink(node: Node): number;
  setNlink(node: Node, nlink: number): void;
  /** The contents, or a directory's names, have changed: mtime and ctime are now. */
  modified(node: Node): void;
  /** Something about the node has changed: ctime is now. */
  touched(node: Node): void;
  readlink(node: Node): Name;
  getxattr(node: Node, name: ByteString): Uint8Array | undefined;
  listxattr(node: Node): ByteString[];
  setxattr(node: Node, name: ByteString, value: Uint8Array): void;
  removexattr(node: Node, name: ByteString): void;

  // Contents of regular files.
  read(node: Node, offset: number, length: number, into: Segments): void;
  write(node: Node, offset: number, data: Uint8Array, start: number, length: number): void;
  /** Sets the size; what a growing file gains reads as zeros. */
  truncate(node: Node, size: number): void;
  /** Makes sure that writes into the range will not fail for want of space; does not change the size. */
  allocate(node: Node, offset: number, length: number): void;
  /** Makes the range, which may be empty, read as zeros; does not change the size. */
  punch(node: Node, offset: number, length: number): void;
  seek(node: Node, offset: number, whence: number): number;
  /**
   * Writes the bytes of `from` at `offset`; runs of zeros become holes.
   *
   * @returns how many there are now: fewer than there were to write when it failed, which throws only if there are none.
   */
  copy(node: Node, offset: number, from: Segments): number;
  /** Keeps what a regular file holds now, without copying it; `undefined` where that cannot be. */
  freeze(node: Node): Frozen | undefined;
  /**
   * Whether the contents differ from the origin's: only what was written is compared.
   *
   * @param mustStop  asked now and then: to say no without having looked at everything.
   */
  contentDiffers(node: Node, mustStop?: () => boolean): boolean;

  /**
   * An fd of the host's file that holds the contents, or the lower that still has them, where there is either. Whoever
   * asks may have others write to it.
   *
   * @param isForWriting  never the lower.
   */
  file?(node: Node, isForWriting: boolean): number | LowerRef;

  /** Whether two runs of bytes of one length differ; `mustStop` as for `contentDiffers`. */
  bytesDiffer(a: Segments, b: Segments, mustStop?: () => boolean): boolean;

  /** The clock of times: CLOCK_REALTIME into out[0] (s) and out[1] (ns). */
  now(out: Float64Array): void;
  usage(): UpperUsage;
  space(into: UpperSpace): void;

  /** Makes a file durable, with the names that lead to it; `undefined` is one that only the lowers have. @throws FsError
   *  ENOSYS where nothing can be. */
  sync(node: Node | undefined, dataOnly: boolean): void;
  close(): void;
}
