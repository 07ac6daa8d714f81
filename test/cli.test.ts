import test from 'ava';
import type { ExecutionContext } from 'ava';
import { byteString, decodeArguments, hostPath, mountPath, splitSource } from '../src/cli/bytes.ts';
import type { AnySession, Library } from '../src/cli/context.ts';
import { displayAge, displayBytes, displayName, painter } from '../src/cli/output.ts';
import { run } from '../src/cli/program.ts';
import {
  BusyError,
  exportWarnings,
  formatEntry,
  importImage,
  openRepository,
  SessionError,
  UsageError,
} from '../src/index.ts';
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
} from '../src/index.ts';

const STATUS: SessionStatus = {
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

const STATISTICS: SessionStatistics = {
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

const CHANGES: Change[] = [
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

const LOCKED: LockResult = {
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

const COMMITTED: CommitResult = {
  commit: 'c'.repeat(64),
  parent: null,
  branch: 'a/b',
  repo: '/srv/repo',
  files: 3,
  bytes: 1536,
  skipped: ['/run/\xff'],
};

/** A session that does what it is told to. */
class Pretended implements AnySession {
  changes = CHANGES;
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

interface Outcome {
  code: number;
  out: string[];
  err: string[];
}

/** Runs a command line over pretended sessions. */
async function typed(
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

test('status prints a table, and nothing more when all is well', async (t) => {
  const { code, out, err } = await typed(['status']);
  t.is(code, 0);
  t.deepEqual(out, [
    'NAME  MOUNTPOINT  SOURCE    USED     LIMIT    CHANGES  AGE    HEALTH',
    'usr   /usr        in place  1.5 KiB  2.0 GiB  2        5 min  ok',
  ]);
  t.deepEqual(err, []);
});

test('status says what is wrong, with the end of the log', async (t) => {
  const session = new Pretended({
    ...STATUS,
    source: '/a:/b',
    health: 'dead',
    used: null,
    changes: null,
    moreChanges: false,
    problems: ['the daemon is gone'],
    log: ['killed\u001b[2J'],
  });
  const { out } = await typed(['status', 'usr'], { sessions: [session] });
  t.is(out[1], 'usr   /usr        /a:/b   ?     2.0 GiB  ?        5 min  dead');
  t.deepEqual(out.slice(2), ['', 'usr:', '  the daemon is gone', '  log: killed [2J']);
});

test('status --stats tells how busy a session is, the most frequent operation first', async (t) => {
  const { out } = await typed(['status', '--stats']);
  t.deepEqual(out.slice(2), [
    '',
    'usr:',
    '  16 requests a second; the kernel knows 140 files',
    '  upper: 3 files, 1.5 KiB; 2.0 KiB written, 0 B copied for it',
    '  daemon: 32 MiB of memory',
    '  OPERATION  REQUESTS  A SECOND  MEAN    50 %    90 %    99 %',
    '  GETATTR    9         9         5.0 us  5.8 us  5.8 us  5.8 us',
    '  LOOKUP     7         7         12 us   11 us   23 us   362 us',
    '  FORGET     1         0         -       -       -       -',
  ]);
});

test('status --json has the promised keys, and requests only when asked for', async (t) => {
  const { out } = await typed(['status', '--json']);
  t.is(out.length, 1);
  const { requests: _, ...expected } = STATUS;
  t.deepEqual(JSON.parse(out[0] ?? ''), expected);
  const withStats = await typed(['status', '--json', '--stats']);
  t.deepEqual(JSON.parse(withStats.out[0] ?? ''), { ...STATUS, statistics: STATISTICS });
});

test('status without a session says so, and that is no failure', async (t) => {
  t.deepEqual(await typed(['status'], { sessions: [] }), {
    code: 0,
    out: [],
    err: ['ostree-ts: there is no session'],
  });
  t.deepEqual((await typed(['status', '--json'], { sessions: [] })).out, []);
});

test('diff prints kind, tab and path, and quotes odd names as git does', async (t) => {
  const { code, out } = await typed(['diff']);
  t.is(code, 0);
  t.deepEqual(out, ['A\t/bin/new', 'M\t/café', 'D\t"/\\377\\t\\""']);
});

test('diff and undo warn of what could not be written to the session, and go on', async (t) => {
  const session = new Pretended(STATUS);
  session.unwritten = 'it is full';
  for (const line of [['diff'], ['diff', '--stat'], ['undo', 'x']]) {
    const { code, err } = await typed(line, { sessions: [session] });
    t.is(code, 0);
    t.deepEqual(err, ['ostree-ts: warning: it is full']);
  }
  const { err } = await typed(['diff', '--json'], { sessions: [session] });
  t.deepEqual(JSON.parse(err[0] ?? ''), { warning: 'it is full' });
});

test('diff --json is lossless', async (t) => {
  const { out } = await typed(['diff', 'usr', '--json']);
  t.deepEqual(
    out.map((line): unknown => JSON.parse(line)),
    [
      { kind: 'A', path: '/bin/new', type: 'file', size: 2048, mode: '0755' },
      { kind: 'M', path: '/café', type: 'directory', size: 4096, mode: '0700', modeBefore: '0755' },
      {
        kind: 'D',
        path: '/\ufffd\t"',
        type: 'symlink',
        size: 3,
        mode: '0777',
        pathBase64: Buffer.from('/\xff\t"', 'latin1').toString('base64'),
      },
    ],
  );
});

test('diff --exit-code tells changes by 1 and trouble by 2', async (t) => {
  t.is((await typed(['diff', '--exit-code'])).code, 1);
  t.is((await typed(['diff', 'nobody', '--exit-code'])).code, 2);
  t.is((await typed(['diff', 'nobody'])).code, 1);
});

test('diff --stat prints totals', async (t) => {
  t.deepEqual((await typed(['diff', '--stat'])).out, [
    '          PATHS  FILES  DIRECTORIES  SIZE',
    'added     1      1      0            2.0 KiB',
    'modified  1      0      1            0 B',
    'deleted   1      0      0            0 B',
  ]);
  const { out } = await typed(['diff', '--stat', '--json']);
  t.deepEqual(JSON.parse(out[0] ?? ''), {
    change: 'added',
    paths: 1,
    files: 1,
    directories: 0,
    bytes: 2048,
  });
});

const DETAILED: Change[] = [
  {
    kind: 'M',
    path: '/a',
    type: 0o120000,
    size: 3,
    mode: 0o120777,
    typeBefore: 0o100000,
    sizeBefore: 9,
    modeBefore: 0o100644,
    owner: [7, 8],
    ownerBefore: [0, 0],
    mtime: [1_000_000_000, 123_456_789],
    mtimeBefore: [-1, 0],
    changed: ['type', 'mode', 'owner', 'xattrs', 'times'],
    xattrs: ['user.a', 'user.\xff'],
  },
  {
    kind: 'R',
    path: '/new \xff',
    from: '/old \xfe',
    type: 0o100000,
    size: 5,
    mode: 0o100644,
    typeBefore: 0o100000,
    sizeBefore: 5,
    modeBefore: 0o100644,
    changed: [],
  },
  {
    kind: 'M',
    path: '/t',
    type: 0o100000,
    size: 1,
    mode: 0o100644,
    modeBefore: 0o100644,
    changed: ['times'],
  },
];

test('diff --metadata names what has changed, after a tab', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED;
  const { out } = await typed(['diff', '-M', '--metadata'], { sessions: [session] });
  t.deepEqual(session.asked, { renames: true, details: true, times: true });
  t.deepEqual(out, [
    'M\t/a\ttype file -> symlink, mode 0644 -> 0777, owner 0:0 -> 7:8, xattrs user.a "user.\\377", times',
    'R\t"/old \\376" -> "/new \\377"',
    'M\t/t\ttimes',
  ]);
});

test('diff --json has everything, before and after', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED.slice(0, 2);
  const { out } = await typed(['diff', '--json'], { sessions: [session] });
  t.deepEqual(session.asked, { details: true });
  t.deepEqual(JSON.parse(out[0] ?? ''), {
    kind: 'M',
    path: '/a',
    type: 'symlink',
    size: 3,
    mode: '0777',
    uid: 7,
    gid: 8,
    mtime: '2001-09-09T01:46:40.123456789Z',
    typeBefore: 'file',
    sizeBefore: 9,
    modeBefore: '0644',
    uidBefore: 0,
    gidBefore: 0,
    mtimeBefore: '1969-12-31T23:59:59.000000000Z',
    changed: ['type', 'mode', 'owner', 'xattrs', 'times'],
    xattrs: ['user.a', 'user.\ufffd'],
  });
  t.like(JSON.parse(out[1] ?? ''), {
    kind: 'R',
    pathBase64: Buffer.from('/new \xff', 'latin1').toString('base64'),
    fromBase64: Buffer.from('/old \xfe', 'latin1').toString('base64'),
    changed: [],
  });
});

test('diff --stat counts renames and metadata apart when they are asked for', async (t) => {
  const session = new Pretended(STATUS);
  session.changes = DETAILED;
  const { out } = await typed(['diff', '--stat', '-M', '--metadata'], { sessions: [session] });
  t.deepEqual(session.asked, { renames: true, details: true, times: true, all: true });
  t.deepEqual(out, [
    '          PATHS  FILES  DIRECTORIES  SIZE',
    'added     0      0      0            0 B',
    'modified  1      0      0            0 B',
    'metadata  1      1      0            1 B',
    'deleted   0      0      0            0 B',
    'renamed   1      1      0            5 B',
  ]);
});

test('diff --patch prints bytes, and --exit-code counts every change', async (t) => {
  const session = new Pretended(STATUS);
  const line = ['diff', 'usr', '/etc', '-p', '-U', '0', '--no-renames', '--exit-code'];
  const { code, out } = await typed(line, { sessions: [session] });
  t.is(code, 1);
  t.deepEqual(session.asked, { paths: ['/etc'], renames: false, context: 0 });
  t.deepEqual(out, ['diff --git a/x b/x', '', '+\ufffd', '']);
  session.changes = [];
  t.is((await typed(['diff', '--patch', '--exit-code'], { sessions: [session] })).code, 0);
  t.deepEqual(session.asked, {});
});

test('diff takes a first argument that is no session for a path, when only one session is there', async (t) => {
  const only = new Pretended(STATUS);
  await typed(['diff', '/lib/', 'share//x'], { sessions: [only] });
  t.deepEqual(only.asked, { paths: ['/lib', '/share/x'] });
  await typed(['diff', '/usr', './caf\u00e9'], { sessions: [only] });
  t.deepEqual(only.asked, { paths: ['/caf\xc3\xa9'] });
  await typed(['diff'], { sessions: [only] });
  t.deepEqual(only.asked, {});
  const two = [only, new Pretended({ ...STATUS, name: 'b', mountpoint: '/b' })];
  t.is((await typed(['diff', '/lib'], { sessions: two })).code, 1);
  t.is((await typed(['diff', 'usr', '../x'], { sessions: [only] })).code, 2);
});

test('lock says what it throws away', async (t) => {
  const session = new Pretended(STATUS);
  t.deepEqual(await typed(['lock'], { sessions: [session] }), {
    code: 0,
    out: ['usr: /usr is locked again, 2 changes (1.5 KiB) discarded'],
    err: [],
  });
  t.deepEqual(session.asked, {});
});

test('lock --lazy says who holds the session still', async (t) => {
  const holders = [{ pid: 7, name: 'bash', by: ['cwd', 'fd 3'] }];
  const session = new Pretended(STATUS, () => ({ ...LOCKED, draining: true, holders }));
  const { out, err } = await typed(['lock', '/usr', '--lazy'], { sessions: [session] });
  t.deepEqual(session.asked, { lazy: true });
  t.deepEqual(out, [
    'usr: /usr is locked again; 2 changes (1.5 KiB) will be discarded when the last process lets go',
  ]);
  t.deepEqual(err, ['ostree-ts: still held by 7 bash (cwd, fd 3)']);
});

test('lock of a busy session lists the processes and exits with 1', async (t) => {
  const holders = [{ pid: 7, name: 'bash', by: ['cwd', 'fd 3'] }];
  const busy = new BusyError('usr', holders);
  const session = new Pretended(STATUS, () => {
    throw busy;
  });
  t.deepEqual(await typed(['lock'], { sessions: [session] }), {
    code: 1,
    out: [],
    err: [`ostree-ts: ${busy.message}`, busy.remedy ?? ''],
  });
  const { err } = await typed(['lock', '--json'], { sessions: [session] });
  t.deepEqual(JSON.parse(err.join('\n')), {
    error: busy.message,
    remedy: busy.remedy,
    code: 1,
    holders,
  });
});

test('unlock passes its options on and prints one line', async (t) => {
  let seen: UnlockOptions | undefined;
  const { code, out, err } = await typed(
    ['unlock', 'a\\:b:c', '/mnt', '--size=2G', '--name=x', '--links=shared', '--upper=memory'],
    {
      unlock: (options) => {
        seen = options;
        options.onWarning?.('MOUNTPOINT is not empty');
        return new Pretended({ ...STATUS, name: 'x', mountpoint: '/mnt' });
      },
    },
  );
  t.is(code, 0);
  const { onWarning: _, ...rest } = seen ?? { source: [] };
  t.deepEqual(rest, {
    source: ['a:b', 'c'],
    mountpoint: '/mnt',
    size: '2G',
    name: 'x',
    links: 'shared',
    upper: 'memory',
  });
  t.deepEqual(out, [
    "/mnt is writable; changes are kept in memory (up to 2.0 GiB): 'ostree-ts lock x' discards them",
  ]);
  t.deepEqual(err, ['ostree-ts: warning: MOUNTPOINT is not empty']);
});

test('unlock tells a shell that stands in the tree how to enter the session', async (t) => {
  const { err } = await typed(['unlock', '/usr'], { cwd: '/usr/lib' });
  t.deepEqual(err, [
    "ostree-ts: this shell still stands in the tree beneath: 'cd .' enters the session",
  ]);
  t.deepEqual((await typed(['unlock', '/usr'], { cwd: '/usrlocal' })).err, []);
});

test('unlock --foreground stays until the session has ended', async (t) => {
  const session = new Pretended(STATUS);
  await typed(['unlock', '/usr', '--foreground'], { unlock: () => session });
  t.is(session.asked, 'ended');
});

test('unlock --json prints the session, and warnings as objects on stderr', async (t) => {
  const { out, err } = await typed(['unlock', '/usr', '--json'], {
    unlock: (options) => {
      options.onWarning?.('w');
      return new Pretended(STATUS);
    },
  });
  t.is((JSON.parse(out[0] ?? '') as SessionStatus).name, 'usr');
  t.deepEqual(err, ['{"warning":"w"}']);
});

test('doctor prints findings with their remedies, and exits with 1 when no session can start', async (t) => {
  const findings: Finding[] = [
    { feature: 'kernel', state: 'ok', detail: '6.18' },
    { feature: 'fuse device', state: 'missing', detail: 'no /dev/fuse', remedy: 'modprobe fuse' },
  ];
  const { code, out } = await typed(['doctor'], { findings });
  t.is(code, 1);
  t.deepEqual(out, [
    'ok       kernel       6.18',
    'missing  fuse device  no /dev/fuse',
    '         -> modprobe fuse',
  ]);
  t.is((await typed(['doctor'], { findings: findings.slice(0, 1) })).code, 0);
  const json = await typed(['doctor', '--json'], { findings });
  t.deepEqual(
    json.out.map((line): unknown => JSON.parse(line)),
    findings,
  );
});

const misused = test.macro({
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

test('', misused, ['stauts'], /unknown command 'stauts'\nDid you mean status\?/);
test('', misused, ['diff', '--jsn'], /unknown option '--jsn'\nDid you mean --json\?/);
test('', misused, ['diff', '--patch', '--metadata'], /cannot be used with option '--metadata'/);
test('', misused, ['diff', '--stat', '--patch'], /cannot be used with option/);
test('', misused, ['diff', '-p', '-U', 'x'], /no number of lines/);
test('', misused, ['unlock', 'a', 'b', 'c'], /too many arguments[^]*ostree-ts unlock --help/);
test('', misused, ['unlock', 'a', '--size'], /argument missing/);
test('', misused, ['unlock', 'a', '--io=direct'], /Allowed choices are cached, passthrough/);
test('', misused, ['unlock', 'a', '--transport=carrier-pigeon'], /Allowed choices/);
test('', misused, ['unlock', 'a', '--links=soft'], /Allowed choices are shared, separate/);
test('', misused, ['unlock', 'a::b'], /empty path/);
test('', misused, ['unlock', ''], /empty path/);

async function refused(error: Error): Promise<Outcome> {
  return await typed(['unlock', '/x'], {
    unlock: () => {
      throw error;
    },
  });
}

test('a refusal of the library keeps its kind, its words and its remedy', async (t) => {
  t.deepEqual(await refused(new SessionError('/x does not exist', 'give a directory')), {
    code: 1,
    out: [],
    err: ['ostree-ts: /x does not exist', 'give a directory'],
  });
  t.is((await refused(new UsageError('--size 0 holds nothing', 'give more'))).code, 2);
  const bug = await refused(new TypeError('x is undefined'));
  t.is(bug.code, 1);
  t.regex(bug.err[0] ?? '', /unexpected: x is undefined/);
});

test('undo names the session when there are several, and paths from its root', async (t) => {
  const session = new Pretended(STATUS);
  const { code, out } = await typed(['undo', '--session=usr', 'lib/x', '/a//b'], {
    sessions: [session],
  });
  t.is(code, 0);
  t.deepEqual(session.asked, ['/lib/x', '/a/b']);
  t.deepEqual(out, ['/lib/x: as in the source again', '/a/b: as in the source again']);
  const json = await typed(['undo', 'x', '--json'], { sessions: [session] });
  t.deepEqual(JSON.parse(json.out[0] ?? ''), { path: '/x', what: 'restored' });
});

test('apply says what it did, and who has won', async (t) => {
  const session = new Pretended(STATUS);
  const { code, out, err } = await typed(['apply', 'x.tar', '--theirs'], { sessions: [session] });
  t.is(code, 0);
  t.like(session.asked, { file: 'x.tar', prefer: 'theirs' });
  t.deepEqual(out, ['2 paths applied, 1 so already']);
  t.deepEqual(err, ['ostree-ts: warning: /x is changed on both sides: theirs wins']);
  const json = await typed(['apply', 'x.tar', '--json'], { sessions: [session] });
  t.deepEqual(JSON.parse(json.out[0] ?? ''), {
    applied: 2,
    unchanged: 1,
    conflicts: [{ path: '/x' }],
  });
});

test('', misused, ['apply', 'x', '--ours', '--theirs'], /cannot be used with/);
test('', misused, ['undo'], /missing required argument/);

test('commit passes on what is typed, and says what was made and left out', async (t) => {
  const session = new Pretended(STATUS);
  const line = ['commit', 'usr', '--branch=a/b', '--subject=s', '--add-metadata-string=k=v=w'];
  const { code, out, err } = await typed([...line, '--timestamp=5'], { sessions: [session] });
  t.is(code, 0);
  t.deepEqual(session.asked, {
    branch: 'a/b',
    subject: 's',
    metadata: { k: 'v=w' },
    timestamp: 5,
  });
  t.deepEqual(out, [`a/b: ${COMMITTED.commit}, 3 files read (1.5 KiB)`]);
  t.deepEqual(err, ['ostree-ts: warning: left out: "/run/\\377"']);
  t.is((await typed(['commit', 'usr'])).code, 2);
  t.is((await typed([...line, '--add-metadata-string=none'])).code, 2);
});

test('export says what it wrote, and warns of what it could not', async (t) => {
  const line = ['export', '--format=tar', '--output=out.tar', '--timestamp=7'];
  const session = new Pretended(STATUS);
  const { code, out, err } = await typed(line, { sessions: [session] });
  t.is(code, 0);
  t.like(session.asked, { format: 'tar', output: 'out.tar', timestamp: 7 });
  t.deepEqual(out, ['out.tar: 3 files and directories, 1.5 KiB, sha256:aa']);
  t.is(err.length, 2);
  t.regex(err[0] ?? '', /socket: left out/);
  t.regex(err[1] ?? '', /1 removed path is not in the tar/);
  const json = await typed([...line, '--json']);
  t.like(JSON.parse(json.out[0] ?? ''), { digest: 'sha256:aa', deletions: 1 });
  t.is(JSON.parse(json.out[0] ?? '').skipped[0].pathBase64, 'L3J1bi//');
});

test('', misused, ['export', '--output=x'], /--format/);
test('', misused, ['export', '--format=zip', '--output=x'], /zip/);
test(
  '',
  misused,
  ['export', '--format=tar', '--output=x', '--timestamp=now'],
  /no number of seconds/,
);

test('unlock without SOURCE is for the booted deployment', async (t) => {
  let given: UnlockOptions | undefined;
  const unlock = (options: UnlockOptions) => {
    given = options;
    return new Pretended({ ...STATUS, unlocked: 'hotfix' });
  };
  t.is((await typed(['unlock', '--hotfix', '--sysroot=/s'], { unlock })).code, 0);
  t.deepEqual(given?.source, []);
  t.true(given?.hotfix);
  t.is(given?.sysroot, '/s');
});

test('every command explains itself with examples', async (t) => {
  for (const name of ['unlock', 'status', 'diff', 'lock', 'doctor']) {
    const { code, out } = await typed([name, '--help']);
    t.is(code, 0);
    t.true(
      out.some((line) => line.startsWith(`Usage: ostree-ts ${name}`)),
      name,
    );
    t.true(out.includes('Examples:'), name);
  }
  const { code, out } = await typed(['--help']);
  t.is(code, 0);
  t.true(out.includes('Examples:'));
});

test('no command at all is a misuse, with the help on stderr', async (t) => {
  const { code, out, err } = await typed([]);
  t.is(code, 2);
  t.deepEqual(out, []);
  t.true(err.some((line) => line.startsWith('Usage: ostree-ts')));
});

test('--version prints the version alone', async (t) => {
  const { code, out } = await typed(['--version']);
  t.is(code, 0);
  t.regex(out.join('\n'), /^\d+\.\d+\.\d+$/);
});

test('colour only when it is wanted', async (t) => {
  t.false((await typed(['status'])).out.join('').includes('\u001b'));
  t.true((await typed(['status'], { coloured: true })).out.join('').includes('\u001b['));
});

test('arguments that are no UTF-8 keep their bytes', (t) => {
  const line = Buffer.from('node\0main.js\0unlock\0/a\xff\xc3\xa9\0\xf0\x9f\x98\x80\0', 'latin1');
  const args = decodeArguments(line, 3);
  t.deepEqual(args, ['unlock', '/a\udcffé', '\u{1f600}']);
  t.is(byteString(args[1] ?? ''), '/a\xff\xc3\xa9');
  t.is(byteString(args[2] ?? ''), '\xf0\x9f\x98\x80');
  t.deepEqual(hostPath(args[1] ?? ''), Buffer.from('/a\xff\xc3\xa9', 'latin1'));
  t.is(hostPath(args[2] ?? ''), '\u{1f600}');
});

test('SOURCE is split at colons that are not escaped', (t) => {
  t.deepEqual(splitSource('/a:b'), ['/a', 'b']);
  t.deepEqual(splitSource('a\\:b\\\\:c\\d'), ['a:b\\', 'c\\d']);
});

test('paths of diff are normalised', (t) => {
  t.is(mountPath('usr/./lib//x/'), '/usr/lib/x');
  t.is(mountPath('/'), '/');
  t.is(mountPath('a\udcff'), '/a\xff');
});

const shown = test.macro({
  exec(t: ExecutionContext, bytes: string, text: string) {
    t.is(displayName(bytes), text);
  },
  title: (_, bytes) => `a name is shown: ${JSON.stringify(bytes)}`,
});

test('', shown, '/plain name', '/plain name');
test('', shown, '/caf\xc3\xa9', '/café');
test('', shown, 'a\\b', '"a\\\\b"');
test('', shown, 'a\nb\x1b', '"a\\nb\\033"');
test('', shown, '\xc3', '"\\303"');
// An overlong NUL, half of a surrogate pair, and U+202E, which turns the rest of the line round.
test('', shown, '\xc0\x80', '"\\300\\200"');
test('', shown, '\xed\xa0\x80', '"\\355\\240\\200"');
test('', shown, '\xe2\x80\xae', '"\\342\\200\\256"');

test('sizes and ages are short', (t) => {
  t.deepEqual([0, 1023, 1024, 10_240, 2 ** 20, 1.5 * 2 ** 30].map(displayBytes), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '10 KiB',
    '1.0 MiB',
    '1.5 GiB',
  ]);
  const start = '2026-01-01T00:00:00Z';
  const after = (seconds: number): string => displayAge(start, Date.parse(start) + seconds * 1000);
  t.deepEqual([5, 300, 7200, 200_000].map(after), ['5 s', '5 min', '2 h', '2 d']);
});
