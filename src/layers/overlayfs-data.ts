/** Contents of files of a directory upper: copied whole, holes staying holes. */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import { Segments } from './layer.ts';
import type { LowerRef } from './upper.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const segments: Segments = new Segments();

/**
 * Makes the empty file `fd` equal to the first `size` bytes of a lower file, most often all of it: sharing its data (FICLONE) where the filesystem can, else by
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
  if (size === 0) return 0;
  segments.clear();
  layer.read(node, 0, size, segments);
  const [source = -1, start] = segments.values;
  const isWhole = segments.count === 1 && source !== -1 && start === 0;
  const isCloned = isWhole && native.cloneFile(source, fd) === 0;
  check(native.ftruncate(fd, size));
  if (isCloned) return 0;
  let copied = 0;
  for (let at = 0; at < size;) {
    const data = nextData(() => layer.seek(node, at, SEEK_DATA));
    if (data >= size) break;
    const end = Math.min(size, layer.seek(node, data, SEEK_HOLE));
    segments.clear();
    layer.read(node, data, end - data, segments);
    copySegments(native, fd, { at: data }, segments);
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

/** How far a copy has come: an offset in the file that is written. */
export interface Progress {
  at: number;
}

/**
 * Writes the bytes of `from` at `progress.at`, which it moves on, also when it then fails.
 *
 * @param skip  told of runs of zeros, which are not written; without it somebody has made room for them.
 */
export function copySegments(
  native: Native,
  fd: number,
  progress: Progress,
  from: Segments,
  skip?: (length: number) => void,
): void {
  for (let i = 0; i < from.count; i++) {
    const source = from.values[3 * i] ?? -1;
    const start = from.values[3 * i + 1] ?? 0;
    const length = from.values[3 * i + 2] ?? 0;
    const first = progress.at;
    if (source === -1) {
      skip?.(length);
      progress.at += length;
      continue;
    }
    while (progress.at < first + length) {
      const done = progress.at - first;
      const copied = native.copyRange(source, start + done, fd, progress.at, length - done);
      if (check(copied) === 0) throw new FsError('EIO');
      progress.at += copied;
    }
  }
}
