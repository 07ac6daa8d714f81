/** Runs a script on two file systems, line for line, and finds the shortest part of it on which they differ. */
import { compareListings } from './compare.ts';
import { Hand } from './hand.ts';
import { SNAPSHOT } from './random.ts';

/** Lines are sent this many at a time: enough to run without waiting, few enough to stop soon. */
const CHUNK = 1000;

export interface Difference {
  /** Of the line in the script. */
  index: number;
  line: string;
  /** What the two answered; for a tree, what differs. */
  first: string;
  second: string;
}

/** @returns the first line that was answered differently, or `undefined`. */
export async function race(
  script: readonly string[],
  folders: readonly [string, string],
  histogram?: Map<string, number>,
): Promise<Difference | undefined> {
  const since = Math.floor(Date.now() / 1000) - 1;
  await using a = new Hand({ cwd: folders[0] });
  await using b = new Hand({ cwd: folders[1] });
  const prologue = [`since ${since}`, 'emulate zero-range'];
  await Promise.all([a.must(prologue), b.must(prologue)]);
  const lines = script.map((line) => line.replace('SINCE', String(since)));
  for (let at = 0; at < lines.length; at += CHUNK) {
    const chunk = lines.slice(at, at + CHUNK);
    const [first, second] = await Promise.all([a.script(chunk), b.script(chunk)]);
    for (const [offset, line] of chunk.entries()) {
      const [one, two] = [first[offset] ?? '', second[offset] ?? ''];
      if (one !== two) return difference(at + offset, line, one, two);
      if (histogram) tally(histogram, line, one);
    }
  }
  return undefined;
}

function difference(index: number, line: string, first: string, second: string): Difference {
  if (!line.startsWith('tree ')) return { index, line, first, second };
  return { index, line, first: compareListings(first, second).join('\n'), second: '' };
}

function tally(histogram: Map<string, number>, line: string, answer: string): void {
  const operation = line.slice(0, Math.max(0, `${line} `.indexOf(' ')));
  const flags = /RENAME_\w+|FALLOC_FL_[PZ]\w+|O_TMPFILE|O_APPEND|O_TRUNC|O_DIRECT/.exec(line)?.[0];
  const outcome = /^ok|^[^ ]* type=/.test(answer) ? 'done' : 'refused';
  const key = `${operation}${flags === undefined ? '' : ` ${flags}`} ${outcome}`;
  histogram.set(key, (histogram.get(key) ?? 0) + 1);
}

/**
 * Takes lines out of a script that fails for as long as it still fails.
 *
 * @param fails  runs a script on a fresh pair of trees.
 * @param attempts  most runs.
 */
export async function shrink(
  script: readonly string[],
  fails: (script: readonly string[]) => Promise<boolean>,
  attempts: number,
): Promise<string[]> {
  let best = script.filter((line) => !line.startsWith('tree '));
  let left = attempts;
  for (let size = Math.ceil(best.length / 2); size >= 1 && left > 0; size = Math.floor(size / 2)) {
    for (let at = best.length - size; at > -size && left > 0; at -= size) {
      const start = Math.max(0, at);
      const candidate = [...best.slice(0, start), ...best.slice(start + size)];
      left--;
      if (await fails([...candidate, ...SNAPSHOT])) best = candidate;
    }
  }
  return best;
}
