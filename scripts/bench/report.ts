/** From samples to ratios: a table for people, lines of JSON for machines. */
import { cpus } from 'node:os';
import { readFileSync } from 'node:fs';
import { MODE, OURS } from './peers.ts';
import type { Group, State } from './rows.ts';
import type { Results, Sample } from './runner.ts';

/** Ours against one peer in one row. The names are those of the JSON. */
export interface Figure {
  row: string;
  state: State;
  mode: string;
  peer: string;
  /** Our time by the peer's: the median over the rounds, each round's two being neighbours in time. */
  ratio: number;
  /** Smallest and largest of the rounds. */
  spread: [low: number, high: number];
  /** Medians. */
  ours_ms: number;
  peer_ms: number;
  /** CPU time and memory of the serving process; 0 where the kernel serves. */
  ours_cpu_ms: number;
  peer_cpu_ms: number;
  ours_rss_mib: number;
  peer_rss_mib: number;
  rounds: number;
  /** The rounds differ by more than the two do: this says nothing about who is faster. */
  uncertain: boolean;
  /** For overlayfs. */
  target?: number;
  machine: string;
}

export function figures(results: Results, groups: readonly Group[], peers: string[]): Figure[] {
  const all: Figure[] = [];
  for (const { rows } of groups) {
    for (const { name, targets } of rows) {
      for (const state of ['cold', 'warm', '-'] as const) {
        for (const peer of peers) {
          const figure = figureOf(results.samples, name, state, peer);
          if (figure === undefined) continue;
          const target = peer === 'overlayfs' ? targets[state] : undefined;
          all.push(target === undefined ? figure : { ...figure, target });
        }
      }
    }
  }
  return all;
}

function figureOf(
  samples: readonly Sample[],
  row: string,
  state: State,
  peer: string,
): Figure | undefined {
  const of = (who: string) =>
    samples.filter((one) => one.row === row && one.state === state && one.peer === who);
  const theirs = of(peer);
  const pairs = of(OURS.name).flatMap((ours) => {
    const other = theirs.find(({ round }) => round === ours.round);
    return other === undefined ? [] : [{ ours, other }];
  });
  if (pairs.length === 0) return undefined;
  const ratios = pairs.map(({ ours, other }) => ours.ms / other.ms);
  const ratio = median(ratios);
  const spread: [number, number] = [short(Math.min(...ratios)), short(Math.max(...ratios))];
  const MIB = 2 ** 20;
  return {
    row,
    state,
    mode: MODE,
    peer,
    ratio: short(ratio),
    spread,
    ours_ms: short(median(pairs.map(({ ours }) => ours.ms))),
    peer_ms: short(median(pairs.map(({ other }) => other.ms))),
    ours_cpu_ms: short(median(pairs.map(({ ours }) => ours.cpuMs))),
    peer_cpu_ms: short(median(pairs.map(({ other }) => other.cpuMs))),
    ours_rss_mib: short(Math.max(...pairs.map(({ ours }) => ours.bytes)) / MIB),
    peer_rss_mib: short(Math.max(...pairs.map(({ other }) => other.bytes)) / MIB),
    rounds: pairs.length,
    uncertain: pairs.length < 2 || spread[1] - spread[0] > Math.abs(1 - ratio),
    machine: machine(),
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Three significant digits: more would be noise. */
function short(value: number): number {
  return Number(value.toPrecision(3));
}

/** What it ran on, in one line. */
export function machine(): string {
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  const [cpu] = cpus();
  return `${cpus().length} x ${cpu?.model ?? process.arch}, Linux ${kernel}, Node ${process.versions.node}`;
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Everything, as a table: a line a row, a column a peer. */
export function table(
  all: readonly Figure[],
  results: Results,
  groups: readonly Group[],
  peers: readonly string[],
): string {
  const lines = [
    `${OURS.name} (${MODE}) by each peer: time of ours / time of theirs, below 1 is faster; [lowest, highest] of at most ${results.rounds} rounds`,
    machine(),
    '~ the rounds differ by more than the two do   ! above the target',
    '',
    `row       state    ours ms     cpu   MiB${peers.map((peer) => pad(`  ${peer}`)).join('')}target`,
  ];
  for (const { rows } of groups) {
    for (const { name } of rows) {
      for (const state of ['cold', 'warm', '-'] as const) {
        const own = all.filter((figure) => figure.row === name && figure.state === state);
        if (own.length > 0) lines.push(tableLine(own, peers));
      }
    }
  }
  lines.push('', ...peers.flatMap((peer) => summary(all, peer)));
  for (const { group, peer, reason } of results.failures) {
    lines.push(`${peer} could not do ${group}: ${reason}`);
  }
  if (results.isCut) lines.push('time ran out: some rows have a round less');
  return lines.join('\n');
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
  const target = own.find((one) => one.target !== undefined)?.target ?? '';
  const start = `${first.row.padEnd(10)}${first.state.padEnd(6)}${String(first.ours_ms).padStart(10)}`;
  const cost = `${String(first.ours_cpu_ms).padStart(8)}${String(Math.round(first.ours_rss_mib)).padStart(6)}`;
  return `${start}${cost}${cells.join('')}${target}`;
}

function summary(all: readonly Figure[], peer: string): string[] {
  const own = all.filter((figure) => figure.peer === peer);
  if (own.length === 0) return [];
  const slower = own.filter(({ ratio, uncertain }) => ratio > 1 && !uncertain);
  const missed = own.filter(({ ratio, target }) => target !== undefined && ratio > target);
  const list = (some: readonly Figure[]) =>
    some.map(({ row, state }) => (state === '-' ? row : `${row} ${state}`)).join(', ');
  const mean = geometricMean(own.map(({ ratio }) => ratio)).toPrecision(3);
  const words = `${peer}: geometric mean ${mean} of ${own.length}`;
  return [
    slower.length === 0 ? words : `${words}; slower in ${list(slower)}`,
    ...(missed.length === 0 ? [] : [`${peer}: above the target in ${list(missed)}`]),
  ];
}

/** One column of a peer. */
function pad(text: string): string {
  return text.padEnd(28);
}
