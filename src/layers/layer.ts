/**
 * The two shapes a layer can have.
 *
 * A layer is a tree of *nodes*. It hands out nodes and takes them back; it never sees a path, a kernel node id or
 * another layer. Every call runs to completion before it returns. Absence is `undefined`, a refusal is an `FsError`.
 */
import type { ByteString } from '../native.ts';

/** One path component: a byte string, never '', '.', '..' or with '/' or NUL. */
export type Name = ByteString;

export const S_IFMT = 0o170000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;

/** `struct stat`. A mutable record, filled by whoever is asked, so that a hot path allocates none. */
export class Attr {
  /**
   * As stat(2) shows it; at most 2^53, and constant while the layer lives. For a file that is no directory and has
   * st_nlink above 1 it is its identity: equal for two names only if they are links of one file.
   */
  ino = 0;
  /** Type and permission bits, as in `S_IFREG | 0o644`. */
  mode = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  /** Device numbers; 0 unless a device. */
  rdevMajor = 0;
  rdevMinor = 0;
  /** Bytes. For a symlink, the length of its target. */
  size = 0;
  /** 512-byte units. */
  blocks = 0;
  /** Seconds (negative before 1970) and nanoseconds apart: a double cannot hold both. */
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  /** Creation time; 0, 0 when unknown. */
  btimeSec = 0;
  btimeNsec = 0;
}

/**
 * A run of bytes to be moved by native code: `length` bytes at `offset` of `fd`, or zeros when fd is -1. Kept as triples
 * in one Float64Array that is reused for every request.
 */
export class Segments {
  values: Float64Array = new Float64Array(3 * 64);
  count = 0;

  clear(): void {
    this.count = 0;
  }

  /** Appends a run, merging it with the one before when they touch. */
  add(fd: number, offset: number, length: number): void {
    if (length <= 0) return;
    const last = 3 * (this.count - 1);
    if (this.count > 0 && this.values[last] === fd) {
      const end = (this.values[last + 1] ?? 0) + (this.values[last + 2] ?? 0);
      if (fd === -1 || end === offset) {
        this.values[last + 2] = (this.values[last + 2] ?? 0) + length;
        return;
      }
    }
    if (3 * this.count === this.values.length) {
      const grown = new Float64Array(this.values.length * 2);
      grown.set(this.values);
      this.values = grown;
    }
    const at = 3 * this.count++;
    this.values[at] = fd;
    this.values[at + 1] = offset;
    this.values[at + 2] = length;
  }
}

/** No single directory. */
export const SEVERAL = -1;

/** Names and what stands behind them, in an order that is the same each time the same directory is listed. */
export interface Entries {
  /** How many. */
  readonly length: number;
  /** How many, if fewer than `end`, or else `end`. Does not need all of a large directory. */
  reach(end: number): number;
  readonly names: Name[];
  /** DT_* of each name. */
  readonly types: Uint8Array;
  /** What `Attr.ino` would be of each. */
  readonly inos: Float64Array;
  /** Of several directories together: index of the only one that has a name, or `SEVERAL`. */
  readonly holders?: Int32Array | undefined;
  /** One of the names, without the others. */
  name(index: number): Name;
  /**
   * The same for C++, where there are no strings yet: some of them, with the `index`th among them.
   *
   * @param isNeeded  or else only if that was listed already.
   * @returns undefined at the end.
   */
  packed?(index: number, isNeeded: boolean): PackedNames | undefined;
  /** False of a large directory whose names have not all been listed: whatever needs them lists them. */
  readonly isComplete?: boolean;
  /** Lists some more. @returns whether there may be more. */
  proceed?(): boolean;
}

export interface PackedNames {
  /** Index of the first. */
  readonly first: number;
  /** In one piece, each followed by '/'. */
  readonly names: Uint8Array;
  /** Where each ends there, its '/' included. */
  readonly ends: Uint32Array;
  readonly types: Uint8Array;
  /** As `Entries.inos`, or low and high 32 bits interleaved. */
  readonly inos: Float64Array | Uint32Array;
}

/** Where a node of a lower is, for somebody who has the lower as well. */
export interface Place {
  /** In a directory: the path from its root, '' for the root itself. */
  path?: Name;
  /** In a commit: the content object or dirtree, and the dirmeta of a directory. */
  checksum?: string;
  meta?: string;
}

/** A layer that is only read: a directory tree, or a commit in an OSTree repository. */
export interface LowerLayer<Node extends object> {
  readonly root: Node;

  /** The child called `name`, with its attributes in `attr`, or `undefined` when there is none. */
  lookup(dir: Node, name: Name, attr: Attr): Node | undefined;

  /** Children without '.' and '..'. */
  entries(dir: Node): Entries;

  /**
   * Attributes of `names[from .. from + count)` at once: `visit(index, attr)` for each that exists, in order. `attr` is
   * reused between calls.
   */
  statMany(
    dir: Node,
    names: Name[],
    from: number,
    count: number,
    visit: (index: number, attr: Attr) => void,
  ): void;

  /** The node of a child that is known to exist, from `statMany`: no system call. */
  child(dir: Node, name: Name): Node;

  attr(node: Node, attr: Attr): void;

  /** @throws FsError EINVAL when `node` is no symlink. */
  readlink(node: Node): Name;

  /** Adds the runs that hold bytes [offset, offset + length) of a file to `into`; the caller has clipped them to the size. */
  read(node: Node, offset: number, length: number, into: Segments): void;

  /** The next data (SEEK_DATA, 3) or hole (SEEK_HOLE, 4) at or after `offset`; ENXIO beyond the last. */
  seek(node: Node, offset: number, whence: number): number;

  /** Whether a directory hides what lower layers have at its place. Always false for the bottom layer. */
  isOpaque(dir: Node): boolean;

  /** `undefined` when there is no such attribute; an overlay's own bookkeeping is not shown. */
  getxattr(node: Node, name: ByteString): Uint8Array | undefined;
  listxattr(node: Node): ByteString[];

  place(node: Node): Place;

  /** A readable fd of the host's file that holds the contents of a regular file and nothing else, where there is one. */
  file?(node: Node): number;

  /**
   * Told of regular files of a directory that are likely to be read soon.
   *
   * @returns how many of those that it was told of, up to now, have not been in memory.
   */
  readAhead?(dir: Node, names: Name[]): number;

  /** Ends the layer: closes what it holds. */
  close(): void;
}
