/** Contents of the regular files of the memory upper: their own where they were changed, else their origin's. */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { Arena } from './arena.ts';
import type { LateStores } from './late-stores.ts';
import type { Segments } from './layer.ts';
import { FileContents } from './memory-file.ts';
import type { MemoryNode } from './memory-node.ts';
import type { Frozen, LowerRef } from './upper.ts';

/** Contents are copied from file to file this much at a time. */
const COPY_BYTES: number = 256 * 1024;

export class Contents {
  readonly #native: Native;
  readonly #arena: Arena;
  /** Takes bytes from the limit, or gives them back when negative. @throws FsError ENOSPC. */
  readonly #charge: (bytes: number) => void;
  readonly #late: LateStores | undefined;
  readonly #copied: { bytes: number } = { bytes: 0 };
  bytesWritten = 0;

  constructor(
    native: Native,
    arena: Arena,
    charge: (bytes: number) => void,
    late: LateStores | undefined,
  ) {
    this.#native = native;
    this.#arena = arena;
    this.#charge = charge;
    this.#late = late;
  }

  get bytesCopied(): number {
    return this.#copied.bytes;
  }

  read(node: MemoryNode, offset: number, length: number, into: Segments): void {
    const wanted = Math.min(length, node.size - offset);
    if (wanted <= 0) return;
    readFrom(node.contents, node.origin[0], offset, wanted, into);
  }

  write(node: MemoryNode, offset: number, data: Uint8Array, start: number, length: number): void {
    this.#contentsOf(node).write(offset, data, start, length);
    this.bytesWritten += length;
    node.size = Math.max(node.size, offset + length);
  }

  truncate(node: MemoryNode, size: number): void {
    // At the same size too: blocks may have been allocated beyond it.
    if (size !== node.size || node.contents !== undefined) {
      const contents = this.#contentsOf(node);
      if (size <= node.size) contents.truncate(size);
    }
    node.size = size;
  }

  allocate(node: MemoryNode, offset: number, length: number): void {
    this.#contentsOf(node).allocate(offset, length);
  }

  punch(node: MemoryNode, offset: number, length: number): void {
    if (length > 0) this.#contentsOf(node).punch(offset, length);
  }

  seek(node: MemoryNode, offset: number, whence: number): number {
    if (offset >= node.size) throw new FsError('ENXIO');
    return this.#contentsOf(node).seek(offset, whence, node.size);
  }

  copy(node: MemoryNode, offset: number, from: Segments): void {
    let at = offset;
    for (let i = 0; i < from.count; i++) {
      const fd = from.values[3 * i] ?? -1;
      const start = from.values[3 * i + 1] ?? 0;
      const length = from.values[3 * i + 2] ?? 0;
      if (fd === -1) {
        if (at < node.size) this.punch(node, at, Math.min(length, node.size - at));
        if (at + length > node.size) this.truncate(node, at + length);
      } else this.#copyFrom(node, at, fd, start, length);
      at += length;
    }
  }

  #copyFrom(node: MemoryNode, offset: number, fd: number, start: number, length: number): void {
    const buffer = new Uint8Array(Math.min(length, COPY_BYTES));
    for (let done = 0; done < length;) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, length - done));
      const got = check(this.#native.pread(fd, chunk, start + done));
      if (got === 0) throw new FsError('EIO');
      this.write(node, offset + done, chunk, 0, got);
      done += got;
    }
  }

  freeze(node: MemoryNode): Frozen {
    const { size, contents } = node;
    const [origin] = node.origin;
    const kept = contents?.frozen();
    return {
      size,
      read: (offset, length, into) => readFrom(kept, origin, offset, length, into),
      release: () => kept?.thaw(),
    };
  }

  differs({ contents, size }: MemoryNode): boolean {
    return contents?.differs(size) ?? false;
  }

  /** A regular file's contents, made when they are first changed. */
  #contentsOf(node: MemoryNode): FileContents {
    node.contents ??= new FileContents(
      this.#native,
      this.#arena,
      this.#charge,
      this.#copied,
      node.origin[0],
      node.size,
      this.#late,
    );
    return node.contents;
  }
}

/** Within the size: a file's own contents, else its origin's, else zeros. */
function readFrom(
  own: FileContents | undefined,
  origin: LowerRef | undefined,
  offset: number,
  length: number,
  into: Segments,
): void {
  if (own !== undefined) own.read(offset, length, into);
  else if (origin === undefined) into.add(-1, 0, length);
  else origin.layer.read(origin.node, offset, length, into);
}
