/** What commands print that take back, apply or keep changes. */
import test from 'ava';
import { importImage, UsageError } from '../src/index.ts';
import { checkExport } from '../src/session/export.ts';
import { parseTimestamp } from '../src/timestamp.ts';
import { COMMITTED, Pretended, STATUS, misused, typed } from './helpers/pretended.ts';

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

const LATE = '--timestamp=253402300800';
test('', misused, ['export', '--format=tar', '--output=x', LATE], /beyond the year 9999/);
test('', misused, ['commit', '--branch=b', LATE], /beyond the year 9999/);
test('', misused, ['commit', '--branch=b', '--timestamp=-1'], /no number of seconds/);
test('', misused, ['import', 'oci:x', '--repo=r', '--branch=b', LATE], /beyond the year 9999/);

test('times that no tool can write are refused by the library, too', async (t) => {
  const seconds = 253_402_300_799;
  t.is(parseTimestamp(seconds), seconds);
  t.is(parseTimestamp('0'), 0);
  for (const timestamp of [seconds + 1, 1e21, -1, 1.5, Number.NaN]) {
    t.throws(() => parseTimestamp(timestamp), { instanceOf: UsageError }, String(timestamp));
    const options = { format: 'tar', output: 'x', timestamp } as const;
    t.throws(() => checkExport(options), { instanceOf: UsageError });
    const image = importImage({ image: 'oci:none', repo: 'none', branch: 'b', timestamp });
    await t.throwsAsync(image, { instanceOf: UsageError });
  }
});
