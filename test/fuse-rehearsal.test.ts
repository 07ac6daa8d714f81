/** What a worker serves to itself before it says ready, and while no request is there. */
import test from 'ava';
import { readdirSync } from 'node:fs';
import { Rehearsal } from '../src/fuse/rehearsal.ts';
import { native } from '../src/native.ts';

const UPPERS = { memory: undefined, tmpfs: { isDurable: false }, disk: { isDurable: true } };

for (const [name, upper] of Object.entries(UPPERS)) {
  test(`${name}: every request of a rehearsal is served, and nothing stays open`, (t) => {
    const before = readdirSync('/proc/self/fd').length;
    const rehearsal = new Rehearsal(native, upper);
    rehearsal.prepare();
    let slices = 0;
    while (rehearsal.proceed()) slices++;
    t.true(slices > 100, 'more is left for idle moments');
    t.is(rehearsal.refused, 0);
    t.is(readdirSync('/proc/self/fd').length, before);
  });
}

test('a rehearsal that ends early leaves nothing open', (t) => {
  for (const upper of Object.values(UPPERS)) {
    const before = readdirSync('/proc/self/fd').length;
    const rehearsal = new Rehearsal(native, upper);
    rehearsal.prepare();
    t.true(rehearsal.proceed());
    rehearsal[Symbol.dispose]();
    t.false(rehearsal.proceed());
    t.is(readdirSync('/proc/self/fd').length, before);
  }
});
