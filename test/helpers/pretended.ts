/** Command lines, typed over sessions that are only pretended. */
import test, { type ExecutionContext, type Macro } from 'ava';
import type { AnySession, Library } from '../../src/cli/context.ts';
import { painter } from '../../src/cli/output.ts';
import { run } from '../../src/cli/program.ts';
import {
  exportWarnings,
  formatEntry,
  importImage,
  openRepository,
  SessionError,
} from '../../src/index.ts';
import type {
  ApplyOptions,
  ApplyResult,
  Change,
  DiffOptions,
  DeploymentStatus,
  ExportOptions,
  CommitOptions,
  CommitResult,
  ExportResult,
  Finding,
  LockResult,
  PatchOptions,
  SessionStatistics,
  SessionStatus,
  Undone,
  UnlockOptions,
  WarningOptions,
} from '../../src/index.ts';

export const STATUS: SessionStatus = {
  name: 'usr',
  source: '/usr',
  mountpoint: '/usr',
  mode: 'directory',
  upper: 'memory',
  transport: 'kernel',
  io: 'cached',
  used: 1536,
  limit: 2 ** 31,
  changes: 2,
  moreChanges: false,
  pid: 41,
  keeper: 40,
  started: '2026-01-02T03:04:05Z',
  health: 'ok',
  problems: [],
  log: [],
  requests: { LOOKUP: 7, GETATTR: 9 },
};

export const STATISTICS: SessionStatistics = {
  seconds: 1,
  perSecond: 16,
  operations: {
    LOOKUP: { requests: 7, perSecond: 7, meanUs: 12.3, p50Us: 11.3, p90Us: 22.6, p99Us: 362 },
    GETATTR: { requests: 9, perSecond: 9, meanUs: 5, p50Us: 5.8, p90Us: 5.8, p99Us: 5.8 },
    FORGET: { requests: 1, perSecond: 0 },
  },
  inodes: 140,
  nodes: 3,
  used: 1536,
  limit: 2 ** 31,
  bytesWritten: 2048,
  bytesCopied: 0,
  daemonBytes: 2 ** 25,
};

export const CHANGES: Change[] = [
  { kind: 'A', path: '/bin/new', type: 0o100000, size: 2048, mode: 0o100755 },
  {
    kind: 'M',
    path: '/caf\xc3\xa9',
    type: 0o040000,
    size: 4096,
    mode: 0o040700,
    modeBefore: 0o040755,
  },
  { kind: 'D', path: '/\xff\t"', type: 0o120000, size: 3, mode: 0o120777 },
];

export const LOCKED: LockResult = {
  name: 'usr',
  mountpoint: '/usr',
  changes: 2,
  moreChanges: false,
  used: 1536,
  draining: false,
  holders: [],
  found: [],
  kept: null,
};

const EXPORTED: ExportResult = {
  format: 'tar',
  output: 'out.tar',
  digest: 'sha256:aa',
  diffId: 'sha256:aa',
  size: 1536,
  entries: 3,
  deletions: 1,
  skipped: ['/run/\xff'],
};

export const COMMITTED: CommitResult = {
  commit: 'c'.repeat(64),
  parent: null,
  branch: 'a/b',
  repo: '/srv/repo',
  files: 3,
  bytes: 1536,
  skipped: ['/run/\xff'],
};

/** A session that does what it is told to. */
export class Pretended implements AnySession {
  changes: Change[] = CHANGES;
  readonly #status: SessionStatus;
  readonly #onLock: () => LockResult;
  readonly name: string;
  readonly mountpoint: string;
  asked: unknown;
  /** What it warns of. */
  unwritten: string | undefined;

  constructor(status: SessionStatus, onLock: () => LockResult = () => LOCKED) {
    this.name = status.name;
    this.mountpoint = status.mountpoint;
    this.#status = status;
    this.#onLock = onLock;
  }

  async status(): Promise<SessionStatus> {
    return this.#status;
  }

  async statistics(): Promise<SessionStatistics> {
    return STATISTICS;
  }

  async *diff({ onWarning, ...options }: DiffOptions = {}): AsyncIterableIterator<Change> {
    this.asked = options;
    if (this.unwritten !== undefined) onWarning?.(this.unwritten);
    yield* this.changes;
  }

  async *patch(options: PatchOptions = {}): AsyncGenerator<Uint8Array, number> {
    this.asked = options;
    yield Buffer.from('diff --git a/x b/x\n');
    yield Buffer.from('+\xff\n', 'latin1');
    return this.changes.length;
  }

  async undo(paths: string[], { onWarning }: WarningOptions = {}): Promise<Undone[]> {
    this.asked = paths;
    if (this.unwritten !== undefined) onWarning?.(this.unwritten);
    return paths.map((path) => ({ path, what: 'restored' }));
  }

  async apply(options: ApplyOptions): Promise<ApplyResult> {
    this.asked = options;
    return { applied: 2, unchanged: 1, conflicts: ['/x'] };
  }

  async export(options: ExportOptions): Promise<ExportResult> {
    this.asked = options;
    return EXPORTED;
  }

  async commit({ signal, onWait, onProgress, ...options }: CommitOptions): Promise<CommitResult> {
    void [signal, onWait, onProgress];
    this.asked = options;
    return COMMITTED;
  }

  async lock(options: { lazy?: boolean } = {}): Promise<LockResult> {
    this.asked = options;
    return this.#onLock();
  }

  async ended(): Promise<void> {
    this.asked = 'ended';
  }
}

export interface Outcome {
  code: number;
  out: string[];
  err: string[];
}

/** Runs a command line over pretended sessions. */
export async function typed(
  line: string[],
  {
    sessions = [new Pretended(STATUS)],
    findings = [],
    deployments = [],
    coloured = false,
    cwd = '/',
    unlock,
  }: {
    sessions?: Pretended[];
    findings?: Finding[];
    deployments?: DeploymentStatus[];
    coloured?: boolean;
    cwd?: string;
    unlock?: (options: UnlockOptions) => Pretended;
  } = {},
): Promise<Outcome> {
  const out: string[] = [];
  const err: string[] = [];
  const library: Library = {
    unlock: async (options) => (unlock ?? (() => new Pretended(STATUS)))(options),
    run: async () => 0,
    notifyManager: () => true,
    listSessions: async () => sessions,
    findSession: async (name) => {
      const found = sessions.filter(
        (one) => name === undefined || one.name === name || one.mountpoint === name,
      );
      const [only] = found;
      if (only === undefined) throw new SessionError(`no session ${name}`, 'see ostree-ts status');
      if (found.length > 1) throw new SessionError('there are 2 sessions', 'name one of them');
      return only;
    },
    exportWarnings,
    importImage,
    listDeployments: async () => deployments,
    lockBooted: async () => LOCKED,
    doctor: async () => findings,
    openRepository,
    formatEntry,
  };
  const code = await run(line, {
    load: async () => library,
    out: (text) => out.push(...text.split('\n')),
    write: async (bytes) => void out.push(...Buffer.from(bytes).toString().split('\n')),
    err: (text) => err.push(...text.split('\n')),
    paint: painter(coloured),
    cwd,
    now: () => Date.parse('2026-01-02T03:09:05Z'),
    interrupted: () => new AbortController().signal,
  });
  return { code, out, err };
}

/** A command line that is refused, by words that match. */
export const misused: Macro<[line: string[], words: RegExp]> = test.macro({
  async exec(t: ExecutionContext, line: string[], words: RegExp) {
    const { code, out, err } = await typed(line);
    t.is(code, 2);
    t.deepEqual(out, []);
    t.is(err.length, 2, 'what and why, then a remedy');
    t.regex(err[0] ?? '', /^ostree-ts: /);
    t.regex(err.join('\n'), words);
    const json = await typed([...line.slice(0, 1), '--json', ...line.slice(1)]);
    t.is(json.code, 2);
    const failure = JSON.parse(json.err.join('\n')) as { error: string; code: number };
    t.is(failure.code, 2);
    t.regex(
      err[0] ?? '',
      new RegExp(failure.error.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)),
    );
  },
  title: (_, line) => `misused: ${line.join(' ')}`,
});
