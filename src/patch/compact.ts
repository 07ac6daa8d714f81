/**
 * Where runs of changed lines begin and end, when they could as well be elsewhere.
 *
 * A run that is followed by a line equal to its first can be moved down by one, and up likewise. Of all such places git
 * prefers, as git-diff(1) has it under `--indent-heuristic`, one beside a run of the other text, else the one whose ends
 * lie best by indentation and blank lines, else the last.
 */
import type { Lines } from './lines.ts';

/** How far up a run is moved for its indentation. */
const SLIDE_MAX = 100;
/** Blank lines looked at, and columns counted, at most. */
const BLANKS_MAX = 20;
const INDENT_MAX = 200;
const TAB = 8;

/** What speaks against an end of a run, as git weighs it. */
const WEIGHT = {
  startOfFile: 1,
  endOfFile: 21,
  blank: -30,
  blankAfter: 6,
  indent: [-4, 10],
  outdent: [24, 17],
  dedent: [23, 17],
  column: 60,
} as const;

/** A run of changed lines, which may be empty: between two unchanged ones there always is one. */
interface Run {
  start: number;
  end: number;
}

/**
 * Moves the runs of one text.
 *
 * @param changed  of each line; changed here.
 * @param other  of each line of the other text, which has as many unchanged lines.
 */
export function compact(lines: Lines, changed: Uint8Array, other: Uint8Array): void {
  const counterparts = runsOf(other);
  const slider = new Slider(lines, changed, counterparts);
  let run = slider.first();
  for (;;) {
    if (run.end > run.start) slider.settle(run);
    if (run.end >= lines.length) return;
    run = slider.next(run);
  }
}

/** Lengths of the runs before, between and after the unchanged lines. */
function runsOf(changed: Uint8Array): number[] {
  const runs: number[] = [];
  let length = 0;
  for (const each of changed) {
    if (each !== 0) length++;
    else {
      runs.push(length);
      length = 0;
    }
  }
  runs.push(length);
  return runs;
}

class Slider {
  readonly #lines: Lines;
  readonly #changed: Uint8Array;
  readonly #counterparts: readonly number[];
  /** Unchanged lines before the run that is looked at, which is the number of its counterpart. */
  #index = 0;

  constructor(lines: Lines, changed: Uint8Array, counterparts: readonly number[]) {
    this.#lines = lines;
    this.#changed = changed;
    this.#counterparts = counterparts;
  }

  first(): Run {
    return { start: 0, end: this.#runEnd(0) };
  }

  next({ end }: Run): Run {
    this.#index++;
    return { start: end + 1, end: this.#runEnd(end + 1) };
  }

  #runEnd(start: number): number {
    let end = start;
    while (this.#changed[end] === 1) end++;
    return end;
  }

  /** Moves a run to where it lies best. */
  settle(run: Run): void {
    let size: number;
    let top: number;
    /** The last place beside a run of the other text. */
    let beside: number;
    do {
      size = run.end - run.start;
      while (this.#up(run));
      top = run.end;
      beside = this.#hasCounterpart() ? run.end : -1;
      while (this.#down(run)) if (this.#hasCounterpart()) beside = run.end;
      // It may have met others on its way, and become one with them.
    } while (size !== run.end - run.start);
    if (run.end === top) return;
    if (beside === -1) this.#slideTo(run, this.#best(run, top));
    else while (!this.#hasCounterpart() && this.#up(run));
  }

  #slideTo(run: Run, end: number): void {
    while (run.end > end && this.#up(run));
  }

  #hasCounterpart(): boolean {
    return (this.#counterparts[this.#index] ?? 0) > 0;
  }

  #up(run: Run): boolean {
    if (run.start === 0 || this.#lines[run.start - 1] !== this.#lines[run.end - 1]) return false;
    this.#changed[--run.start] = 1;
    this.#changed[--run.end] = 0;
    while (run.start > 0 && this.#changed[run.start - 1] === 1) run.start--;
    this.#index--;
    return true;
  }

  #down(run: Run): boolean {
    if (run.end >= this.#lines.length || this.#lines[run.start] !== this.#lines[run.end]) {
      return false;
    }
    this.#changed[run.start++] = 0;
    this.#changed[run.end++] = 1;
    run.end = this.#runEnd(run.end);
    this.#index++;
    return true;
  }

  /** Of the places from `top` on, the last of those that weigh least. @returns where the run is to end. */
  #best({ start, end }: Run, top: number): number {
    const size = end - start;
    let best = end;
    let least: Score | undefined;
    for (let at = Math.max(top, end - size - 1, end - SLIDE_MAX); at <= end; at++) {
      const score = { column: 0, penalty: 0 };
      weigh(this.#lines, at, score);
      weigh(this.#lines, at - size, score);
      if (least !== undefined && compare(score, least) > 0) continue;
      least = score;
      best = at;
    }
    return best;
  }
}

interface Score {
  /** Columns of indentation at both ends. */
  column: number;
  penalty: number;
}

function compare(a: Score, b: Score): number {
  return WEIGHT.column * Math.sign(a.column - b.column) + a.penalty - b.penalty;
}

/** Adds what speaks against an end of a run before line `at`. */
function weigh(lines: Lines, at: number, score: Score): void {
  const here = at < lines.length ? indentation(lines[at] ?? '') : -1;
  const above = nearest(lines, at, -1);
  const below = nearest(lines, at, 1);
  if (above.indent === -1 && above.blanks === 0) score.penalty += WEIGHT.startOfFile;
  if (at >= lines.length) score.penalty += WEIGHT.endOfFile;
  const blanksAfter = here === -1 ? 1 + below.blanks : 0;
  const blanks = above.blanks + blanksAfter;
  score.penalty += WEIGHT.blank * blanks + WEIGHT.blankAfter * blanksAfter;
  const indent = here === -1 ? below.indent : here;
  score.column += indent;
  if (indent === -1 || above.indent === -1 || indent === above.indent) return;
  const kind = blanks === 0 ? 0 : 1;
  if (indent > above.indent) score.penalty += WEIGHT.indent[kind];
  else if (below.indent !== -1 && below.indent > indent) score.penalty += WEIGHT.outdent[kind];
  else score.penalty += WEIGHT.dedent[kind];
}

/** The next line above or below `at` that is not blank, and how many blank ones are between. */
function nearest(lines: Lines, at: number, step: 1 | -1): { indent: number; blanks: number } {
  let blanks = 0;
  for (let i = at + step; i >= 0 && i < lines.length; i += step) {
    const indent = indentation(lines[i] ?? '');
    if (indent !== -1) return { indent, blanks };
    if (++blanks === BLANKS_MAX) return { indent: 0, blanks };
  }
  return { indent: -1, blanks };
}

/** Columns before the first character that is no space; -1 of a blank line. */
function indentation(line: string): number {
  let columns = 0;
  for (const char of line) {
    if (char === ' ') columns++;
    else if (char === '\t') columns += TAB - (columns % TAB);
    else if (!'\n\v\f\r'.includes(char)) return columns;
    if (columns >= INDENT_MAX) return INDENT_MAX;
  }
  return -1;
}
