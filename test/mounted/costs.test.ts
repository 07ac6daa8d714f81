/** What changes cost: a directory of ten thousand files renamed, memory of a changed path, how long a listing keeps programs waiting. */
import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Hand } from '../helpers/hand.ts';
import { mounted, residentBytes } from '../helpers/mounted.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);

test.serial('a lower directory of 10,000 files is renamed as fast as an empty one', async (t) => {
  t.timeout(120_000);
  const lower = mkdtempSync(join(tmpdir(), 'rename-'));
  t.teardown(() => rmSync(lower, { recursive: true }));
  await using maker = new Hand({ cwd: lower });
  const names = Array.from({ length: 15 }, (_, index) => index);
  await maker.must(
    names.flatMap((index) => [
      `mkdir full${index}`,
      `makefiles full${index} 10000`,
      `mkdir empty${index}`,
    ]),
  );
  await using session = await mounted({ lower, unchecked: true });
  const hand = session.hand();
  const times: Record<'full' | 'empty', number[]> = { full: [], empty: [] };
  for (const index of names) {
    for (const kind of index % 2 === 0
      ? (['full', 'empty'] as const)
      : (['empty', 'full'] as const)) {
      await hand.must([`stat ${kind}${index}`]);
      const started = performance.now();
      const answer = await hand.do(`rename ${kind}${index} ${kind}${index}-moved`);
      times[kind].push(performance.now() - started);
      t.is(answer, 'ok');
    }
  }
  t.is(await hand.do('count full3-moved'), 'ok 10000');
  const [full, empty] = [median(times.full), median(times.empty)];
  t.log(`full ${full.toFixed(3)} ms, empty ${empty.toFixed(3)} ms`);
  t.true(full < 2 * empty, `full ${full.toFixed(3)} ms, empty ${empty.toFixed(3)} ms`);
  // 150,000 paths have changed: they are not all counted while programs wait.
  const started = performance.now();
  const asked = session.session.status();
  await hand.must(['stat full4-moved/f0']);
  const wait = performance.now() - started;
  const { changes, moreChanges } = await asked;
  t.log(`${changes} changes counted, a program waited ${wait.toFixed(0)} ms`);
  t.true(moreChanges && (changes ?? 0) > 0);
  t.true(wait < 1000, `${wait} ms`);
});

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

test.serial(
  'a changed path takes little memory, and a listing little time of programs',
  async (t) => {
    t.timeout(300_000);
    const folders = 50 * Math.min(20, SCALE);
    const paths = folders * 1001;
    await using session = await mounted({ lower: { f: '' }, options: { size: '4G' } });
    const hand = session.hand(120_000);
    const { pid } = await session.session.status();
    if (pid === null) throw new Error('no daemon');
    const start = residentBytes(pid);
    for (let index = 0; index < folders; index++) {
      await hand.must([`mkdir d${index}`, `makefiles d${index} 1000`]);
    }
    const held = (residentBytes(pid) - start) / paths;
    const listing = { isDone: false, paths: 0, mostBytes: 0 };
    const listed = (async () => {
      for await (const { kind } of session.session.diff()) {
        if (kind === 'A') listing.paths++;
        if (listing.paths % 4096 === 0) {
          listing.mostBytes = Math.max(listing.mostBytes, residentBytes(pid));
        }
      }
    })().finally(() => {
      listing.isDone = true;
    });
    let wait = 0;
    for (let index = 0; !listing.isDone; index++) {
      const began = performance.now();
      await hand.must([`mkdir w${index}`]);
      wait = Math.max(wait, performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await listed;
    const more = (listing.mostBytes - start) / paths - held;
    const words = `${paths} paths: ${held.toFixed(0)} bytes each, ${more.toFixed(0)} more when listed; a program waited ${wait.toFixed(0)} ms`;
    t.log(words);
    t.true(listing.paths >= paths, words);
    t.true(held < 1500 && more < 1500, words);
    t.true(wait < paths / 10, words);
  },
);
