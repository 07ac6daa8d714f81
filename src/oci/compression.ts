/**
 * gzip by Node, zstd by packages: Node has it from 22.15 on only, and the same bytes are to come out on any version.
 * `@hpcc-js/wasm-zstd` (the C library in WebAssembly) writes; it cannot tell how much input it took when it reads, so
 * `fzstd` reads. Neither has an install script, both are loaded when they are needed.
 */
import { Readable } from 'node:stream';
import { createGunzip, createGzip } from 'node:zlib';
import { SessionError } from '../errors.ts';
import type { Bytes } from './bytes.ts';
import { ByteSource } from './bytes.ts';
import { TarError } from './tar.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** zstd of a few bytes can stand for 128 KiB: so much is fed at a time, that what comes out at once stays bounded. */
const ZSTD_FEED = 512;
/** What one call into WebAssembly compresses. */
const ZSTD_BLOCK: number = 256 * 1024;

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

/** Compresses; the same input gives the same bytes, whatever its chunks. */
export function compress(kind: Compression, chunks: Bytes): AsyncIterable<Uint8Array> {
  if (kind === 'gzip') return piped(chunks, createGzip());
  if (kind === 'zstd') return compressZstd(chunks);
  return passOn(chunks);
}

/** Decompresses what compressed data is known by its first bytes. @throws TarError it is damaged or truncated. */
export async function* decompress(chunks: Bytes): AsyncGenerator<Uint8Array> {
  try {
    yield* decompressed(chunks);
  } catch (error) {
    // What the source throws is its reader's.
    const isOurs = error instanceof SessionError || (error instanceof Error && 'syscall' in error);
    if (isOurs || !(error instanceof Error) || error.name === 'AbortError') throw error;
    throw new TarError(`its compressed data is damaged: ${error.message}`, { cause: error });
  }
}

async function* decompressed(chunks: Bytes): AsyncGenerator<Uint8Array> {
  const source = new ByteSource(chunks);
  const start: Uint8Array[] = [];
  for (let length = 0; length < ZSTD_MAGIC.length;) {
    const part = await source.some(ZSTD_MAGIC.length - length);
    if (part === undefined) break;
    start.push(part);
    length += part.length;
  }
  const magic = Buffer.concat(start);
  const all = withStart(magic, source);
  if (magic.subarray(0, 2).equals(GZIP_MAGIC)) yield* piped(all, createGunzip());
  else if (magic.equals(ZSTD_MAGIC)) yield* decompressZstd(all);
  else yield* all;
}

async function* withStart(start: Buffer, source: ByteSource): AsyncGenerator<Uint8Array> {
  yield start;
  for (let part; (part = await source.some(1 << 16)) !== undefined;) yield part;
}

async function* passOn(chunks: Bytes): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

/** Through a stream of Node's; an error of the source is its reader's. */
async function* piped(
  chunks: Bytes,
  through: NodeJS.ReadWriteStream & { destroy(error?: Error): unknown },
): AsyncGenerator<Uint8Array> {
  const source = Readable.from(chunks, { objectMode: true });
  source.on('error', (error) => through.destroy(error));
  source.pipe(through);
  try {
    for await (const chunk of through) yield chunk as Buffer;
  } finally {
    source.destroy();
  }
}

/** The library has one state for all: whoever compresses waits for who began before. */
let zstdTurn: Promise<void> = Promise.resolve();

async function* compressZstd(chunks: Bytes): AsyncGenerator<Uint8Array> {
  const { Zstd } = await import('@hpcc-js/wasm-zstd');
  const before = zstdTurn;
  let finish: (() => void) | undefined;
  zstdTurn = new Promise((resolve) => {
    finish = resolve;
  });
  await before;
  try {
    const zstd = await Zstd.load();
    zstd.reset();
    for await (const block of blocks(chunks, ZSTD_BLOCK)) yield zstd.compressChunk(block);
    yield zstd.compressEnd();
  } finally {
    finish?.();
  }
}

/** Blocks of one size, the last apart. */
async function* blocks(chunks: Bytes, size: number): AsyncGenerator<Uint8Array> {
  let block = Buffer.alloc(size);
  let filled = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + size - filled);
      block.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < size) continue;
      yield block;
      block = Buffer.alloc(size);
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

async function* decompressZstd(chunks: Bytes): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import('fzstd');
  let ready: Uint8Array[] = [];
  const stream = new Decompress((data) => {
    if (data.length > 0) ready.push(data);
  });
  const push = (part: Uint8Array, isLast: boolean): Uint8Array[] => {
    stream.push(part, isLast);
    const made = ready;
    ready = [];
    return made;
  };
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += ZSTD_FEED) {
      // A copy: the library keeps what it cannot use yet.
      yield* push(chunk.slice(at, at + ZSTD_FEED), false);
    }
  }
  yield* push(new Uint8Array(), true);
}
