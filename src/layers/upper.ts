/**
 * The writable layer: a tree of nodes over the lowers, made of what a session has changed.
 *
 * A node may exist without a name (O_TMPFILE, a file that is unlinked but in use). Whoever holds a node without a name
 * and without users gives it back with `free`. A call that throws has changed nothing.
 */
import type { ByteString } from '../native.ts';
import type { Attr, LowerLayer, Name, Segments } from './layer.ts';

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

export interface UpperUsage {
  /** Bytes by the layer's formula, and the most it takes. */
  used: number;
  limit: number;
  nodes: number;
  /** Bytes that programs have written, and bytes that had to be copied from the lowers to keep a partial block whole. */
  bytesWritten: number;
  bytesCopied: number;
}

export interface UpperLayer<Node extends object> {
  /** Refuses now what could not be charged later. @throws FsError ENOSPC. */
  require(bytes: number): void;
  /** What a new node, and a name of this length, will cost. */
  readonly nodeBytes: number;
  nameBytes(name: Name): number;

  /**
   * A node without a name.
   *
   * @param attr  its attributes, `ino` 0 for a number that no other file has. A regular file's size is that of `origin`, or 0.
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

  origin(node: Node): readonly LowerRef[];

  // Directories.
  lookup(dir: Node, name: Name): UpperEntry<Node> | undefined;
  /** Everything, whiteouts too. */
  entries(dir: Node): Iterable<UpperEntry<Node>>;
  /** Entries with a cookie of their own above `cookie`, in the order of their cookies; more may be added meanwhile. */
  ownEntries(dir: Node, cookie: number): Iterable<UpperEntry<Node>>;
  /**
   * Gives `node` a name, in place of whatever entry was there. A name that could be seen before keeps its cookie.
   *
   * @param covers  a lower entry of this name exists; only asked when there is no entry yet.
   * @param keepsPlace  that lower entry could be seen until now.
   */
  put(
    dir: Node,
    name: Name,
    node: Node,
    covers: boolean,
    keepsPlace: boolean,
    mayOverdraw: boolean,
  ): void;
  /** Takes a name out; a whiteout stays if it covers a lower entry. `covers` tells it for names without an entry. */
  remove(dir: Node, name: Name, covers: boolean): void;

  // Attributes.
  attr(node: Node, attr: Attr): void;
  /** Stores mode, nlink, uid, gid and times. */
  setAttr(node: Node, attr: Attr): void;
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
  /** Makes the range read as zeros; does not change the size. */
  punch(node: Node, offset: number, length: number): void;
  seek(node: Node, offset: number, whence: number): number;
  /** Writes the bytes of `from` at `offset`; runs of zeros become holes. */
  copy(node: Node, offset: number, from: Segments): void;
  /** Whether the contents differ from the origin's: only what was written is compared. */
  contentDiffers(node: Node): boolean;

  /** Whether two runs of bytes of one length differ. */
  bytesDiffer(a: Segments, b: Segments): boolean;

  /** The clock of times: CLOCK_REALTIME into out[0] (s) and out[1] (ns). */
  now(out: Float64Array): void;
  usage(): UpperUsage;
}
