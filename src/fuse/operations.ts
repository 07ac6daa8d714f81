/**
 * One row per opcode: everything the transport knows of an operation is on its row and in the function it names. A
 * function decodes the body, calls the filesystem, encodes the reply in place. Those that find, make or take names are
 * in operations-names.ts, those on a directory's listing and on extended attributes in operations-lists.ts.
 */
import { FsError } from '../errors.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import {
  FATTR_ATIME,
  FATTR_CTIME,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_SIZE,
  FATTR_UID,
} from '../overlay/filesystem.ts';
import * as abi from './abi.ts';
import type { Exchange, Operation } from './exchange.ts';
import { isOwner, NO_REPLY, SEGMENTS } from './exchange.ts';
import { has, NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT } from './negotiate.ts';
import {
  getxattr,
  listxattr,
  readdir,
  readdirplus,
  removexattr,
  setxattr,
} from './operations-lists.ts';
import {
  batchForget,
  create,
  forget,
  link,
  lookup,
  mkdir,
  mknod,
  rename,
  rename2,
  rmdir,
  symlink,
  tmpfile,
  unlink,
} from './operations-names.ts';

/** By opcode. Those that are not here are answered ENOSYS, INIT is the server's. */
export const OPERATIONS: readonly (Operation | undefined)[] = table([
  [abi.FUSE_LOOKUP, 'LOOKUP', 0, lookup],
  [abi.FUSE_FORGET, 'FORGET', 8, forget],
  [abi.FUSE_GETATTR, 'GETATTR', 16, getattr],
  [abi.FUSE_SETATTR, 'SETATTR', 88, setattr],
  [abi.FUSE_READLINK, 'READLINK', 0, readlink],
  [abi.FUSE_SYMLINK, 'SYMLINK', 0, symlink],
  [abi.FUSE_MKNOD, 'MKNOD', 16, mknod],
  [abi.FUSE_MKDIR, 'MKDIR', 8, mkdir],
  [abi.FUSE_UNLINK, 'UNLINK', 0, unlink],
  [abi.FUSE_RMDIR, 'RMDIR', 0, rmdir],
  [abi.FUSE_RENAME, 'RENAME', 8, rename],
  [abi.FUSE_LINK, 'LINK', 8, link],
  [abi.FUSE_OPEN, 'OPEN', 8, open],
  [abi.FUSE_READ, 'READ', 40, read],
  [abi.FUSE_WRITE, 'WRITE', 40, write],
  [abi.FUSE_STATFS, 'STATFS', 0, statfs],
  [abi.FUSE_RELEASE, 'RELEASE', 24, release],
  [abi.FUSE_FSYNC, 'FSYNC', 16, fsync],
  [abi.FUSE_SETXATTR, 'SETXATTR', 8, setxattr],
  [abi.FUSE_GETXATTR, 'GETXATTR', 8, getxattr],
  [abi.FUSE_LISTXATTR, 'LISTXATTR', 8, listxattr],
  [abi.FUSE_REMOVEXATTR, 'REMOVEXATTR', 0, removexattr],
  // Nothing is kept back that a close would have to write; errors of mapped pages are the kernel's to report.
  [abi.FUSE_FLUSH, 'FLUSH', 24, unknown],
  [abi.FUSE_INIT, 'INIT', abi.INIT_IN_SIZE_OLD, unknown],
  [abi.FUSE_OPENDIR, 'OPENDIR', 8, opendir],
  [abi.FUSE_READDIR, 'READDIR', 40, readdir],
  [abi.FUSE_RELEASEDIR, 'RELEASEDIR', 24, nothing],
  [abi.FUSE_FSYNCDIR, 'FSYNCDIR', 16, fsync],
  // Locks are the kernel's own, since neither POSIX_LOCKS nor FLOCK_LOCKS is taken.
  [abi.FUSE_GETLK, 'GETLK', 48, unknown],
  [abi.FUSE_SETLK, 'SETLK', 48, unknown],
  [abi.FUSE_SETLKW, 'SETLKW', 48, unknown],
  // The kernel checks permissions (default_permissions).
  [abi.FUSE_ACCESS, 'ACCESS', 8, unknown],
  [abi.FUSE_CREATE, 'CREATE', 16, create],
  // Each request runs to completion before the next is read: there is nothing left to interrupt.
  [abi.FUSE_INTERRUPT, 'INTERRUPT', 8, silence],
  [abi.FUSE_BMAP, 'BMAP', 16, unknown],
  [abi.FUSE_DESTROY, 'DESTROY', 0, nothing],
  [abi.FUSE_IOCTL, 'IOCTL', 32, ioctl],
  [abi.FUSE_POLL, 'POLL', 24, unknown],
  [abi.FUSE_NOTIFY_REPLY, 'NOTIFY_REPLY', 0, silence],
  [abi.FUSE_BATCH_FORGET, 'BATCH_FORGET', 8, batchForget],
  [abi.FUSE_FALLOCATE, 'FALLOCATE', 32, fallocate],
  [abi.FUSE_READDIRPLUS, 'READDIRPLUS', 40, readdirplus],
  [abi.FUSE_RENAME2, 'RENAME2', 16, rename2],
  [abi.FUSE_LSEEK, 'LSEEK', 24, lseek],
  [abi.FUSE_COPY_FILE_RANGE, 'COPY_FILE_RANGE', 56, copyFileRange],
  // syncfs(2) writes the kernel's own pages; what has reached us is as safe as it gets.
  [abi.FUSE_SYNCFS, 'SYNCFS', 8, nothing],
  [abi.FUSE_TMPFILE, 'TMPFILE', 16, tmpfile],
  [abi.FUSE_STATX, 'STATX', 24, statx],
  [abi.FUSE_COPY_FILE_RANGE_64, 'COPY_FILE_RANGE_64', 56, copyFileRange64],
]);

/** Opcodes whose requests may change what the filesystem shows; what differs from the lower stays as it is without them. */
export const CHANGING: readonly number[] = [
  abi.FUSE_SETATTR,
  abi.FUSE_SYMLINK,
  abi.FUSE_MKNOD,
  abi.FUSE_MKDIR,
  abi.FUSE_UNLINK,
  abi.FUSE_RMDIR,
  abi.FUSE_RENAME,
  abi.FUSE_LINK,
  abi.FUSE_WRITE,
  // What was open may have been written to.
  abi.FUSE_RELEASE,
  abi.FUSE_SETXATTR,
  abi.FUSE_REMOVEXATTR,
  abi.FUSE_CREATE,
  abi.FUSE_FALLOCATE,
  abi.FUSE_RENAME2,
  abi.FUSE_COPY_FILE_RANGE,
  abi.FUSE_COPY_FILE_RANGE_64,
];

type Row = [opcode: number, name: string, size: number, run: Operation['run']];

function table(rows: Row[]): readonly (Operation | undefined)[] {
  const operations = Array.from<Operation | undefined>({ length: abi.OPCODES });
  for (const [opcode, name, size, run] of rows) operations[opcode] = { name, size, run };
  return operations;
}

function nothing(): number {
  return 0;
}

function silence(): number {
  return NO_REPLY;
}

/** The kernel remembers it and does not ask again. */
function unknown(): number {
  return -abi.ENOSYS;
}

function getattr(fs: Filesystem, { ino, attr, reply }: Exchange): number {
  fs.getattr(ino, attr);
  return reply.attr(ino, attr);
}

/** struct fuse_getattr_in and sx_flags, sx_mask: everything is always given. */
function statx(fs: Filesystem, { ino, attr, reply }: Exchange): number {
  fs.getattr(ino, attr);
  return reply.statx(ino, attr);
}

/** What of `fuse_setattr_in.valid` is passed on: handles and lock owners mean nothing here. */
const SETATTR_MASK =
  FATTR_MODE |
  FATTR_UID |
  FATTR_GID |
  FATTR_SIZE |
  FATTR_ATIME |
  FATTR_MTIME |
  (1 << 7) |
  (1 << 8) |
  FATTR_CTIME |
  FATTR_KILL_SUIDGID;

/**
 * struct fuse_setattr_in: valid@0 fh@8 size@16 lock_owner@24 atime@32 mtime@40 ctime@48 atimensec@56 mtimensec@60
 * ctimensec@64 mode@68 uid@76 gid@80. A field without its bit may hold anything.
 *
 * Nothing asked for is an order to clear privileges, and nothing else: the kernel leaves the mode to us
 * (HANDLE_KILLPRIV_V2). It comes of a chown to -1, by anybody, who on ext4 would be refused unless he is the owner; and
 * before a change of contents, which clears them itself, unless the kernel makes that by itself.
 */
function setattr(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, changes, attr, passthrough } = exchange;
  const asked = request.u32(0) & SETATTR_MASK;
  let valid = asked;
  if ((valid & FATTR_SIZE) !== 0) passthrough?.beforeTruncation(ino);
  if (asked === 0 && exchange.caller.uid !== 0) {
    const isWrite = passthrough?.isWritten(ino) === true;
    if (!isWrite && !isOwner(fs, exchange)) return exchange.reply.attr(ino, attr);
    valid = FATTR_KILL_SUIDGID;
  }
  changes.valid = valid;
  changes.mode = request.u32(68);
  changes.uid = request.u32(76);
  changes.gid = request.u32(80);
  changes.size = (valid & FATTR_SIZE) === 0 ? 0 : request.extent(16);
  changes.atimeSec = (valid & FATTR_ATIME) === 0 ? 0 : request.seconds(32);
  changes.atimeNsec = request.u32(56);
  changes.mtimeSec = (valid & FATTR_MTIME) === 0 ? 0 : request.seconds(40);
  changes.mtimeNsec = request.u32(60);
  changes.ctimeSec = (valid & FATTR_CTIME) === 0 ? 0 : request.seconds(48);
  changes.ctimeNsec = request.u32(64);
  fs.setattr(ino, changes, exchange.caller, attr);
  return exchange.reply.attr(ino, attr);
}

function readlink(fs: Filesystem, { ino, reply }: Exchange): number {
  return reply.text(0, fs.readlink(ino));
}

/**
 * struct fuse_open_in: flags@0. Not served where the kernel knows what that means and moves no bytes by itself: a file has no
 * state then that an open would make.
 */
function open(_fs: Filesystem, { ino, request, connection, reply, passthrough }: Exchange): number {
  if (passthrough !== undefined) return passthrough.open(ino, request.u32(0), reply, 0);
  if (has(connection, NO_OPEN_SUPPORT)) return -abi.ENOSYS;
  return reply.opened(0, abi.FOPEN_KEEP_CACHE);
}

/** struct fuse_release_in: fh@0 flags@8, those of the open. */
function release(_fs: Filesystem, { ino, request, passthrough }: Exchange): number {
  passthrough?.release(ino, request.u32(8));
  return 0;
}

function opendir(_fs: Filesystem, { connection, reply }: Exchange): number {
  if (has(connection, NO_OPENDIR_SUPPORT)) return -abi.ENOSYS;
  return reply.opened(0, abi.FOPEN_KEEP_CACHE | abi.FOPEN_CACHE_DIR);
}

/** struct fuse_read_in: fh@0 offset@8 size@16. */
function read(fs: Filesystem, { ino, request, segments, incomplete }: Exchange): number {
  if (incomplete.size > 0 && incomplete.has(ino)) return -abi.EIO;
  segments.clear();
  fs.read(ino, request.u64(8), request.u32(16), segments);
  return segments.count === 0 ? 0 : SEGMENTS;
}

/** struct fuse_write_in: fh@0 offset@8 size@16 write_flags@20, 40 bytes in all; then the data. */
function write(fs: Filesystem, { ino, request, reply, caller, incomplete }: Exchange): number {
  if (incomplete.size > 0 && incomplete.has(ino)) return -abi.EIO;
  const size = request.u32(16);
  if (40 + size > request.size) return -abi.EIO;
  const clear = (request.u32(20) & abi.FUSE_WRITE_KILL_SUIDGID) !== 0;
  const start = abi.IN_HEADER_SIZE + 40;
  fs.write(ino, request.extent(8), request.bytes, start, size, clear, caller);
  reply.u32(0, size);
  reply.u32(4, 0);
  return abi.WRITE_OUT_SIZE;
}

function statfs(fs: Filesystem, { stat, reply }: Exchange): number {
  fs.statfs(stat);
  return reply.statfs(stat);
}

/** struct fuse_fsync_in: fh@0 fsync_flags@8. */
function fsync(fs: Filesystem, { ino, request, incomplete }: Exchange): number {
  if (incomplete.has(ino)) return -abi.EIO;
  fs.fsync(ino, (request.u32(8) & abi.FUSE_FSYNC_FDATASYNC) !== 0);
  return 0;
}

/** None is known: neither file attributes (FS_IOC_GETFLAGS and kin) nor anything that a device would have. */
function ioctl(): number {
  return -abi.ENOTTY;
}

/** struct fuse_fallocate_in: fh@0 offset@8 length@16 mode@24. */
function fallocate(fs: Filesystem, { ino, request, caller }: Exchange): number {
  fs.fallocate(ino, request.u32(24), request.extent(8), request.extent(16), caller);
  return 0;
}

/** struct fuse_lseek_in: fh@0 offset@8 whence@16. */
function lseek(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, reply, unwritten } = exchange;
  const offset = request.amount(8);
  const whence = request.u32(16);
  const { uniqueLow, uniqueHigh } = request;
  const found =
    unwritten === undefined
      ? fs.lseek(ino, offset, whence)
      : unwritten.seek(fs, { unique: `${uniqueHigh}:${uniqueLow}`, ino, offset, whence });
  reply.u64(0, found);
  return abi.LSEEK_OUT_SIZE;
}

/** Bytes copied by one request, which no other is served meanwhile: who copies more is told how far it came, and asks again. */
const COPY_MAX = 0x400000;

function copyFileRange(fs: Filesystem, exchange: Exchange): number {
  exchange.reply.u32(0, copy(fs, exchange));
  exchange.reply.u32(4, 0);
  return abi.WRITE_OUT_SIZE;
}

function copyFileRange64(fs: Filesystem, exchange: Exchange): number {
  exchange.reply.u64(0, copy(fs, exchange));
  return abi.COPY_FILE_RANGE_OUT_SIZE;
}

/** struct fuse_copy_file_range_in: fh_in@0 off_in@8 nodeid_out@16 fh_out@24 off_out@32 len@40 flags@48. */
function copy(fs: Filesystem, { ino, request, caller }: Exchange): number {
  if (request.u64(48) !== 0) throw new FsError('EINVAL');
  const length = Math.min(request.amount(40), COPY_MAX);
  const target = request.u64(16);
  return fs.copyFileRange(ino, request.extent(8), target, request.extent(32), length, caller);
}
