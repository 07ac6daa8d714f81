/** The hunks of a unified diff, as `git diff` writes them. Byte strings in, byte strings out. */
import { compareLines, split, type Lines } from './lines.ts';

/** Characters of a section heading at most. */
const HEADING_MAX = 80;

/** Changed lines [start, end) of the old and the new text. */
interface Change {
  before: { start: number; end: number };
  after: { start: number; end: number };
}

/** The parts of a diff that follow its header. @param context  unchanged lines around changes. */
export function* hunks(before: string, after: string, context: number = 3): Generator<string> {
  const a = split(before);
  const b = split(after);
  const changes = changesOf(a, b);
  for (let at = 0; at < changes.length;) {
    let next = at + 1;
    while (next < changes.length && gap(changes, next) <= 2 * context) next++;
    yield hunk(a, b, changes.slice(at, next), context);
    at = next;
  }
}

/** Unchanged lines before a change. */
function gap(changes: Change[], index: number): number {
  return (changes[index]?.before.start ?? 0) - (changes[index - 1]?.before.end ?? 0);
}

function changesOf(a: Lines, b: Lines): Change[] {
  const changed = compareLines(a, b);
  const changes: Change[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; i++, j++) {
    const before = { start: i, end: i };
    const after = { start: j, end: j };
    while (changed.before[before.end] === 1) before.end++;
    while (changed.after[after.end] === 1) after.end++;
    if (before.end > i || after.end > j) changes.push({ before, after });
    i = before.end;
    j = after.end;
  }
  return changes;
}

function hunk(a: Lines, b: Lines, changes: readonly Change[], context: number): string {
  const first = changes[0];
  const last = changes.at(-1);
  if (first === undefined || last === undefined) return '';
  const lead = Math.min(context, first.before.start);
  const trail = Math.min(context, a.length - last.before.end);
  const start = first.before.start - lead;
  const old = range(start, last.before.end + trail);
  const now = range(first.after.start - lead, last.after.end + trail);
  const parts = [`@@ -${old} +${now} @@${heading(a, start)}\n`];
  let at = start;
  for (const { before, after } of changes) {
    for (; at < before.start; at++) parts.push(' ', whole(a[at]));
    for (; at < before.end; at++) parts.push('-', whole(a[at]));
    for (let j = after.start; j < after.end; j++) parts.push('+', whole(b[j]));
  }
  for (; at < last.before.end + trail; at++) parts.push(' ', whole(a[at]));
  return parts.join('');
}

function range(start: number, end: number): string {
  const count = end - start;
  // Of no lines, the place is after the line before.
  const line = count === 0 ? start : start + 1;
  return count === 1 ? `${line}` : `${line},${count}`;
}

function whole(line: string = ''): string {
  return line.endsWith('\n') ? line : `${line}\n\\ No newline at end of file\n`;
}

/** The last line above that begins with a letter, an underscore or a dollar: a function's first, as a rule. */
function heading(a: Lines, start: number): string {
  for (let at = start - 1; at >= 0; at--) {
    const line = a[at] ?? '';
    if (/^[A-Za-z_$]/.test(line)) {
      return ` ${line.slice(0, HEADING_MAX).replace(/[ \t\n\v\f\r]+$/, '')}`;
    }
  }
  return '';
}
