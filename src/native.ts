/**
 * The addon, typed; this file alone loads it. What each function does is in native/native.h.
 *
 * Shared rules. Every number returned is what the kernel returned: >= 0 on success, -errno on failure; nothing
 * throws on a failed system call. A `Name` or path is a *byte string*: each char is one byte (latin1), without NUL.
 * Offsets and lengths are bytes, as numbers up to 2^53. Nothing here knows what an overlay is.
 */

import { createRequire } from 'node:module';
import { findBuilt, missing } from './built.ts';
import type { Channel, ChannelOptions } from './native-channel.ts';

/** A byte string: each char is one byte (latin1). */
export type ByteString = string;

/**
 * Where statx results go: STAT_FIELDS doubles per file, in this order. 64-bit inode numbers come in two halves, since a
 * double cannot hold them; `dev`, `rdev` are major and minor numbers apart.
 */
export const STAT = {
  MODE: 0,
  NLINK: 1,
  UID: 2,
  GID: 3,
  RDEV_MAJOR: 4,
  RDEV_MINOR: 5,
  INO_LOW: 6,
  INO_HIGH: 7,
  SIZE: 8,
  BLOCKS: 9,
  BLKSIZE: 10,
  ATIME_SEC: 11,
  ATIME_NSEC: 12,
  MTIME_SEC: 13,
  MTIME_NSEC: 14,
  CTIME_SEC: 15,
  CTIME_NSEC: 16,
  BTIME_SEC: 17,
  BTIME_NSEC: 18,
  DEV_MAJOR: 19,
  DEV_MINOR: 20,
  MNT_ID: 21,
  /** stx_attributes, low 32 bits. */
  ATTRIBUTES: 22,
  /** 0, or the errno of this file's statx in a batch (`statMany`). */
  ERRNO: 23,
} as const;
export const STAT_FIELDS = 24;

export interface Listing {
  /** In the order of getdents64, without '.' and '..'. */
  names: ByteString[];
  /** DT_* of each name; DT_UNKNOWN has been resolved by a stat. */
  types: Uint8Array;
  /** Low and high 32 bits of d_ino, interleaved. */
  inos: Uint32Array;
}

/** A thread, from its first use on, that opens files before they are read. */
export interface NativeReadAhead {
  /**
   * Opens files of a directory, as `openBeneath` does, keeps them open for `take`, and has the kernel read how they begin. Where
   * too much of that waits already, nothing is done.
   *
   * @param place  stands for the directory, in `take`; never for another.
   * @returns how many files there were in all, up to now, whose beginning was not in memory.
   */
  begin(place: number, dirfd: number, flags: number, names: ByteString[]): number;
  /** The file that was opened so, from now on the caller's, or -ENOENT. */
  take(place: number, name: ByteString): number;
  /** Joins the thread and closes what nobody took. Nothing may be used after. */
  close(): void;
}

export interface Native {
  readonly Channel: new (options: ChannelOptions) => Channel;
  readonly ReadAhead: new () => NativeReadAhead;
  /**
   * FUSE_DEV_IOC_BACKING_OPEN of `device`: the file of `fd` is one that opens can be answered with. Its mount counts and not how
   * `fd` was opened: the kernel opens it again, as whoever asked opens.
   *
   * @returns its id, above 0, good until `backingClose`; -ELOOP on a stacked filesystem, -EPERM without CAP_SYS_ADMIN.
   */
  backingOpen(device: number, fd: number): number;
  /** Opens that were answered with the id go on. */
  backingClose(device: number, id: number): number;

  // Files. `path` is relative to dirfd and may hold several components.
  /** openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS; O_CLOEXEC always. */
  openBeneath(dirfd: number, path: ByteString, flags: number, mode: number): number;
  /** open(2) of a path of the host; O_CLOEXEC always. */
  open(path: ByteString, flags: number, mode: number): number;
  /** What a reply is still read from is closed when it has been. */
  close(fd: number): number;
  dup(fd: number): number;
  /** What `to` was before is closed; it is handed on to programs that are executed. */
  dup2(fd: number, to: number): number;
  /** statx(dirfd, path, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID); '' with AT_EMPTY_PATH. */
  statx(dirfd: number, path: ByteString, flags: number, out: Float64Array): number;
  /** statx of names[from .. from + count) in dirfd, STAT_FIELDS doubles each; a failure is in its ERRNO field. @returns count. */
  statMany(
    dirfd: number,
    names: ByteString[],
    from: number,
    count: number,
    out: Float64Array,
  ): number;
  /** Everything in the directory `fd` (rewound first), or -errno. */
  listDirectory(fd: number): Listing | number;
  /**
   * What follows what was listed through `fd` before, packed: all of a small directory. Otherwise -errno.
   *
   * @returns 32-bit words: how many names there are, and flags, 1: one of the numbers is 2^48 or more, 2: nothing comes after
   *   these; low and high half of each d_ino; where each name ends, its '/' included. Then a byte for each DT_*, and all
   *   names, each followed by '/'.
   */
  packDirectory(fd: number): ArrayBuffer | number;
  /**
   * Writes struct fuse_dirents to `into[at .. limit)`, as many as fit, of the entries from the `from`th on, whose cookies are
   * counted up from `cookie`. Names, ends and types are those of a packed listing, numbers may be.
   *
   * @returns where the last ends.
   */
  encodeDirents(
    into: Uint8Array,
    at: number,
    limit: number,
    names: Uint8Array,
    ends: Uint32Array,
    types: Uint8Array,
    inos: Float64Array | Uint32Array,
    from: number,
    cookie: number,
  ): number;
  /** The target, or -errno. */
  readlinkat(dirfd: number, path: ByteString): ByteString | number;
  pread(fd: number, into: Uint8Array, offset: number): number;
  /** All of `from`, or -errno. */
  pwrite(fd: number, from: Uint8Array, offset: number): number;
  /** pwrite of from[start .. start + length), all of it or -errno. */
  pwriteRange(fd: number, from: Uint8Array, start: number, length: number, offset: number): number;
  /** Copies `length` bytes between two files by any means (copy_file_range, else read and write), stopping at EOF or an error. @returns bytes copied, or -errno when there are none. */
  copyRange(
    fdIn: number,
    offsetIn: number,
    fdOut: number,
    offsetOut: number,
    length: number,
  ): number;
  /** FICLONE: makes a file share all the data of another, where their filesystem can do that. */
  cloneFile(fdIn: number, fdOut: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  ftruncate(fd: number, size: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  fsync(fd: number, dataOnly: boolean): number;
  syncfs(fd: number): number;
  mkdirat(dirfd: number, path: ByteString, mode: number): number;
  mknodat(dirfd: number, path: ByteString, mode: number, major: number, minor: number): number;
  symlinkat(target: ByteString, dirfd: number, path: ByteString): number;
  linkat(
    oldDirfd: number,
    oldPath: ByteString,
    newDirfd: number,
    newPath: ByteString,
    flags: number,
  ): number;
  unlinkat(dirfd: number, path: ByteString, flags: number): number;
  renameat2(
    oldDirfd: number,
    oldPath: ByteString,
    newDirfd: number,
    newPath: ByteString,
    flags: number,
  ): number;
  fchmodat(dirfd: number, path: ByteString, mode: number): number;
  /** -1 leaves an id as it is. AT_SYMLINK_NOFOLLOW; '' with AT_EMPTY_PATH. */
  fchownat(dirfd: number, path: ByteString, uid: number, gid: number): number;
  /** Nanoseconds may be UTIME_NOW or UTIME_OMIT. AT_SYMLINK_NOFOLLOW. */
  utimensat(
    dirfd: number,
    path: ByteString,
    atimeSec: number,
    atimeNsec: number,
    mtimeSec: number,
    mtimeNsec: number,
  ): number;
  /** f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_namelen, f_flags into `out`. */
  fstatfs(fd: number, out: Float64Array): number;
  /** fcntl(F_OFD_SETLK) over the whole file: F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. Never waits: -EAGAIN when another has it. */
  ofdLock(fd: number, type: number): number;
  /** flock(LOCK_EX), of all who are given this descriptor. Never waits: -EAGAIN when somebody else has it. */
  flock(fd: number): number;
  /** FS_IOC_GETFLAGS: the FS_*_FL flags of a file, as lsattr(1) shows them; -ENOTTY where there are none. */
  getInodeFlags(fd: number): number;
  setInodeFlags(fd: number, flags: number): number;

  // Extended attributes of `path` under dirfd, a symlink not followed; '' means dirfd itself, which may be O_PATH.
  // Before Linux 6.13 through /proc/self/fd, or without /proc by opening regular files and directories.
  getxattr(dirfd: number, path: ByteString, name: ByteString): Uint8Array | number;
  /** Names, or -errno. */
  listxattr(dirfd: number, path: ByteString): ByteString[] | number;
  setxattr(
    dirfd: number,
    path: ByteString,
    name: ByteString,
    value: Uint8Array,
    flags: number,
  ): number;
  removexattr(dirfd: number, path: ByteString, name: ByteString): number;

  // Memory, events, processes.
  memfd(name: string): number;
  eventfd(): number;
  /** Adds one to an eventfd, from any thread. */
  wake(eventfd: number): number;
  /** CLOCK_REALTIME as seconds and nanoseconds into out[0], out[1]; coarse (the kernel's own file clock) when asked. */
  now(out: Float64Array, coarse: boolean): void;
  /** prctl(PR_SET_IO_FLUSHER): our allocations never wait for writeback of a FUSE mount. Root only. */
  prctlIoFlusher(): number;
  /** _exit(2): nothing is flushed, no thread joined. */
  exit(code: number): never;
  /** mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT). */
  mlockall(): number;
  /** Raises RLIMIT_NOFILE to the hard limit. @returns that limit. */
  raiseNofile(): number;

  // Mounts and namespaces.
  /**
   * The directory again, O_RDONLY, in a detached read-only bind of its own: nothing can be written through it (EROFS),
   * no atime changes, and what is mounted below or later over the directory does not show. open_tree(OPEN_TREE_CLONE),
   * then mount_setattr(MOUNT_ATTR_RDONLY); -EPERM without CAP_SYS_ADMIN.
   */
  detachedReadonlyBind(dirfd: number): number;
  /**
   * As above, but writable, though the mount that dirfd is of may be read-only; its filesystem must not be. With `noatime` reads
   * change no atime.
   */
  detachedWritableBind(dirfd: number, noatime: boolean): number;
  /** The root, O_RDONLY, of a new tmpfs that is mounted nowhere and goes with its last file. @returns -EPERM without CAP_SYS_ADMIN. */
  detachedTmpfs(bytes: number): number;
  /** Mounts the directory again, read-only, over `path`. @returns 0 or -errno. */
  bindReadonlyOver(dirfd: number, path: ByteString): number;
  umount2(path: ByteString, flags: number): number;
  /**
   * Leaves every mount behind: an empty read-only tmpfs becomes the root and the current directory of all threads, and
   * everything else is detached. Only in a mount namespace of one's own. Open fds stay usable.
   */
  enterEmptyRoot(): number;

  // Sockets that Node has no word for.
  /**
   * One message of at most 64 KiB, and the fd that came with it (-1 without), over SOCK_SEQPACKET; blocks. No data
   * and no fd: the other side has closed.
   */
  receiveMessage(socket: number): { data: Uint8Array; fd: number } | number;
  /** Over a stream as well; blocks while the socket is full. @returns the bytes sent. */
  sendMessage(socket: number, data: Uint8Array, fd: number): number;
  /** One datagram over AF_UNIX, to a path or, after an `@`, an abstract name; never blocks. @returns the bytes sent, or -errno. */
  sendDatagram(to: ByteString, data: Uint8Array): number;
}

function load(): Native {
  const path = findBuilt('ostree_ts.node');
  if (path === undefined) throw missing('the addon');
  try {
    return createRequire(import.meta.url)(path) as Native;
  } catch (error) {
    throw missing(`the addon ${path}`, error);
  }
}

/** The addon. Loading this module throws when there is none that fits. */
export const native: Native = load();
