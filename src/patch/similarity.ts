/** How much of a file that was renamed is still the same, as `git diff` counts it for "similarity index". */

/** Pieces of text are told apart by their hash alone, of which there are this many. */
const HASHES = 107_927;
const PIECE_MAX = 64;
const LF = 10;
const CR = 13;
const FULL = 60_000;

/** Percent of the larger one that is in both; 100 only for what is the same. */
export function similarity(before: Uint8Array, after: Uint8Array, isText: boolean): number {
  const larger = Math.max(before.length, after.length);
  if (Buffer.compare(before, after) === 0) return 100;
  if (before.length === 0 || after.length === 0) return 0;
  const now = pieces(after, isText);
  let copied = 0;
  for (const [hash, bytes] of pieces(before, isText)) copied += Math.min(bytes, now.get(hash) ?? 0);
  const score = Math.floor((copied * FULL) / larger);
  return Math.min(99, Math.floor((score * 100) / FULL));
}

/** How many bytes are in pieces of each hash. A piece ends with a line, or is as long as may be. */
function pieces(data: Uint8Array, isText: boolean): Map<number, number> {
  const counts = new Map<number, number>();
  let length = 0;
  let low = 0;
  let high = 0;
  const end = () => {
    // Unsigned, modulo 2^32.
    const hash = ((low + Math.imul(high, 0x61)) >>> 0) % HASHES;
    counts.set(hash, (counts.get(hash) ?? 0) + length);
    length = low = high = 0;
  };
  for (let i = 0; i < data.length; i++) {
    const byte = data[i] ?? 0;
    if (isText && byte === CR && data[i + 1] === LF) continue;
    const before = low;
    low = (((low << 7) ^ (high >>> 25)) + byte) >>> 0;
    high = ((high << 7) ^ (before >>> 25)) >>> 0;
    if (++length === PIECE_MAX || byte === LF) end();
  }
  if (length > 0) end();
  return counts;
}
