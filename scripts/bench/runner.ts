/** Runs groups of rows over all peers, in rounds A B A B, and collects what it took. */
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Inputs } from './inputs.ts';
import { type Peer, type Place, withPlace } from './peers.ts';
import { CannotDo, interruption, run, WORK_ENV } from './process.ts';
import type { Bench, Group, State, Words } from './group.ts';

/** One row, done once. */
export interface Sample {
  row: string;
  state: State;
  /** Whose it is: a mode of ours, or a peer. */
  peer: string;
  round: number;
  ms: number;
  /** Of the process that serves the mount. */
  cpuMs: number;
  bytes: number;
}

/** Why a peer is missing from a group's rows. */
export interface Failure {
  group: string;
  peer: string;
  reason: string;
}

export interface Plan {
  inputs: Inputs;
  groups: readonly Group[];
  /** Ours, and the others. */
  modes: readonly Peer[];
  peers: readonly Peer[];
  rounds: number;
  /** Nothing is begun that would not be done by then; milliseconds as Date.now() gives them. */
  deadline: number;
  /** A tmpfs, for uppers. */
  tmpfs: string;
  say: (words: string) => void;
}

export interface Results {
  samples: Sample[];
  failures: Failure[];
  /** Rounds that were begun, and whether time ran out. */
  rounds: number;
  isCut: boolean;
}

/** What one visit of a peer to a group gave. */
interface Visit {
  samples: Omit<Sample, 'peer' | 'round'>[];
  /** What each piece of work says of what it saw: equal for all peers. */
  seen: string[];
}

/** A visit may take this much longer than the last one of its kind, and still be begun. */
const MARGIN = 1.2;

export class Runner {
  readonly #plan: Plan;
  readonly #results: Results = { samples: [], failures: [], rounds: 0, isCut: false };
  /** By group: what was seen by the first who did it. */
  readonly #seen: Map<string, { peer: string; seen: string[] }> = new Map();
  /** By group: how long all peers together took in the last round. */
  readonly #took: Map<string, number> = new Map();
  readonly #parent: number = process.ppid;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  async run(): Promise<Results> {
    const { rounds, groups, say } = this.#plan;
    await this.#warmUp();
    for (let round = 0; round < rounds; round++) {
      if (this.#results.isCut) break;
      this.#results.rounds++;
      for (const group of groups) {
        // The first round is done to its end: without it a row would have no figure.
        const expected = (this.#took.get(group.name) ?? 0) * MARGIN;
        if (round > 0 && Date.now() + expected > this.#plan.deadline) {
          this.#results.isCut = true;
          continue;
        }
        say(`round ${round + 1}: ${group.rows.map(({ name }) => name).join(', ')}`);
        await this.#round(group, round);
      }
    }
    return this.#results;
  }

  /** Starts everyone once. */
  async #warmUp(): Promise<void> {
    const { inputs, tmpfs, modes, peers, say } = this.#plan;
    say('warming up');
    const { lower } = inputs;
    for (const peer of [...modes, ...peers]) {
      await withPlace(peer, lower, tmpfs, (place) =>
        run(inputs.work, ['execute', `${place.root}/bin/true`, '3']),
      ).catch(tolerate);
    }
  }

  /** Everyone does the group once; who begins changes from round to round. */
  async #round(group: Group, round: number): Promise<void> {
    const start = Date.now();
    const { modes, peers } = group.among ?? this.#plan;
    const everyone = [...modes, ...peers].filter(
      ({ name }) =>
        !(group.changesLower === true && name === 'plain') && !this.#hasFailed(group, name),
    );
    const shift = round % everyone.length;
    for (const peer of [...everyone.slice(shift), ...everyone.slice(0, shift)]) {
      interruption.signal.throwIfAborted();
      if (process.ppid !== this.#parent) throw new Error('whoever cleans up has gone');
      try {
        const { inputs } = this.#plan;
        const { work } = inputs;
        const lower = (await group.lower?.(inputs)) ?? inputs.lower;
        // Others may have needed the memory meanwhile.
        const words = group.warm?.(inputs).map(String);
        if (words !== undefined) await run(work, words, { env: WORK_ENV });
        const visit = await withPlace(peer, lower, this.#plan.tmpfs, (place) =>
          this.#visit(group, peer, place),
        );
        this.#compare(group, peer.name, visit.seen);
        for (const sample of visit.samples) {
          this.#results.samples.push({ ...sample, peer: peer.name, round });
        }
      } catch (error) {
        tolerate(error);
        // A terminal interrupts the work as well, and that may be told first.
        await setImmediate();
        interruption.signal.throwIfAborted();
        const reason = error instanceof Error ? error.message : String(error);
        this.#results.failures.push({ group: group.name, peer: peer.name, reason });
        this.#plan.say(`${peer.name} cannot do ${group.name}: ${reason}`);
      }
    }
    this.#took.set(group.name, Date.now() - start);
  }

  #hasFailed(group: Group, name: string): boolean {
    return this.#results.failures.some(({ group: other, peer }) => {
      return other === group.name && peer === name;
    });
  }

  async #visit(group: Group, peer: Peer, place: Place): Promise<Visit> {
    const { inputs } = this.#plan;
    const visit: Visit = { samples: [], seen: [] };
    const work = async (words: Words): Promise<number> => {
      const output = await run(inputs.work, words.map(String), { env: WORK_ENV });
      const [nanoseconds, seen = ''] = output.trim().split(' ');
      visit.seen.push(seen);
      return Number(nanoseconds) / 1e6;
    };
    const bench: Bench = {
      inputs,
      place,
      timed: async (row, state, ...words) => {
        const before = place.usage();
        const ms = await work(words);
        const after = place.usage();
        const cpuMs = after.cpuMs - before.cpuMs;
        visit.samples.push({ row, state, ms, cpuMs, bytes: after.bytes });
      },
      untimed: async (...words) => {
        await work(words);
      },
      rest: () => setTimeout(this.#plan.modes.includes(peer) ? inputs.scale.restMs : 0),
    };
    await group.run(bench);
    return visit;
  }

  /** @throws CannotDo when other work was done than by whoever came first. */
  #compare(group: Group, peer: string, seen: string[]): void {
    const first = this.#seen.get(group.name);
    if (first === undefined) {
      this.#seen.set(group.name, { peer, seen });
      return;
    }
    const at = seen.findIndex((sum, index) => sum !== first.seen[index]);
    if (at !== -1) {
      throw new CannotDo(`step ${at + 1} saw ${seen[at]}, that of ${first.peer} ${first.seen[at]}`);
    }
  }
}

/** What a peer cannot do is told; anything else ends the benchmark. */
function tolerate(error: unknown): void {
  if (!(error instanceof CannotDo)) throw error;
}
