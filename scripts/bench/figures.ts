/** From samples to ratios. */
import { cpus } from 'node:os';
import { readFileSync } from 'node:fs';
import type { Peer } from './peers.ts';
import type { Group, State } from './group.ts';
import { run } from './process.ts';
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
  /** What the ratio should not exceed, for those whom the row names. */
  target?: number;
  machine: string;
  /** As in 2026-01-31. */
  date: string;
}

export const STATES = ['cold', 'warm', '-'] as const;

/** Whom the targets are about, where neither row nor group says. */
const RIVAL = 'overlayfs';

export function figures(
  results: Results,
  groups: readonly Group[],
  everyone: { modes: readonly Peer[]; peers: readonly Peer[]; machine: string },
): Figure[] {
  const all: Figure[] = [];
  for (const { rows, among } of groups) {
    const { modes, peers } = among ?? everyone;
    for (const { name, targets, rival = RIVAL } of rows) {
      for (const state of STATES) {
        for (const mode of modes) {
          for (const peer of peers) {
            const measured = figureOf(results.samples, name, state, mode.name, peer.name);
            if (measured === undefined) continue;
            const figure = { ...measured, machine: everyone.machine };
            const isRival = among !== undefined || peer.name === rival;
            const target = isRival ? targets[state] : undefined;
            all.push(target === undefined ? figure : { ...figure, target });
          }
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
  mode: string,
  peer: string,
): Omit<Figure, 'machine'> | undefined {
  const of = (who: string) =>
    samples.filter((one) => one.row === row && one.state === state && one.peer === who);
  const theirs = of(peer);
  const pairs = of(mode).flatMap((ours) => {
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
    mode,
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
    date: new Date().toISOString().slice(0, 10),
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

/**
 * What it ran on, in one line. A filesystem in a process of its own costs a few system calls and a round trip at each step that
 * the kernel cannot take alone: whether these are dear is said as well.
 */
export async function machine(work: string): Promise<string> {
  const [call = '', trip = ''] = (await run(work, ['floor', '20000'])).trim().split(' ');
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  const [cpu] = cpus();
  const floor = `a system call ${micro(call)} us, a round trip between processes ${micro(trip)} us`;
  return `${cpus().length} x ${cpu?.model ?? process.arch}, Linux ${kernel}, Node ${process.versions.node}, ${floor}`;
}

function micro(nanoseconds: string): number {
  return short(Number(nanoseconds) / 1000);
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
