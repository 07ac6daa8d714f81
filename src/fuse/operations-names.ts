/**
 * Operations that find, make, move or remove a name, and those that take references back. All that hand out a file count
 * one reference, in the kernel and in the filesystem alike. Names are refused in the codec when longer than 255 bytes.
 */
import { FsError } from '../errors.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import * as abi from './abi.ts';
import { deviceMajor, deviceMinor } from './device-number.ts';
import type { Exchange } from './exchange.ts';
import { NO_REPLY } from './exchange.ts';

/** Answers an absence with an entry without a file rather than ENOENT: only that is remembered. */
export function lookup(fs: Filesystem, { ino, request, reply, entry }: Exchange): number {
  fs.lookup(ino, request.name(0), entry);
  return reply.entry(entry);
}

/** struct fuse_forget_in: nlookup@0. */
export function forget(fs: Filesystem, { ino, request, passthrough }: Exchange): number {
  fs.forget(ino, request.amount(0));
  passthrough?.forgotten(ino);
  return NO_REPLY;
}

/** struct fuse_batch_forget_in: count@0; then count times nodeid, nlookup. A count beyond the message is cut. */
export function batchForget(fs: Filesystem, { request, passthrough }: Exchange): number {
  const end = Math.min(8 + 16 * request.u32(0), request.size - 15);
  for (let at = 8; at < end; at += 16) {
    const ino = request.amount(at);
    fs.forget(ino, request.amount(at + 8));
    passthrough?.forgotten(ino);
  }
  return NO_REPLY;
}

/** Two byte strings: the name, the target. */
export function symlink(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, reply, entry, caller } = exchange;
  const name = request.name(0);
  const target = request.text(request.next);
  if (target.length > abi.TARGET_MAX) throw new FsError('ENAMETOOLONG');
  fs.symlink(ino, name, target, caller, entry);
  return reply.entry(entry);
}

/** struct fuse_mknod_in: mode@0 rdev@4 umask@8, 16 bytes in all; the name. */
export function mknod(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, reply, entry, caller } = exchange;
  const device = request.u32(4);
  fs.mknod(
    ino,
    request.name(16),
    request.u32(0),
    deviceMajor(device),
    deviceMinor(device),
    request.u32(8),
    caller,
    entry,
  );
  return reply.entry(entry);
}

/** struct fuse_mkdir_in: mode@0 umask@4; the name. */
export function mkdir(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, reply, entry, caller } = exchange;
  fs.mkdir(ino, request.name(8), request.u32(0), request.u32(4), caller, entry);
  return reply.entry(entry);
}

/**
 * struct fuse_create_in: flags@0 mode@4 umask@8 open_flags@12; the name. Never FOPEN_NOFLUSH: closing must report the
 * ENOSPC of a mapped page.
 */
export function create(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, entry, caller } = exchange;
  fs.create(ino, request.name(16), request.u32(4), request.u32(8), caller, entry);
  return created(fs, exchange);
}

/** The reply to what makes a file and opens it. */
function created(fs: Filesystem, exchange: Exchange): number {
  const { request, reply, entry, passthrough } = exchange;
  const at = abi.ENTRY_OUT_SIZE;
  if (passthrough === undefined) return reply.entry(entry) + reply.opened(at, abi.FOPEN_KEEP_CACHE);
  try {
    // First, since it decides how long the attributes are valid.
    const size = passthrough.open(entry.ino, request.u32(0), reply, at);
    return reply.entry(entry) + size;
  } catch (error) {
    // The kernel is not told of the file.
    fs.forget(entry.ino, 1);
    throw error;
  }
}

/** As CREATE; the name is a placeholder of the kernel's. */
export function tmpfile(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, entry, caller } = exchange;
  fs.tmpfile(ino, request.u32(4), request.u32(8), caller, entry);
  return created(fs, exchange);
}

export function unlink(fs: Filesystem, { ino, request, caller }: Exchange): number {
  fs.unlink(ino, request.name(0), caller);
  return 0;
}

export function rmdir(fs: Filesystem, { ino, request, caller }: Exchange): number {
  fs.rmdir(ino, request.name(0), caller);
  return 0;
}

/** struct fuse_rename_in: newdir@0; the old and the new name. */
export function rename(fs: Filesystem, { ino, request, caller }: Exchange): number {
  const name = request.name(8);
  fs.rename(ino, name, request.u64(0), request.name(request.next), 0, caller);
  return 0;
}

/** struct fuse_rename2_in: newdir@0 flags@8, 16 bytes in all; the old and the new name. */
export function rename2(fs: Filesystem, { ino, request, caller }: Exchange): number {
  const name = request.name(16);
  const newName = request.name(request.next);
  fs.rename(ino, name, request.u64(0), newName, request.u32(8), caller);
  return 0;
}

/** struct fuse_link_in: oldnodeid@0; the new name. The request's node is the directory. */
export function link(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, reply, entry, caller } = exchange;
  fs.link(request.u64(0), ino, request.name(8), caller, entry);
  return reply.entry(entry);
}
