/** Processes, as /proc shows them. A pid alone may by now be another process: with its start time it never is. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';

/** For a keeper whose daemon serves the last files. */
const END_MS = 10_000;

/** A process for ever: pid and start time (field 22 of /proc/PID/stat, in clock ticks since boot). */
export interface ProcessId {
  pid: number;
  start: number;
}

interface Stat {
  /** The name in parentheses; a byte string. */
  comm: string;
  /** `Z` and `X` are dead. */
  state: string;
  parent: number;
  start: number;
}

/** `undefined` when there is no such process. */
export function readStat(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name may hold spaces and parentheses, so fields are counted from the last one.
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const fields = text.slice(close + 2).split(' ');
  return {
    comm: text.slice(open + 1, close),
    state: fields[0] ?? 'X',
    parent: Number(fields[1]),
    start: Number(fields[19]),
  };
}

export function isAlive({ pid, start }: ProcessId): boolean {
  const stat = pid > 0 ? readStat(pid) : undefined;
  return stat !== undefined && stat.start === start && stat.state !== 'Z' && stat.state !== 'X';
}

export function self(): ProcessId {
  return { pid: process.pid, start: readStat(process.pid)?.start ?? 0 };
}

/** This process, its parent, and so on up. */
export function selfAndAncestors(): Set<number> {
  const pids = new Set<number>();
  for (let pid = process.pid; pid > 0 && !pids.has(pid); pid = readStat(pid)?.parent ?? 0) {
    pids.add(pid);
  }
  return pids;
}

/** Sends a signal to a process that is still the one meant. @returns false when it has gone or is not ours. */
export function signal(id: ProcessId, name: NodeJS.Signals): boolean {
  if (!isAlive(id)) return false;
  try {
    return process.kill(id.pid, name);
  } catch {
    return false;
  }
}

/** Waits for the end of a process, not for ever. */
export async function exit(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await Promise.race([
    new Promise((resolve) => child.once('exit', resolve)),
    sleep(END_MS, undefined, { ref: false }),
  ]);
}
