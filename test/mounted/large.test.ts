/** Large sources: a byte of a huge file, directories of many lowers, memory after walks of many entries. */
import test from 'ava';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { findSession } from '../../src/index.ts';
import { Hand } from '../helpers/hand.ts';
import { mounted, residentBytes, type Mounted } from '../helpers/mounted.ts';
import { file } from '../helpers/trees.ts';
import { PROGRAM } from '../helpers/program.ts';

const MIB = 1024 * 1024;

test.serial('one byte of a lower file of 1 GiB costs a block, not the file', async (t) => {
  // Of a file system of its own, since what is used is all of it.
  const lower = { big: file('', { size: 1024 * MIB }) };
  await using session = await mounted({ lower, options: { size: '4G' } });
  const hand = session.hand();
  const before = (await session.session.status()).used ?? 0;
  const started = performance.now();
  await hand.must(['open 0 big O_RDWR', 'pwrite 0 500000000 =x', 'fsync 0']);
  const elapsed = performance.now() - started;
  const used = ((await session.session.status()).used ?? 0) - before;
  t.true(used < MIB, `${used} bytes`);
  t.true(elapsed < 1000, `${elapsed} ms`);
  await hand.must(['chmod big 0600', 'truncate big 1000000000', 'rename big huge']);
  const last = ((await session.session.status()).used ?? 0) - before;
  t.true(last < MIB, `${last} bytes`);
  t.log(`${used} bytes used`);
});

test.serial('many directories of many lowers need few descriptors', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'few-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const lowers = Array.from({ length: 24 }, (_, index) => join(folder, `lower${index}`));
  for (const [index, lower] of lowers.entries()) {
    for (let at = 0; at < 40; at++) mkdirSync(join(lower, `d${at}`), { recursive: true });
    await using maker = new Hand({ cwd: lower });
    await maker.must(Array.from({ length: 40 }, (_, at) => `mknod d${at}/of${index} S_IFREG|0644`));
  }
  const mountpoint = join(folder, 'mnt');
  mkdirSync(mountpoint);
  for (const upper of ['memory', 'tmpfs']) {
    const words = ['unlock', lowers.join(':'), mountpoint, '--name=few', `--upper=${upper}`];
    execFileSync('prlimit', ['--nofile=300:300', process.execPath, PROGRAM, ...words]);
    await using session = await findSession('few');
    const { pid } = await session.status();
    for (let at = 0; at < 40; at++) {
      const shown = join(mountpoint, `d${at}`);
      t.is(readdirSync(shown).length, lowers.length);
      cpSync(shown, `${shown}-copied`, { recursive: true });
    }
    t.true(readdirSync(`/proc/${pid}/fd`).length < 300);
    await using hand = new Hand({ cwd: mountpoint });
    await hand.must(['drop']);
    t.is(await hand.do('count .'), `ok ${80 * (lowers.length + 1)}`);
    t.deepEqual((await session.status()).problems, []);
  }
});

test.serial('140,000 entries walked again and again leave the daemon small', async (t) => {
  t.timeout(300_000);
  const lower = mkdtempSync(join(tmpdir(), 'walk-'));
  t.teardown(() => rmSync(lower, { recursive: true }));
  await using maker = new Hand({ cwd: lower, timeoutMs: 120_000 });
  await maker.must(
    Array.from({ length: 140 }, (_, index) => [
      `mkdir d${index}`,
      `makefiles d${index} 999`,
    ]).flat(),
  );
  await using session = await mounted({ lower, unchecked: true });
  const hand = session.hand(120_000);
  const { pid } = await session.session.status();
  if (pid === null) throw new Error('no daemon');
  const full: number[] = [];
  const forgotten: number[] = [];
  for (let round = 0; round < 5; round++) {
    t.is(await hand.do('count .'), 'ok 140000');
    full.push(residentBytes(pid));
    await hand.must(['drop 2']);
    await settled(session);
    forgotten.push(residentBytes(pid));
  }
  const sizes = [full, forgotten].map((each) =>
    each.map((size) => Math.round(size / MIB)).join(' '),
  );
  t.log(`${sizes.join(' MiB, after forgetting ')} MiB`);
  t.true(Math.max(...full, ...forgotten) < 150 * MIB, sizes.join(', '));
  // What is kept of every walk (34 bytes of an entry would do) is in each of the last sizes; what the
  // engine has not collected yet, 10 MiB at times, is not.
  const [afterFirst = 0] = forgotten;
  t.true(
    Math.min(...forgotten.slice(2)) < afterFirst * 1.1 + 2 * MIB,
    'larger after the last walks than after the first',
  );
});

/** Waits until the daemon has been told everything that the kernel has forgotten. */
async function settled(session: Mounted): Promise<void> {
  for (let round = 0, last = -1; round < 50; round++) {
    const { requests } = await session.session.status();
    const forgets = Object.entries(requests).reduce(
      (sum, [name, count]) => sum + (name.includes('FORGET') ? count : 0),
      0,
    );
    if (forgets === last) return;
    last = forgets;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
