/**
 * Snapshots that a command is looking at. Entries are told in parts; contents as descriptors of this process with runs of
 * bytes in them, which the command opens through /proc, so that no byte of them passes here.
 */
import { Segments } from '../layers/layer.ts';
import type { Native } from '../native.ts';
import type { ChangeOptions } from '../overlay/change.ts';
import type { Compared } from '../overlay/comparison.ts';
import type { SnapshotEntry } from '../overlay/snapshot.ts';
import type { WorkerData } from './worker-data.ts';

/** Told in one answer. */
const CHUNK = 2048;
/** Numbers of a file's runs that are told with its entry. */
const HELD_MAX = 24;
/** Looked at once, of which more than one is a rarity. */
const SNAPSHOTS_MAX = 4;

/** A `Snapshot` or a `Comparison`. */
interface AnySnapshot {
  readonly entries: readonly (SnapshotEntry | Compared)[];
  /** What whoever took it is told at once. */
  readonly totals: object;
  content(id: number, offset: number, length: number, into: Segments): number;
  isFrozen?(id: number): boolean;
  release(): void;
}

/** What they are taken of. */
interface Taken {
  snapshot(): AnySnapshot;
  comparison(options: ChangeOptions): AnySnapshot;
}

interface Begun {
  snapshot: number;
  entries: number;
  lowers: readonly number[];
}

/** A part of a file: (descriptor, offset, length) triples, descriptor -1 for zeros. */
export interface ContentAnswer {
  segments: number[];
  /** The file's, in bytes. */
  size: number;
}

interface Open {
  snapshot: AnySnapshot;
  /** Duplicates that the last answer named. */
  fds: number[];
}

export class Snapshots {
  readonly #native: Native;
  readonly #overlay: Taken;
  /** Descriptors of those that are directories, topmost first. */
  readonly #lowers: readonly number[];
  /** The arena of the memory upper: its reads never end, so it needs no duplicate. */
  readonly #memoryFd: number;
  readonly #open: Map<number, Open> = new Map();
  readonly #segments: Segments = new Segments();
  #last = 0;

  constructor(
    native: Native,
    { lowers, arenaFd }: Pick<WorkerData, 'lowers' | 'arenaFd'>,
    overlay: Taken,
  ) {
    this.#overlay = overlay;
    this.#lowers = lowers.flatMap((lower) => (lower.kind === 'directory' ? [lower.fd] : []));
    this.#native = native;
    this.#memoryFd = arenaFd;
  }

  /** @returns its number, and how much there is to look at. */
  begin(): Begun {
    return this.#begin(() => this.#overlay.snapshot());
  }

  /** As `begin`; its entries are `Compared`. */
  compare(options: ChangeOptions): Begun {
    return this.#begin(() => this.#overlay.comparison(options));
  }

  #begin(take: () => AnySnapshot): Begun {
    const [oldest] = this.#open.keys();
    if (oldest !== undefined && this.#open.size >= SNAPSHOTS_MAX) this.end(oldest);
    const snapshot = take();
    this.#open.set(++this.#last, { snapshot, fds: [] });
    return {
      snapshot: this.#last,
      entries: snapshot.entries.length,
      ...snapshot.totals,
      lowers: this.#lowers,
    };
  }

  /**
   * Entries from the `from`th on; values of attributes are in base64. A small file that lies in the arena alone comes with
   * its runs, `held`, which stay as they are: nothing more has to be asked about it.
   */
  entries(id: number, from: number): object[] {
    const { snapshot } = this.#find(id);
    return snapshot.entries.slice(from, from + CHUNK).map((entry) => {
      if (!('xattrs' in entry)) return entry;
      const { content, xattrs } = entry;
      return {
        ...entry,
        xattrs: xattrs.map(({ name, value }) => [name, Buffer.from(value).toString('base64')]),
        held: content === undefined ? undefined : this.#heldOf(snapshot, content),
      };
    });
  }

  #heldOf(snapshot: AnySnapshot, file: number): number[] | undefined {
    if (snapshot.isFrozen?.(file) !== true) return undefined;
    this.#segments.clear();
    snapshot.content(file, 0, Number.MAX_SAFE_INTEGER, this.#segments);
    const { count, values } = this.#segments;
    if (3 * count > HELD_MAX) return undefined;
    const held = Array.from(values.subarray(0, 3 * count));
    const isHere = held.every((fd, at) => at % 3 !== 0 || fd === -1 || fd === this.#memoryFd);
    return isHere ? held : undefined;
  }

  /**
   * The descriptors are good until the next question about this snapshot.
   *
   * @param isCopied  the bytes are to be a copy, made before the next request of the kernel is served.
   */
  content(
    id: number,
    file: number,
    offset: number,
    length: number,
    isCopied: boolean,
  ): ContentAnswer {
    const open = this.#find(id);
    this.#close(open);
    this.#segments.clear();
    const size = open.snapshot.content(file, offset, length, this.#segments);
    if (isCopied) return { segments: this.#copied(open), size };
    const duplicates = new Map<number, number>();
    const segments = Array.from(this.#segments.values.subarray(0, 3 * this.#segments.count));
    for (let at = 0; at < segments.length; at += 3) {
      const fd = segments[at] ?? -1;
      if (fd === -1 || fd === this.#memoryFd) continue;
      let duplicate = duplicates.get(fd);
      if (duplicate === undefined) {
        duplicate = this.#native.dup(fd);
        if (duplicate < 0) throw new Error(`cannot keep a file open: errno ${-duplicate}`);
        duplicates.set(fd, duplicate);
        open.fds.push(duplicate);
      }
      segments[at] = duplicate;
    }
    return { segments, size };
  }

  #copied(open: Open): number[] {
    const fd = this.#native.memfd('ostree-ts-copy');
    if (fd < 0) throw new Error(`no memory for a copy: errno ${-fd}`);
    open.fds.push(fd);
    let at = 0;
    for (let i = 0; i < this.#segments.count; i++) {
      const [from = -1, offset = 0, length = 0] = this.#segments.values.subarray(3 * i, 3 * i + 3);
      if (from >= 0) this.#copy(from, offset, fd, at, length);
      at += length;
    }
    this.#native.ftruncate(fd, at);
    return [fd, 0, at];
  }

  /** Up to the end of what is copied, which the kernel may have moved. */
  #copy(from: number, offset: number, to: number, at: number, length: number): void {
    for (let done = 0; done < length;) {
      const copied = this.#native.copyRange(from, offset + done, to, at + done, length - done);
      if (copied < 0) throw new Error(`a file cannot be copied: errno ${-copied}`);
      if (copied === 0) return;
      done += copied;
    }
  }

  /** Nothing when it has ended already. */
  end(id: number): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#open.delete(id);
    this.#close(open);
    open.snapshot.release();
  }

  #find(id: number): Open {
    const open = this.#open.get(id);
    if (open === undefined) throw new Error('this snapshot has ended; begin again');
    return open;
  }

  #close(open: Open): void {
    for (const fd of open.fds.splice(0)) this.#native.close(fd);
  }
}
