/**
 * How things are shown: names of any bytes, sizes, ages, tables, JSON. Nothing here prints; only this file turns byte
 * strings into text.
 */
import { styleText } from 'node:util';
import type { By, Change, TreeEntry } from '../index.ts';
import { UTF8 } from './bytes.ts';

/** Characters that move the cursor, hide or reorder what a terminal shows. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

const ESCAPES = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\t', '\\t'],
  ['\r', '\\r'],
]);

/**
 * A path or name for people, on one line: as UTF-8; in double quotes with C escapes (`"a\tb"`, `"\377"`), as git does,
 * when it holds bytes that are no UTF-8, control characters, quotes or backslashes.
 *
 * @param bytes  A byte string: one char a byte.
 */
export function displayName(bytes: string): string {
  let text = '';
  let isPlain = true;
  for (const [char, valid] of bytes.matchAll(UTF8)) {
    const decoded = valid === undefined ? undefined : Buffer.from(valid, 'latin1').toString();
    if (decoded === undefined || UNPRINTABLE.test(decoded) || ESCAPES.has(decoded)) {
      isPlain = false;
      text += ESCAPES.get(char) ?? octal(char);
    } else text += decoded;
  }
  return isPlain ? text : `"${text}"`;
}

function octal(bytes: string): string {
  return Array.from(
    Buffer.from(bytes, 'latin1'),
    (byte) => `\\${byte.toString(8).padStart(3, '0')}`,
  ).join('');
}

/** Text of ours or of the host on one line, with nothing in it that a terminal would act on. */
export function displayText(text: string): string {
  return text.replaceAll(new RegExp(UNPRINTABLE, 'gu'), ' ');
}

/**
 * A path for JSON, as text; one that is not UTF-8 comes with its bytes as well.
 *
 * @param bytes  A byte string.
 */
export function jsonPath(bytes: string): { path: string; pathBase64?: string } {
  const buffer = Buffer.from(bytes, 'latin1');
  const path = buffer.toString();
  return Buffer.from(path).equals(buffer)
    ? { path }
    : { path, pathBase64: buffer.toString('base64') };
}

export function changeJson(change: Change): string {
  const { kind, from, type, size, mode, typeBefore, sizeBefore, modeBefore } = change;
  const { by, owner, ownerBefore, mtime, mtimeBefore, changed, xattrs } = change;
  return JSON.stringify({
    kind,
    ...jsonPath(change.path),
    ...(from !== undefined && fromJson(from)),
    type: typeName(type),
    size,
    mode: displayMode(mode),
    ...(owner && { uid: owner[0], gid: owner[1] }),
    ...(mtime && { mtime: preciseTime(mtime) }),
    ...(typeBefore !== undefined && { typeBefore: typeName(typeBefore) }),
    ...(sizeBefore !== undefined && { sizeBefore }),
    ...(modeBefore !== undefined && { modeBefore: displayMode(modeBefore) }),
    ...(ownerBefore && { uidBefore: ownerBefore[0], gidBefore: ownerBefore[1] }),
    ...(mtimeBefore && { mtimeBefore: preciseTime(mtimeBefore) }),
    ...(changed && { changed }),
    ...(xattrs && { xattrs: xattrs.map(asText) }),
    ...(by !== undefined && { by: by && byJson(by) }),
  });
}

function fromJson(bytes: string): { from: string; fromBase64?: string } {
  const { path, pathBase64 } = jsonPath(bytes);
  return { from: path, ...(pathBase64 !== undefined && { fromBase64: pathBase64 }) };
}

/** What of a path has changed, in words; '' of what was added or deleted. */
export function changeDetails(change: Change): string {
  const { type, mode, owner = [], typeBefore = type, modeBefore = mode, ownerBefore = [] } = change;
  const words = {
    type: `type ${typeName(typeBefore)} -> ${typeName(type)}`,
    content: 'content',
    mode: `mode ${displayMode(modeBefore)} -> ${displayMode(mode)}`,
    owner: `owner ${ownerBefore.join(':')} -> ${owner.join(':')}`,
    xattrs: `xattrs ${(change.xattrs ?? []).map(displayName).join(' ')}`,
    times: 'times',
  };
  return (change.changed ?? []).map((each) => words[each]).join(', ');
}

/** Program, process, user and time, a tab between; what the kernel did not tell is `unknown`. */
export function changeBy({ by }: Change): string {
  if (by === undefined || by === null) return 'not recorded';
  const { program, pid, uid, timeMs } = by;
  const name = program === undefined ? 'unknown' : displayName(program);
  const numbers = [pid ?? 'unknown', uid ?? 'unknown'];
  return [name, ...numbers, new Date(timeMs).toISOString()].join('\t');
}

function byJson({ program, pid, uid, gid, timeMs }: By): object {
  return {
    program: program === undefined ? null : asText(program),
    pid: pid ?? null,
    uid: uid ?? null,
    gid: gid ?? null,
    time: new Date(timeMs).toISOString(),
  };
}

function typeName(type: number): string {
  return TYPES.get(type) ?? 'unknown';
}

function displayMode(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

/** ISO 8601 with nanoseconds, UTC; what Date cannot tell, as seconds. */
function preciseTime([sec, nsec]: readonly [number, number]): string {
  const fraction = String(nsec).padStart(9, '0');
  const date = new Date(sec * 1000);
  if (Number.isNaN(date.getTime())) return `${sec}.${fraction}`;
  return date.toISOString().replace(/\.\d+Z$/, `.${fraction}Z`);
}

/** An entry of a commit; attributes in base64, since their values are bytes. */
export function entryJson(entry: TreeEntry): string {
  const { path, mode, uid, gid, size, target, checksum, meta, xattrs } = entry;
  return JSON.stringify({
    ...jsonPath(path),
    type: TYPES.get(mode & 0o170000) ?? 'unknown',
    size,
    mode: (mode & 0o7777).toString(8).padStart(4, '0'),
    uid,
    gid,
    checksum,
    ...(meta === undefined ? {} : { meta }),
    ...(target === '' ? {} : { target: asText(target) }),
    ...(xattrs === undefined || xattrs.length === 0
      ? {}
      : {
          xattrs: Object.fromEntries(
            xattrs.map(({ name, value }) => [asText(name), value.toString('base64')]),
          ),
        }),
  });
}

function asText(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** By S_IFMT bits. */
const TYPES = new Map([
  [0o140000, 'socket'],
  [0o120000, 'symlink'],
  [0o100000, 'file'],
  [0o060000, 'block device'],
  [0o040000, 'directory'],
  [0o020000, 'character device'],
  [0o010000, 'fifo'],
]);

export function isDirectory(change: Change): boolean {
  return change.type === 0o040000;
}

export function isFile(change: Change): boolean {
  return change.type === 0o100000;
}

/** `0 B`, `512 B`, `1.5 KiB`, `12 MiB`. */
export function displayBytes(bytes: number): string {
  let value = bytes;
  let unit = 'B';
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** `1 change`, `2 changes`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** How long ago that was: `12 s`, `5 min`, `3 h`, `2 d`. */
export function displayAge(isoTime: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(isoTime)) / 1000));
  if (Number.isNaN(seconds)) return '?';
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** Rows in columns two spaces apart; the last column is as long as it likes. */
export function table(rows: string[][]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    }
  }
  return rows.map((row) =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  '),
  );
}

export type Colour = 'red' | 'yellow' | 'green' | 'dim' | 'bold';

/** Colours text, or not: not off a terminal, and not when NO_COLOR says so. */
export function painter(isColoured: boolean): (colour: Colour, text: string) => string {
  return (colour, text) => (isColoured ? styleText(colour, text, { validateStream: false }) : text);
}
