/**
 * The questions a kernel asks of a filesystem, in POSIX terms. This file knows nothing of FUSE: a transport turns
 * requests into these calls and refusals (`FsError`) into errnos.
 *
 * Every call runs to completion before it returns, so each is atomic. A call that throws has changed nothing.
 * `ino` here is the transport's handle of a file (FUSE's node id): 1 is the root, it is never used again for another
 * file, and it lives from the call that hands it out until `forget` has taken back every reference. The number that
 * stat(2) shows is `Attr.ino`, which is constant while the mount lives.
 */
import type { Attr, Entries, Name, Segments } from '../layers/layer.ts';

export const ROOT_INO = 1;

/** Who asks. */
export interface Caller {
  uid: number;
  gid: number;
  /** 0 when the kernel itself asks, as in writeback. */
  pid: number;
}

/** What a call that finds or makes a name hands back. A mutable record, reused by the transport. */
export interface Entry {
  /** Handle of the file; carries one reference, which `forget` takes back. 0: there is no such name. */
  ino: number;
  attr: Attr;
}

/** What setattr may change; a bit in `valid` for each field, as in FATTR_* of linux/fuse.h. */
export interface SetAttr {
  valid: number;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
}

/** Bits of `SetAttr.valid`. */
export const FATTR_MODE: number = 1 << 0;
export const FATTR_UID: number = 1 << 1;
export const FATTR_GID: number = 1 << 2;
export const FATTR_SIZE: number = 1 << 3;
export const FATTR_ATIME: number = 1 << 4;
export const FATTR_MTIME: number = 1 << 5;
export const FATTR_ATIME_NOW: number = 1 << 7;
export const FATTR_MTIME_NOW: number = 1 << 8;
export const FATTR_CTIME: number = 1 << 10;
/** The caller may not keep setuid and setgid of a file: clear them; a directory keeps them. */
export const FATTR_KILL_SUIDGID: number = 1 << 11;

/** Flags of rename, as rename(2) has them. */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** Modes of fallocate that reach a filesystem through FUSE. */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

export interface StatFs {
  /** In units of `bsize` bytes. */
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
  namelen: number;
}

/**
 * Takes directory entries one at a time.
 *
 * @param cookie  where to go on after this entry: above 0, at most 2^53, stable for (directory, name) while the
 *   directory is referenced, never used for another name.
 * @param ino  what stat(2) would show as st_ino.
 * @param type  DT_*.
 * @returns whether it fitted; the listing stops at the first that does not.
 */
export interface EntrySink {
  (name: Name, cookie: number, ino: number, type: number): boolean;
  /** Takes as many entries as fit, from the `from`th on, whose cookies are counted up from `cookie`. */
  many?: (entries: ManyEntries, from: number, cookie: number) => void;
}

/** Entries whose names C++ can take. */
export type ManyEntries = Entries & Required<Pick<Entries, 'packed'>>;

/**
 * As `EntrySink`, with the entry that lookup would give. When the sink takes it (returns true), `entry.ino` carries
 * one reference, as after a lookup, unless it is 0 ('.' and '..', or a child that could not be read: no attributes given).
 */
export type EntryPlusSink = (name: Name, cookie: number, type: number, entry: Entry) => boolean;

export interface Filesystem {
  /** Finds `name` in `parent`; `entry.ino` is 0 when there is none. @throws ENAMETOOLONG beyond 255 bytes, ENOTDIR. */
  lookup(parent: number, name: Name, entry: Entry): void;

  /** Takes back `count` references to `ino`; at 0 the file may go (an unlinked one gives up its space). Never throws. */
  forget(ino: number, count: number): void;

  getattr(ino: number, attr: Attr): void;

  /**
   * Changes the attributes named in `changes.valid` and hands back all of them. A change of size is a truncation and,
   * like chown, clears what POSIX says (setuid, setgid, security.capability).
   */
  setattr(ino: number, changes: SetAttr, caller: Caller, attr: Attr): void;

  readlink(ino: number): Name;

  /** @throws EEXIST, ENAMETOOLONG, ENOENT when `parent` has been removed, ENOSPC; so with all that make a name. */
  symlink(parent: number, name: Name, target: Name, caller: Caller, entry: Entry): void;

  /** `mode` is not yet masked: `umask` applies unless the parent has a default ACL. */
  mknod(
    parent: number,
    name: Name,
    mode: number,
    rdevMajor: number,
    rdevMinor: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void;
  mkdir(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void;
  create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void;

  /** A regular file without a name (O_TMPFILE), which `link` may give one. */
  tmpfile(parent: number, mode: number, umask: number, caller: Caller, entry: Entry): void;

  unlink(parent: number, name: Name, caller: Caller): void;
  rmdir(parent: number, name: Name, caller: Caller): void;

  /**
   * Renames over an existing target if POSIX allows.
   *
   * @throws ENOENT, EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR as rename(2); EINVAL for other flags. Never EXDEV.
   */
  rename(
    parent: number,
    name: Name,
    newParent: number,
    newName: Name,
    flags: number,
    caller: Caller,
  ): void;

  /** `entry.ino` is `ino`, with one reference more. */
  link(ino: number, newParent: number, newName: Name, caller: Caller, entry: Entry): void;

  /** Where the bytes [offset, offset + length) are, cut at the end of the file. */
  read(ino: number, offset: number, length: number, into: Segments): void;

  /**
   * Writes `data[start .. start + length)`, all or nothing.
   *
   * @param clearPrivileges  the caller may not keep setuid and setgid.
   */
  write(
    ino: number,
    offset: number,
    data: Uint8Array,
    start: number,
    length: number,
    clearPrivileges: boolean,
    caller: Caller,
  ): void;

  fallocate(ino: number, mode: number, offset: number, length: number, caller: Caller): void;

  /** `whence` is SEEK_DATA (3) or SEEK_HOLE (4). @throws ENXIO beyond the end. */
  lseek(ino: number, offset: number, whence: number): number;

  /** @returns bytes copied; fewer only at the end of the source. */
  copyFileRange(
    inoIn: number,
    offsetIn: number,
    inoOut: number,
    offsetOut: number,
    length: number,
    caller: Caller,
  ): number;

  /** @throws ENOSYS when nothing could be made more durable: it is then never asked again. */
  fsync(ino: number, dataOnly: boolean): void;

  statfs(stat: StatFs): void;

  /** Lists `ino` from `cookie` on (0 is the beginning), '.' and '..' included. */
  readdir(ino: number, cookie: number, sink: EntrySink): void;
  readdirplus(ino: number, cookie: number, sink: EntryPlusSink): void;

  /** @returns `undefined` when there is no such attribute (ENODATA). @throws EOPNOTSUPP for a name no file may have. */
  getxattr(ino: number, name: Name): Uint8Array | undefined;
  /** trusted.* names are shown to root only, as on ext4. */
  listxattr(ino: number, caller: Caller): Name[];
  /**
   * @param flags  XATTR_CREATE (1), XATTR_REPLACE (2).
   * @param clearSetgid  an ACL is being set by someone who may not keep setgid.
   */
  setxattr(
    ino: number,
    name: Name,
    value: Uint8Array,
    flags: number,
    clearSetgid: boolean,
    caller: Caller,
  ): void;
  /** @throws ENODATA. */
  removexattr(ino: number, name: Name, caller: Caller): void;

  /** Ends the filesystem: gives back everything it holds. */
  close(): void;
}
