/** Operations whose reply is cut to a size the kernel gives: directory listings and extended attributes. */
import { FsError } from '../errors.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import * as abi from './abi.ts';
import type { Reply } from './reply.ts';
import type { Exchange } from './exchange.ts';
import { isOwner } from './exchange.ts';
import { has, SETXATTR_EXT } from './negotiate.ts';

const CAPABILITY = 'security.capability';

/** struct fuse_read_in: offset@8 is the cookie to go on from, size@16 the room for the reply. */
export function readdir(fs: Filesystem, { ino, request, reply, listing }: Exchange): number {
  listing.begin(Math.min(request.u32(16), reply.room));
  fs.readdir(ino, request.u64(8), listing.sink);
  return listing.size;
}

export function readdirplus(fs: Filesystem, { ino, request, reply, listing }: Exchange): number {
  listing.begin(Math.min(request.u32(16), reply.room));
  fs.readdirplus(ino, request.u64(8), listing.sinkPlus);
  return listing.size;
}

/** struct fuse_getxattr_in: size@0, 8 bytes in all; the name. Size 0 asks how much there is. */
export function getxattr(fs: Filesystem, { ino, request, reply }: Exchange): number {
  const size = request.u32(0);
  const value = fs.getxattr(ino, xattrName(request.text(8)));
  if (value === undefined) return -abi.ENODATA;
  if (size === 0) return sizeReply(reply, value.length);
  return value.length > size ? -abi.ERANGE : reply.data(0, value);
}

/** struct fuse_getxattr_in. The reply is the names, each with a NUL. */
export function listxattr(fs: Filesystem, { ino, request, reply, caller }: Exchange): number {
  const limit = request.u32(0);
  const names = fs.listxattr(ino, caller);
  let total = 0;
  for (const name of names) total += name.length + 1;
  if (limit === 0) return sizeReply(reply, total);
  if (total > limit || total > reply.room) return -abi.ERANGE;
  let at = 0;
  for (const name of names) {
    at += reply.text(at, name);
    reply.byte(at++, 0);
  }
  return at;
}

/** struct fuse_getxattr_out. */
function sizeReply(reply: Reply, size: number): number {
  reply.u32(0, size);
  reply.u32(4, 0);
  return abi.GETXATTR_OUT_SIZE;
}

/** struct fuse_setxattr_in: size@0 flags@4, and with SETXATTR_EXT setxattr_flags@8, 16 bytes in all; name; value. */
export function setxattr(fs: Filesystem, exchange: Exchange): number {
  const { request, connection } = exchange;
  const size = request.u32(0);
  if (size > abi.XATTR_SIZE_MAX) throw new FsError('E2BIG');
  const isExtended = has(connection, SETXATTR_EXT);
  const name = xattrName(request.text(isExtended ? 16 : 8));
  const value = request.copy(request.next, size);
  const clear = isExtended && (request.u32(8) & abi.FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  fs.setxattr(exchange.ino, name, value, request.u32(4), clear, exchange.caller);
  return 0;
}

/**
 * A capability taken away by a stranger stays. removexattr(2) lets none through, but chown(2) to -1 sends this on behalf
 * of anybody; so does a write, which takes the capability away itself.
 */
export function removexattr(fs: Filesystem, exchange: Exchange): number {
  const { ino, request, caller } = exchange;
  const name = xattrName(request.text(0));
  if (name === CAPABILITY && caller.uid !== 0 && !isOwner(fs, exchange)) return 0;
  fs.removexattr(ino, name, caller);
  return 0;
}

/** @throws ERANGE for a name that setxattr(2) would not take. */
function xattrName(name: string): string {
  if (name.length === 0 || name.length > abi.XATTR_NAME_MAX) throw new FsError('ERANGE');
  return name;
}
