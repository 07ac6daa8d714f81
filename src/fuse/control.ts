/**
 * What the main thread may ask of the thread that serves the filesystem, which answers between two requests: a name
 * for each question and the function that answers it.
 */
import { FsError } from '../errors.ts';
import type { LateStores } from '../layers/late-stores.ts';
import type { By, ByFinder, Change, ChangeCount, ChangeOptions } from '../overlay/change.ts';
import type { Usage } from '../overlay/overlay.ts';
import type { Undone } from '../overlay/undo.ts';
import type { Server } from './server.ts';
import type { OperationStatistics } from './statistics.ts';
import type { Snapshots } from './snapshots.ts';

/** What is asked about. Before the filesystem is mounted there is no server. */
export interface Subject {
  overlay: {
    changes(options?: ChangeOptions, finder?: ByFinder): Iterable<Change>;
    countChanges(budgetMs: number): ChangeCount;
    usage(): Usage;
  };
  /** Whether it holds what programs have written. */
  late?: Pick<LateStores, 'hasLost'>;
  /** Where it is recorded who changes what. */
  history?: { finder(): ByFinder };
  /** What is broken in the lowers, one line each. */
  problems?: () => string[];
  /** Takes paths back to the lowers, and tells the kernel. */
  undo?: (paths: string[]) => Undone[];
  snapshots?: Snapshots;
  server?: Pick<Server, 'requests' | 'taint' | 'mutations'>;
  /** Whether the kernel knows of all that it did not ask for. */
  isTold?: () => boolean;
  /** Replies that the kernel did not accept. */
  refused?: () => number;
  /** Where requests are timed. */
  operations?: () => Record<string, OperationStatistics>;
}

/** Of the changes: paths that differ from the lower. */
export interface Status extends Usage, ChangeCount {
  /** By opcode. */
  requests: Record<string, number>;
  /** The first bug met. */
  taint?: string;
  warnings: string[];
}

export interface Statistics extends Usage {
  /** Since the start, by name of the operation. */
  operations: Record<string, OperationStatistics>;
}

/** Changes told in one answer. */
const CHUNK = 4096;

/** Listings kept at a time: of askers at once, and of those that went away before the end. */
const LISTINGS_MAX = 4;

/** Longest that the filesystem waits while its changes are counted. */
const COUNT_MS = 50;

/** Part of the limit beyond which a session is nearly full. */
export const NEARLY_FULL = 0.9;

export class Control {
  readonly #subject: Subject;
  /** Listings that are still being told, oldest first. */
  readonly #listings: Map<number, Change[]> = new Map();
  #lastListing = 0;
  #counted: (ChangeCount & { mutations: number }) | undefined;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** @throws Error a question that is not known. */
  answer(call: string, args: unknown): unknown {
    const handler = HANDLERS.get(call);
    if (handler === undefined) throw new Error(`the filesystem knows no '${call}'`);
    return handler(this, args);
  }

  status(): Status {
    const { overlay, server } = this.#subject;
    const status: Status = {
      ...overlay.usage(),
      ...this.#count(),
      requests: server?.requests ?? {},
      warnings: this.#warnings(),
    };
    if (server?.taint !== undefined) status.taint = server.taint;
    return status;
  }

  /** What it takes no looking for: cheap, however large the session is. */
  statistics(): Statistics {
    const { overlay, server, operations } = this.#subject;
    const counted = Object.entries(server?.requests ?? {}).map(
      ([name, requests]) => [name, { requests }] as const,
    );
    return { ...overlay.usage(), operations: operations?.() ?? Object.fromEntries(counted) };
  }

  /** WRITE requests since the start. */
  writes(): number {
    return this.#subject.server?.requests['WRITE'] ?? 0;
  }

  /** Counted again only after a request that may have made a change, since it takes 2 to 30 us for each. */
  #count(): ChangeCount {
    const { overlay, server } = this.#subject;
    const mutations = server?.mutations ?? 0;
    if (this.#counted?.mutations !== mutations) {
      this.#counted = { mutations, ...count(overlay) };
    }
    const { changes, moreChanges } = this.#counted;
    return { changes, moreChanges };
  }

  /**
   * The changes from the `from`th on. A listing is of the moment when its beginning (0) was asked for, whatever happens
   * until its end; `listing` says which is meant when several are under way, without it the last that was begun.
   *
   * @throws Error a listing that is no longer kept.
   */
  diff(
    from: number,
    listing: number,
    options?: ChangeOptions,
  ): { changes: Change[]; done: boolean; listing: number } {
    const id = from === 0 ? this.#begin(options) : listing || this.#lastListing;
    const listed = this.#listings.get(id);
    if (listed === undefined) throw new Error('this listing of changes has ended; begin again');
    const changes = listed.slice(from, from + CHUNK);
    const done = from + CHUNK >= listed.length;
    if (done) this.#listings.delete(id);
    return { changes, done, listing: id };
  }

  /** Lets go of a listing that nobody goes on with. */
  endDiff(listing: number): void {
    this.#listings.delete(listing);
  }

  /** Whether programs see what has been undone. */
  told(): boolean {
    return this.#subject.isTold?.() ?? true;
  }

  /** @throws FsError it cannot be done, and nothing was. */
  undo(paths: string[]): Pick<Undone, 'path' | 'what'>[] {
    const { undo } = this.#subject;
    if (undo === undefined)
      throw new Error('the kernel cannot be told of an undo here (--transport=fuse-native)');
    const undone = undo(paths);
    this.#counted = undefined;
    return undone.map(({ path, what }) => ({ path, what }));
  }

  #begin(options: ChangeOptions | undefined): number {
    const [oldest] = this.#listings.keys();
    if (oldest !== undefined && this.#listings.size >= LISTINGS_MAX) this.#listings.delete(oldest);
    const { overlay, history } = this.#subject;
    const finder = options?.by === true ? (history?.finder() ?? unrecorded) : undefined;
    this.#listings.set(++this.#lastListing, [...overlay.changes(options, finder)]);
    return this.#lastListing;
  }

  /** @throws Error this filesystem takes none, or has not all that it would have to show. */
  get snapshots(): Snapshots {
    const { snapshots, late } = this.#subject;
    if (snapshots === undefined) throw new Error('this filesystem takes no snapshots');
    if (late?.hasLost === true) {
      throw new Error('bytes that programs have written are lost, for want of memory: see the log');
    }
    return snapshots;
  }

  #warnings(): string[] {
    const warnings: string[] = [];
    const { used, limit } = this.#subject.overlay.usage();
    if (used >= NEARLY_FULL * limit) warnings.push(nearlyFull(used, limit));
    warnings.push(...(this.#subject.problems?.() ?? []));
    const refused = this.#subject.refused?.() ?? 0;
    if (refused > 0) warnings.push(`the kernel did not accept ${refused} replies`);
    return warnings;
  }
}

function unrecorded(): By | undefined {
  return undefined;
}

type Handler = (control: Control, args: unknown) => unknown;

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ['status', (control) => control.status()],
  ['statistics', (control) => control.statistics()],
  ['writes', (control) => control.writes()],
  ['told', (control) => control.told()],
  ['snapshot', (control) => control.snapshots.begin()],
  ['comparison', (control, args) => control.snapshots.compare(changeOptions(args))],
  [
    'snapshot-entries',
    ({ snapshots }, args) => snapshots.entries(numberOf(args, 'snapshot'), numberOf(args, 'from')),
  ],
  [
    'snapshot-content',
    ({ snapshots }, args) =>
      snapshots.content(
        numberOf(args, 'snapshot'),
        numberOf(args, 'file'),
        numberOf(args, 'offset'),
        numberOf(args, 'length'),
        typeof args === 'object' && args !== null && Reflect.get(args, 'copy') === true,
      ),
  ],
  ['snapshot-end', ({ snapshots }, args) => snapshots.end(numberOf(args, 'snapshot'))],
  [
    'diff',
    (control, args) =>
      control.diff(numberOf(args, 'from'), numberOf(args, 'listing'), changeOptions(args)),
  ],
  ['diff-end', (control, args) => control.endDiff(numberOf(args, 'listing'))],
  ['undo', (control, args) => control.undo(pathsOf(args))],
]);

/** Paths among the arguments. */
function pathsOf(args: unknown): string[] {
  const paths: unknown =
    typeof args === 'object' && args !== null ? Reflect.get(args, 'paths') : [];
  return Array.isArray(paths) ? paths.filter((path) => typeof path === 'string') : [];
}

function changeOptions(args: unknown): ChangeOptions {
  const has = (key: string) =>
    typeof args === 'object' && args !== null && Reflect.get(args, key) === true;
  return {
    details: has('details'),
    times: has('times'),
    renames: has('renames'),
    all: has('all'),
    by: has('by'),
    paths: pathsOf(args),
  };
}

/** A count among the arguments; 0 when it is not there. */
function numberOf(args: unknown, key: string): number {
  const value: unknown = typeof args === 'object' && args !== null ? Reflect.get(args, key) : 0;
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

export function nearlyFull(used: number, limit: number): string {
  return `the upper is ${Math.floor((100 * used) / limit)} % full`;
}

/** What cannot be looked at leaves it open how many there are. */
function count(overlay: Subject['overlay']): ChangeCount {
  try {
    return overlay.countChanges(COUNT_MS);
  } catch (error) {
    if (error instanceof FsError) return { changes: 0, moreChanges: true };
    throw error;
  }
}
