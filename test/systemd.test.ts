/** Units of sessions, as far as they can be looked at where systemd does not run. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { scopeArguments, unitOf } from '../src/session/systemd.ts';

test('systemd takes the unit of sessions from boot on', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'units-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  cpSync('systemd/ostree-ts@.service', join(folder, 'ostree-ts@usr.service'));
  const { status, stderr } = spawnSync(
    'systemd-analyze',
    ['verify', '--man=no', '--recursive-errors=no', join(folder, 'ostree-ts@usr.service')],
    { encoding: 'utf8' },
  );
  const ofOurs = stderr.split('\n').filter((line) => line.includes('ostree-ts'));
  t.deepEqual(ofOurs, []);
  t.is(status, 0, stderr);
});

test('the words for systemd-run are those that it knows', (t) => {
  const help = execFileSync('systemd-run', ['--help'], { encoding: 'utf8' });
  for (const isRoot of [true, false]) {
    const words = scopeArguments('usr', isRoot);
    t.is(words.at(-1), '--', 'the keeper and its arguments follow');
    for (const word of words.slice(0, -1)) t.true(help.includes(word.replace(/=.*/, '')), word);
  }
  t.true(scopeArguments('usr', false).includes('--user'));
  t.false(scopeArguments('usr', true).includes('--user'));
});

test('the unit of a process is the last in its cgroup', (t) => {
  t.is(unitOf('0::/user.slice/user-0.slice/session-3.scope\n'), 'session-3.scope');
  t.is(
    unitOf('0::/system.slice/system-ostree\\x2dts.slice/ostree-ts@usr.service\n'),
    'ostree-ts@usr.service',
  );
  t.is(
    unitOf(
      '12:memory:/a\n1:name=systemd:/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope\n0::/\n',
    ),
    'run.scope',
  );
  t.is(unitOf('0::/\n'), '');
});
