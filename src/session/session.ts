/** A session as its owner sees it: what the library hands out and the CLI prints. */
import { SessionError } from '../errors.ts';
import type { Holder } from './holders.ts';

/**
 * How a session is:
 * - `ok`: mounted, served, guarded;
 * - `starting`: not mounted yet;
 * - `unguarded`: its keeper is gone; it works, but nobody unmounts it when the daemon dies;
 * - `draining`: no longer mounted; still served to the processes that hold files of it;
 * - `hung`: the daemon lives but does not answer;
 * - `dead`: the daemon is gone; `lock` cleans up.
 */
export type Health = 'ok' | 'starting' | 'unguarded' | 'draining' | 'hung' | 'dead';

export interface SessionStatus {
  name: string;
  /** As typed: several directories are joined by colons, topmost first, a colon in a name is `\:`. */
  source: string;
  mountpoint: string;
  /** What the session is for; `directory`: plain directories. */
  mode: 'directory';
  upper: 'memory';
  /** Bytes held, by the formula of the limit; `null` when the daemon does not answer. */
  used: number | null;
  /** Bytes the session may hold; `null` when the record is damaged. */
  limit: number | null;
  /** Paths that `diff` would list; `null` when the daemon does not answer. */
  changes: number | null;
  /** The daemon's, or `null` when it is gone. */
  pid: number | null;
  /** The keeper's, or `null` when it is gone. */
  keeper: number | null;
  /** ISO 8601, UTC. */
  started: string;
  health: Health;
  /** What is wrong, one line each; empty when nothing is. */
  problems: string[];
  /** The last lines of the session's log; empty unless something is wrong. */
  log: string[];
  /** Requests served since the start, by name of the operation; empty when the daemon does not answer. */
  requests: Record<string, number>;
}

/** One path that differs from the source. */
export interface Change {
  /** Added, modified, deleted. */
  kind: 'A' | 'M' | 'D';
  /** From the root of the mount, starting with '/'. A byte string: one char a byte. */
  path: string;
  /** S_IFMT bits as they are now, or as they were for D. */
  type: number;
  /** Bytes. */
  size: number;
  /** Permission bits and type, as st_mode. */
  mode: number;
  /** For M, when the mode changed. */
  modeBefore?: number;
}

export interface LockResult {
  name: string;
  mountpoint: string;
  /** Paths thrown away; `null` when the daemon could not be asked. */
  changes: number | null;
  /** Bytes thrown away; `null` when the daemon could not be asked. */
  used: number | null;
  /** The base is visible again, but the daemon serves on until the last holder has ended. */
  draining: boolean;
  /** Who still holds it when `draining`. */
  holders: Holder[];
  /** What was found wrong and cleaned up, one line each. */
  found: string[];
}

/** Processes hold the mount, and `lazy` was not asked for. */
export class BusyError extends SessionError {
  override readonly name: string = 'BusyError';
  readonly holders: Holder[];

  constructor(message: string, remedy: string, holders: Holder[]) {
    super(message, remedy);
    this.holders = holders;
  }
}

export class Session implements AsyncDisposable {
  readonly name: string;
  /** As a path for node:fs. */
  readonly mountpoint: string;

  constructor(name: string, mountpoint: string) {
    this.name = name;
    this.mountpoint = mountpoint;
  }

  /** Looks at the mount, the processes and the daemon; never throws for what is wrong with the session, and never hangs. */
  async status(): Promise<SessionStatus> {
    throw new Error('not yet');
  }

  /**
   * What changed, sorted by path; only what is at or below one of `paths` (from the root of the mount) when given.
   *
   * @throws SessionError the daemon is gone or does not answer.
   */
  // eslint-disable-next-line require-yield
  async *diff(_options: { paths?: string[] } = {}): AsyncIterableIterator<Change> {
    throw new Error('not yet');
  }

  /**
   * Ends the session and throws its changes away. Cleans up after a session that is already dead.
   *
   * @throws BusyError processes other than this one and its parents hold the mount, and `lazy` is not set.
   */
  async lock(_options: { lazy?: boolean } = {}): Promise<LockResult> {
    throw new Error('not yet');
  }

  /**
   * Resolves when the session has ended. For a session started with `foreground`, SIGINT and SIGTERM of this process end
   * it meanwhile.
   */
  async ended(): Promise<void> {
    throw new Error('not yet');
  }

  /** Ends the session at once, as `lock({ lazy: true })`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.lock({ lazy: true });
  }
}
