/** What a listing with attributes hands to the kernel, and what the kernel has already. */
import { constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { DirectoryLayer } from '../src/layers/directory.ts';
import { Attr } from '../src/layers/layer.ts';
import { MemoryUpper } from '../src/layers/memory.ts';
import { native } from '../src/native.ts';
import type { Entry } from '../src/overlay/filesystem.ts';
import { Overlay } from '../src/overlay/overlay.ts';
import { ROOT } from './helpers/in-process.ts';
import { directory, plant } from './helpers/layers.ts';

const LIMIT = 1 << 20;
const ROOT_INO = 1;
/** After "." and "..". */
const NAMES = 2;

test('a listing repeats no attributes that the kernel has', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'listing-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const overlay = new Overlay(
    [directory(plant(root))],
    new MemoryUpper(native, native.memfd('listing'), LIMIT),
  );
  t.teardown(() => overlay.close());
  const entry: Entry = { ino: 0, attr: new Attr() };
  const handleOf = (name: string) => {
    overlay.lookup(ROOT_INO, name, entry);
    return entry.ino;
  };
  /** Names with the number that stat(2) shows and whether a reference came with them. */
  const listed = () => {
    const seen = new Map<string, { ino: number; hasReference: boolean }>();
    overlay.readdirplus(ROOT_INO, NAMES, (name, _cookie, _type, { ino, attr }) => {
      seen.set(name, { ino: attr.ino, hasReference: ino !== 0 });
      return true;
    });
    return seen;
  };
  const referred = (seen: ReturnType<typeof listed>) =>
    [...seen].flatMap(([name, { hasReference }]) => (hasReference ? [name] : [])).toSorted();

  const f = handleOf('f');
  const first = listed();
  t.deepEqual(referred(first), ['big', 'd', 'empty', 'inside', 'outside']);
  t.is(first.get('f')?.ino, entry.attr.ino);
  t.deepEqual(referred(listed()), [], 'the first listing has told all');

  overlay.forget(f, 1);
  const again = listed();
  t.deepEqual(referred(again), ['f'], 'what the kernel has forgotten is told again');
  t.deepEqual(
    [...again].map(([name, { ino }]) => [name, ino]),
    [...first].map(([name, { ino }]) => [name, ino]),
  );

  overlay.write(handleOf('f'), 0, Buffer.from('x'), 0, 1, false, ROOT);
  t.deepEqual(referred(listed()), ['f'], 'a changed file has new attributes');
});

test('a directory of more names than are kept is read once for all parts of a listing', (t) => {
  const count = 100_100;
  const names = Buffer.from(Array.from({ length: count }, (_, i) => `f${i}/`).join(''));
  const ends = new Uint32Array(count);
  for (let i = 0, end = 0; i < count; i++) ends[i] = end = names.indexOf('/', end) + 1;
  let read = 0;
  const counting = {
    ...native,
    packDirectory() {
      read++;
      const isLast = 2;
      const words = Uint32Array.from([count, isLast, ...new Uint32Array(2 * count), ...ends]);
      const types = new Uint8Array(count).fill(8);
      const bytes = [new Uint8Array(words.buffer), types, names];
      return new Uint8Array(Buffer.concat(bytes)).buffer;
    },
  };
  const fd = native.open(tmpdir(), constants.O_RDONLY | constants.O_DIRECTORY, 0);
  const lower = new DirectoryLayer(counting, fd, { links: 'shared', devices: new Map() });
  const overlay = new Overlay([lower], new MemoryUpper(native, native.memfd('many'), LIMIT));
  t.teardown(() => overlay.close());
  let at = 0;
  let seen = 0;
  for (let before = -1; before < seen;) {
    before = seen;
    let room = 5000;
    overlay.readdir(ROOT_INO, at, (_name, cookie) => {
      if (room-- <= 0) return false;
      at = cookie;
      seen++;
      return true;
    });
  }
  t.is(seen, NAMES + count);
  t.is(read, 1);
});
