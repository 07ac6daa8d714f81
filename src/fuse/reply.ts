/**
 * A reply as typed-array views on a channel's fixed buffer; positions and integers are those of `request.ts`. Knows no
 * operation.
 */
import type { Attr, Name } from '../layers/layer.ts';
import type { Entry, StatFs } from '../overlay/filesystem.ts';
import {
  ATTR_OUT_SIZE,
  DIRENT_SIZE,
  ENTRY_OUT_SIZE,
  OPEN_OUT_SIZE,
  OUT_HEADER_SIZE,
  STATFS_OUT_SIZE,
  STATX_BASIC_STATS,
  STATX_BTIME,
  STATX_OUT_SIZE,
} from './abi.ts';
import { encodeDevice } from './device-number.ts';
import type { Request } from './request.ts';

const WORD = 2 ** 32;
const OUT_WORDS = OUT_HEADER_SIZE / 4;

/**
 * Seconds for which entries, attributes and absences are valid: for ever, nobody else changes the tree. The kernel turns
 * seconds into jiffies with a cap (timespec64_to_jiffies), so nothing overflows; 68 years is beyond any mount.
 */
export const FOREVER_SEC = 0x7fffffff;

/** st_blksize; i_blkbits of the kernel's inode. Both layers count in pages. */
const BLOCK_SIZE = 4096;

/**
 * The reply in a channel's buffer. The buffer is never cleared, so each encoder writes every word of its struct. Those
 * that write a whole reply give its length.
 */
export class Reply {
  /** Nodes of which the kernel must not remember attributes, since they change without our being asked. */
  changing: { has(ino: number): boolean } | undefined = undefined;
  readonly #bytes: Uint8Array;
  /** What follows the header. */
  readonly body: Uint8Array;
  readonly #words: Uint32Array;
  readonly #text: Buffer;

  constructor(buffer: ArrayBuffer) {
    this.#bytes = new Uint8Array(buffer);
    this.body = this.#bytes.subarray(OUT_HEADER_SIZE);
    this.#words = new Uint32Array(buffer, 0, buffer.byteLength >> 2);
    this.#text = Buffer.from(buffer);
  }

  /** Bytes a body can have. */
  get room(): number {
    return this.#bytes.length - OUT_HEADER_SIZE;
  }

  /** Whose reply this is: needed before a reply by segments, too. */
  address(request: Request): void {
    this.#words[2] = request.uniqueLow;
    this.#words[3] = request.uniqueHigh;
  }

  /** Completes the header. @returns the message's length: of `size` bytes of body, or of the error -`size`. */
  finish(size: number): number {
    const length = size < 0 ? OUT_HEADER_SIZE : OUT_HEADER_SIZE + size;
    this.#words[0] = length;
    this.#words[1] = size < 0 ? size : 0;
    return length;
  }

  u32(at: number, value: number): void {
    this.#words[OUT_WORDS + (at >> 2)] = value;
  }

  /** Negative values as two's complement: storing to the array takes a number modulo 2^32. */
  u64(at: number, value: number): void {
    const index = OUT_WORDS + (at >> 2);
    this.#words[index] = value;
    this.#words[index + 1] = Math.floor(value / WORD);
  }

  zero(from: number, to: number): void {
    this.#words.fill(0, OUT_WORDS + (from >> 2), OUT_WORDS + (to >> 2));
  }

  /** @returns bytes written. */
  data(at: number, value: Uint8Array): number {
    this.#bytes.set(value, OUT_HEADER_SIZE + at);
    return value.length;
  }

  /** Writes a byte string without a NUL. @returns bytes written. */
  text(at: number, value: string): number {
    return this.#text.write(value, OUT_HEADER_SIZE + at, 'latin1');
  }

  byte(at: number, value: number): void {
    this.#bytes[OUT_HEADER_SIZE + at] = value;
  }

  /** struct fuse_attr, 88 bytes. */
  #attr(at: number, attr: Attr): void {
    const words = this.#words;
    const index = OUT_WORDS + (at >> 2);
    this.u64(at, attr.ino);
    this.u64(at + 8, attr.size);
    this.u64(at + 16, attr.blocks);
    this.u64(at + 24, attr.atimeSec);
    this.u64(at + 32, attr.mtimeSec);
    this.u64(at + 40, attr.ctimeSec);
    words[index + 12] = attr.atimeNsec;
    words[index + 13] = attr.mtimeNsec;
    words[index + 14] = attr.ctimeNsec;
    words[index + 15] = attr.mode;
    words[index + 16] = attr.nlink;
    words[index + 17] = attr.uid;
    words[index + 18] = attr.gid;
    words[index + 19] = encodeDevice(attr.rdevMajor, attr.rdevMinor);
    words[index + 20] = BLOCK_SIZE;
    words[index + 21] = 0;
  }

  /** For how long the attributes of a node are valid. */
  #validSec(ino: number): number {
    return this.changing?.has(ino) === true ? 0 : FOREVER_SEC;
  }

  /** struct fuse_attr_out, of the node `ino`. */
  attr(ino: number, attr: Attr): number {
    this.u64(0, this.#validSec(ino));
    this.u64(8, 0);
    this.#attr(16, attr);
    return ATTR_OUT_SIZE;
  }

  /** struct fuse_entry_out. An `ino` of 0 is an absence that the kernel may remember. */
  entry(entry: Entry): number {
    return this.entryAt(0, entry);
  }

  entryAt(at: number, entry: Entry): number {
    this.u64(at, entry.ino);
    this.u64(at + 8, 0);
    this.u64(at + 16, FOREVER_SEC);
    this.u64(at + 24, this.#validSec(entry.ino));
    this.u64(at + 32, 0);
    if (entry.ino === 0) this.zero(at + 40, at + ENTRY_OUT_SIZE);
    else this.#attr(at + 40, entry.attr);
    return ENTRY_OUT_SIZE;
  }

  /** struct fuse_open_out: no handle; the id of the backing file, 0 without. */
  opened(at: number, flags: number, backingId: number = 0): number {
    this.u64(at, 0);
    this.u32(at + 8, flags);
    this.u32(at + 12, backingId);
    return OPEN_OUT_SIZE;
  }

  /** struct fuse_dirent with its name, padded to 8 bytes. @returns its size. */
  dirent(at: number, name: Name, cookie: number, ino: number, type: number): number {
    const end = at + direntSize(name);
    this.u64(end - 8, 0);
    this.u64(at, ino);
    this.u64(at + 8, cookie);
    this.u32(at + 16, name.length);
    this.u32(at + 20, type);
    this.text(at + DIRENT_SIZE, name);
    return end - at;
  }

  /** struct fuse_statfs_out. */
  statfs(stat: StatFs): number {
    this.u64(0, stat.blocks);
    this.u64(8, stat.bfree);
    this.u64(16, stat.bavail);
    this.u64(24, stat.files);
    this.u64(32, stat.ffree);
    this.u32(40, stat.bsize);
    this.u32(44, stat.namelen);
    this.u32(48, stat.bsize);
    this.zero(52, STATFS_OUT_SIZE);
    return STATFS_OUT_SIZE;
  }

  /** struct fuse_statx_out, of the node `ino`. A creation time that is not known is left out of the mask. */
  statx(ino: number, attr: Attr): number {
    const hasBtime = attr.btimeSec !== 0 || attr.btimeNsec !== 0;
    this.u64(0, this.#validSec(ino));
    this.zero(8, STATX_OUT_SIZE);
    this.u32(32, hasBtime ? STATX_BASIC_STATS | STATX_BTIME : STATX_BASIC_STATS);
    this.u32(36, BLOCK_SIZE);
    this.u32(48, attr.nlink);
    this.u32(52, attr.uid);
    this.u32(56, attr.gid);
    this.u32(60, attr.mode & 0xffff);
    this.u64(64, attr.ino);
    this.u64(72, attr.size);
    this.u64(80, attr.blocks);
    this.#statxTime(96, attr.atimeSec, attr.atimeNsec);
    this.#statxTime(112, attr.btimeSec, attr.btimeNsec);
    this.#statxTime(128, attr.ctimeSec, attr.ctimeNsec);
    this.#statxTime(144, attr.mtimeSec, attr.mtimeNsec);
    this.u32(160, attr.rdevMajor);
    this.u32(164, attr.rdevMinor);
    return STATX_OUT_SIZE;
  }

  #statxTime(at: number, seconds: number, nanoseconds: number): void {
    this.u64(at, seconds);
    this.u32(at + 8, nanoseconds);
  }
}

/** Bytes of a struct fuse_dirent with this name. */
export function direntSize(name: Name): number {
  return (DIRENT_SIZE + name.length + 7) & ~7;
}
