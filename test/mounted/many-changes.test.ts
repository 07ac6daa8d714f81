/**
 * What commands hold in memory, however many paths have changed: 10,000 of them, and at OSTREE_TS_TEST_SCALE=50 a million.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { mounted, residentBytes } from '../helpers/mounted.ts';
import { ostree, remove, scratch } from '../helpers/repositories.ts';
import { PROGRAM } from '../helpers/program.ts';

const SCALE = Math.min(50, Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1));
const MIB = 2 ** 20;

const folder = scratch();
test.after.always(() => remove(folder));

/** The most that a process has held so far; 0 when it has gone. */
function mostBytes(pid: number): number {
  try {
    const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Runs a command of ours. @returns the most that it has held, and what the daemon has held meanwhile. */
async function watched(
  words: readonly string[],
  daemon: number,
): Promise<{ command: number; daemon: number; seconds: number }> {
  const started = performance.now();
  const child = spawn(process.execPath, [PROGRAM, ...words], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const most = { command: 0, daemon: 0 };
  const timer = setInterval(() => {
    most.command = Math.max(most.command, mostBytes(child.pid ?? 0));
    most.daemon = Math.max(most.daemon, residentBytes(daemon));
  }, 20);
  const code = await new Promise((resolve) => child.once('exit', resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`${words.join(' ')}: ${String(code)}`);
  return { ...most, seconds: (performance.now() - started) / 1000 };
}

test('commands need no more memory for more changed paths, and the daemon little', async (t) => {
  t.timeout(3_600_000);
  const folders = SCALE < 2 ? 10 : 20 * SCALE;
  const paths = folders * 1001;
  const repo = join(folder, 'repo');
  ostree('init', `--repo=${repo}`, '--mode=bare-user');
  await using m = await mounted({ lower: { f: '' }, options: { size: '4G' } });
  const hand = m.hand(120_000);
  const { pid } = await m.session.status();
  if (pid === null) throw new Error('no daemon');
  const start = residentBytes(pid);
  for (let index = 0; index < folders; index++) {
    await hand.must([`mkdir d${index}`, `makefiles d${index} 1000`]);
  }
  const { name } = m.session;
  const commands = [
    ['diff', name],
    ['export', name, '--format=tar', `--output=${join(folder, 'tar')}`],
    ['export', name, '--format=oci-layer', `--output=${join(folder, 'layer')}`],
    ['commit', name, `--repo=${repo}`, '--branch=many'],
  ];
  for (const words of commands) {
    const held = residentBytes(pid);
    const most = await watched(words, pid);
    const what = words.filter((word) => !word.includes('/') && word !== name).join(' ');
    t.log(
      `${what}: ${paths} paths, ${most.seconds.toFixed(1)} s, the command ${Math.round(most.command / MIB)} MiB, the daemon ${Math.round((held - start) / paths)} bytes a path and ${Math.round((most.daemon - held) / paths)} more`,
    );
    t.true(most.command < 250 * MIB, what);
    t.true(most.daemon - start < 80 * MIB + 2500 * paths, what);
  }
});
