/**
 * A snapshot of a session, as a command reads it: entries by the control socket, bytes through descriptors of the daemon
 * (/proc/PID/fd), so that neither the daemon's threads nor the mount have a part in it.
 */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { check, SessionError } from '../errors.ts';
import type { ContentAnswer } from '../fuse/snapshots.ts';
import { native, STAT, STAT_FIELDS, type ByteString } from '../native.ts';
import type { ChangeOptions } from '../overlay/change.ts';
import type { Compared } from '../overlay/comparison.ts';
import { errnoName } from '../ostree/failures.ts';
import type { SnapshotEntry } from '../overlay/snapshot.ts';
import { type Control, daemonGone } from './control.ts';

const { errno } = constants;
const ANSWER_MS = 60_000;
/** To look at all that has changed. */
const TAKE_MS = 600_000;
const AT_EMPTY_PATH = 0x1000;
const O_RDONLY = 0;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;
/** Asked for at a time: of a file that was written here and there, this may be thousands of runs. */
const RANGE = 32 * 1024 * 1024;
const CHUNK = 256 * 1024;
/** A change of a file that is younger than this may be followed by another with the same time: two ticks of a slow kernel. */
const TICK_MS = 20;
/** Reads of a file that goes on changing, before the daemon is asked to copy it. */
const TRIES = 3;

type ContentData = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

interface Taken {
  snapshot: number;
  entries: number;
  lowers: number[];
  // Of a snapshot.
  files?: number;
  bytes?: number;
  // Of a comparison.
  changes?: number;
}

export class SnapshotReader implements AsyncDisposable {
  readonly #control: Control;
  /** The daemon's directory of descriptors: never that of a later process of the same number. */
  readonly #descriptors: number;
  readonly #taken: Taken;
  readonly #isLive: boolean;
  /** Our own descriptors of what entries name. */
  #ended: Promise<void> | undefined;
  readonly #held: Map<number, number> = new Map();

  private constructor(control: Control, descriptors: number, taken: Taken, isLive: boolean) {
    this.#control = control;
    this.#descriptors = descriptors;
    this.#taken = taken;
    this.#isLive = isLive;
  }

  /**
   * @param pid  of the daemon.
   * @param isLive  the upper cannot keep contents: they are those of the moment when they are read.
   */
  static async take(control: Control, pid: number, isLive: boolean): Promise<SnapshotReader> {
    return SnapshotReader.#begin(control, pid, isLive, 'snapshot', {});
  }

  /** As `take`; what is read is `compared` then, instead of `entries`. */
  static async compare(
    control: Control,
    pid: number,
    isLive: boolean,
    options: Pick<ChangeOptions, 'paths' | 'renames'>,
  ): Promise<SnapshotReader> {
    return SnapshotReader.#begin(control, pid, isLive, 'comparison', options);
  }

  static async #begin(
    control: Control,
    pid: number,
    isLive: boolean,
    call: string,
    args: object,
  ): Promise<SnapshotReader> {
    const descriptors = native.open(`/proc/${pid}/fd`, O_PATH | O_DIRECTORY, 0);
    try {
      // Whoever answers after that was alive when its directory was opened.
      const taken = await control.call<Taken>(call, args, TAKE_MS);
      if (descriptors < 0) throw unreadable(descriptors);
      return new SnapshotReader(control, descriptors, taken, isLive);
    } catch (error) {
      if (descriptors >= 0) native.close(descriptors);
      throw error;
    }
  }

  /** Changes that were compared, files or not. */
  get changes(): number {
    return this.#taken.changes ?? 0;
  }

  /** Regular files whose contents may differ from the lowers'. */
  get files(): number {
    return this.#taken.files ?? 0;
  }

  /** That those files have together. */
  get bytes(): number {
    return this.#taken.bytes ?? 0;
  }

  async *entries(): AsyncGenerator<SnapshotEntry> {
    for await (const entry of this.#entries<
      Omit<SnapshotEntry, 'xattrs'> & { xattrs: [ByteString, string][] }
    >()) {
      const xattrs = entry.xattrs.map(([name, value]) => ({
        name,
        value: Buffer.from(value, 'base64'),
      }));
      yield { ...entry, xattrs };
    }
  }

  compared(): AsyncGenerator<Compared> {
    return this.#entries<Compared>();
  }

  async *#entries<T>(): AsyncGenerator<T> {
    const { snapshot, entries } = this.#taken;
    for (let from = 0; from < entries;) {
      const question = { snapshot, from };
      const part = await this.#control.call<T[]>('snapshot-entries', question, ANSWER_MS);
      if (part.length === 0) throw new Error('the daemon has told less than it has promised');
      from += part.length;
      yield* part;
    }
  }

  /** Opens a lower that is a directory. @param layer  which, topmost first. */
  openLower(layer: number): number {
    return this.#open(this.#taken.lowers[layer] ?? -1, O_PATH | O_DIRECTORY);
  }

  /**
   * Has `use` read a file, and again if the file was changed under it.
   *
   * @param entry  of a regular file.
   */
  async read<T>(
    { content: file = -1, held }: Pick<SnapshotEntry, 'content' | 'held'>,
    use: (data: ContentData) => Promise<T>,
  ): Promise<T> {
    if (held !== undefined) return use(whole(held, this.#openHeld(held)));
    if (!this.#isLive) return use(this.#kept(file));
    for (let tries = 0; tries < TRIES; tries++) {
      const content = await this.#ask(file, 0, Number.MAX_SAFE_INTEGER);
      const opened = this.#openAll(content);
      try {
        const before = await settled(opened);
        // The daemon answers between two requests: whatever write had begun before is over then.
        await this.#ask(file, 0, 0);
        if (changeTime(opened) !== before) continue;
        const result = await use(streamed(content.segments, opened));
        if (changeTime(opened) === before) return result;
      } finally {
        closeAll(opened);
      }
    }
    return use(this.#kept(file, true));
  }

  /** @param isCopied  the daemon is to copy the file at one instant. */
  async *#kept(file: number, isCopied: boolean = false): AsyncGenerator<Uint8Array> {
    if (isCopied) {
      const content = await this.#ask(file, 0, Number.MAX_SAFE_INTEGER, true);
      const opened = this.#openAll(content);
      try {
        yield* whole(content.segments, opened);
      } finally {
        closeAll(opened);
      }
      return;
    }
    for (let offset = 0; ; offset += RANGE) {
      const content = await this.#ask(file, offset, RANGE);
      const opened = this.#openAll(content);
      try {
        yield* whole(content.segments, opened);
      } finally {
        closeAll(opened);
      }
      if (offset + RANGE >= content.size) return;
    }
  }

  #ask(file: number, offset: number, length: number, copy?: true): Promise<ContentAnswer> {
    const { snapshot } = this.#taken;
    const question = { snapshot, file, offset, length, copy };
    return this.#control.call('snapshot-content', question, ANSWER_MS);
  }

  /** Our own descriptors of what an answer names, before the daemon closes its. */
  #openAll({ segments }: ContentAnswer): Map<number, number> {
    const opened = new Map<number, number>();
    try {
      for (let at = 0; at < segments.length; at += 3) {
        const fd = segments[at] ?? -1;
        if (fd >= 0 && !opened.has(fd)) opened.set(fd, this.#open(fd, O_RDONLY));
      }
      return opened;
    } catch (error) {
      closeAll(opened);
      throw error;
    }
  }

  #openHeld(segments: readonly number[]): Map<number, number> {
    for (let at = 0; at < segments.length; at += 3) {
      const fd = segments[at] ?? -1;
      if (fd >= 0 && !this.#held.has(fd)) this.#held.set(fd, this.#open(fd, O_RDONLY));
    }
    return this.#held;
  }

  #open(fd: number, flags: number): number {
    const opened = native.open(`/proc/self/fd/${this.#descriptors}/${fd}`, flags, 0);
    if (opened >= 0) return opened;
    // It keeps open what it has told of, for as long as it is there.
    if (opened === -errno.ENOENT || opened === -errno.ESRCH) {
      throw daemonGone(this.#control.greeting.name);
    }
    throw unreadable(opened);
  }

  /** Lets go of the snapshot, of which nothing can be read any more. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    const { snapshot } = this.#taken;
    closeAll(this.#held);
    native.close(this.#descriptors);
    // A daemon that has gone holds nothing.
    await this.#control.call('snapshot-end', { snapshot }, ANSWER_MS).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }
}

function unreadable(result: number): SessionError {
  return new SessionError(
    `the files of the session cannot be read: ${errnoName(result)}`,
    'run this as the user who started the session',
  );
}

function closeAll(opened: Map<number, number>): void {
  for (const fd of opened.values()) native.close(fd);
  opened.clear();
}

/** The bytes of (descriptor, offset, length) triples, in chunks of their own. */
function* streamed(
  segments: readonly number[],
  opened: Map<number, number>,
): Generator<Uint8Array> {
  for (let at = 0; at < segments.length; at += 3) {
    const fd = opened.get(segments[at] ?? -1);
    const offset = segments[at + 1] ?? 0;
    const length = segments[at + 2] ?? 0;
    for (let done = 0; done < length;) {
      const chunk = Buffer.alloc(Math.min(CHUNK, length - done));
      if (fd !== undefined) {
        const got = native.pread(fd, chunk, offset + done);
        if (got < 0) {
          throw new SessionError(
            `a file of the session cannot be read: ${errnoName(got)}`,
            'look at the kernel log and at the disk that the changes or the source are on',
          );
        }
        // Cut off meanwhile, which its change time tells.
        if (got === 0) return;
        yield chunk.subarray(0, got);
        done += got;
        continue;
      }
      yield chunk;
      done += chunk.length;
    }
  }
}

/** As `streamed`, of bytes that nobody should change. @throws SessionError somebody has. */
function* whole(segments: readonly number[], opened: Map<number, number>): Generator<Uint8Array> {
  let left = 0;
  for (let at = 2; at < segments.length; at += 3) left += segments[at] ?? 0;
  for (const chunk of streamed(segments, opened)) {
    left -= chunk.length;
    yield chunk;
  }
  if (left === 0) return;
  throw new SessionError(
    'a file of the source has become shorter than the session has seen it',
    'put back what was changed in the source: it must stay as it is while a session is over it',
  );
}

/** The change times of files, as one value. */
function changeTime(opened: Map<number, number>): string {
  const stat = new Float64Array(STAT_FIELDS);
  return Array.from(opened.values(), (fd) => {
    check(native.statx(fd, '', AT_EMPTY_PATH, stat));
    return `${stat[STAT.CTIME_SEC]}.${stat[STAT.CTIME_NSEC]}.${stat[STAT.SIZE]}`;
  }).join(' ');
}

/** Waits until the files' last change is long enough ago for the next to show in their times. */
async function settled(opened: Map<number, number>): Promise<string> {
  const stat = new Float64Array(STAT_FIELDS);
  let newest = 0;
  for (const fd of opened.values()) {
    check(native.statx(fd, '', AT_EMPTY_PATH, stat));
    const ms = (stat[STAT.CTIME_SEC] ?? 0) * 1000 + (stat[STAT.CTIME_NSEC] ?? 0) / 1e6;
    newest = Math.max(newest, ms);
  }
  const age = Date.now() - newest;
  if (age >= 0 && age < TICK_MS) await sleep(TICK_MS - age);
  return changeTime(opened);
}
