/**
 * A pretend kernel: the other end of a channel, without a mount. It encodes requests, runs the server until they are
 * answered, decodes replies and keeps the reference counts that a kernel would. One request at a time.
 */
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import type { Channel } from '../../src/native-channel.ts';
import type { Server } from '../../src/fuse/server.ts';
import * as abi from '../../src/fuse/abi.ts';

const MEBIBYTE = 1 << 20;

/** What 6.18 offers in INIT, both halves. */
export const OFFERED_LOW = 0x73fffffb;
export const OFFERED_HIGH = 0x5fd;

/** A part of a request's body: a number is a u32, a bigint a u64, a string a name with its NUL. */
export type Part = number | bigint | string | Uint8Array;

export interface Answer {
  /** 0 or -errno. */
  error: number;
  body: DataView<ArrayBuffer>;
}

export interface DecodedAttr {
  ino: number;
  size: number;
  blocks: number;
  atime: [sec: number, nsec: number];
  mtime: [sec: number, nsec: number];
  ctime: [sec: number, nsec: number];
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  blksize: number;
}

export interface DecodedEntry {
  nodeid: number;
  entryValidSec: number;
  attrValidSec: number;
  attr: DecodedAttr;
}

export interface DecodedDirent {
  name: string;
  ino: number;
  cookie: number;
  type: number;
  /** Of READDIRPLUS only. */
  entry?: DecodedEntry;
}

export interface RequestOptions {
  uid?: number;
  gid?: number;
  pid?: number;
  /** What the header says the length is, when it is to be wrong. */
  length?: number;
}

export class Kernel implements Channel {
  readonly request: ArrayBuffer = new ArrayBuffer(MEBIBYTE + 4096);
  readonly reply: ArrayBuffer = new ArrayBuffer(MEBIBYTE + 4096);
  readonly statistics: ArrayBuffer = new ArrayBuffer(0);
  /** References that we hold, by node id. */
  readonly references: Map<number, number> = new Map();
  /** Notifications, in order. */
  readonly notified: Uint8Array[] = [];
  /** Receives in a row that report a wake-up before the next request. */
  wakes = 0;
  #server: Server | undefined;
  #unique = 2n;
  /** Length of the request to be received; 0 once it was. */
  #pending = 0;
  /** Requests that wait behind it. */
  readonly #behind: Uint8Array[] = [];
  #isWoken = false;
  /** Replies by `unique`; `undefined` until there is one. */
  readonly #answers: Map<bigint, Answer | undefined> = new Map();
  readonly #readAt: (fd: number, into: Uint8Array, offset: number) => number;
  readonly #onSend: () => void;

  /**
   * @param readAt  reads where a reply's segments point; without one, from the files of those fds.
   * @param onSend  told before each reply.
   */
  constructor(
    readAt: (fd: number, into: Uint8Array, offset: number) => number = (fd, into, offset) =>
      readSync(fd, into, 0, into.length, offset),
    onSend: () => void = () => {},
  ) {
    this.#onSend = onSend;
    this.#readAt = readAt;
  }

  attach(server: Server): this {
    this.#server = server;
    return this;
  }

  receive(): number {
    if (this.wakes > 0) {
      this.wakes--;
      return 0;
    }
    const length = this.#pending;
    this.#pending = 0;
    if (length > 0) return length;
    const next = this.#behind.shift();
    if (next !== undefined) {
      new Uint8Array(this.request).set(next);
      return next.length;
    }
    const isWoken = this.#isWoken;
    this.#isWoken = false;
    return isWoken ? 0 : -abi.ENODEV;
  }

  /** What a write to the eventfd does: a receive that finds no request returns. */
  wake(): void {
    this.#isWoken = true;
  }

  /** Lets a request wait until the one asked next has been received. @returns its `unique`. */
  enqueue(opcode: number, nodeid: number, parts: Part[]): bigint {
    const length = this.encode(opcode, nodeid, parts);
    this.#behind.push(new Uint8Array(this.request.slice(0, length)));
    this.#answers.set(this.#unique, undefined);
    return this.#unique;
  }

  /** The reply to a request that was waiting. */
  answerTo(unique: bigint): Answer | undefined {
    return this.#answers.get(unique);
  }

  isAsked(): boolean {
    return this.wakes > 0 || this.#pending > 0 || this.#behind.length > 0 || this.#isWoken;
  }

  replyAndReceive(length: number): number {
    this.send(length);
    return this.receive();
  }

  send(length: number): number {
    this.#onSend();
    const bytes = this.reply.slice(0, length);
    const header = new DataView(bytes);
    assert.equal(header.getUint32(0, true), length, 'out_header.len is what was written');
    const error = header.getInt32(4, true);
    assert.ok(error <= 0 && error > -512, `out_header.error ${error}`);
    if (error !== 0) assert.equal(length, abi.OUT_HEADER_SIZE, 'an error has no body');
    const unique = header.getBigUint64(8, true);
    assert.ok(this.#answers.has(unique), 'out_header.unique is of a request');
    assert.equal(this.#answers.get(unique), undefined, 'one reply a request');
    this.#answers.set(unique, { error, body: new DataView(bytes, abi.OUT_HEADER_SIZE) });
    return 0;
  }

  replySegmentsAndReceive(segments: Float64Array, count: number): number {
    this.sendSegments(segments, count);
    return this.receive();
  }

  sendSegments(segments: Float64Array, count: number): number {
    let at: number = abi.OUT_HEADER_SIZE;
    const reply = new Uint8Array(this.reply);
    for (let index = 0; index < count; index++) {
      const [fd = 0, offset = 0, length = 0] = segments.subarray(3 * index, 3 * index + 3);
      const into = reply.subarray(at, at + length).fill(0);
      const read = fd === -1 ? length : this.#readAt(fd, into, offset);
      at += index === count - 1 ? read : length;
    }
    const header = new DataView(this.reply);
    header.setUint32(0, at, true);
    header.setInt32(4, 0, true);
    return this.send(at);
  }

  notify(message: Uint8Array): number {
    this.notified.push(message);
    return 0;
  }

  drain(): void {}
  close(): void {}

  /** Sends a request and gives its reply; `undefined` when the server said nothing. */
  ask(
    opcode: number,
    nodeid: number | bigint,
    parts: Part[] = [],
    options: RequestOptions = {},
  ): Answer | undefined {
    const length = this.encode(opcode, nodeid, parts, options);
    return this.#run(length);
  }

  /** As `ask`, of a request that must be answered. */
  call(
    opcode: number,
    nodeid: number | bigint,
    parts: Part[] = [],
    options: RequestOptions = {},
  ): Answer {
    const answer = this.ask(opcode, nodeid, parts, options);
    assert.ok(answer !== undefined, `opcode ${opcode} was not answered`);
    return answer;
  }

  /** Sends `bytes` as they are. */
  raw(bytes: Uint8Array): Answer | undefined {
    const request = new Uint8Array(this.request);
    request.set(bytes);
    this.#unique = new DataView(this.request).getBigUint64(8, true);
    return this.#run(bytes.length);
  }

  /** Puts a request into the buffer. @returns its length. */
  encode(
    opcode: number,
    nodeid: number | bigint,
    parts: Part[],
    options: RequestOptions = {},
  ): number {
    const view = new DataView(this.request);
    let at: number = abi.IN_HEADER_SIZE;
    for (const part of parts) {
      if (typeof part === 'number') {
        view.setUint32(at, part, true);
        at += 4;
      } else if (typeof part === 'bigint') {
        view.setBigUint64(at, BigInt.asUintN(64, part), true);
        at += 8;
      } else {
        const bytes = typeof part === 'string' ? Buffer.from(`${part}\0`, 'latin1') : part;
        new Uint8Array(this.request).set(bytes, at);
        at += bytes.length;
      }
    }
    this.#unique += 2n;
    view.setUint32(0, options.length ?? at, true);
    view.setUint32(4, opcode, true);
    view.setBigUint64(8, this.#unique, true);
    view.setBigUint64(16, BigInt(nodeid), true);
    view.setUint32(24, options.uid ?? 1000, true);
    view.setUint32(28, options.gid ?? 1000, true);
    view.setUint32(32, options.pid ?? 4242, true);
    view.setUint32(36, 0, true);
    // What lies behind is of an older request in a real buffer, too.
    new Uint8Array(this.request).fill(0xee, at, at + 64);
    return at;
  }

  #run(length: number): Answer | undefined {
    assert.ok(this.#server !== undefined, 'no server attached');
    this.#pending = length;
    const unique = this.#unique;
    this.#answers.set(unique, undefined);
    assert.equal(this.#server.run(), -abi.ENODEV);
    return this.#answers.get(unique);
  }

  init(
    options: { major?: number; minor?: number; low?: number; high?: number; old?: boolean } = {},
  ): Answer {
    const { major = 7, minor = 45, low = OFFERED_LOW, high = OFFERED_HIGH } = options;
    const parts: Part[] = [major, minor, 128 * 1024, low];
    if (options.old !== true) parts.push(high, new Uint8Array(44));
    return this.call(abi.FUSE_INIT, 0, parts);
  }

  /** LOOKUP. @returns the entry, or -errno. */
  lookup(parent: number, name: string): DecodedEntry | number {
    return this.#entry(this.call(abi.FUSE_LOOKUP, parent, [name]));
  }

  /** Any operation whose reply begins with an entry. @returns it with its reference counted, or -errno. */
  making(
    opcode: number,
    nodeid: number,
    parts: Part[],
    options?: RequestOptions,
  ): DecodedEntry | number {
    return this.#entry(this.call(opcode, nodeid, parts, options));
  }

  getattr(ino: number): DecodedAttr | number {
    const { error, body } = this.call(abi.FUSE_GETATTR, ino, [0, 0, 0n]);
    return error === 0 ? decodeAttr(body, 16) : error;
  }

  read(ino: number, offset: number, size: number): Buffer | number {
    const { error, body } = this.call(abi.FUSE_READ, ino, readIn(offset, size));
    return error === 0 ? bytesOf(body) : error;
  }

  /** @returns bytes written, or -errno. */
  write(ino: number, offset: number, data: Uint8Array, flags = 0): number {
    const { error, body } = this.call(abi.FUSE_WRITE, ino, [
      ...readIn(offset, data.length, flags),
      data,
    ]);
    return error === 0 ? body.getUint32(0, true) : error;
  }

  readdir(ino: number, cookie: number, size = 4096): DecodedDirent[] | number {
    const { error, body } = this.call(abi.FUSE_READDIR, ino, readIn(cookie, size));
    return error === 0 ? decodeDirents(body, false) : error;
  }

  readdirplus(ino: number, cookie: number, size = 4096): DecodedDirent[] | number {
    const { error, body } = this.call(abi.FUSE_READDIRPLUS, ino, readIn(cookie, size));
    if (error !== 0) return error;
    const entries = decodeDirents(body, true);
    for (const { entry } of entries) this.#reference(entry?.nodeid ?? 0);
    return entries;
  }

  /** Gives back every reference to `ino`, as a kernel that drops it from its caches. */
  forget(ino: number): void {
    const count = this.references.get(ino) ?? 0;
    this.references.delete(ino);
    assert.equal(this.ask(abi.FUSE_FORGET, ino, [BigInt(count)]), undefined);
  }

  #entry({ error, body }: Answer): DecodedEntry | number {
    if (error !== 0) return error;
    const entry = decodeEntry(body, 0);
    this.#reference(entry.nodeid);
    return entry;
  }

  #reference(nodeid: number): void {
    if (nodeid > 0) this.references.set(nodeid, (this.references.get(nodeid) ?? 0) + 1);
  }
}

/** struct fuse_read_in, and fuse_write_in with its flags. */
export function readIn(offset: number, size: number, flags = 0): Part[] {
  return [0n, BigInt(offset), size, flags, 0n, 0, 0];
}

export function bytesOf(body: DataView<ArrayBuffer>): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

export function decodeEntry(body: DataView, at: number): DecodedEntry {
  return {
    nodeid: u64(body, at),
    entryValidSec: u64(body, at + 16),
    attrValidSec: u64(body, at + 24),
    attr: decodeAttr(body, at + 40),
  };
}

export function decodeAttr(body: DataView, at: number): DecodedAttr {
  const u32 = (offset: number): number => body.getUint32(at + offset, true);
  const seconds = (offset: number): number => Number(body.getBigInt64(at + offset, true));
  return {
    ino: u64(body, at),
    size: u64(body, at + 8),
    blocks: u64(body, at + 16),
    atime: [seconds(24), u32(48)],
    mtime: [seconds(32), u32(52)],
    ctime: [seconds(40), u32(56)],
    mode: u32(60),
    nlink: u32(64),
    uid: u32(68),
    gid: u32(72),
    rdev: u32(76),
    blksize: u32(80),
  };
}

function decodeDirents(body: DataView<ArrayBuffer>, plus: boolean): DecodedDirent[] {
  const entries: DecodedDirent[] = [];
  const prefix = plus ? abi.ENTRY_OUT_SIZE : 0;
  for (let at = 0; at < body.byteLength;) {
    const dirent = at + prefix;
    const length = body.getUint32(dirent + 16, true);
    const decoded: DecodedDirent = {
      name: bytesOf(body).toString('latin1', dirent + 24, dirent + 24 + length),
      ino: u64(body, dirent),
      cookie: u64(body, dirent + 8),
      type: body.getUint32(dirent + 20, true),
    };
    if (plus) decoded.entry = decodeEntry(body, at);
    entries.push(decoded);
    at = dirent + ((24 + length + 7) & ~7);
    assert.ok(at <= body.byteLength, 'the last entry is whole');
  }
  return entries;
}

function u64(body: DataView, at: number): number {
  return Number(body.getBigUint64(at, true));
}
