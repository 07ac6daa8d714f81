/** What commands print and exit with: status, lock, unlock, doctor, and all of them when misused. */
import test from 'ava';
import { BusyError, SessionError, UsageError } from '../src/index.ts';
import type { Finding, SessionStatus, UnlockOptions } from '../src/index.ts';
import {
  LOCKED,
  Pretended,
  STATISTICS,
  STATUS,
  misused,
  typed,
  type Outcome,
} from './helpers/pretended.ts';

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
