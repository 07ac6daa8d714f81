/** Streams of bytes: taking them in pieces of one's own size, counting and hashing them, and making a file of them. */
import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';

/** Chunks of any size; empty ones mean nothing. */
export type Bytes = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Takes a stream apart. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array();
  /** Bytes taken so far. */
  position = 0;

  constructor(chunks: Bytes) {
    this.#chunks =
      Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  /** Whether nothing is left. */
  async isAtEnd(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return true;
      this.#chunk = value;
    }
    return false;
  }

  /** At least one byte and at most `limit`; `undefined` at the end. */
  async some(limit: number): Promise<Uint8Array | undefined> {
    if (await this.isAtEnd()) return undefined;
    const taken = this.#chunk.subarray(0, limit);
    this.#chunk = this.#chunk.subarray(taken.length);
    this.position += taken.length;
    return taken;
  }

  /** `undefined` when there are not that many. */
  async exactly(length: number): Promise<Buffer | undefined> {
    const into = Buffer.alloc(length);
    for (let at = 0; at < length;) {
      const part = await this.some(length - at);
      if (part === undefined) return undefined;
      into.set(part, at);
      at += part.length;
    }
    return into;
  }

  /** @returns whether there were that many. */
  async skip(length: number): Promise<boolean> {
    for (let left = length; left > 0;) {
      const part = await this.some(left);
      if (part === undefined) return false;
      left -= part.length;
    }
    return true;
  }
}

/** Passes bytes on and knows their number and their SHA-256 afterwards. */
export class Meter {
  readonly #hash: Hash = createHash('sha256');
  size = 0;

  async *pass(chunks: Bytes): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.size += chunk.length;
      this.#hash.update(chunk);
      yield chunk;
    }
  }

  /** `sha256:HEX`, once everything has passed. */
  digest(): string {
    return `sha256:${this.#hash.digest('hex')}`;
  }
}
