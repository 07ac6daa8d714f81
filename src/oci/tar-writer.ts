/** Writes tar archives. */
import type { ByteString } from '../native.ts';
import type { Bytes } from './bytes.ts';
import { BLOCK, padding, shown, type TarEntry, type TarKind, XATTR_PREFIX } from './tar.ts';

/** The largest number of eleven octal digits, and of seven. */
const SIZE_MAX = 0o77777777777;
const ID_MAX = 0o7777777;

const FLAG_OF_KIND: Record<TarKind, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
};

/** Two blocks of zeros end an archive. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK);

/** What follows the data of a file of this size. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc(padding(size));
}

/** The header blocks of an entry, the same for the same entry. */
export function tarHeader(entry: TarEntry): Buffer {
  const path = entry.kind === 'directory' ? `${entry.path}/` : entry.path;
  const pax: [ByteString, Uint8Array][] = [];
  const record = (key: string, value: ByteString): void => {
    pax.push([key, Buffer.from(value, 'latin1')]);
  };
  // Bytes that are no ASCII are for pax by the standard.
  if (path.length > 100 || !isAscii(path)) record('path', path);
  if (entry.target.length > 100 || !isAscii(entry.target)) record('linkpath', entry.target);
  if (entry.uid > ID_MAX) record('uid', String(entry.uid));
  if (entry.gid > ID_MAX) record('gid', String(entry.gid));
  if (entry.size > SIZE_MAX) record('size', String(entry.size));
  const isPlainTime = entry.mtimeNsec === 0 && entry.mtimeSec >= 0 && entry.mtimeSec <= SIZE_MAX;
  if (!isPlainTime) record('mtime', timeText(entry.mtimeSec, entry.mtimeNsec));
  for (const name of [...entry.xattrs.keys()].sort()) {
    pax.push([`${XATTR_PREFIX}${escape(name)}`, entry.xattrs.get(name) ?? Buffer.alloc(0)]);
  }
  const block = header(entry, path, FLAG_OF_KIND[entry.kind]);
  if (pax.length === 0) return block;
  const body = Buffer.concat(pax.map(([key, value]) => encodeRecord(key, value)));
  const before = {
    ...entry,
    mode: 0o644,
    size: body.length,
    target: '',
    rdevMajor: 0,
    rdevMinor: 0,
  };
  return Buffer.concat([
    header(before, 'PaxHeaders/entry', 'x'),
    body,
    tarPadding(body.length),
    block,
  ]);
}

function header(entry: TarEntry, path: ByteString, flag: string): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(path.slice(0, 100), 0, 'latin1');
  octal(block, 100, 8, entry.mode & 0o7777);
  octal(block, 108, 8, entry.uid > ID_MAX ? 0 : entry.uid);
  octal(block, 116, 8, entry.gid > ID_MAX ? 0 : entry.gid);
  octal(block, 124, 12, entry.size > SIZE_MAX ? 0 : entry.size);
  octal(block, 136, 12, Math.min(Math.max(entry.mtimeSec, 0), SIZE_MAX));
  block.write(flag, 156, 'latin1');
  block.write(entry.target.slice(0, 100), 157, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  octal(block, 329, 8, entry.rdevMajor);
  octal(block, 337, 8, entry.rdevMinor);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function octal(block: Buffer, at: number, length: number, value: number): void {
  block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
}

/** A key ends at its first `=`: as GNU tar has it in names of attributes. */
function escape(name: ByteString): string {
  return name.replaceAll('%', '%25').replaceAll('=', '%3D');
}

/** The length counts itself. */
function encodeRecord(key: ByteString, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), value, Buffer.from('\n')]);
}

function timeText(seconds: number, nanoseconds: number): string {
  const isBefore = seconds < 0 && nanoseconds > 0;
  const whole = isBefore ? seconds + 1 : seconds;
  const fraction = isBefore ? 1e9 - nanoseconds : nanoseconds;
  const sign = isBefore && whole === 0 ? '-' : '';
  return `${sign}${whole}.${String(fraction).padStart(9, '0')}`;
}

function isAscii(text: ByteString): boolean {
  // oxlint-disable-next-line no-control-regex -- NUL cannot be in a name; the rest of ASCII can
  return /^[\x01-\x7f]*$/.test(text);
}

/** An entry and its data, to be written. */
export interface TarInput {
  entry: TarEntry;
  data?: Bytes;
}

/** The bytes of an archive. @throws Error data is not as long as its entry says. */
export async function* writeTar(
  entries: AsyncIterable<TarInput> | Iterable<TarInput>,
): AsyncGenerator<Uint8Array> {
  for await (const { entry, data } of entries) {
    yield tarHeader(entry);
    let written = 0;
    for await (const chunk of data ?? []) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== entry.size) {
      throw new Error(`${shown(entry.path)}: ${written} bytes instead of ${entry.size}`);
    }
    if (entry.size > 0) yield tarPadding(entry.size);
  }
  yield TAR_END;
}
