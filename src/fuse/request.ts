/**
 * A request as typed-array views on a channel's fixed buffer: nothing is allocated but the strings of names. Positions are
 * bytes from the start of the *body*, behind the header, so that they are those of the structs in linux/fuse.h. Integers
 * are in the host's order. Knows no operation.
 *
 * A 64-bit number is read as a double, high * 2^32 + low; one beyond 2^53 cannot be told from its neighbours and is
 * refused.
 */
import { FsError } from '../errors.ts';
import type { Name } from '../layers/layer.ts';
import type { Caller } from '../overlay/filesystem.ts';
import { IN_HEADER_SIZE, NAME_MAX } from './abi.ts';

const WORD = 2 ** 32;
const IN_WORDS = IN_HEADER_SIZE / 4;
const SLASH = 0x2f;
const DOT = 0x2e;

/** The request in a channel's buffer. `begin` first; what is read then is checked against the length given. */
export class Request {
  /** The whole buffer, header included: a WRITE's data is handed on from here. */
  readonly bytes: Uint8Array;
  /** Length of the body, extensions excluded. */
  size = 0;
  /** Body position behind the name last read. */
  next = 0;
  readonly #words: Uint32Array;
  readonly #text: Buffer;

  constructor(buffer: ArrayBuffer) {
    this.bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer, 0, buffer.byteLength >> 2);
    this.#text = Buffer.from(buffer);
  }

  /** Takes up a message of `length` bytes. @returns whether its header is whole and agrees with the length. */
  begin(length: number): boolean {
    if (length < IN_HEADER_SIZE || this.#words[0] !== length) return false;
    const extensions = 8 * ((this.#words[9] ?? 0) & 0xffff);
    this.size = length - IN_HEADER_SIZE - extensions;
    this.next = 0;
    return this.size >= 0;
  }

  get opcode(): number {
    return this.#words[1] ?? 0;
  }

  get uniqueLow(): number {
    return this.#words[2] ?? 0;
  }

  get uniqueHigh(): number {
    return this.#words[3] ?? 0;
  }

  /** The node id; NaN beyond 2^53, which no node has. */
  get nodeid(): number {
    const high = this.#words[5] ?? 0;
    return high < 0x200000 ? high * WORD + (this.#words[4] ?? 0) : Number.NaN;
  }

  caller(into: Caller): void {
    into.uid = this.#words[6] ?? 0;
    into.gid = this.#words[7] ?? 0;
    into.pid = this.#words[8] ?? 0;
  }

  u32(at: number): number {
    return this.#words[IN_WORDS + (at >> 2)] ?? 0;
  }

  /** @throws EINVAL beyond 2^53. */
  u64(at: number): number {
    const index = IN_WORDS + (at >> 2);
    const high = this.#words[index + 1] ?? 0;
    if (high >= 0x200000) throw new FsError('EINVAL');
    return high * WORD + (this.#words[index] ?? 0);
  }

  /** A position or size in a file that is to be made or changed. @throws EFBIG beyond 2^53. */
  extent(at: number): number {
    const index = IN_WORDS + (at >> 2);
    const high = this.#words[index + 1] ?? 0;
    if (high >= 0x200000) throw new FsError('EFBIG');
    return high * WORD + (this.#words[index] ?? 0);
  }

  /** An upper bound on bytes; 2^53 - 1 for anything beyond. */
  amount(at: number): number {
    const index = IN_WORDS + (at >> 2);
    const high = this.#words[index + 1] ?? 0;
    if (high >= 0x200000) return Number.MAX_SAFE_INTEGER;
    return high * WORD + (this.#words[index] ?? 0);
  }

  /** Seconds since 1970, negative before. @throws EINVAL beyond 2^53 either way. */
  seconds(at: number): number {
    const index = IN_WORDS + (at >> 2);
    const seconds = ((this.#words[index + 1] ?? 0) | 0) * WORD + (this.#words[index] ?? 0);
    if (!Number.isSafeInteger(seconds)) throw new FsError('EINVAL');
    return seconds;
  }

  /**
   * The path component at `at`; `next` is behind its NUL.
   *
   * @throws ENAMETOOLONG beyond 255 bytes; EIO without a NUL; EINVAL for what cannot be a component ('', '.', '..', with a
   *   slash), which the kernel never sends.
   */
  name(at: number): Name {
    const { bytes } = this;
    const start = IN_HEADER_SIZE + at;
    const limit = IN_HEADER_SIZE + this.size;
    let end = start;
    for (; end < limit; end++) {
      const byte = bytes[end];
      if (byte === 0) break;
      if (byte === SLASH) throw new FsError('EINVAL');
    }
    if (end >= limit) throw new FsError('EIO');
    const length = end - start;
    if (length > NAME_MAX) throw new FsError('ENAMETOOLONG');
    if (length === 0) throw new FsError('EINVAL');
    if (length <= 2 && bytes[start] === DOT && bytes[end - 1] === DOT) throw new FsError('EINVAL');
    this.next = at + length + 1;
    return this.#text.toString('latin1', start, end);
  }

  /** Any NUL-terminated bytes: a symlink's target, an attribute's name. @throws EIO without a NUL. */
  text(at: number): string {
    const start = IN_HEADER_SIZE + at;
    const end = this.bytes.indexOf(0, start);
    if (end === -1 || end >= IN_HEADER_SIZE + this.size) throw new FsError('EIO');
    this.next = at + (end - start) + 1;
    return this.#text.toString('latin1', start, end);
  }

  /** A copy of `length` bytes, to be kept. @throws EIO when the body is shorter. */
  copy(at: number, length: number): Uint8Array {
    if (at + length > this.size) throw new FsError('EIO');
    const start = IN_HEADER_SIZE + at;
    return this.bytes.slice(start, start + length);
  }
}
