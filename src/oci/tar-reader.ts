/** Reads tar archives. */
import type { ByteString } from '../native.ts';
import type { ByteSource } from './bytes.ts';
import {
  BLOCK,
  padding,
  shown,
  type TarEntry,
  TarError,
  type TarKind,
  XATTR_PREFIX,
} from './tar.ts';

/** Of the headers of one entry: names and attributes. Linux allows 64 KiB a value. */
const EXTENDED_MAX = 4 * 1024 * 1024;

const KIND_OF_FLAG = new Map<string, TarKind>([
  ['0', 'file'],
  ['\0', 'file'],
  ['7', 'file'],
  ['1', 'link'],
  ['2', 'symlink'],
  ['3', 'character-device'],
  ['4', 'block-device'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

/** The last number of 32 bits means none to chown. */
const OWNER_MAX = 0xfffffffe;

const LIBARCHIVE_PREFIX = 'LIBARCHIVE.xattr.';

type Records = Map<ByteString, Buffer>;

/** One entry of an archive that is being read; its data is there until the next entry is asked for. */
export interface TarItem {
  entry: TarEntry;
  /** Where the data begins in the archive, in bytes. */
  offset: number;
  /** The data, at most once. What is not read is skipped. */
  data(): AsyncGenerator<Uint8Array>;
}

/**
 * Reads an archive to its end.
 *
 * @param mayLackEnd  layers of umoci have no end but that of their bytes, not even padding; they are known to be whole by their digest.
 * @throws TarError, half-way as well.
 */
export async function* readTar(
  source: ByteSource,
  { mayLackEnd = false }: { mayLackEnd?: boolean } = {},
): AsyncGenerator<TarItem> {
  const globals: Records = new Map();
  while (true) {
    if (mayLackEnd && (await source.isAtEnd())) return;
    const head = await readHead(source, globals);
    if (head === undefined) break;
    const { entry } = head;
    const offset = source.position;
    let left = entry.size;
    yield {
      entry,
      offset,
      async *data() {
        while (left > 0) {
          const chunk = await source.some(left);
          if (chunk === undefined) throw truncated(entry.path);
          left -= chunk.length;
          yield chunk;
        }
      },
    };
    if (!(await source.skip(left))) throw truncated(entry.path);
    if (await source.skip(padding(entry.size))) continue;
    if (mayLackEnd) return;
    throw truncated(entry.path);
  }
  // Whoever hashes the archive wants all of it; what follows the end is padding.
  while ((await source.some(1 << 16)) !== undefined);
}

function truncated(path: ByteString): TarError {
  return new TarError(path === '' ? 'it is truncated' : `it is truncated in ${shown(path)}`);
}

/** The next entry, with everything that headers before it say; `undefined` at the end of the archive. */
async function readHead(
  source: ByteSource,
  globals: Records,
): Promise<{ entry: TarEntry } | undefined> {
  let local: Records = new Map();
  let longPath: ByteString | undefined;
  let longTarget: ByteString | undefined;
  let seen = 0;
  for (let isFirst = true; ; isFirst = false) {
    const block = await source.exactly(BLOCK);
    if (block === undefined) throw truncated('');
    if (block.every((byte) => byte === 0)) {
      if (!isFirst) throw new TarError('it ends after a header that belongs to an entry');
      return undefined;
    }
    checkSum(block);
    const flag = String.fromCharCode(block[156] ?? 0);
    if (!'xgLK'.includes(flag)) {
      return { entry: entryOf(block, flag, merged(globals, local), longPath, longTarget) };
    }
    const size = numberAt(block, 124, 12);
    if (size < 0) throw new TarError('a header has a size below 0');
    seen += size;
    if (seen > EXTENDED_MAX) throw new TarError('the headers of an entry are larger than 4 MiB');
    const body = await source.exactly(size + padding(size));
    if (body === undefined) throw truncated('');
    const text = body.subarray(0, size);
    if (flag === 'L') longPath = textOf(text);
    else if (flag === 'K') longTarget = textOf(text);
    else if (flag === 'x') local = records(text);
    else for (const [key, value] of records(text)) globals.set(key, value);
  }
}

function merged(globals: Records, local: Records): Records {
  return globals.size === 0 ? local : new Map([...globals, ...local]);
}

function entryOf(
  block: Buffer,
  flag: string,
  pax: Records,
  longPath: ByteString | undefined,
  longTarget: ByteString | undefined,
): TarEntry {
  const record = (key: string): ByteString | undefined => pax.get(key)?.toString('latin1');
  const short = textAt(block, 0, 100);
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isUstar ? textAt(block, 345, 155) : '';
  const path = record('path') ?? longPath ?? (prefix === '' ? short : `${prefix}/${short}`);
  const kind = path.endsWith('/') && '0\0'.includes(flag) ? 'directory' : KIND_OF_FLAG.get(flag);
  const name = shown(path);
  if (kind === undefined) {
    throw new TarError(`${name} is an entry of the kind '${flag}', which is not supported`);
  }
  if ([...pax.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
    throw new TarError(`${name} is a sparse entry, which is not supported`);
  }
  const isDevice = kind === 'character-device' || kind === 'block-device';
  const entry: TarEntry = {
    kind,
    path: path.replace(/\/+$/, '') || (path === '' ? '' : '/'),
    mode: numberAt(block, 100, 8) & 0o7777,
    uid: owner(integer(record('uid'), name) ?? numberAt(block, 108, 8), name),
    gid: owner(integer(record('gid'), name) ?? numberAt(block, 116, 8), name),
    size: integer(record('size'), name) ?? numberAt(block, 124, 12),
    mtimeSec: numberAt(block, 136, 12),
    mtimeNsec: 0,
    target: '',
    rdevMajor: isDevice ? numberAt(block, 329, 8) : 0,
    rdevMinor: isDevice ? numberAt(block, 337, 8) : 0,
    xattrs: xattrsOf(pax),
  };
  if (kind === 'link' || kind === 'symlink') {
    entry.target = record('linkpath') ?? longTarget ?? textAt(block, 157, 100);
  }
  if (entry.size < 0) throw new TarError(`${name} has a size below 0`);
  // Old archives give a link the size of what it leads to; nothing follows.
  if (kind !== 'file') entry.size = 0;
  const mtime = record('mtime');
  if (mtime !== undefined) setTime(entry, mtime, name);
  return entry;
}

function integer(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new TarError(`${name} has a header with the number '${text}'`);
  }
  return value;
}

/** @throws TarError it would become another's: Linux cuts owners to 32 bits. */
function owner(id: number, name: string): number {
  if (id >= 0 && id <= OWNER_MAX) return id;
  throw new TarError(`${name} has the owner ${id}, which is none on Linux`);
}

/** From seconds with a fraction, `-1.5` too: nanoseconds count upwards from the second before. */
function setTime(entry: TarEntry, text: string, name: string): void {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text);
  if (match === null) throw new TarError(`${name} has the time '${text}'`);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  const isBefore = match[1] === '-';
  entry.mtimeSec = Number(match[2]) * (isBefore ? -1 : 1);
  entry.mtimeNsec = nanoseconds;
  if (isBefore && nanoseconds > 0) {
    entry.mtimeSec -= 1;
    entry.mtimeNsec = 1e9 - nanoseconds;
  }
}

function xattrsOf(pax: Records): Map<ByteString, Uint8Array> {
  const xattrs = new Map<ByteString, Uint8Array>();
  // Where an archive has both, SCHILY's are the ones whose values are bytes as they are.
  for (const [key, value] of pax) {
    if (!key.startsWith(LIBARCHIVE_PREFIX)) continue;
    const name = unescape(key.slice(LIBARCHIVE_PREFIX.length));
    xattrs.set(name, Buffer.from(value.toString('latin1'), 'base64'));
  }
  for (const [key, value] of pax) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    // GNU tar escapes these two, and nothing else.
    const name = key.slice(XATTR_PREFIX.length).replaceAll(/%(?:3D|25)/g, unescape);
    xattrs.set(name, value);
  }
  return xattrs;
}

/** %HH in names of attributes. */
function unescape(name: string): ByteString {
  return name.replaceAll(/%([\dA-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** `LENGTH KEY=VALUE\n`, again and again. */
function records(text: Buffer): Records {
  const found: Records = new Map();
  for (let at = 0; at < text.length;) {
    const space = text.indexOf(0x20, at);
    const digits = space < 0 ? '' : text.toString('latin1', at, space);
    const end = at + Number(digits);
    const equals = text.indexOf(0x3d, space);
    const isWhole = /^[1-9]\d{0,7}$/.test(digits) && end <= text.length && text[end - 1] === 0x0a;
    if (!isWhole || equals < 0 || equals >= end) throw new TarError('a pax header is damaged');
    const key = text.toString('latin1', space + 1, equals);
    found.set(key, Buffer.from(text.subarray(equals + 1, end - 1)));
    at = end;
  }
  return found;
}

function checkSum(block: Buffer): void {
  let sum = 8 * 0x20;
  for (const [i, byte] of block.entries()) if (i < 148 || i >= 156) sum += byte;
  if (sum !== numberAt(block, 148, 8)) throw new TarError('a header is damaged, or this is no tar');
}

function textAt(block: Buffer, at: number, length: number): ByteString {
  return textOf(block.subarray(at, at + length));
}

/** Up to the first NUL. */
function textOf(bytes: Buffer): ByteString {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}

/** Octal digits, or big-endian bytes after one with its highest bit set. */
function numberAt(block: Buffer, at: number, length: number): number {
  const first = block[at] ?? 0;
  if ((first & 0x80) === 0) {
    const text = block.toString('latin1', at, at + length).replaceAll(/[\0 ]/g, '');
    if (!/^[0-7]*$/.test(text)) throw new TarError('a header is damaged: it has no number');
    return text === '' ? 0 : Number.parseInt(text, 8);
  }
  let value = BigInt(first & 0x7f);
  for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[at + i] ?? 0);
  const number = Number(BigInt.asIntN(8 * length - 1, value));
  if (!Number.isSafeInteger(number)) throw new TarError('a header has a number beyond 2^53');
  return number;
}
