/**
 * As much of the GVariant serialisation as OSTree's objects use: containers of strings, byte arrays and integers.
 *
 *   commit        (a{sv}aya(say)sstayay)
 *   dirtree       (a(say)a(sayay))
 *   dirmeta       (uuua(ayay))         also the user.ostreemeta attribute of bare-user objects
 *   content       (uuuusa(ayay))       what a file's checksum covers; (tuuuusa(ayay)) in archive objects
 *   file-xattrs   a(ayay)
 *
 * A container keeps *framing offsets* at its end: little-endian, as wide as its size demands, each the end of a member.
 * Integers here are big-endian: OSTree swaps them before it stores them. Nothing malformed is repaired or guessed.
 */
import { isUtf8 } from 'node:buffer';
import type { ByteString } from '../native.ts';

/** The bytes are not what the format says. The message is one line that says what is wrong. */
export class FormatError extends Error {
  override readonly name: string = 'FormatError';
}

/** Bytes [start, end) of a buffer. */
export interface Span {
  start: number;
  end: number;
}

/** A value of any type: the content of a `v`. */
export interface Variant {
  type: string;
  /** Serialised. */
  bytes: Buffer;
}

/** A framing offset: little-endian. By hand, as is its making: a commit has tens of thousands. */
export function offsetAt(bytes: Buffer, at: number, width: number): number {
  let offset = 0;
  for (let byte = at + width - 1; byte >= at; byte--) offset = offset * 256 + (bytes[byte] ?? 0);
  return offset;
}

/** Bytes of one framing offset in a container of `size` bytes; 0 in an empty one. */
export function offsetWidth(size: number): number {
  if (size === 0) return 0;
  if (size <= 0xff) return 1;
  if (size <= 0xffff) return 2;
  return 4;
}

function aligned(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

/** The position after the padding at `position`, which must be zeros. Both count from the start of the buffer. */
function skipPadding(
  bytes: Buffer,
  start: number,
  position: number,
  alignment: number,
  limit: number,
): number {
  const next = start + aligned(position - start, alignment);
  if (next > limit) throw new FormatError('a member lies beyond the end of its container');
  for (let at = position; at < next; at++) {
    if (bytes[at] !== 0) throw new FormatError('padding is not zero');
  }
  return next;
}

/**
 * Reads the members of a tuple or dictionary entry, in order.
 *
 * @param framed  how many members of variable size there are, the last member apart: each has an offset.
 */
export class TupleReader {
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  readonly #width: number;
  /** Where the offsets begin and the members end. */
  readonly #limit: number;
  readonly #framed: number;
  #used = 0;
  #at: number;

  constructor(bytes: Buffer, { start, end }: Span, framed: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#width = offsetWidth(end - start);
    this.#framed = framed;
    this.#limit = end - framed * this.#width;
    this.#at = start;
    if (this.#limit < start || (framed > 0 && this.#width === 0)) {
      throw new FormatError('a tuple is too short for its offsets');
    }
  }

  #fixed(size: number): number {
    const at = skipPadding(this.#bytes, this.#start, this.#at, size, this.#limit);
    this.#at = at + size;
    if (this.#at > this.#limit) throw new FormatError('a tuple is too short for its members');
    return at;
  }

  /** Big-endian. */
  u32(): number {
    return this.#bytes.readUInt32BE(this.#fixed(4));
  }

  /** Big-endian. @throws FormatError beyond 2^53. */
  u64(): number {
    const at = this.#fixed(8);
    const value = this.#bytes.readUInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4);
    if (!Number.isSafeInteger(value)) throw new FormatError('a number is too large');
    return value;
  }

  /** A member of variable size, whatever it holds. */
  member(alignment: number): Span {
    const start = skipPadding(this.#bytes, this.#start, this.#at, alignment, this.#limit);
    let end = this.#limit;
    if (this.#used < this.#framed) {
      this.#used++;
      const at = this.#end - this.#used * this.#width;
      end = this.#start + this.#bytes.readUIntLE(at, this.#width);
    }
    if (end < start || end > this.#limit) throw new FormatError('an offset is out of range');
    this.#at = end;
    return { start, end };
  }

  /** A string's bytes: valid UTF-8 without a NUL, as a byte string. */
  string(): ByteString {
    return stringIn(this.#bytes, this.member(1));
  }

  /** Checks that nothing is left over. */
  finish(): void {
    if (this.#at !== this.#limit || this.#used !== this.#framed) {
      throw new FormatError('a tuple has bytes that belong to no member');
    }
  }
}

/** The string in a span. @throws FormatError without its NUL, with another NUL, or when it is not UTF-8. */
export function stringIn(bytes: Buffer, { start, end }: Span): ByteString {
  if (end === start || bytes[end - 1] !== 0) throw new FormatError('a string is not terminated');
  const content = bytes.subarray(start, end - 1);
  if (content.includes(0)) throw new FormatError('a string has a NUL in it');
  if (!isUtf8(content)) throw new FormatError('a string is not UTF-8');
  return content.toString('latin1');
}

/** The ends of an array's elements of variable size, counted from the start of the buffer, never backwards. */
export function elementEnds(bytes: Buffer, { start, end }: Span): Uint32Array {
  const size = end - start;
  if (size === 0) return new Uint32Array(0);
  const width = offsetWidth(size);
  const body = offsetAt(bytes, end - width, width);
  const table = size - body;
  if (table < width || table % width !== 0) throw new FormatError('an offset is out of range');
  const ends = new Uint32Array(table / width);
  let last = start;
  for (let index = 0; index < ends.length; index++) {
    const at = start + offsetAt(bytes, start + body + index * width, width);
    if (at < last) throw new FormatError('offsets go backwards');
    if (at > start + body) throw new FormatError('an offset is out of range');
    ends[index] = at;
    last = at;
  }
  return ends;
}

/** The elements of an array of variable-size elements. */
export function elements(bytes: Buffer, span: Span, alignment: number): Span[] {
  let at = span.start;
  return Array.from(elementEnds(bytes, span), (end) => {
    const start = skipPadding(bytes, span.start, at, alignment, end);
    at = end;
    return { start, end };
  });
}

/** A dictionary, `a{sv}`. Of equal keys the first counts, as in GVariant. @throws FormatError for an empty key. */
export function dictionaryIn(bytes: Buffer, span: Span): Map<string, Variant> {
  const dictionary = new Map<string, Variant>();
  for (const element of elements(bytes, span, 8)) {
    const entry = new TupleReader(bytes, element, 1);
    const key = entry.string();
    if (key === '') throw new FormatError('a dictionary has an empty key');
    const value = variantIn(bytes, entry.member(8));
    entry.finish();
    if (!dictionary.has(key)) dictionary.set(key, value);
  }
  return dictionary;
}

/** A `v`: the value's bytes, a NUL, the type. */
function variantIn(bytes: Buffer, { start, end }: Span): Variant {
  const content = bytes.subarray(start, end);
  const separator = content.lastIndexOf(0);
  if (separator === -1) throw new FormatError('a variant has no type');
  const type = content.toString('latin1', separator + 1);
  if (!isType(type)) throw new FormatError('a variant has a type that does not exist');
  return { type, bytes: content.subarray(0, separator) };
}

/** Deeper types are refused by GLib as well. */
const MAX_TYPE_DEPTH = 64;

/** Whether `text` is one complete type. */
function isType(text: string): boolean {
  return typeEnd(text, 0, 0) === text.length;
}

/** The position after the type that begins at `at`; -1 when there is none. */
function typeEnd(text: string, at: number, depth: number): number {
  if (depth > MAX_TYPE_DEPTH) return -1;
  const first = text.charAt(at);
  if (first === '') return -1;
  if ('ybnqiuxthdsogv'.includes(first)) return at + 1;
  if (first === 'a' || first === 'm') return typeEnd(text, at + 1, depth + 1);
  if (first === '{') {
    if (!/^[ybnqiuxthdsog]$/.test(text.charAt(at + 1))) return -1;
    const end = typeEnd(text, at + 2, depth + 1);
    return end !== -1 && text.charAt(end) === '}' ? end + 1 : -1;
  }
  if (first !== '(') return -1;
  let end = at + 1;
  while (end !== -1 && text.charAt(end) !== ')') end = typeEnd(text, end, depth + 1);
  return end === -1 ? -1 : end + 1;
}

/** Joins the members of a tuple or dictionary entry of which at least one is of variable size. */
export class TupleWriter {
  readonly #parts: Buffer[] = [];
  readonly #ends: number[] = [];
  #size = 0;

  /** A member of fixed size, in OSTree's byte order. */
  fixed(bytes: Uint8Array, alignment: number = 1): this {
    const padding = aligned(this.#size, alignment) - this.#size;
    if (padding > 0) this.#parts.push(Buffer.alloc(padding));
    this.#parts.push(bytesOf(bytes));
    this.#size += padding + bytes.length;
    return this;
  }

  /** A member of variable size. */
  member(bytes: Uint8Array, alignment: number = 1): this {
    this.fixed(bytes, alignment);
    this.#ends.push(this.#size);
    return this;
  }

  /** A string, given as a byte string. */
  string(value: ByteString): this {
    return this.member(Buffer.from(`${value}\0`, 'latin1'));
  }

  /** The tuple; its last member, when of variable size, needs no offset. */
  end(): Buffer {
    const ends = this.#ends.at(-1) === this.#size ? this.#ends.slice(0, -1) : this.#ends;
    return Buffer.concat([...this.#parts, framing(this.#size, ends.toReversed())]);
  }
}

/** An array of variable-size elements. */
export function arrayOf(parts: readonly Buffer[], alignment: number = 1): Buffer {
  const pieces: Buffer[] = [];
  let size = 0;
  const ends = parts.map((part) => {
    const padding = aligned(size, alignment) - size;
    if (padding > 0) pieces.push(Buffer.alloc(padding));
    pieces.push(part);
    return (size += padding + part.length);
  });
  return Buffer.concat([...pieces, framing(size, ends)]);
}

/** A dictionary, `a{sv}`, its entries in the order of the map. */
export function encodeDictionary(values: ReadonlyMap<ByteString, Variant>): Buffer {
  const entries = Array.from(values, ([key, { type, bytes }]) => {
    const variant = Buffer.concat([bytes, Buffer.from(`\0${type}`, 'latin1')]);
    return new TupleWriter().string(key).member(variant, 8).end();
  });
  return arrayOf(entries, 8);
}

/** A value of type `s`, given as text. */
export function stringVariant(value: string): Variant {
  return { type: 's', bytes: Buffer.from(`${value}\0`) };
}

/** A value of type `as`, given as text. */
export function stringsVariant(values: readonly string[]): Variant {
  return { type: 'as', bytes: arrayOf(values.map((value) => Buffer.from(`${value}\0`))) };
}

function bytesOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The offsets for a body of `size` bytes, in the smallest width that can express the container with them. */
export function framing(size: number, offsets: readonly number[]): Buffer {
  if (offsets.length === 0) return Buffer.alloc(0);
  let width = 1;
  while (width < 4 && size + offsets.length * width >= 2 ** (8 * width)) width *= 2;
  const table = Buffer.alloc(offsets.length * width);
  let at = 0;
  for (let index = 0; index < offsets.length; index++) {
    let rest = offsets[index] ?? 0;
    for (const end = at + width; at < end; rest >>>= 8) table[at++] = rest & 0xff;
  }
  return table;
}
