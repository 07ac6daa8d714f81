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

  copy(node: MemoryNode, offset: number, from: Segments): number {
    const progress = { at: offset };
    try {
      for (let i = 0; i < from.count; i++) this.#copySegment(node, progress, from, i);
    } catch (error) {
      if (progress.at === offset) throw error;
    }
    return progress.at - offset;
  }

  /** Moves `progress.at` on, also when it then fails. */
  #copySegment(node: MemoryNode, progress: { at: number }, from: Segments, index: number): void {
    const fd = from.values[3 * index] ?? -1;
    const start = from.values[3 * index + 1] ?? 0;
    const length = from.values[3 * index + 2] ?? 0;
    const first = progress.at;
    const end = first + length;
    if (fd === -1) {
      if (first < node.size) this.punch(node, first, Math.min(length, node.size - first));
      if (end > node.size) this.truncate(node, end);
      progress.at = end;
      return;
    }
    const buffer = new Uint8Array(Math.min(length, COPY_BYTES));
    while (progress.at < end) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, end - progress.at));
      const got = check(this.#native.pread(fd, chunk, start + progress.at - first));
      if (got === 0) throw new FsError('EIO');
      this.write(node, progress.at, chunk, 0, got);
      progress.at += got;
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

  differs({ contents, size }: MemoryNode, mustStop?: () => boolean): boolean {
    return contents?.differs(size, mustStop) ?? false;
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
