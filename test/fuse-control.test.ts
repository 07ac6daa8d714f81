import test from 'ava';
import { Control } from '../src/fuse/control.ts';
import type { Subject } from '../src/fuse/control.ts';
import type { Change } from '../src/overlay/change.ts';

const USAGE = { used: 10, limit: 100, inodes: 1, nodes: 1, bytesWritten: 0, bytesCopied: 0 };

/** `count` changes, the first of them called `/<first>`. */
function changes(count: number, first = 0): Change[] {
  return Array.from({ length: count }, (_, index) => ({
    kind: 'A',
    path: `/${first + index}`,
    type: 0o100000,
    size: 0,
    mode: 0o100644,
  }));
}

/** A control over these changes, and the whole of what it tells of them. */
function control(listed: () => Change[], usage = USAGE): Control {
  return new Control({ overlay: overlayOf(listed, usage) });
}

function overlayOf(listed: () => Change[], usage = USAGE): Subject['overlay'] {
  const countChanges = () => ({ changes: listed().length, moreChanges: false });
  return { changes: listed, countChanges, usage: () => usage };
}

interface Part {
  changes: Change[];
  done: boolean;
  listing: number;
}

test('changes are told in parts that make up the whole', (t) => {
  const all = changes(10_000);
  const asked = control(() => all);
  const told: Change[] = [];
  let parts = 0;
  for (let isDone = false; !isDone; parts++) {
    const part = asked.answer('diff', { from: told.length }) as Part;
    told.push(...part.changes);
    isDone = part.done;
  }
  t.deepEqual(told, all);
  t.true(parts > 1);
});

test('a listing is of the moment it began', (t) => {
  let now = changes(5000);
  const asked = control(() => now);
  const first = asked.answer('diff', { from: 0 }) as Part;
  now = [];
  const second = asked.answer('diff', { from: first.changes.length }) as Part;
  t.is(first.changes.length + second.changes.length, 5000);
  t.true(second.done);
});

test('two listings under way do not mix', (t) => {
  let now = changes(5000);
  const asked = control(() => now);
  const one = asked.answer('diff', { from: 0 }) as Part;
  now = changes(6000, 100_000);
  const other = asked.answer('diff', { from: 0 }) as Part;
  const rest = asked.answer('diff', { from: one.changes.length, listing: one.listing }) as Part;
  t.deepEqual([...one.changes, ...rest.changes], changes(5000));
  const last = asked.answer('diff', { from: other.changes.length, listing: other.listing }) as Part;
  t.deepEqual([...other.changes, ...last.changes], now);
});

test('a listing that was told or crowded out is refused, not cut short', (t) => {
  const asked = control(() => changes(5000));
  const first = asked.answer('diff', { from: 0 }) as Part;
  for (let times = 0; times < 4; times++) asked.answer('diff', { from: 0 });
  const question = { from: first.changes.length, listing: first.listing };
  t.throws(() => asked.answer('diff', question), { message: /begin again/ });
});

test('no changes are told in one part', (t) => {
  t.like(control(() => []).answer('diff', {}), { changes: [], done: true });
});

test('status counts changes and warns from 90 % on', (t) => {
  t.deepEqual(control(() => changes(3)).answer('status', undefined), {
    ...USAGE,
    changes: 3,
    moreChanges: false,
    requests: {},
    warnings: [],
  });
  const nearly = control(() => [], { ...USAGE, used: 90 }).answer('status', undefined);
  t.like(nearly, { warnings: ['the upper is 90 % full'] });
});

test('changes are counted again only after a request that may have made one', (t) => {
  let listings = 0;
  const server = { requests: { WRITE: 1 }, taint: undefined, mutations: 1 };
  const overlay = overlayOf(() => changes(++listings));
  const asked = new Control({ overlay, server });
  t.like(asked.answer('status', undefined), { changes: 1 });
  t.like(asked.answer('status', undefined), { changes: 1 });
  server.mutations = 2;
  t.like(asked.answer('status', undefined), { changes: 2, requests: { WRITE: 1 } });
});

test('status says which bug was met', (t) => {
  const server = { requests: {}, taint: 'WRITE met a bug: oops', mutations: 0 };
  const overlay = overlayOf(() => []);
  const status = new Control({ overlay, server }).answer('status', undefined);
  t.like(status, { taint: 'WRITE met a bug: oops' });
});

test('an unknown question is refused', (t) => {
  t.throws(() => control(() => []).answer('toString', undefined), { message: /no 'toString'/ });
});
