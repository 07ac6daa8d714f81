/**
 * The directories of a commit: `(a(say)a(sayay))`, files and then directories, each list in byte order of its names. What
 * is read stays in the object's own bytes until somebody asks, and what stays as it was is written from them: large
 * directories differ by few names from one commit to the next.
 */
import { isUtf8 } from 'node:buffer';
import type { ByteString } from '../native.ts';
import {
  elementEnds,
  FormatError,
  framing,
  offsetAt,
  offsetWidth,
  type Span,
  TupleReader,
  TupleWriter,
} from './gvariant.ts';
import { checkName, CHECKSUM_BYTES, type Checksum, type Digest, NAME_MAX } from './objects.ts';

const SLASH = 0x2f;
const DOT = 0x2e;

/** A list of a dirtree: names, each with one checksum (files: content) or two (directories: dirtree, dirmeta). */
export class NameList {
  readonly length: number;
  readonly #bytes: Buffer;
  readonly #span: Span;
  /** Where each entry begins, and where the last one ends. */
  readonly #starts: Uint32Array;
  /** Where the NUL after each name is; the checksums follow it. */
  readonly #nuls: Uint32Array;

  /** @throws FormatError when it is not such a list. */
  constructor(bytes: Buffer, span: Span, checksums: 1 | 2) {
    const ends = elementEnds(bytes, span);
    this.length = ends.length;
    this.#bytes = bytes;
    this.#span = span;
    this.#nuls = new Uint32Array(ends.length);
    this.#starts = new Uint32Array(ends.length + 1);
    this.#starts[0] = span.start;
    this.#starts.set(ends, 1);
    for (let index = 0; index < ends.length; index++) {
      const start = this.#start(index);
      const nul = nameEnd(bytes, start, this.#start(index + 1), checksums);
      checkNameBytes(bytes, start, nul);
      this.#nuls[index] = nul;
      if (index > 0) this.#checkOrder(index);
    }
  }

  #start(index: number): number {
    return this.#starts[index] ?? 0;
  }

  #nul(index: number): number {
    return this.#nuls[index] ?? 0;
  }

  #checkOrder(index: number): void {
    const bytes = this.#bytes;
    let left = this.#start(index - 1);
    let right = this.#start(index);
    // Each ends with a NUL, which is in no name.
    while (bytes[left] === bytes[right] && bytes[left] !== 0) {
      left++;
      right++;
    }
    const [before = 0, after = 0] = [bytes[left], bytes[right]];
    if (before < after) return;
    throw new FormatError(before === after ? 'a name appears twice' : 'names are not sorted');
  }

  /** All of them, made anew each time. */
  get names(): ByteString[] {
    const names: ByteString[] = [];
    for (let index = 0; index < this.length; index++) names.push(this.name(index));
    return names;
  }

  name(index: number): ByteString {
    return this.#bytes.toString('latin1', this.#start(index), this.#nul(index));
  }

  /** Bytes of all entries together. */
  get size(): number {
    return this.#start(this.length) - this.#start(0);
  }

  /** The index of a name, or -1. */
  find(name: ByteString): number {
    return Math.max(-1, this.#place(name));
  }

  /** The index of the first name that is no less than `name`. */
  from(name: ByteString): number {
    const place = this.#place(name);
    return place < 0 ? -2 - place : place;
  }

  /** The index of a name; where it is not there, -2 less the index that it would have. */
  #place(name: ByteString): number {
    let low = 0;
    let high = this.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const order = this.#compare(middle, name);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle - 1;
    }
    return -2 - low;
  }

  #compare(index: number, name: ByteString): number {
    const start = this.#start(index);
    const length = this.#nul(index) - start;
    const common = Math.min(length, name.length);
    for (let at = 0; at < common; at++) {
      const order = (this.#bytes[start + at] ?? 0) - name.charCodeAt(at);
      if (order !== 0) return order;
    }
    return length - name.length;
  }

  /** The first (0) or second (1) checksum of an entry. */
  checksum(index: number, which: 0 | 1 = 0): Checksum {
    return this.#hash(index, which, 'hex');
  }

  /** The same in its short form. */
  digest(index: number, which: 0 | 1 = 0): Digest {
    return this.#hash(index, which, 'latin1');
  }

  #hash(index: number, which: 0 | 1, encoding: 'hex' | 'latin1'): string {
    const at = this.#nul(index) + 1 + CHECKSUM_BYTES * which;
    return this.#bytes.toString(encoding, at, at + CHECKSUM_BYTES);
  }

  /**
   * The bytes of the list with these changes.
   *
   * @param changes  by name: what stands there now, as bytes, or nothing.
   */
  changed(changes: ReadonlyMap<ByteString, Buffer | undefined>): Buffer {
    return this.#replaced(changes) ?? this.#rewritten(changes);
  }

  /** Of changes that leave every entry where it is, which are most: nothing has to be counted anew. */
  #replaced(changes: ReadonlyMap<ByteString, Buffer | undefined>): Buffer | undefined {
    const { start, end } = this.#span;
    const entries: [at: number, bytes: Buffer][] = [];
    for (const [name, entry] of changes) {
      const place = this.#place(name);
      if (place < 0 && entry === undefined) continue;
      const at = this.#start(place);
      if (place < 0 || entry?.length !== this.#start(place + 1) - at) return undefined;
      entries.push([at - start, entry]);
    }
    const list = Buffer.from(this.#bytes.subarray(start, end));
    for (const [at, entry] of entries) list.set(entry, at);
    return list;
  }

  #rewritten(changes: ReadonlyMap<ByteString, Buffer | undefined>): Buffer {
    const parts: Buffer[] = [];
    const ends: number[] = [];
    let size = 0;
    let next = 0;
    const keepUntil = (index: number) => {
      const shift = size - this.#start(next);
      parts.push(this.#bytes.subarray(this.#start(next), this.#start(index)));
      for (; next < index; next++) ends.push(this.#start(next + 1) + shift);
      size = this.#start(index) + shift;
    };
    for (const name of [...changes.keys()].toSorted()) {
      const place = this.#place(name);
      keepUntil(this.from(name));
      if (place >= 0) next++;
      const entry = changes.get(name);
      if (entry === undefined) continue;
      parts.push(entry);
      ends.push((size += entry.length));
    }
    keepUntil(this.length);
    return Buffer.concat([...parts, framing(size, ends)]);
  }
}

/** Where the NUL of an entry's name is: `(say)` or `(sayay)`. */
function nameEnd(bytes: Buffer, start: number, end: number, checksums: 1 | 2): number {
  const width = offsetWidth(end - start);
  const limit = end - checksums * width;
  if (width === 0 || limit < start) throw new FormatError('a tuple is too short for its offsets');
  const first = start + offsetAt(bytes, end - width, width);
  if (first > limit) throw new FormatError('an offset is out of range');
  const second = checksums === 1 ? limit : start + offsetAt(bytes, end - 2 * width, width);
  if (second - first !== CHECKSUM_BYTES) {
    throw new FormatError(`a checksum has ${second - first} bytes`);
  }
  if (limit - first !== CHECKSUM_BYTES * checksums) {
    throw new FormatError(`a checksum has ${limit - second} bytes`);
  }
  if (first === start || bytes[first - 1] !== 0) {
    throw new FormatError('a string is not terminated');
  }
  return first - 1;
}

/** As `checkName`, of a name that is read. */
function checkNameBytes(bytes: Buffer, start: number, end: number): void {
  let isPlain = end - start <= NAME_MAX && bytes[start] !== DOT && end > start;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte === 0 || byte === SLASH || byte >= 0x80) isPlain = false;
  }
  if (isPlain) return;
  const name = bytes.subarray(start, end);
  if (name.includes(0)) throw new FormatError('a string has a NUL in it');
  if (!isUtf8(name)) throw new FormatError('a string is not UTF-8');
  checkName(name.toString('latin1'));
}

export interface DirTree {
  files: NameList;
  dirs: NameList;
}

/** @throws FormatError when it is none. */
export function parseDirTree(bytes: Buffer): DirTree {
  const tuple = new TupleReader(bytes, { start: 0, end: bytes.length }, 1);
  const files = new NameList(bytes, tuple.member(1), 1);
  const dirs = new NameList(bytes, tuple.member(1), 2);
  tuple.finish();
  const [fewer, more] = files.length < dirs.length ? [files, dirs] : [dirs, files];
  for (let index = 0; index < fewer.length; index++) {
    if (more.find(fewer.name(index)) !== -1) {
      throw new FormatError('a name is both a file and a directory');
    }
  }
  return { files, dirs };
}

/** A name of a dirtree, with what stands behind it. */
export interface TreeFile {
  name: ByteString;
  checksum: Checksum;
}

export interface TreeDirectory extends TreeFile {
  /** The dirmeta; `checksum` is the dirtree. */
  meta: Checksum;
}

/** What another directory holds already: its names keep what they stand for, unless they are given anew or gone. */
export interface TreeBase {
  tree: DirTree;
  gone: readonly ByteString[];
}

/**
 * The bytes of a dirtree.
 *
 * @throws FormatError for a name that cannot be stored.
 */
export function encodeDirTree(
  files: readonly TreeFile[],
  dirs: readonly TreeDirectory[],
  { tree, gone }: TreeBase = { tree: EMPTY, gone: [] },
): Buffer {
  const fileChanges = new Map<ByteString, Buffer | undefined>();
  const dirChanges = new Map<ByteString, Buffer | undefined>();
  for (const name of gone) {
    fileChanges.set(name, undefined);
    dirChanges.set(name, undefined);
  }
  for (const { name, checksum } of files) {
    dirChanges.set(name, undefined);
    fileChanges.set(name, encodeNamed(name, [checksum]));
  }
  for (const { name, checksum, meta } of dirs) {
    fileChanges.set(name, undefined);
    dirChanges.set(name, encodeNamed(name, [checksum, meta]));
  }
  return new TupleWriter()
    .member(tree.files.changed(fileChanges))
    .member(tree.dirs.changed(dirChanges))
    .end();
}

const NOTHING = Buffer.alloc(0);
const EMPTY: DirTree = {
  files: new NameList(NOTHING, { start: 0, end: 0 }, 1),
  dirs: new NameList(NOTHING, { start: 0, end: 0 }, 2),
};

/** `(say)` or `(sayay)`. By hand: commits have thousands of them. */
function encodeNamed(name: ByteString, checksums: readonly Checksum[]): Buffer {
  checkName(name);
  const first = name.length + 1;
  const end = first + CHECKSUM_BYTES * checksums.length;
  // Of each member but the last, the last of these first.
  const width = end + checksums.length <= 0xff ? 1 : 2;
  const bytes = Buffer.alloc(end + width * checksums.length);
  bytes.write(name, 0, 'latin1');
  for (const [index, checksum] of checksums.entries()) {
    const at = first + CHECKSUM_BYTES * index;
    bytes.write(checksum, at, CHECKSUM_BYTES, 'hex');
    bytes.writeUIntLE(at, end + width * (checksums.length - 1 - index), width);
  }
  return bytes;
}
