/** What is told of a session: its record, and how it is. */
import type { UnlockedState } from '../ostree/deployment-state.ts';
import { shown } from './checks.ts';
import { type Health, inspect, logTail } from './status.ts';

export interface SessionStatus {
  name: string;
  /** As typed; of a commit, the revision. Several directories are joined by colons, topmost first, a colon in a name is `\:`, a backslash `\\`. */
  source: string;
  mountpoint: string;
  /** What the session is for: plain directories, or a commit of a repository. */
  mode: 'directory' | 'commit';
  /** Of a commit: the repository's path, and the commit's checksum. */
  repo?: string;
  commit?: string;
  /** `memory`, `tmpfs`, or the directory that the changes are in. */
  upper: string;
  /** Who speaks with the kernel. */
  transport: 'kernel' | 'fuse-native';
  /** Who moves the bytes of files: the daemon, for the kernel's cache, or the kernel by itself. */
  io: 'cached' | 'passthrough';
  /** Of the booted deployment: how it is unlocked. */
  unlocked?: UnlockedState;
  /** Bytes held, by the formula of the limit; `null` when the daemon does not answer. */
  used: number | null;
  /** Bytes the session may hold; `null` when the record is damaged. */
  limit: number | null;
  /** Paths that `diff` would list; `null` when the daemon does not answer. */
  changes: number | null;
  /** There are more than `changes`: they were not all counted, since the filesystem waits meanwhile. */
  moreChanges: boolean;
  /** The daemon's, or `null` when it is gone. */
  pid: number | null;
  /** The keeper's, or `null` when it is gone. */
  keeper: number | null;
  /** ISO 8601, UTC; '' when the record is damaged. */
  started: string;
  health: Health;
  /** What is wrong, one line each; empty when nothing is. */
  problems: string[];
  /** The last lines of the session's log; empty unless something is wrong. */
  log: string[];
  /** Requests served since the start, by name of the operation; empty when the daemon does not answer. */
  requests: Record<string, number>;
}

/** As `Session.status`. */
export async function statusOf(name: string, folder: string): Promise<SessionStatus> {
  const seen = await inspect(folder);
  const { record, state, answer } = seen;
  return {
    name,
    source: (record?.source ?? [])
      .map((path) => shown(path).replaceAll(/[:\\]/g, String.raw`\$&`))
      .join(':'),
    mountpoint: shown(record?.mountpoint ?? ''),
    mode: record?.mode ?? 'directory',
    ...(record?.repo !== undefined && { repo: shown(record.repo) }),
    ...(record?.commit !== undefined && { commit: record.commit }),
    upper: shown(record?.upper ?? 'memory'),
    transport: record?.transport ?? 'kernel',
    io: record?.io ?? 'cached',
    ...(record?.deployment !== undefined && { unlocked: record.deployment.state }),
    used: answer?.used ?? null,
    limit: answer?.limit ?? record?.limitBytes ?? null,
    changes: answer?.changes ?? null,
    moreChanges: answer?.moreChanges ?? false,
    pid: seen.isDaemonAlive ? (state?.daemon.pid ?? null) : null,
    keeper: seen.isKeeperAlive ? (state?.keeper.pid ?? null) : null,
    started: record?.started ?? '',
    health: seen.health,
    problems: seen.problems,
    log: seen.problems.length === 0 ? [] : logTail(folder),
    requests: answer?.requests ?? {},
  };
}
