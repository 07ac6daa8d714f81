/** Contents of the regular files of a directory upper, whole files of the host each. */
import { check } from '../errors.ts';
import { STAT } from '../native.ts';
import type { Native } from '../native.ts';
import { segmentsDiffer } from './bytes.ts';
import { Attr, Segments } from './layer.ts';
import { completeData } from './overlayfs-copyup.ts';
import { copySegments } from './overlayfs-data.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import type { HostNode } from './overlayfs-node.ts';
import type { HostTree } from './overlayfs-tree.ts';
import type { LowerRef } from './upper.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Nodes are real, or planned when only read. */
export class Contents {
  readonly #native: Native;
  readonly #host: Host;
  readonly #marks: Marks;
  readonly #tree: HostTree;
  readonly #isDurable: boolean;
  /** The kernel writes to files by itself. */
  readonly #isShared: boolean;
  readonly #attr: Attr = new Attr();
  readonly #segments: Segments = new Segments();
  bytesWritten = 0;
  bytesCopied = 0;

  constructor(
    host: Host,
    marks: Marks,
    tree: HostTree,
    { isDurable, isShared = false }: { isDurable: boolean; isShared?: boolean },
  ) {
    this.#native = host.native;
    this.#host = host;
    this.#marks = marks;
    this.#tree = tree;
    this.#isDurable = isDurable;
    this.#isShared = isShared;
  }

  read(node: HostNode, offset: number, length: number, into: Segments): void {
    const from = this.#lowerOf(node);
    if (from === undefined) into.add(this.#host.file(node), offset, length);
    else from.layer.read(from.node, offset, length, into);
  }

  write(node: HostNode, offset: number, data: Uint8Array, start: number, length: number): void {
    const fd = this.#file(node);
    const size = this.#size(node);
    const written = this.#native.pwriteRange(fd, data, start, length, offset);
    if (written < 0) {
      // A part may have been written: the file is as long as it was.
      if (offset + length > size) this.#native.ftruncate(fd, size);
      check(written);
    }
    this.bytesWritten += length;
    node.size = Math.max(size, offset + length);
  }

  truncate(node: HostNode, size: number): void {
    check(this.#native.ftruncate(this.#file(node), size));
    node.size = size;
  }

  allocate(node: HostNode, offset: number, length: number): void {
    check(this.#native.fallocate(this.#file(node), FALLOC_FL_KEEP_SIZE, offset, length));
  }

  punch(node: HostNode, offset: number, length: number): void {
    if (length === 0) {
      // Beyond the end there is nothing to punch, but it is a change all the same.
      this.truncate(node, this.#size(node));
      return;
    }
    const mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    check(this.#native.fallocate(this.#file(node), mode, offset, length));
  }

  seek(node: HostNode, offset: number, whence: number): number {
    const from = this.#lowerOf(node);
    return from === undefined
      ? check(this.#native.lseek(this.#host.file(node), offset, whence))
      : from.layer.seek(from.node, offset, whence);
  }

  copy(node: HostNode, offset: number, from: Segments): number {
    const fd = this.#file(node);
    const size = this.#size(node);
    const progress = { at: offset };
    try {
      copySegments(this.#native, fd, progress, from, (length) => {
        if (progress.at < size) this.punch(node, progress.at, Math.min(length, size - progress.at));
      });
    } catch (error) {
      // A part that is not counted may have been written: the file is as long as it was.
      this.truncate(node, Math.max(size, progress.at));
      if (progress.at === offset) throw error;
    }
    if (progress.at > size) this.truncate(node, progress.at);
    this.bytesWritten += progress.at - offset;
    return progress.at - offset;
  }

  differs(node: HostNode, mustStop?: () => boolean): boolean {
    const [source] = node.source;
    if (source === undefined || this.#lowerOf(node) !== undefined) return false;
    source.layer.attr(source.node, this.#attr);
    const theirs = new Segments();
    source.layer.read(source.node, 0, this.#attr.size, theirs);
    this.#segments.clear();
    this.read(node, 0, this.#attr.size, this.#segments);
    return segmentsDiffer(this.#native, this.#segments, theirs, mustStop);
  }

  sync(node: HostNode, dataOnly: boolean): void {
    check(this.#native.fsync(this.#host.file(node), dataOnly));
  }

  /** As `UpperLayer.file`; with `isForWriting` the node is real. */
  file(node: HostNode, isForWriting: boolean): number | LowerRef {
    const from = isForWriting ? undefined : this.#lowerOf(node);
    if (from !== undefined) return from;
    const fd = this.#file(node);
    if (node.ctime !== undefined) node.untouched = this.#host.changeTimes(node);
    return fd;
  }

  /** Where the data still is, when it is the lower's. */
  #lowerOf(node: HostNode): LowerRef | undefined {
    const [source] = node.source;
    if (node.planned !== undefined) return source;
    if (!node.isUnread) return undefined;
    node.isUnread = this.#marks.isMetacopy(node);
    return node.isUnread ? (source ?? this.#tree.dataOf(node)) : undefined;
  }

  /** An fd of a file that has its own data. */
  #file(node: HostNode): number {
    const from = this.#lowerOf(node);
    if (from !== undefined) {
      this.bytesCopied += completeData(this.#host, this.#marks, node, {
        from,
        size: this.#size(node),
        isDurable: this.#isDurable,
      });
      node.isUnread = false;
    }
    return this.#host.file(node);
  }

  #size(node: HostNode): number {
    if (node.size < 0 || this.#isShared) node.size = this.#host.stat(node)[STAT.SIZE] ?? 0;
    return node.size;
  }
}
