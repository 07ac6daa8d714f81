/** The parts of a session that need no mount: sizes, mountinfo, records, names, the log, the control socket. */
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { SessionError, UsageError } from '../src/errors.ts';
import { Log } from '../src/log.ts';
import { Control, serve } from '../src/session/control.ts';
import { checkName, nameFor } from '../src/session/folders.ts';
import { below, isOf, parseMounts, topmostAt } from '../src/session/mountinfo.ts';
import { isAlive, readStat, self, selfAndAncestors } from '../src/session/processes.ts';
import { readRecord, readState, type SessionRecord, writeRecord } from '../src/session/record.ts';
import { formatBytes, memoryBytes, parseSize } from '../src/session/size.ts';

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'session-parts-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const size = test.macro({
  exec(t, text: string, bytes: number) {
    t.is(parseSize(text, 1000), bytes);
  },
  title: (_, text: string) => `a size: '${text}'`,
});
test(size, '50%', 500);
test(size, '0.1%', 1);
test(size, '200%', 2000);
test(size, '4096', 4096);
test(size, '4096B', 4096);
test(size, '1K', 1024);
test(size, '1k', 1024);
test(size, '1.5M', 1.5 * 2 ** 20);
test(size, '2GiB', 2 * 2 ** 30);
test(size, ' 3T ', 3 * 2 ** 40);

const noSize = test.macro({
  exec(t, text: string) {
    const error = t.throws(() => parseSize(text, 1000), { instanceOf: UsageError });
    t.truthy(error?.remedy);
  },
  title: (_, text: string) => `no size: '${text}'`,
});
for (const text of [
  '',
  '0',
  '0%',
  '0.01%',
  '-1',
  '-5%',
  '+5',
  '1e3',
  '5X',
  '5 5',
  '%',
  'NaN',
  '0x10',
  '1,5G',
  '1%G',
]) {
  test(noSize, text);
}

test('the memory there is lies between a page and all of it', (t) => {
  t.true(memoryBytes() >= 4096);
  const total =
    Number(/^MemTotal:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
  t.true(memoryBytes() <= total);
});

test('bytes are shown with the unit that fits', (t) => {
  t.deepEqual([0, 1023, 1024, 1536 * 1024, 2 ** 45].map(formatBytes), [
    '0 bytes',
    '1023 bytes',
    '1.0 KiB',
    '1.5 MiB',
    '32.0 TiB',
  ]);
});

// As the kernel writes it: a space as \040, a backslash as \134, other bytes as they are.
const MOUNTINFO = [
  '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
  '23 22 0:20 / /mnt/a\\040b\\134c\xe4 rw - fuse.ostree-ts usr rw,user_id=0,group_id=0',
  '24 22 0:21 / /mnt rw,relatime shared:2 master:3 - tmpfs none rw',
  '25 24 0:22 / /mnt rw - fuse.ostree-ts x\\043y rw,user_id=1000,group_id=0',
  '26 22 0:23 /sub /mnt2 rw - fuse none rw,user_id=0',
  '',
].join('\n');

test('mountinfo: escapes, order, propagation', (t) => {
  const mounts = parseMounts(MOUNTINFO);
  t.deepEqual(
    mounts.map(({ id, device, path }) => [id, device, path]),
    [
      [22, '254:0', '/'],
      [23, '0:20', '/mnt/a b\\c\xe4'],
      [24, '0:21', '/mnt'],
      [25, '0:22', '/mnt'],
      [26, '0:23', '/mnt2'],
    ],
  );
  t.is(topmostAt(mounts, '/mnt')?.id, 25);
  t.is(topmostAt(mounts, '/mnt/x'), undefined);
  t.deepEqual(
    below(mounts, '/mnt').map(({ id }) => id),
    [23],
  );
  t.deepEqual(
    below(mounts, '/').map(({ id }) => id),
    [23, 24, 25, 26],
  );
  t.deepEqual(
    mounts.map(({ isPropagated }) => isPropagated),
    [false, true, true, true, true],
  );
  t.is(mounts[3]?.source, 'x#y');
});

test('a mount is a session by device, type, name and owner together', (t) => {
  const uid = process.getuid?.() ?? 0;
  const [mount] = parseMounts(
    `30 1 0:40 / /m rw - fuse.ostree-ts usr rw,user_id=${uid},group_id=0`,
  );
  t.true(isOf(mount!, 'usr', '0:40'));
  t.false(isOf(mount!, 'usr', '0:41'));
  t.false(isOf(mount!, 'other', '0:40'));
  t.false(isOf({ ...mount!, type: 'fuse.other' }, 'usr', '0:40'));
  t.false(isOf({ ...mount!, owner: uid + 1 }, 'usr', '0:40'));
});

const name = test.macro({
  exec(t, mountpoint: string, expected: string) {
    t.is(nameFor(mountpoint), expected);
    t.is(checkName(nameFor(mountpoint)), expected);
  },
  title: (_, mountpoint) => `the name for ${JSON.stringify(mountpoint)}`,
});
test(name, '/usr', 'usr');
test(name, '/mnt/.hidden', 'hidden');
test(name, '/mnt/a b\n', 'a_b_');
test(name, '/mnt/\xc3\xa4', 'session');
test(name, '/mnt/..', 'session');
test(name, `/mnt/${'x'.repeat(255)}`, 'x'.repeat(48));

for (const bad of ['', '.', '..', '.x', 'a/b', 'a b', 'a,b', 'a\n', '-x', 'x'.repeat(65)]) {
  test(`no name: ${JSON.stringify(bad)}`, (t) => {
    t.throws(() => checkName(bad), { instanceOf: UsageError });
  });
}

function noAnswer(): Promise<never> {
  return new Promise(() => {});
}

const RECORD: SessionRecord = {
  version: 1,
  name: 'usr',
  source: ['/a\xff'],
  mountpoint: '/m\xe4',
  mode: 'directory',
  upper: 'memory',
  links: 'shared',
  limitBytes: 5,
  started: '2026-11-23T12:00:00.000Z',
  launcher: { pid: 1, start: 2 },
  boot: 'x',
};

test('a record is read as it was written, bytes of any kind included', (t) => {
  const folder = scratch(t);
  writeRecord(folder, RECORD);
  t.deepEqual(readRecord(folder), RECORD);
  t.is(statSync(join(folder, 'record.json')).mode & 0o777, 0o600);
});

test('a damaged record is no record', (t) => {
  const folder = scratch(t);
  t.is(readRecord(folder), undefined);
  const whole = JSON.stringify(RECORD);
  const damaged = ['', '{', 'null', '[]', '1', whole.slice(0, -5), whole.replace('"/m', '"m')];
  for (const key of ['name', 'source', 'mountpoint', 'limitBytes', 'started', 'launcher', 'boot']) {
    damaged.push(
      JSON.stringify({ ...RECORD, [key]: undefined }),
      JSON.stringify({ ...RECORD, [key]: {} }),
    );
  }
  for (const text of damaged) {
    writeFileSync(join(folder, 'record.json'), text);
    t.is(readRecord(folder), undefined, text);
  }
});

test('the state, as the keeper writes it', (t) => {
  const folder = scratch(t);
  const text = 'keeper 10 100\ndaemon 11 101\ndevice 0:40\nmount 55\nphase serving\n';
  const state = {
    keeper: { pid: 10, start: 100 },
    daemon: { pid: 11, start: 101 },
    device: '0:40',
    mountId: 55,
    phase: 'serving',
  } as const;
  writeFileSync(join(folder, 'state'), text);
  t.deepEqual(readState(folder), state);
  writeFileSync(join(folder, 'state'), `${text}ended signal 9 1000\n`);
  t.deepEqual(readState(folder), {
    ...state,
    ended: { how: 'signal', code: 9, time: new Date(1_000_000) },
  });
  for (const damaged of [
    '',
    'x',
    text.replace('keeper 10', 'keeper x'),
    text.replace('0:40', '40'),
    text.replace('serving', 'x'),
  ]) {
    writeFileSync(join(folder, 'state'), damaged);
    t.is(readState(folder), undefined, damaged);
  }
});

test('a process is known by pid and start time', (t) => {
  t.true(isAlive(self()));
  t.false(isAlive({ ...self(), start: self().start + 1 }));
  t.false(isAlive({ pid: 0, start: 0 }));
  t.is(readStat(process.pid)?.parent, process.ppid);
  t.true(selfAndAncestors().has(process.ppid));
});

test('a log stays small and keeps its newest lines', (t) => {
  const path = join(scratch(t), 'log');
  const log = new Log(openSync(path, 'a+'), 1000);
  for (let number = 0; number < 200; number++) log.write(`event ${number}`);
  log.write('two\n  lines\n');
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  t.true(statSync(path).size < 1200);
  t.is(lines[0], '(older lines were dropped)');
  t.regex(lines.at(-1) ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z daemon: two \| lines$/);
  t.regex(lines.at(-2) ?? '', /event 199$/);
  t.true(lines.slice(1).every((line) => / daemon: /.test(line)));
});

test('questions over the socket are answered by their ids, and refusals come as errors', async (t) => {
  const folder = scratch(t);
  const server = await serve(
    join(folder, 'control'),
    { protocol: 1, name: 'x', pid: 7 },
    async (call, args) => {
      if (call === 'echo') return args;
      if (call === 'never') return noAnswer();
      throw new Error(`no ${call}`);
    },
  );
  t.teardown(() => server.close());
  const control = await Control.open(folder, 1000);
  t.teardown(() => control[Symbol.dispose]());
  t.deepEqual(control.greeting, { protocol: 1, name: 'x', pid: 7 });
  const long = 'ä\n'.repeat(20_000);
  const never = control.call('never', {}, 100);
  t.deepEqual(
    await Promise.all([control.call('echo', { long }, 1000), control.call('echo', [2], 1000)]),
    [{ long }, [2]],
  );
  await t.throwsAsync(control.call('what', {}, 1000), {
    instanceOf: SessionError,
    message: 'no what',
  });
  await t.throwsAsync(never, { instanceOf: SessionError, message: /does not answer/ });
});

function busy(ms: number): void {
  for (const end = Date.now() + ms; Date.now() < end;);
}

test('whoever was busy himself meanwhile still takes the answer', async (t) => {
  const folder = scratch(t);
  const greeting = { protocol: 1, name: 'x', pid: 7 };
  const server = await serve(join(folder, 'control'), greeting, async (_call, args) => args);
  t.teardown(() => server.close());
  const opened = Control.open(folder, 500);
  busy(1000);
  const control = await opened;
  t.teardown(() => control[Symbol.dispose]());
  const echoed = control.call('echo', 'x', 500);
  busy(1000);
  t.is(await echoed, 'x');
});

test('a daemon that is not there, says nothing, goes, or is flooded is an error', async (t) => {
  const folder = scratch(t);
  await t.throwsAsync(Control.open(join(folder, 'none'), 1000), { instanceOf: SessionError });
  await t.throwsAsync(Control.open(folder, 1000), {
    instanceOf: SessionError,
    message: /cannot be reached/,
  });
  const silent = createServer(() => {}).listen(join(folder, 'control'));
  await t.throwsAsync(Control.open(folder, 50), {
    instanceOf: SessionError,
    message: /does not answer/,
  });
  await new Promise((resolve) => silent.close(resolve));
  const server = await serve(join(folder, 'control'), { protocol: 1, name: 'x', pid: 7 }, noAnswer);
  t.teardown(() => server.close());
  const control = await Control.open(folder, 1000);
  t.teardown(() => control[Symbol.dispose]());
  await t.throwsAsync(control.call('x'.repeat(20_000_000), {}, 10_000), {
    instanceOf: SessionError,
    message: /gone|reached/,
  });
  // Whoever asks after that does not wait for an answer.
  await t.throwsAsync(control.call('echo', {}, 3_600_000), {
    instanceOf: SessionError,
    message: 'the daemon has gone',
  });
});
