/** What a worker serves to itself before it says ready. */
import test from 'ava';
import { readdirSync } from 'node:fs';
import { Rehearsal } from '../src/fuse/rehearsal.ts';
import { native } from '../src/native.ts';

test('every request of a rehearsal is served, and nothing stays open', (t) => {
  const before = readdirSync('/proc/self/fd').length;
  const rehearsal = new Rehearsal(native);
  while (rehearsal.proceed());
  t.is(rehearsal.refused, 0);
  t.is(readdirSync('/proc/self/fd').length, before);
});
