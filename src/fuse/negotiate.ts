/**
 * INIT: which of the abilities that a kernel offers are taken, and why. Pure: what was offered in, what is answered out.
 */
import { FUSE_KERNEL_MINOR_VERSION } from './abi.ts';

/** Who moves the bytes of files: we do, for a kernel that keeps them in its cache, or the kernel by itself. */
export type IoMode = 'cached' | 'passthrough';

export interface Ability {
  readonly name: string;
  /** Bit of the 64-bit flag set. */
  readonly bit: number;
  /** Always, or in this mode only. */
  readonly take: boolean | IoMode;
  readonly why: string;
}

/** Every flag of INIT, in the order of its bits; the minor that brought it where it is newer than 7.31. */
export const ABILITIES: readonly Ability[] = [
  ability(0, 'ASYNC_READ', true, 'readahead need not wait for the read before'),
  ability(
    1,
    'POSIX_LOCKS',
    false,
    'the kernel keeps fcntl locks itself: all lockers are on this host',
  ),
  ability(
    3,
    'ATOMIC_O_TRUNC',
    false,
    'where no OPEN is served, a truncation by open would be lost',
  ),
  ability(4, 'EXPORT_SUPPORT', false, 'it would look up "." and ".." of nodes forgotten already'),
  ability(5, 'BIG_WRITES', true, 'writes beyond a page'),
  ability(
    6,
    'DONT_MASK',
    true,
    'a default ACL of the parent replaces the umask: we have to see both',
  ),
  ability(7, 'SPLICE_WRITE', false, 'nothing is spliced'),
  ability(8, 'SPLICE_MOVE', false, 'nothing is spliced'),
  ability(9, 'SPLICE_READ', false, 'nothing is spliced'),
  ability(10, 'FLOCK_LOCKS', false, 'as POSIX_LOCKS'),
  ability(11, 'HAS_IOCTL_DIR', false, 'no ioctl is known'),
  ability(12, 'AUTO_INVAL_DATA', false, 'nobody else changes data, and it costs GETATTRs'),
  ability(
    13,
    'DO_READDIRPLUS',
    true,
    'attributes come with the names: a fifth of the requests of a walk',
  ),
  ability(14, 'READDIRPLUS_AUTO', true, 'but only to those who look at them'),
  ability(15, 'ASYNC_DIO', true, 'pieces of a direct read may be under way together'),
  ability(
    16,
    'WRITEBACK_CACHE',
    false,
    'what write(2) has completed must be with us; no gain was measured',
  ),
  ability(17, 'NO_OPEN_SUPPORT', 'cached', 'OPEN is answered ENOSYS: warm opens cost nothing'),
  ability(18, 'PARALLEL_DIROPS', true, 'requests are served one at a time anyway'),
  ability(
    19,
    'HANDLE_KILLPRIV',
    false,
    'V2 says when to clear setuid, this one leaves it to guesses',
  ),
  ability(20, 'POSIX_ACL', true, 'the kernel checks ACLs and caches them'),
  ability(21, 'ABORT_ERROR', false, 'an aborted connection ends us as an unmounted one does'),
  ability(22, 'MAX_PAGES', true, 'requests of 1 MiB'),
  ability(23, 'CACHE_SYMLINKS', true, 'nobody else changes targets'),
  ability(24, 'NO_OPENDIR_SUPPORT', true, 'OPENDIR is answered ENOSYS: listings stay cached'),
  ability(25, 'EXPLICIT_INVAL_DATA', true, 'pages stay until we say so'),
  ability(26, 'MAP_ALIGNMENT', false, 'for DAX'),
  ability(27, 'SUBMOUNTS', false, 'the tree is one filesystem'),
  // 7.33
  ability(28, 'HANDLE_KILLPRIV_V2', true, 'spares a GETXATTR(security.capability) for each write'),
  ability(29, 'SETXATTR_EXT', true, 'says when setting an ACL must clear setgid'),
  // 7.36
  ability(30, 'INIT_EXT', true, 'the upper half of this set'),
  ability(32, 'SECURITY_CTX', false, 'labels are set by SETXATTR, after the creation'),
  ability(33, 'HAS_INODE_DAX', false, 'for DAX'),
  // 7.38
  ability(
    34,
    'CREATE_SUPP_GROUP',
    false,
    'the VFS has cleared setgid of new files before it asks us',
  ),
  ability(35, 'HAS_EXPIRE_ONLY', false, 'nothing expires'),
  // 7.39
  ability(36, 'DIRECT_IO_ALLOW_MMAP', false, 'no open is direct'),
  // 7.40
  ability(37, 'PASSTHROUGH', 'passthrough', 'the kernel reads and writes files of the host'),
  ability(38, 'NO_EXPORT_SUPPORT', true, 'handles of forgotten nodes cannot be decoded: say so'),
  ability(39, 'HAS_RESEND', false, 'nothing is asked for again'),
  // 7.41
  ability(
    40,
    'ALLOW_IDMAP',
    false,
    'hides the caller from all but creations, and we ask who it is',
  ),
  // 7.42, 7.43
  ability(
    41,
    'OVER_IO_URING',
    false,
    'slower for bulk data, and the device has to be served besides',
  ),
  ability(
    42,
    'REQUEST_TIMEOUT',
    false,
    'would abort the mount when the daemon is stopped for a while',
  ),
];

function ability(bit: number, name: string, take: Ability['take'], why: string): Ability {
  return { name, bit, take, why };
}

/** What was agreed with a kernel. */
export interface Connection {
  minor: number;
  /** The flags agreed on, as two halves. */
  flagsLow: number;
  flagsHigh: number;
  maxReadahead: number;
}

/** Before INIT; minor 0. */
export const UNCONNECTED: Connection = { minor: 0, flagsLow: 0, flagsHigh: 0, maxReadahead: 0 };

/** Bytes of a WRITE, and pages of any request: the most a kernel takes unless fs.fuse.max_pages_limit is raised. */
export const MAX_WRITE: number = 1 << 20;
export const MAX_PAGES = 256;

/**
 * Requests that may wait for us without anybody waiting for them (readahead, writeback); at CONGESTION the kernel holds
 * back. The default of 12 leaves readahead of several readers short.
 */
export const MAX_BACKGROUND = 64;
export const CONGESTION = 48;

/** What is answered to a kernel that offers these flags. A flag that was not offered is not taken. */
export function negotiate(
  minor: number,
  flagsLow: number,
  flagsHigh: number,
  maxReadahead: number,
  io: IoMode = 'cached',
): Connection {
  let low = 0;
  let high = 0;
  for (const { bit, take } of ABILITIES) {
    if (take !== true && take !== io) continue;
    if (bit < 32) low |= 1 << bit;
    else high |= 1 << (bit - 32);
  }
  const isExtended = ((flagsLow >>> INIT_EXT) & 1) === 1;
  return {
    minor: Math.min(minor, FUSE_KERNEL_MINOR_VERSION),
    flagsLow: (low & flagsLow) >>> 0,
    flagsHigh: isExtended ? (high & flagsHigh) >>> 0 : 0,
    maxReadahead,
  };
}

/** Whether a flag of the lower half was agreed on. */
export function has(connection: Connection, bit: number): boolean {
  return ((connection.flagsLow >>> bit) & 1) === 1;
}

/** Whether files may be backed by the host's. */
export function hasPassthrough({ flagsHigh }: Connection): boolean {
  return ((flagsHigh >>> (PASSTHROUGH - 32)) & 1) === 1;
}

const PASSTHROUGH = 37;
export const NO_OPEN_SUPPORT = 17;
export const NO_OPENDIR_SUPPORT = 24;
export const SETXATTR_EXT = 29;
const INIT_EXT = 30;
