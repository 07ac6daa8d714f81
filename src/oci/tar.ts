/**
 * Tar archives: ustar headers with pax records, read (`tar-reader.ts`) and written (`tar-writer.ts`) as streams.
 *
 * Written here since tar-stream and node-tar take the values of pax records for UTF-8 text: capabilities, ACLs and labels
 * (SCHILY.xattr) are bytes, and so are names. Also they lose mode 0, times with fractions or before 1970 and large owners.
 *
 * Read besides: GNU long names, base-256 numbers, LIBARCHIVE.xattr. What would be misread otherwise is refused: GNU
 * sparse files, volumes, kinds that are not known.
 */
import type { ByteString } from '../native.ts';

export type TarKind =
  'file' | 'link' | 'symlink' | 'character-device' | 'block-device' | 'directory' | 'fifo';

export interface TarEntry {
  kind: TarKind;
  /** As the archive has it, a directory's slash at the end taken off. */
  path: ByteString;
  /** Permission bits, 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes that follow: 0 unless a regular file. */
  size: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** A symlink's target, or a hard link's path in the archive; '' otherwise. */
  target: ByteString;
  rdevMajor: number;
  rdevMinor: number;
  xattrs: Map<ByteString, Uint8Array>;
}

/** An entry with root's ownership and the usual modes; whatever is given counts. */
export function tarEntry(
  kind: TarKind,
  path: ByteString,
  given: Partial<Omit<TarEntry, 'kind' | 'path'>> = {},
): TarEntry {
  return {
    kind,
    path,
    mode: kind === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    target: '',
    rdevMajor: 0,
    rdevMinor: 0,
    xattrs: new Map(),
    ...given,
  };
}

/** An archive that cannot be read: truncated, damaged, or of a kind that is not. */
export class TarError extends Error {
  override readonly name: string = 'TarError';
}

export const BLOCK = 512;
export const XATTR_PREFIX = 'SCHILY.xattr.';

export function shown(path: ByteString): string {
  return Buffer.from(path, 'latin1').toString();
}

/** Bytes from the end of data to the next block. */
export function padding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}
