/**
 * Streams the data of content objects, inflates it, and checks it against the name of its object. Loads little, since a
 * thread of its own is made of it; what is wrong is a FormatError.
 */
import type { Hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { Readable } from 'node:stream';
import { createInflateRaw, inflateRawSync } from 'node:zlib';
import { FormatError } from './gvariant.ts';
import { newHash } from './hash.ts';

/** Of data that is read, and of data that comes out of it. */
const CHUNK = 256 * 1024;
/** Of one piece, where all of it is inflated at once. */
const MAX_PIECE = 1024 * 1024;

/** Where the data of a file is. */
export interface Source {
  fd: number;
  deflated: boolean;
  /** Where the data begins in the object file. */
  offset: number;
  /** Of the object file. */
  fileSize: number;
  /** Bytes of data that there should be. */
  size: number;
}

/** What the data is held against: the object's name, and all that is hashed before the data. */
export interface Expected {
  checksum: string;
  header: Uint8Array;
}

/** Follows data as it comes by, and knows whether it is what the object's name says. */
export class ContentCheck {
  readonly #hash: Hash = newHash();
  readonly #checksum: string;
  readonly #size: number;
  #seen = 0;

  /** @param size  bytes that should come: 0 for a symlink. */
  constructor({ checksum, header }: Expected, size: number) {
    this.#checksum = checksum;
    this.#size = size;
    this.#hash.update(header);
  }

  /** @throws FormatError when there is more data than there should be. */
  update(chunk: Uint8Array): void {
    this.#seen += chunk.length;
    if (this.#seen > this.#size) throw new FormatError('more data than its header says');
    this.#hash.update(chunk);
  }

  /** @throws FormatError when there was less, or other data. */
  finish(): void {
    if (this.#seen < this.#size) throw new FormatError('less data than its header says');
    if (this.#hash.digest('hex') !== this.#checksum) {
      throw new FormatError('does not match its checksum');
    }
  }
}

/** The bytes [offset, end) of a file. @param bytes  of that length, to read into. @throws FormatError. */
function readBytes(
  fd: number,
  offset: number,
  end: number,
  bytes: Buffer = Buffer.allocUnsafeSlow(end - offset),
): Buffer {
  for (let done = 0; done < bytes.length;) {
    let count: number;
    try {
      count = readSync(fd, bytes, done, bytes.length - done, offset + done);
    } catch (error) {
      throw new FormatError((error as NodeJS.ErrnoException).code ?? String(error));
    }
    if (count === 0) throw new FormatError('truncated');
    done += count;
  }
  return bytes;
}

/** The bytes [offset, end) of a file, in chunks. @throws FormatError. */
export function* chunksOf(fd: number, offset: number, end: number): Generator<Buffer> {
  for (let at = offset; at < end; at += CHUNK) yield readBytes(fd, at, Math.min(at + CHUNK, end));
}

/**
 * The data of a file, in chunks; with something to hold it against, its end may be followed by an error.
 *
 * @throws FormatError.
 */
export async function* dataOf(source: Source, expected?: Expected): AsyncGenerator<Uint8Array> {
  const { fd, deflated, offset, fileSize, size } = source;
  const check = expected === undefined ? undefined : new ContentCheck(expected, size);
  const chunks = chunksOf(fd, offset, fileSize);
  for await (const chunk of deflated ? inflating(chunks) : chunks) {
    check?.update(chunk);
    yield chunk;
  }
  check?.finish();
}

async function* inflating(chunks: Iterable<Buffer>): AsyncGenerator<Uint8Array> {
  const source = Readable.from(chunks);
  const inflate = source.pipe(createInflateRaw({ chunkSize: CHUNK }));
  source.on('error', (error) => inflate.destroy(error));
  try {
    for await (const chunk of inflate) yield chunk as Uint8Array;
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError(problemOf(error));
  } finally {
    source.destroy();
    inflate.destroy();
  }
}

/** The data of a deflated file at once, checked. Never makes more than there should be. @throws FormatError. */
export function inflateAtOnce(source: Source, expected: Expected): Buffer {
  const { fd, offset, fileSize, size } = source;
  const check = new ContentCheck(expected, size);
  const end = Math.min(fileSize, offset + deflatedBound(size));
  const deflated = readBytes(fd, offset, end, scratch(end - offset));
  let bytes: Buffer;
  try {
    bytes = inflateRawSync(deflated, {
      maxOutputLength: Math.max(size, 1),
      // One byte more than needed: a piece that is full makes zlib get another.
      chunkSize: Math.min(Math.max(size + 1, 64), MAX_PIECE),
    });
  } catch (error) {
    throw new FormatError(problemOf(error));
  }
  check.update(bytes);
  check.finish();
  return bytes;
}

let kept = Buffer.alloc(0);

/** Memory for the moment. Made anew for each file it would pile up: V8 is slow to collect what lies outside its heap. */
function scratch(length: number): Buffer {
  if (length > MAX_PIECE) return Buffer.allocUnsafeSlow(length);
  if (length > kept.length) kept = Buffer.allocUnsafeSlow(length);
  return kept.subarray(0, length);
}

/** More than any deflated form of `size` bytes takes: stored blocks cost five bytes in thousands. */
function deflatedBound(size: number): number {
  return size + Math.ceil(size / 64) + 1024;
}

function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') {
    return 'more data than its header says';
  }
  return `its data does not inflate: ${error.message}`;
}
