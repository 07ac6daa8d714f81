/**
 * A session as its owner sees it: what the library hands out and the command prints. What not every command needs is
 * loaded when it is called.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SessionError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import type { ApplyOptions, ApplyResult } from './apply.ts';
import { shown } from './checks.ts';
import type { CommitOptions, CommitResult } from './commit.ts';
import { Control } from './control.ts';
import type { ExportOptions, ExportResult } from './export.ts';
import { refuseHotfix, settleAfter } from './deployment-lock.ts';
import type { Change, ChangeOptions } from '../overlay/change.ts';
import type { PatchOptions } from './patch.ts';
import { LiveTree, openRoot } from './live-tree.ts';
import { lock, type LockResult } from './lock.ts';
import { isAlive } from './processes.ts';
import { readRecord, readState, type SessionRecord } from './record.ts';
import { measure, type SessionStatistics } from './statistics.ts';
import { type SessionStatus, statusOf } from './session-status.ts';
import { ANSWER_MS } from './status.ts';
import { undoPaths } from './undo.ts';
import { discardFolder } from './upper.ts';
import { writeOut } from './write-out.ts';

/** A chunk of changes of a large session takes the daemon a while. */
const DIFF_MS = 600_000;
const POLL_MS = 100;

export type { SessionStatus } from './session-status.ts';
export type { By, Change, ChangeOptions } from '../overlay/change.ts';
export type { Difference } from '../overlay/difference.ts';

/** What became of a path. */
export interface Undone {
  path: ByteString;
  /** The source's file is there again; nothing is there, as in the source; it was the source's already. */
  what: 'restored' | 'removed' | 'unchanged';
}

export interface WarningOptions {
  /** Told, in words, that something which programs have stored into mapped pages could not be written to the session. */
  onWarning?: (message: string) => void;
}

export type DiffOptions = ChangeOptions & WarningOptions;

export interface LockOptions {
  /** Give the base back at once, whoever still holds files. */
  lazy?: boolean;
  /** Of a hotfix, which is not ended otherwise: its changes are removed from the deployment; the rollback stays. */
  hotfix?: boolean;
  /** Throw away the changes in a directory, which are kept otherwise; not while files are still held. */
  discard?: boolean;
}

export class Session implements AsyncDisposable {
  readonly name: string;
  /** As a path for node:fs; '' when the session's record is damaged. */
  readonly mountpoint: string;
  /** Where the session's record, log and socket are. */
  readonly folder: string;
  readonly #record: SessionRecord | undefined;
  readonly #keeper: ChildProcess | undefined;

  /** @param keeper  Of a session that is tied to this process. */
  constructor(
    folder: string,
    name: string,
    record: SessionRecord | undefined,
    keeper?: ChildProcess,
  ) {
    this.folder = folder;
    this.name = name;
    this.mountpoint = shown(record?.mountpoint ?? '');
    this.#record = record;
    this.#keeper = keeper;
  }

  /** Looks at the mount, the processes and the daemon; never throws for what is wrong with the session, and never hangs. */
  async status(): Promise<SessionStatus> {
    return await statusOf(this.name, this.folder);
  }

  /**
   * How busy the session is, over so many milliseconds, and what it holds.
   *
   * @throws SessionError the daemon is gone, does not answer, or is of a version that does not count.
   */
  async statistics(overMs: number = 1000): Promise<SessionStatistics> {
    return await measure(this.folder, overMs);
  }

  /**
   * What changed, sorted by path. A removed directory is told alone, and so is what a renamed one still holds.
   *
   * @throws SessionError the daemon is gone or does not answer; something that programs have stored could not be written
   *   to the session, and there is no `onWarning` to be told.
   */
  async *diff({ onWarning, ...options }: DiffOptions = {}): AsyncIterableIterator<Change> {
    await using awake = await this.#wake();
    void awake;
    using control = await Control.open(this.folder, ANSWER_MS);
    await this.#writeOut(control, onWarning);
    const wanted = options.paths ?? [];
    let listing: number | undefined;
    for (let from = 0; ;) {
      const part = await control.call<{ changes: Change[]; done: boolean; listing?: number }>(
        'diff',
        { ...options, from, listing },
        DIFF_MS,
      );
      ({ listing } = part);
      from += part.changes.length;
      yield* part.changes.filter(
        (change) =>
          isWithin(change.path, wanted) ||
          (change.from !== undefined && isWithin(change.from, wanted)),
      );
      if (part.done || part.changes.length === 0) return;
    }
  }

  /**
   * What changed in regular files and symlinks, as a patch: the bytes that `git diff --no-index` would print of the source
   * and the session, for `git apply` and patch(1). All of one instant, as far as the upper can keep that.
   *
   * @returns how many changes there are, those that a patch does not tell of as well.
   * @throws SessionError the daemon is gone or does not answer, or its files cannot be read by this user.
   */
  async *patch(options: PatchOptions = {}): AsyncGenerator<Uint8Array, number> {
    const { paths = [], renames = true } = options;
    await using awake = await this.#wake();
    void awake;
    using control = await Control.open(this.folder, ANSWER_MS);
    const pid = readState(this.folder)?.daemon.pid ?? control.greeting.pid;
    await this.#writeOut(control);
    const isLive = this.#record?.upper !== 'memory';
    const { SnapshotReader } = await import('../extras.ts');
    await using reader = await SnapshotReader.compare(control, pid, isLive, { paths, renames });
    const { patchOf } = await import('../extras.ts');
    return yield* patchOf(reader, options);
  }

  /**
   * Takes paths, as in `Change.path`, back to what the source has; all of them or none, unless room ends in the middle. What is open goes on as if it had
   * been removed. A directory comes back with everything in it.
   *
   * @throws SessionError the source has something else in the way, or a path is in neither; as `diff`, without `onWarning`.
   */
  async undo(paths: ByteString[], { onWarning }: WarningOptions = {}): Promise<Undone[]> {
    using control = await Control.open(this.folder, ANSWER_MS);
    await this.#writeOut(control, onWarning);
    return await undoPaths(control, paths);
  }

  /**
   * Ends the session and throws its changes away. Cleans up after a session that is already dead.
   *
   * @throws BusyError processes other than this one and its parents hold the mount, and `lazy` is not set.
   */
  async lock(options: LockOptions = {}): Promise<LockResult> {
    if (!existsSync(this.folder)) {
      throw new SessionError(
        `session ${this.name} has ended`,
        'see what there is: ostree-ts status',
      );
    }
    const record = this.#record ?? readRecord(this.folder);
    const deployment = record?.deployment;
    if (deployment?.state === 'hotfix' && options.hotfix !== true) refuseHotfix(this.name);
    if (options.discard === true && record?.isForeign === true) {
      throw new SessionError(
        `the changes of session ${this.name} are in ${shown(record.upper)}, which is not ours to empty`,
        'remove that directory when the session has ended',
      );
    }
    const result = await lock(this.folder, this.name, options.lazy ?? false);
    if (deployment !== undefined) {
      result.found.push(...(await settleAfter(deployment, result.draining)));
    } else if (record !== undefined && record.upper !== 'memory' && record.upper !== 'tmpfs') {
      result.kept = options.discard === true && !result.draining ? null : shown(record.upper);
      if (result.kept === null) discardFolder(record.upper);
      else if (options.discard === true) {
        result.found.push(
          `its changes were not discarded, since files of it are held: remove what is in ${result.kept} when it has ended`,
        );
      }
    }
    return result;
  }

  /**
   * Resolves when the session has ended. For a session started with `foreground`, SIGINT and SIGTERM of this process end
   * it meanwhile.
   */
  async ended(): Promise<void> {
    if (this.#keeper === undefined) {
      const daemon = readState(this.folder)?.daemon;
      if (daemon === undefined) return;
      while (isAlive(daemon)) await sleep(POLL_MS);
      return;
    }
    const keeper = this.#keeper;
    const stop = () => {
      this.lock({ lazy: true }).catch(() => keeper.kill('SIGTERM'));
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    try {
      if (keeper.exitCode === null && keeper.signalCode === null) {
        await new Promise((resolve) => keeper.once('exit', resolve));
      }
    } finally {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    }
  }

  /** Ends the session at once, as `lock({ lazy: true })`; nothing when it has ended already, or is made to survive as a hotfix. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#record?.deployment?.state === 'hotfix') return;
    if (existsSync(this.folder)) await this.lock({ lazy: true });
  }

  /** Has a daemon serve what a session has kept, where nobody sees it, until the result is disposed of. */
  async #wake(): Promise<AsyncDisposable> {
    const record = readRecord(this.folder);
    const isKept = readState(this.folder)?.ended?.how === 'kept';
    if (record === undefined || !isKept) return { [Symbol.asyncDispose]: async () => {} };
    // Not needed by sessions that are awake.
    const { awaken } = await import('./run.ts');
    return awaken(record);
  }

  /**
   * Writes what was changed, or all of the tree, to a tar, an OCI layer or an OCI image.
   *
   * @throws SessionError the session cannot be read from here, or changes while it is read; the output cannot be written.
   */
  async export(options: ExportOptions): Promise<ExportResult> {
    const { checkExport, exportTree } = await import('../extras.ts');
    checkExport(options);
    await using awake = await this.#wake();
    void awake;
    using tree = await this.#openTree();
    return await exportTree(tree, () => this.diff(), options);
  }

  /**
   * Replays a layer or tar on the session.
   *
   * @throws ConflictError both sides have changed something, and neither is preferred; nothing was done.
   * @throws SessionError the file is refused, or cannot be applied; nothing was done.
   */
  async apply(options: ApplyOptions): Promise<ApplyResult> {
    const { applyFile } = await import('../extras.ts');
    using tree = await this.#openTree();
    return await applyFile(tree, this.diff(), options);
  }

  async #openTree(): Promise<LiveTree> {
    const record = this.#record;
    if (record === undefined) {
      throw new SessionError(`the record of session ${this.name} is damaged`);
    }
    // Its mount answers when the daemon does.
    using control = await Control.open(this.folder, ANSWER_MS);
    await this.#writeOut(control);
    return LiveTree.open(record, readState(this.folder));
  }

  /**
   * Keeps the session, as it is at this moment, as a commit of a repository; the session goes on.
   *
   * @throws UsageError no repository is named, or a ref that cannot be. SessionError it cannot be committed, and the
   *   repository is as it was.
   */
  async commit(options: CommitOptions): Promise<CommitResult> {
    const record = this.#record;
    if (record === undefined) {
      throw new SessionError(`the record of session ${this.name} is damaged`);
    }
    const { checkCommit, commitSession } = await import('./commit.ts');
    checkCommit(record, options);
    await using awake = await this.#wake();
    void awake;
    using control = await Control.open(this.folder, ANSWER_MS);
    const pid = readState(this.folder)?.daemon.pid ?? control.greeting.pid;
    // While the repository is opened. The kernel tells of a failure once, so it is told whatever else is wrong.
    const written = this.#writeOut(control);
    written.catch(() => {});
    try {
      return await commitSession(record, { control, pid, written }, options);
    } finally {
      await written;
    }
  }

  /**
   * Has what programs have stored into mapped pages written. The daemon has just answered, so this does not wait for ever. A
   * mount that cannot be reached is left alone; its pages are written when they are.
   *
   * @param onWarning  told instead of throwing, by those who only list what is there.
   * @throws SessionError something could not be written, and is not in the session.
   */
  async #writeOut(control: Control, onWarning?: (message: string) => void): Promise<void> {
    if (this.#record === undefined) return;
    const root = openRoot(this.#record, readState(this.folder));
    if (root === undefined) return;
    let unwritten: SessionError | undefined;
    try {
      unwritten = await writeOut(root, control);
    } finally {
      native.close(root);
    }
    if (unwritten === undefined) return;
    if (onWarning === undefined) throw unwritten;
    onWarning(`${unwritten.message}: ${unwritten.remedy}`);
  }
}

function isWithin(path: ByteString, wanted: readonly ByteString[]): boolean {
  return (
    wanted.length === 0 ||
    wanted.some((root) => root === '/' || path === root || path.startsWith(`${root}/`))
  );
}
