/** What libfuse 2 and `fuse-native` say in their own way: text for bytes, milliseconds, 32 bits for numbers. */
import { FsError } from '../errors.ts';
import type { Attr, Name } from '../layers/layer.ts';
import type { Filesystem, StatFs } from '../overlay/filesystem.ts';
import { encodeDevice } from './device-number.ts';

const U32_MAX = 0xffff_ffff;
/** DT_* is the type of a mode, shifted. */
const TYPE_SHIFT = 12;
/** What stands in a text for bytes that are no UTF-8. */
const REPLACEMENT = '\u{fffd}';

/** `struct stat`, as the package takes it. Times in milliseconds. */
export interface Stat {
  mode: number;
  uid: number;
  gid: number;
  size: number;
  dev: number;
  nlink: number;
  ino: number;
  rdev: number;
  blksize: number;
  blocks: number;
  atime: number;
  mtime: number;
  ctime: number;
}

/** @param ino  32 bits. */
export function statOf(attr: Attr, ino: number): Stat {
  return {
    mode: attr.mode,
    uid: attr.uid,
    gid: attr.gid,
    size: attr.size,
    dev: 0,
    nlink: attr.nlink,
    ino,
    rdev: encodeDevice(attr.rdevMajor, attr.rdevMinor),
    blksize: 4096,
    blocks: attr.blocks,
    atime: milliseconds(attr.atimeSec, attr.atimeNsec),
    mtime: milliseconds(attr.mtimeSec, attr.mtimeNsec),
    ctime: milliseconds(attr.ctimeSec, attr.ctimeNsec),
  };
}

/** What a listing tells of a file. */
export function statOfEntry(type: number, ino: number): Partial<Stat> {
  return { mode: type << TYPE_SHIFT, ino, atime: 0, mtime: 0, ctime: 0 };
}

/** The package's times begin in 1970. */
function milliseconds(sec: number, nsec: number): number {
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1e6));
}

/** Whole seconds, and the nanoseconds of the rest. */
export function timeOf(ms: number): { sec: number; nsec: number } {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (ms - 1000 * sec) * 1e6 };
}

/** Text as bytes. @throws EILSEQ for what were bytes that are no UTF-8: which they were cannot be known. */
export function bytesOf(text: string): Name {
  if (isAscii(text)) return text;
  if (text.includes(REPLACEMENT)) throw new FsError('EILSEQ');
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** Bytes as text; `undefined` when they are no UTF-8. */
export function textOf(bytes: Name): string | undefined {
  if (isAscii(bytes)) return bytes;
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  return text.includes(REPLACEMENT) ? undefined : text;
}

function isAscii(text: string): boolean {
  return /^[ -~]*$/.test(text);
}

/** Every count has 32 bits, so blocks are told in larger units where there are too many. */
export function statfs(fs: Filesystem): Record<string, number> {
  const stat: StatFs = {
    blocks: 0,
    bfree: 0,
    bavail: 0,
    files: 0,
    ffree: 0,
    bsize: 4096,
    namelen: 255,
  };
  fs.statfs(stat);
  let scale = 1;
  while (stat.blocks / scale > U32_MAX) scale *= 2;
  const blocks = (count: number) => Math.floor(count / scale);
  const files = (count: number) => Math.min(count, U32_MAX);
  return {
    bsize: stat.bsize * scale,
    frsize: stat.bsize * scale,
    blocks: blocks(stat.blocks),
    bfree: blocks(stat.bfree),
    bavail: blocks(stat.bavail),
    files: files(stat.files),
    ffree: files(stat.ffree),
    favail: files(stat.ffree),
    namemax: stat.namelen,
  };
}
