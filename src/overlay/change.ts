/** What is told of one path that a session has changed, and what may be asked. */
import type { Name } from '../layers/layer.ts';
import type { Difference } from './difference.ts';

export interface Change {
  /** Added, modified, deleted, renamed. */
  kind: 'A' | 'M' | 'D' | 'R';
  /** A byte string from the root of the tree, beginning with '/'. */
  path: string;
  /** S_IFMT bits, size in bytes and mode as they are now; as they were, for D. */
  type: number;
  size: number;
  mode: number;
  /** M and R only: as they were. */
  typeBefore?: number;
  sizeBefore?: number;
  modeBefore?: number;
  /** Where it was, if not at `path`: of R, and of M in a directory that was renamed. */
  from?: string;

  /** With `by` only: who last changed it; `null`: that is not recorded (any more). */
  by?: By | null;

  // With details only; the last three of M and R.
  owner?: Owner;
  mtime?: Time;
  changed?: Difference[];
  /** As they were. */
  ownerBefore?: Owner;
  mtimeBefore?: Time;
  /** Of the extended attributes that `changed` speaks of. */
  xattrs?: Name[];
}

export interface ChangeCount {
  changes: number;
  /** There are more: to count all would have kept the filesystem waiting for too long. */
  moreChanges: boolean;
}

/** A change, and who made it: the kernel does not say when it writes mapped pages, and a process may not be seen. */
export interface By {
  /** Milliseconds since 1970. */
  timeMs: number;
  uid?: number;
  gid?: number;
  pid?: number;
  /** As in /proc/PID/comm, a byte string of at most 15. */
  program?: string;
}

/** @param number  of the file, 0 when it has gone; `dir` that of the directory that `name` is or was in. */
export type ByFinder = (number: number, dir: number, name: Name) => By | undefined;

export type Owner = [uid: number, gid: number];
export type Time = [sec: number, nsec: number];

export interface ChangeOptions {
  /** Say what of a file has changed. */
  details?: boolean;
  /** Files whose times alone have changed are changes, too. With `details`. */
  times?: boolean;
  /** Say who last changed each path. */
  by?: boolean;
  /** What is at another path now is one change, instead of two. */
  renames?: boolean;
  /** List what was in removed directories as well. */
  all?: boolean;
  /** Only what is at or below one of these. */
  paths?: readonly string[];
}
