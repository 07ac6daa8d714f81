/** How busy a session is: its daemon is asked twice, and what has been served meanwhile is told by the second. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Statistics } from '../fuse/control.ts';
import type { OperationStatistics } from '../fuse/statistics.ts';
import { Control } from './control.ts';
import { ANSWER_MS } from './status.ts';

export interface OperationRate extends OperationStatistics {
  /** Requests a second, while it was looked. */
  perSecond: number;
}

export interface SessionStatistics {
  /** How long was looked. */
  seconds: number;
  /** Requests of all kinds a second, while it was looked. */
  perSecond: number;
  /** Since the start of the session, by name of the operation. With fuse-native nothing is timed. */
  operations: Record<string, OperationRate>;
  /** Files that the kernel knows, each with what it takes in the daemon. */
  inodes: number;
  /** Files and directories in the upper; their bytes, by the formula of the limit. */
  nodes: number;
  used: number;
  limit: number;
  /** Bytes that programs have written, and bytes copied from the source to keep what they wrote whole. */
  bytesWritten: number;
  bytesCopied: number;
  /** Memory of the daemon that is in RAM, files that it holds not counted; `null` when it cannot be seen. */
  daemonBytes: number | null;
}

/** @throws SessionError the daemon does not answer, or knows no such question. */
export async function measure(folder: string, overMs: number): Promise<SessionStatistics> {
  using control = await Control.open(folder, ANSWER_MS);
  const ask = () => control.call<Statistics>('statistics', {}, ANSWER_MS);
  const start = performance.now();
  const before = await ask();
  await sleep(overMs);
  const { operations, ...rest } = await ask();
  const seconds = (performance.now() - start) / 1000;
  const rate = (requests: number) => Math.round((10 * requests) / seconds) / 10;
  const since = (name: string) =>
    (operations[name]?.requests ?? 0) - (before.operations[name]?.requests ?? 0);
  const names = Object.keys(operations);
  return {
    seconds: Math.round(1000 * seconds) / 1000,
    perSecond: rate(names.reduce((sum, name) => sum + since(name), 0)),
    operations: Object.fromEntries(
      Object.entries(operations).map(([name, one]) => [
        name,
        { ...one, perSecond: rate(since(name)) },
      ]),
    ),
    inodes: rest.inodes,
    nodes: rest.nodes,
    used: rest.used,
    limit: rest.limit,
    bytesWritten: rest.bytesWritten,
    bytesCopied: rest.bytesCopied,
    daemonBytes: anonymousBytes(control.greeting.pid),
  };
}

function anonymousBytes(pid: number): number | null {
  try {
    const match = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return match === null ? null : Number(match[1]) * 1024;
  } catch {
    return null;
  }
}
