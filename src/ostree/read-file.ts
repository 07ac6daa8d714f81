/** Reading files of a repository whole. */
import { STAT, STAT_FIELDS, type Native } from '../native.ts';
import { NoFileError, ReadError } from './failures.ts';
import { FormatError } from './gvariant.ts';

const AT_EMPTY_PATH = 0x1000;

/** All of a regular file. @throws FormatError when it is none, too large, or cannot be read. */
export function readAll(native: Native, fd: number, limit: number): Buffer {
  const stat = new Float64Array(STAT_FIELDS);
  const result = native.statx(fd, '', AT_EMPTY_PATH, stat);
  if (result < 0) throw new ReadError(result);
  if (((stat[STAT.MODE] ?? 0) & 0o170000) !== 0o100000) throw new NoFileError('not a regular file');
  const size = stat[STAT.SIZE] ?? 0;
  if (size > limit) throw new FormatError(`larger than ${limit} bytes`);
  return readExactly(native, fd, 0, size);
}

/**
 * `length` bytes from `offset` on.
 *
 * @param into  where to read them, when that is long enough.
 * @throws FormatError when there are fewer, or when they cannot be read.
 */
export function readExactly(
  native: Native,
  fd: number,
  offset: number,
  length: number,
  into?: Buffer,
): Buffer {
  const bytes = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length;) {
    const result = native.pread(fd, bytes.subarray(done), offset + done);
    if (result < 0) throw new ReadError(result);
    if (result === 0) throw new FormatError('truncated');
    done += result;
  }
  return bytes;
}
