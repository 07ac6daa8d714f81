/**
 * `npm run bench -- --growth`: whether cost grows as work grows. Each series does the same kind of work at sizes far apart,
 * ours and kernel overlayfs in turn, and tells the time of one operation: what is flat stays near 1 by the smallest size.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { median } from './figures.ts';
import type { Ground, Series } from './growth-series.ts';
import { type Peer, withPlace } from './peers.ts';
import { CannotDo, interruption, run } from './process.ts';

/** One kind of operation at one size. The names are those of the JSON. */
export interface Point {
  series: string;
  size: number;
  /** A mode of ours, or a peer. */
  mode: string;
  /** Microseconds of one operation; median of the rounds. */
  us: number;
  /** By the smallest size of the series. */
  growth: number;
  /** Resident memory of the serving process afterwards, in MiB; 0 where the kernel serves. */
  rss_mib: number;
}

export interface GrowthPlan {
  /** The program of the workloads. */
  work: string;
  folder: string;
  tmpfs: string;
  peers: readonly Peer[];
  series: readonly Series[];
  rounds: number;
  say: (words: string) => void;
}

/** Sizes from which on one round tells enough. */
const IS_LONG = 100_000;
const STEP_MS = 900_000;
const MIB = 2 ** 20;

export async function growth(plan: GrowthPlan): Promise<Point[]> {
  const points: Point[] = [];
  for (const series of plan.series) {
    for (const size of series.sizes) {
      plan.say(`${series.name}: ${size}`);
      points.push(...(await atSize(plan, series, size)));
    }
  }
  return points.map((point) => {
    const first = points.find(({ series, mode }) => series === point.series && mode === point.mode);
    return { ...point, growth: short(point.us / (first?.us ?? Number.NaN)) };
  });
}

/** All peers at one size, in rounds. */
async function atSize(plan: GrowthPlan, series: Series, size: number): Promise<Point[]> {
  const times: Map<string, { mode: string; series: string; us: number[]; bytes: number }> =
    new Map();
  const made = { disk: join(plan.folder, 'growth'), tmpfs: join(plan.tmpfs, 'growth') };
  for (const path of Object.values(made)) mkdirSync(path);
  const work: Ground['work'] = async (...words) => {
    const output = await run(plan.work, words.map(String), { timeoutMs: STEP_MS });
    return Number(output.split(' ', 1)[0]);
  };
  try {
    const ground = { work, ...made };
    const lower = await series.lower({ ...ground, told: () => undefined }, size);
    const peers = plan.peers.slice(0, series.isOurs === true ? 1 : undefined);
    for (let round = 0; round < (size >= IS_LONG ? 1 : plan.rounds); round++) {
      for (const peer of peers) {
        interruption.signal.throwIfAborted();
        await withPlace(peer, lower, plan.tmpfs, async (place) => {
          const told = (name: string, nanoseconds: number) => {
            const key = `${peer.name} ${name}`;
            const one = times.get(key) ?? { mode: peer.name, series: name, us: [], bytes: 0 };
            one.us.push(nanoseconds / 1000);
            one.bytes = Math.max(one.bytes, place.usage().bytes);
            times.set(key, one);
          };
          await series.visit({ ...ground, told }, place, size);
        }).catch((error: unknown) => {
          if (!(error instanceof CannotDo)) throw error;
          plan.say(`${peer.name} cannot do ${series.name} of ${size}: ${error.message}`);
        });
      }
    }
  } finally {
    for (const path of Object.values(made)) rmSync(path, { recursive: true, force: true });
  }
  return [...times.values()].map(({ us, bytes, ...rest }) => ({
    ...rest,
    size,
    us: short(median(us)),
    growth: 1,
    rss_mib: short(bytes / MIB),
  }));
}

/** A line for each size, with ours and the peers side by side. */
export function growthTable(points: readonly Point[]): string {
  const modes = [...new Set(points.map(({ mode }) => mode))];
  const lines = [
    'microseconds of one operation (by the smallest size); ! more than 1.5 times that',
    `${'series'.padEnd(14)}${'size'.padStart(12)}   MiB${modes.map((mode) => `  ${mode}`.padEnd(24)).join('')}`,
  ];
  for (const name of new Set(points.map(({ series }) => series))) {
    const own = points.filter(({ series }) => series === name);
    for (const size of new Set(own.map((point) => point.size))) {
      const cells = modes.map((mode) => {
        const point = own.find((one) => one.mode === mode && one.size === size);
        if (point === undefined) return '  -'.padEnd(24);
        return `  ${point.us} (${point.growth}${point.growth > 1.5 ? ' !' : ''})`.padEnd(24);
      });
      const mib = own.find((one) => one.mode === modes[0] && one.size === size)?.rss_mib ?? 0;
      lines.push(
        `${name.padEnd(14)}${String(size).padStart(12)}${String(Math.round(mib)).padStart(6)}${cells.join('').trimEnd()}`,
      );
    }
  }
  return lines.join('\n');
}

function short(value: number): number {
  return Number(value.toPrecision(3));
}
