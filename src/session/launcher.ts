/** Starts sessions. */
import type { Session } from './session.ts';

/** A path as node:fs takes it: text, or bytes when it is not UTF-8. */
export type HostPath = string | Buffer;

export interface UnlockOptions {
  /** The directories to show, topmost first. At least one. */
  source: HostPath[];
  /** Where to mount; the source itself (in place) when there is one source and this is left out. */
  mountpoint?: HostPath;
  /** How much the session may hold: `50%` (of RAM or the memory cgroup; the default), or bytes as `512M`, `2G`. */
  size?: string;
  /** The session's name: the mountpoint's last component when left out, with a number when taken. */
  name?: string;
  /** Hard links of the source: links that stay links, or a file of its own for each name. */
  links?: 'shared' | 'separate';
  /** Ties the session to this process: it ends when this process does. See `Session.ended`. */
  foreground?: boolean;
  /** Honour setuid bits (root only; default true for root). */
  suid?: boolean;
  /** Honour device nodes (root only; default true for root). */
  dev?: boolean;
  /** Told of everything that deserves a word but does not stop the session, one line each. */
  onWarning?: (message: string) => void;
}

/**
 * Starts a session, and returns when its mount answers.
 *
 * @throws UsageError for what can only be a mistake of the caller: a bad size, a bad name, no source.
 * @throws SessionError when the session cannot start; nothing is left behind.
 */
export async function unlock(_options: UnlockOptions): Promise<Session> {
  throw new Error('not yet');
}
