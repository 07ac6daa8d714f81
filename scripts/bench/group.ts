/** What a group of rows is: work on one fresh mount, and who does it. */
import { join } from 'node:path';
import type { Inputs } from './inputs.ts';
import type { Part } from './parts.ts';
import type { Peer, Place } from './peers.ts';

/** A workload with its arguments. */
export type Words = readonly (string | number)[];

export type State = 'cold' | 'warm' | '-';

/** What a group may do. */
export interface Bench {
  readonly inputs: Inputs;
  readonly place: Place;
  /** Runs `work` with these words, and counts the time it reports for a row. */
  readonly timed: (row: string, state: State, ...words: Words) => Promise<void>;
  /** The same, counted nowhere. */
  readonly untimed: (...words: Words) => Promise<void>;
  /**
   * Nobody asks a session of ours for anything for a moment, as between two commands that are typed: it compiles what it runs
   * then. The others do nothing at rest.
   */
  readonly rest: () => Promise<void>;
}

export interface Row {
  readonly name: string;
  readonly what: string;
  /** By state: what the ratio to the rival should not exceed. */
  readonly targets: Partial<Record<State, number>>;
  /** The peer whom the targets are about; kernel overlayfs unless given, and everyone where the group has peers of its own. */
  readonly rival?: string;
}

export interface Group {
  readonly name: string;
  readonly rows: readonly Row[];
  /** What it works on. */
  readonly needs: readonly Part[];
  /** What the mount shows; the inputs' lower unless given. */
  lower?(inputs: Inputs): string | Promise<string>;
  /** Who does it, instead of all modes and peers: ours, and whom they are compared with. */
  readonly among?: { modes: readonly Peer[]; peers: readonly Peer[] };
  /** Work on the lower itself that brings what is asked for into memory: done before each visit, and not counted. */
  warm?(inputs: Inputs): Words;
  /** It changes files of the lower: not to be done without a layer over it. */
  readonly changesLower?: boolean;
  run(bench: Bench): Promise<void>;
}

export function row(name: string, what: string, targets: Row['targets']): Row {
  return { name, what, targets };
}

/** Reads all of the small files below `folder`. */
export function filesOf({ scale }: Inputs, folder: string, processes: number): Words {
  return ['small', folder, scale.smallDirs, scale.smallFiles, processes];
}

/** The same, each process a part of them: all of them would wait for the same files, one after another. */
export function partsOf(inputs: Inputs, folder: string, processes: number): Words {
  const [, ...words] = filesOf(inputs, folder, processes);
  return ['small-parts', ...words];
}

/**
 * Names and attributes of the small files are known to everybody then, and the data to nobody. What is no longer in memory was
 * there: files have been read before. The lower comes first, for a mount may show its pages.
 */
export async function evict(
  { inputs, place, untimed }: Bench,
  lower: string,
  ...below: string[]
): Promise<void> {
  const { smallDirs, smallFiles } = inputs.scale;
  await untimed('small', join(place.root, 'small'), Math.min(smallDirs, 10), smallFiles, 1);
  await untimed('evict', join(lower, 'small'), join(place.root, 'small'), ...below);
}
