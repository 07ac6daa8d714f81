/** Ratios as a table for people: a line for each row, state and mode, a column for each peer. */
import { type Figure, geometricMean, STATES } from './figures.ts';
import type { Group } from './group.ts';
import type { Results } from './runner.ts';

export function table(
  all: readonly Figure[],
  results: Pick<Results, 'rounds' | 'failures' | 'isCut'>,
  groups: readonly Group[],
): string {
  const common = groups.filter(({ among }) => among === undefined);
  const lines = [
    `ostree-ts by each peer: time of ours / time of theirs, below 1 is faster; [lowest, highest] of at most ${results.rounds} rounds`,
    all[0]?.machine ?? '',
    '~ the rounds differ by more than the two do   ! above the target',
  ];
  lines.push(...section(all, common));
  for (const group of groups) if (group.among !== undefined) lines.push(...section(all, [group]));
  lines.push('');
  for (const mode of unique(all.map((figure) => figure.mode))) {
    const own = all.filter((figure) => figure.mode === mode);
    for (const peer of unique(own.map((figure) => figure.peer))) {
      lines.push(...summary(own.filter((figure) => figure.peer === peer)));
    }
  }
  for (const { group, peer, reason } of results.failures) {
    lines.push(`${peer} could not do ${group}: ${reason}`);
  }
  if (results.isCut) lines.push('time ran out: some rows have fewer rounds');
  return lines.join('\n');
}

/** Rows that have the same peers. */
function section(all: readonly Figure[], groups: readonly Group[]): string[] {
  const names = groups.flatMap(({ rows }) => rows.map(({ name }) => name));
  const own = all.filter(({ row }) => names.includes(row));
  if (own.length === 0) return [];
  const peers = unique(own.map(({ peer }) => peer));
  const lines = [
    '',
    `row          state mode             ours ms     cpu   MiB${peers.map((peer) => pad(`  ${peer}`)).join('')}target`,
  ];
  for (const name of names) {
    for (const state of STATES) {
      const some = own.filter((figure) => figure.row === name && figure.state === state);
      for (const mode of unique(some.map((figure) => figure.mode))) {
        const cells = some.filter((figure) => figure.mode === mode);
        lines.push(tableLine(cells, peers));
      }
    }
  }
  return lines;
}

function tableLine(own: readonly Figure[], peers: readonly string[]): string {
  const [first] = own;
  if (first === undefined) return '';
  const cells = peers.map((peer) => {
    const figure = own.find((one) => one.peer === peer);
    if (figure === undefined) return pad('  -');
    const misses = figure.target !== undefined && figure.ratio > figure.target;
    const marks = `${figure.uncertain ? '~' : ''}${misses ? '!' : ''}`;
    const [low, high] = figure.spread;
    return pad(`  ${figure.ratio}${marks} [${low}, ${high}]`);
  });
  const aim = own.find((one) => one.target !== undefined);
  const target = aim === undefined ? '' : `${aim.target} of ${aim.peer}`;
  const start = `${first.row.padEnd(13)}${first.state.padEnd(6)}${first.mode.padEnd(14)}`;
  const cost = `${String(first.ours_ms).padStart(10)}${String(first.ours_cpu_ms).padStart(8)}`;
  const memory = String(Math.round(first.ours_rss_mib)).padStart(6);
  return `${start}${cost}${memory}${cells.join('')}${target}`;
}

/** Of one mode against one peer. */
function summary(own: readonly Figure[]): string[] {
  const [first] = own;
  if (first === undefined) return [];
  const slower = own.filter(({ ratio, uncertain }) => ratio > 1 && !uncertain);
  const missed = own.filter(({ ratio, target }) => target !== undefined && ratio > target);
  const who = `${first.mode} by ${first.peer}`;
  const mean = geometricMean(own.map(({ ratio }) => ratio)).toPrecision(3);
  const words = `${who}: geometric mean ${mean} of ${own.length}`;
  return [
    slower.length === 0 ? words : `${words}; slower in ${list(slower)}`,
    ...(missed.length === 0 ? [] : [`${who}: above the target in ${list(missed)}`]),
  ];
}

function list(some: readonly Figure[]): string {
  return some.map(({ row, state }) => (state === '-' ? row : `${row} ${state}`)).join(', ');
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}

/** One column of a peer. */
function pad(text: string): string {
  return text.padEnd(28);
}
