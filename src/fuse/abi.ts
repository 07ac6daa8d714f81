/**
 * Numbers of linux/fuse.h, protocol 7.45; the minor that brought a number stands beside it when it is newer than
 * the oldest protocol spoken here, 7.31. No behaviour.
 */

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor spoken here. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** The oldest: Linux 5.4. */
export const FUSE_OLDEST_MINOR_VERSION = 31;

/** struct fuse_in_header: len@0 opcode@4 unique@8 nodeid@16 uid@24 gid@28 pid@32 total_extlen@36:u16 padding. */
export const IN_HEADER_SIZE = 40;
/** struct fuse_out_header: len@0 error@4 unique@8. */
export const OUT_HEADER_SIZE = 16;

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_READLINK = 5;
export const FUSE_SYMLINK = 6;
export const FUSE_MKNOD = 8;
export const FUSE_MKDIR = 9;
export const FUSE_UNLINK = 10;
export const FUSE_RMDIR = 11;
export const FUSE_RENAME = 12;
export const FUSE_LINK = 13;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_SETXATTR = 21;
export const FUSE_GETXATTR = 22;
export const FUSE_LISTXATTR = 23;
export const FUSE_REMOVEXATTR = 24;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_OPENDIR = 27;
export const FUSE_READDIR = 28;
export const FUSE_RELEASEDIR = 29;
export const FUSE_FSYNCDIR = 30;
export const FUSE_GETLK = 31;
export const FUSE_SETLK = 32;
export const FUSE_SETLKW = 33;
export const FUSE_ACCESS = 34;
export const FUSE_CREATE = 35;
export const FUSE_INTERRUPT = 36;
export const FUSE_BMAP = 37;
export const FUSE_DESTROY = 38;
export const FUSE_IOCTL = 39;
export const FUSE_POLL = 40;
export const FUSE_NOTIFY_REPLY = 41;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_READDIRPLUS = 44;
export const FUSE_RENAME2 = 45;
export const FUSE_LSEEK = 46;
export const FUSE_COPY_FILE_RANGE = 47;
/** 7.34 */
export const FUSE_SYNCFS = 50;
/** 7.37 */
export const FUSE_TMPFILE = 51;
/** 7.39 */
export const FUSE_STATX = 52;
/** 7.45 */
export const FUSE_COPY_FILE_RANGE_64 = 53;
/** Opcodes are below this. */
export const OPCODES = 64;

/** struct fuse_init_in as sent since 7.36; 16 bytes (without flags2 and what follows) before. */
export const INIT_IN_SIZE_OLD = 16;
export const INIT_OUT_SIZE = 64;
export const ENTRY_OUT_SIZE = 128;
export const ATTR_OUT_SIZE = 104;
export const OPEN_OUT_SIZE = 16;
export const WRITE_OUT_SIZE = 8;
export const STATFS_OUT_SIZE = 80;
export const GETXATTR_OUT_SIZE = 8;
export const LSEEK_OUT_SIZE = 8;
/** Of flags as open(2) has them: reading only is 0. */
export const O_ACCMODE = 3;
export const O_RDWR = 2;
/** 7.39 */
export const STATX_OUT_SIZE = 288;
/** 7.45 */
export const COPY_FILE_RANGE_OUT_SIZE = 8;
/** struct fuse_dirent without its name. */
export const DIRENT_SIZE = 24;

/** Bits of `fuse_write_in.write_flags`; the caller may not keep setuid and setgid. 7.33 */
export const FUSE_WRITE_KILL_SUIDGID = 4;
/** Bit of `fuse_setxattr_in.setxattr_flags`: an ACL comes, and the caller may not keep setgid. 7.33 */
export const FUSE_SETXATTR_ACL_KILL_SGID = 1;
/** Bit of `fuse_fsync_in.fsync_flags`. */
export const FUSE_FSYNC_FDATASYNC = 1;

/** Bits of `fuse_open_out.open_flags`: pages stay when the file is opened again; so do listings. */
export const FOPEN_KEEP_CACHE = 2;
export const FOPEN_CACHE_DIR = 8;
/** Reads, writes and mappings go to the backing file. 7.40 */
export const FOPEN_PASSTHROUGH = 128;

export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;

/** Codes of notifications, which stand where a reply has its error. */
export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;
export const FUSE_NOTIFY_DELETE = 6;

export const NAME_MAX = 255;
/** Longest target of a symlink; PATH_MAX less its NUL. */
export const TARGET_MAX = 4095;
export const XATTR_NAME_MAX = 255;
export const XATTR_SIZE_MAX = 65536;

/** Errnos that are returned rather than thrown, since they are common or stand for a whole operation. */
export const EIO = 5;
export const EPERM = 1;
export const ENODEV = 19;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const ERANGE = 34;
export const ENOSYS = 38;
export const ELOOP = 40;
export const ENODATA = 61;
export const EPROTO = 71;
export const EOPNOTSUPP = 95;
/** The kernel takes errors below this only. */
export const ERRNO_LIMIT = 512;
