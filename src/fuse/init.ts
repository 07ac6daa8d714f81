/** INIT: what the kernel offers, and what it is told to do. */
import * as abi from './abi.ts';
import type { Exchange } from './exchange.ts';
import {
  CONGESTION,
  hasPassthrough,
  MAX_BACKGROUND,
  MAX_PAGES,
  MAX_WRITE,
  negotiate,
} from './negotiate.ts';

/**
 * struct fuse_init_in: major@0 minor@4 max_readahead@8 flags@12 flags2@16, which is there when the kernel has flags to put
 * in it. A newer major is told ours and asks again.
 *
 * @returns bytes of the reply's body, or a negative errno.
 */
export function answerInit(exchange: Exchange, log: (message: string) => void): number {
  const { request, reply, passthrough } = exchange;
  const major = request.u32(0);
  const minor = request.u32(4);
  if (major > abi.FUSE_KERNEL_VERSION) {
    reply.zero(0, abi.INIT_OUT_SIZE);
    reply.u32(0, abi.FUSE_KERNEL_VERSION);
    reply.u32(4, abi.FUSE_KERNEL_MINOR_VERSION);
    return abi.INIT_OUT_SIZE;
  }
  if (major < abi.FUSE_KERNEL_VERSION || minor < abi.FUSE_OLDEST_MINOR_VERSION) {
    log(
      `this kernel speaks FUSE ${major}.${minor}; ${abi.FUSE_KERNEL_VERSION}.${abi.FUSE_OLDEST_MINOR_VERSION} is the oldest that can be served`,
    );
    return -abi.EPROTO;
  }
  const flags2 = request.size >= 20 ? request.u32(16) : 0;
  const io = passthrough === undefined ? 'cached' : 'passthrough';
  const connection = negotiate(minor, request.u32(12), flags2, request.u32(8), io);
  if (passthrough !== undefined && !hasPassthrough(connection)) {
    log('this kernel does not let FUSE filesystems pass reads and writes through');
    return -abi.EPROTO;
  }
  exchange.connection = connection;
  reply.zero(0, abi.INIT_OUT_SIZE);
  reply.u32(0, abi.FUSE_KERNEL_VERSION);
  reply.u32(4, connection.minor);
  reply.u32(8, connection.maxReadahead);
  reply.u32(12, connection.flagsLow);
  reply.u32(16, MAX_BACKGROUND | (CONGESTION << 16));
  reply.u32(20, MAX_WRITE);
  // time_gran: nanoseconds.
  reply.u32(24, 1);
  reply.u32(28, MAX_PAGES);
  reply.u32(32, connection.flagsHigh);
  // max_stack_depth: backing files may not be stacked themselves; in return we may be a lower of overlayfs.
  reply.u32(36, passthrough === undefined ? 0 : 1);
  return abi.INIT_OUT_SIZE;
}
