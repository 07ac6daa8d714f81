/** Contents of files of a directory upper: copied whole, holes staying holes. */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { Segments } from './layer.ts';
import type { LowerRef } from './upper.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const segments: Segments = new Segments();

/**
 * Makes the empty file `fd` equal to a lower file of `size` bytes: sharing its data (FICLONE) where the filesystem can, else by
 * copy_file_range(2), else by reading and writing.
 *
 * @returns bytes copied.
 */
export function copyContents(
  native: Native,
  fd: number,
  { layer, node }: LowerRef,
  size: number,
): number {
  segments.clear();
  layer.read(node, 0, size, segments);
  const [source = -1, start] = segments.values;
  const isWhole = segments.count === 1 && source !== -1 && start === 0;
  if (isWhole && native.cloneFile(source, fd) === 0) return 0;
  check(native.ftruncate(fd, size));
  let copied = 0;
  for (let at = 0; at < size;) {
    const data = nextData(() => layer.seek(node, at, SEEK_DATA));
    if (data >= size) break;
    const end = Math.min(size, layer.seek(node, data, SEEK_HOLE));
    segments.clear();
    layer.read(node, data, end - data, segments);
    copySegments(native, fd, data, segments);
    copied += end - data;
    at = end;
  }
  return copied;
}

/** Beyond the last data there is none. */
function nextData(seek: () => number): number {
  try {
    return seek();
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENXIO') return Number.MAX_SAFE_INTEGER;
    throw error;
  }
}

/** Writes the bytes of `from` at `offset`; runs of zeros are left out, for whoever has made room for them. */
export function copySegments(native: Native, fd: number, offset: number, from: Segments): void {
  let at = offset;
  for (let i = 0; i < from.count; i++) {
    const source = from.values[3 * i] ?? -1;
    const start = from.values[3 * i + 1] ?? 0;
    const length = from.values[3 * i + 2] ?? 0;
    if (source !== -1) {
      const done = check(native.copyRange(source, start, fd, at, length));
      if (done < length) throw new FsError('EIO');
    }
    at += length;
  }
}
