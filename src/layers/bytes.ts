/** Reading the bytes behind segments, where a decision needs them: never on the way of a read(2). */
import { check, FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { Segments } from './layer.ts';

const CHUNK_BYTES: number = 128 * 1024;

/**
 * Whether two lists of segments differ in a byte, or in length.
 *
 * @param mustStop  asked now and then: to say no without having looked at everything.
 */
export function segmentsDiffer(
  native: Native,
  a: Segments,
  b: Segments,
  mustStop?: () => boolean,
): boolean {
  const readA = reader(native, a);
  const readB = reader(native, b);
  for (;;) {
    if (mustStop?.() === true) return false;
    const left = readA();
    const right = readB();
    if (Buffer.compare(left, right) !== 0) return true;
    if (left.length === 0) return false;
  }
}

/** Gives the bytes in chunks of CHUNK_BYTES, the last one shorter, then empty ones; each overwrites the one before. */
function reader(native: Native, segments: Segments): () => Uint8Array {
  const buffer = new Uint8Array(CHUNK_BYTES);
  let index = 0;
  let done = 0;
  return () => {
    let filled = 0;
    while (filled < CHUNK_BYTES && index < segments.count) {
      const fd = segments.values[3 * index] ?? -1;
      const offset = segments.values[3 * index + 1] ?? 0;
      const length = segments.values[3 * index + 2] ?? 0;
      const part = buffer.subarray(filled, filled + Math.min(CHUNK_BYTES - filled, length - done));
      if (fd === -1) part.fill(0);
      else if (check(native.pread(fd, part, offset + done)) < part.length) throw new FsError('EIO');
      filled += part.length;
      done += part.length;
      if (done === length) {
        index++;
        done = 0;
      }
    }
    return buffer.subarray(0, filled);
  };
}
