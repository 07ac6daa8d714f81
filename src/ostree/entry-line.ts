/** Entries of a commit's tree as lines of `ostree ls`. */
import type { ByteString } from '../native.ts';
import type { TreeEntry } from './listing.ts';
import type { Xattr } from './objects.ts';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

/** One line as `ostree ls` prints it, without the line feed. */
export function formatEntry(entry: TreeEntry, options: { checksum?: boolean } = {}): ByteString {
  const type = entry.mode & S_IFMT;
  const letter = type === S_IFDIR ? 'd' : type === S_IFLNK ? 'l' : '-';
  const permissions = (entry.mode & 0o7777).toString(8).padStart(4, '0');
  const parts = [
    `${letter}0${permissions} ${entry.uid} ${entry.gid} ${String(entry.size).padStart(6)}`,
  ];
  if (options.checksum === true) {
    parts.push(entry.checksum);
    if (entry.meta !== undefined) parts.push(entry.meta);
  }
  if (entry.xattrs !== undefined) parts.push(`{ ${formatXattrs(entry.xattrs)} }`);
  parts.push(type === S_IFLNK ? `${entry.path} -> ${entry.target}` : entry.path);
  return parts.join(' ');
}

/** In GVariant's text format, types named where they are not plain: at the first element only. */
function formatXattrs(xattrs: Xattr[]): ByteString {
  if (xattrs.length === 0) return '@a(ayay) []';
  const pairs = xattrs.map(({ name, value }, index) => {
    const key = formatBytes(Buffer.from(`${name}\0`, 'latin1'), index === 0);
    return `(${key}, ${formatBytes(value, index === 0)})`;
  });
  return `[${pairs.join(', ')}]`;
}

/** As a string when the only NUL is at the end, else byte by byte. */
function formatBytes(bytes: Buffer, typed: boolean): ByteString {
  if (bytes.length > 0 && bytes.indexOf(0) === bytes.length - 1) {
    const quote = bytes.includes("'") ? '"' : "'";
    return `b${quote}${escaped(bytes.subarray(0, -1))}${quote}`;
  }
  if (bytes.length === 0) return typed ? '@ay []' : '[]';
  const list = Array.from(bytes, (byte) => `0x${byte.toString(16).padStart(2, '0')}`).join(', ');
  return typed ? `[byte ${list}]` : `[${list}]`;
}

const ESCAPES: Record<string, string> = {
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};

/** As g_strescape() does it. */
function escaped(bytes: Buffer): string {
  return Array.from(bytes, (byte) => {
    const letter = String.fromCharCode(byte);
    const known = ESCAPES[letter];
    if (known !== undefined) return known;
    return byte < 0x20 || byte >= 0x7f ? `\\${byte.toString(8).padStart(3, '0')}` : letter;
  }).join('');
}
