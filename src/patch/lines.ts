/**
 * Which lines of two texts differ. The shortest edit script is the library's; where it leaves a choice, since a run of
 * changed lines may as well begin a few lines earlier or later, the choice is that of `git diff`.
 */
import { diffArrays } from 'diff';
import { compact } from './compact.ts';

/** A text as lines, each with its newline, as byte strings: one char a byte. */
export type Lines = readonly string[];

/** For each line of both whether it is changed: removed from the one, added in the other. */
export interface Changed {
  before: Uint8Array;
  after: Uint8Array;
}

/** Lines that may be removed and added before a search is given up: it takes time by the square of them. */
const EDITS_MAX = 10_000;
/** And how long it may take. */
const SEARCH_MS = 5000;

/** Splits a text after each newline; what follows the last is a line without one. */
export function split(text: string): string[] {
  const lines: string[] = [];
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at) + 1 || text.length;
    lines.push(text.slice(at, end));
    at = end;
  }
  return lines;
}

/** Two texts that are too different to be compared in reasonable time have all of what differs replaced. */
export function compareLines(before: Lines, after: Lines): Changed {
  const changed = {
    before: new Uint8Array(before.length),
    after: new Uint8Array(after.length),
  };
  const limit = Math.min(before.length, after.length);
  let start = 0;
  while (start < limit && before[start] === after[start]) start++;
  let tail = 0;
  while (tail < limit - start && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const a = before.slice(start, before.length - tail);
  const b = after.slice(start, after.length - tail);
  mark(changed, start, a, b);
  compact(before, changed.before, changed.after);
  compact(after, changed.after, changed.before);
  return changed;
}

/** Marks the differences of `a` and `b`, which begin at line `start` of both. */
function mark(changed: Changed, start: number, a: Lines, b: Lines): void {
  const inA = new Set(a);
  const inB = new Set(b);
  // A line that the other does not have cannot be kept, so the search need not see it.
  const keptA = indicesOf(a, inB);
  const keptB = indicesOf(b, inA);
  changed.before.fill(1, start, start + a.length);
  changed.after.fill(1, start, start + b.length);
  const parts = diffArrays(
    keptA.map((index) => a[index] ?? ''),
    keptB.map((index) => b[index] ?? ''),
    { maxEditLength: EDITS_MAX, timeout: SEARCH_MS },
  );
  let atA = 0;
  let atB = 0;
  for (const { added, removed, count } of parts ?? []) {
    if (!added && !removed) {
      for (let i = 0; i < count; i++) {
        changed.before[start + (keptA[atA + i] ?? 0)] = 0;
        changed.after[start + (keptB[atB + i] ?? 0)] = 0;
      }
    }
    if (!added) atA += count;
    if (!removed) atB += count;
  }
}

function indicesOf(lines: Lines, wanted: ReadonlySet<string>): number[] {
  const indices: number[] = [];
  for (const [index, line] of lines.entries()) if (wanted.has(line)) indices.push(index);
  return indices;
}
