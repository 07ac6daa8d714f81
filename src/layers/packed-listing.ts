/** A part of a directory's listing, of which no strings are made. */

export interface PackedListing {
  /** All names, each followed by '/'. */
  readonly names: Uint8Array;
  /** Where each ends there, its '/' included. */
  readonly ends: Uint32Array;
  /** DT_* of each. */
  readonly types: Uint8Array;
  /** Low and high 32 bits of each d_ino, interleaved. */
  readonly inos: Uint32Array;
  /** One of the numbers is 2^48 or more. */
  readonly hasLarge: boolean;
  /** Nothing comes after it. */
  readonly isLast: boolean;
}

const WORD = 4;
const HEAD_WORDS = 2;
const HAS_LARGE = 1;
const IS_LAST = 2;

/** @param packed  as `Native.packDirectory` has made it. */
export function unpack(packed: ArrayBuffer): PackedListing {
  const head = new Uint32Array(packed, 0, HEAD_WORDS);
  const count = head[0] ?? 0;
  const flags = head[1] ?? 0;
  const endsAt = WORD * (HEAD_WORDS + 2 * count);
  const typesAt = endsAt + WORD * count;
  return {
    names: new Uint8Array(packed, typesAt + count),
    ends: new Uint32Array(packed, endsAt, count),
    types: new Uint8Array(packed, typesAt, count),
    inos: new Uint32Array(packed, WORD * HEAD_WORDS, 2 * count),
    hasLarge: (flags & HAS_LARGE) !== 0,
    isLast: (flags & IS_LAST) !== 0,
  };
}

/** All parts of a listing as one. */
export function joined(parts: readonly PackedListing[]): PackedListing {
  const names = Buffer.concat(parts.map((part) => part.names));
  const types = Buffer.concat(parts.map((part) => part.types));
  const ends = new Uint32Array(types.length);
  const inos = new Uint32Array(2 * types.length);
  let first = 0;
  let base = 0;
  for (const part of parts) {
    inos.set(part.inos, 2 * first);
    for (const [i, end] of part.ends.entries()) ends[first + i] = base + end;
    first += part.ends.length;
    base += part.names.length;
  }
  const hasLarge = parts.some((part) => part.hasLarge);
  return { names, ends, types, inos, hasLarge, isLast: true };
}
