/** Large directories: who lists them has the first names before the last are read, and misses none. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { Server } from '../src/fuse/server.ts';
import * as abi from '../src/fuse/abi.ts';
import { DirectoryLayer } from '../src/layers/directory.ts';
import { Attr } from '../src/layers/layer.ts';
import { MemoryUpper } from '../src/layers/memory.ts';
import type { MemoryNode } from '../src/layers/memory-node.ts';
import { native } from '../src/native.ts';
import type { ManyEntries } from '../src/overlay/filesystem.ts';
import { Overlay } from '../src/overlay/overlay.ts';
import { ROOT } from './helpers/in-process.ts';
import { type DecodedDirent, Kernel } from './helpers/kernel.ts';
import { open } from './helpers/layers.ts';

const ROOT_INO = 1;
const EIO = 5;
const COUNT = 3000;
const SIZE = 32 * 1024;

interface Fixture {
  kernel: Kernel;
  overlay: Overlay<MemoryNode>;
  root: string;
  /** Parts that were listed: how many, how many when each reply was sent, and which fails. */
  parts: { count: number; whenSent: number[]; failing: number };
}

/** A directory of COUNT files and another, `sub`, of as many. */
function fixture(t: ExecutionContext): Fixture {
  const root = mkdtempSync(join(tmpdir(), 'ostree-ts-begun-'));
  mkdirSync(join(root, 'sub'));
  for (let i = 0; i < COUNT; i++) {
    writeFileSync(join(root, `name-${i}-of-some-length`), '');
    writeFileSync(join(root, 'sub', `name-${i}-of-some-length`), '');
  }
  const parts: Fixture['parts'] = { count: 0, whenSent: [], failing: -1 };
  const counting = {
    ...native,
    packDirectory: (fd: number) =>
      parts.count++ === parts.failing ? -EIO : native.packDirectory(fd),
  };
  const lower = new DirectoryLayer(counting, open(root), { links: 'shared', devices: new Map() });
  const overlay = new Overlay([lower], new MemoryUpper(native, native.memfd('begun'), 2 ** 30));
  const kernel = new Kernel(undefined, () => parts.whenSent.push(parts.count));
  const log = (message: string): void => t.log(message);
  const { begun } = overlay;
  kernel.attach(new Server({ channel: kernel, filesystem: overlay, begun, log, onBug: 'rethrow' }));
  kernel.init();
  t.teardown(() => {
    overlay.close();
    rmSync(root, { recursive: true });
  });
  return { kernel, overlay, root, parts };
}

function listed(kernel: Kernel, ino: number, cookie: number): DecodedDirent[] {
  const entries = kernel.readdir(ino, cookie, SIZE);
  if (typeof entries === 'number') throw new Error(`errno ${-entries}`);
  return entries;
}

/** What follows a cookie. */
function rest(kernel: Kernel, ino: number, cookie: number): DecodedDirent[] {
  const all: DecodedDirent[] = [];
  for (let at = cookie; ;) {
    const some = listed(kernel, ino, at);
    if (some.length === 0) return all;
    all.push(...some);
    at = cookieOf(some);
  }
}

/** The last. */
function cookieOf(entries: readonly DecodedDirent[]): number {
  return entries.at(-1)?.cookie ?? 0;
}

function namesOf(entries: readonly DecodedDirent[]): string[] {
  return entries.map(({ name }) => name);
}

function onDisk(path: string): string[] {
  return ['.', '..', ...readdirSync(path)].toSorted();
}

test('the first names are answered when one part is listed, and the others are listed until somebody asks', (t) => {
  const { kernel, parts, root } = fixture(t);
  parts.whenSent = [];
  const behind = kernel.enqueue(abi.FUSE_STATFS, ROOT_INO, []);
  const first = listed(kernel, ROOT_INO, 0);
  t.is(kernel.answerTo(behind)?.error, 0);
  t.true(first.length > 100);
  t.deepEqual(parts.whenSent, [1, 2], 'one more before who waits is served');
  const { count } = parts;
  t.true(count > 3, 'and all when nobody waits');
  const all = [...first, ...rest(kernel, ROOT_INO, cookieOf(first))];
  t.is(parts.count, count, 'each is listed once');
  t.deepEqual(namesOf(all).toSorted(), onDisk(root));
  const cookies = all.map(({ cookie }) => cookie);
  t.deepEqual(
    cookies,
    cookies.toSorted((a, b) => a - b),
  );
});

test('attributes of the first names need no more than one part either', (t) => {
  const { kernel, parts } = fixture(t);
  parts.whenSent = [];
  const first = kernel.readdirplus(ROOT_INO, 0, SIZE);
  t.true(typeof first !== 'number' && first.length > 50);
  t.deepEqual(parts.whenSent, [1]);
});

test('who lists faster than the directory is read waits for what he asks for', (t) => {
  const { overlay, parts, root } = fixture(t);
  // Nobody reads on in between.
  const names: string[] = [];
  let at = 0;
  for (let before = -1; before < names.length;) {
    before = names.length;
    const sink = (name: string, cookie: number): boolean => {
      at = cookie;
      return names.push(name) > 0;
    };
    const many = (entries: ManyEntries, from: number, cookie: number): void => {
      const part = entries.packed(from, true);
      if (part === undefined) return;
      for (let i = from; i < part.first + part.types.length; i++) {
        sink(entries.name(i), cookie + i - from);
      }
    };
    overlay.readdir(ROOT_INO, at, Object.assign(sink, { many }));
  }
  t.deepEqual(names.toSorted(), onDisk(root));
  t.true(parts.count > 3);
});

test('two directories at once, and changes while one is listed', (t) => {
  const { kernel, overlay, root } = fixture(t);
  const sub = kernel.lookup(ROOT_INO, 'sub');
  if (typeof sub === 'number') throw new Error(`errno ${-sub}`);
  kernel.enqueue(abi.FUSE_READDIR, sub.nodeid, [0n, 0n, SIZE, 0, 0n, 0, 0]);
  const first = listed(kernel, ROOT_INO, 0);
  const inSub = rest(kernel, sub.nodeid, 0);
  t.deepEqual(namesOf(inSub).toSorted(), onDisk(join(root, 'sub')));
  const gone = namesOf(first)[50] ?? '';
  const last = readdirSync(root).find((name) => !namesOf(first).includes(name)) ?? '';
  overlay.unlink(ROOT_INO, gone);
  overlay.unlink(ROOT_INO, last);
  overlay.mkdir(ROOT_INO, 'new', 0o755, 0, ROOT, { ino: 0, attr: new Attr() });
  const all = [...first, ...rest(kernel, ROOT_INO, cookieOf(first))];
  const expected = [...onDisk(root), 'new'].filter((name) => name !== last);
  t.deepEqual(namesOf(all).toSorted(), expected.toSorted());
});

test('a part that cannot be read is EIO for who needs it, once, and nothing stays open', (t) => {
  const { kernel, parts, root } = fixture(t);
  const before = readdirSync('/proc/self/fd').length;
  parts.failing = 2;
  const first = listed(kernel, ROOT_INO, 0);
  t.is(parts.count, 3, 'nobody goes on with it');
  t.is(readdirSync('/proc/self/fd').length, before);
  parts.failing = 3;
  t.is(kernel.readdir(ROOT_INO, cookieOf(first) + COUNT - 1, SIZE), -EIO);
  const all = [...first, ...rest(kernel, ROOT_INO, cookieOf(first))];
  t.deepEqual(namesOf(all).toSorted(), onDisk(root));
});
