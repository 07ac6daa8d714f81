/** Which files are read ahead of a reader, and what becomes of those that nobody reads. */
import test, { type ExecutionContext } from 'ava';
import {
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DirectoryLayer, type DirectoryNode } from '../src/layers/directory.ts';
import { Attr, Segments } from '../src/layers/layer.ts';
import type { Name } from '../src/layers/layer.ts';
import { MemoryUpper } from '../src/layers/memory.ts';
import { native } from '../src/native.ts';
import type { Entry } from '../src/overlay/filesystem.ts';
import { Overlay } from '../src/overlay/overlay.ts';
import { ROOT } from './helpers/in-process.ts';

const LIMIT = 1 << 20;
const ROOT_INO = 1;
const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;
const ENOENT = 2;

/** f00 to f59, in a folder that is gone after the test. */
const NAMES = Array.from({ length: 60 }, (_, index) => `f${String(index).padStart(2, '0')}`);

function planted(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-ahead-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const name of NAMES) writeFileSync(join(folder, name), `this is ${name}`);
  mkdirSync(join(folder, 'f00.d'));
  symlinkSync('f01', join(folder, 'f01.link'));
  return folder;
}

/** Whether one name comes soon after another in an order. */
function isNear(order: Name[], before: Name, name: Name): boolean {
  const distance = order.indexOf(name) - order.indexOf(before);
  return distance > 0 && distance < 5;
}

/** Files of which none comes soon after the one before, neither as they are listed nor by name. */
function scatter(listed: Name[]): Name[] {
  const left = [...NAMES];
  const taken = left.splice(30, 1);
  while (true) {
    const before = taken.at(-1) ?? '';
    const next = left.findIndex(
      (name) => !isNear(NAMES, before, name) && !isNear(listed, before, name),
    );
    if (next < 0) return taken;
    taken.push(...left.splice(next, 1));
  }
}

/** A layer that writes down what it is told. */
class Told extends DirectoryLayer {
  told: Name[] = [];
  missing = 0;

  override readAhead(_dir: DirectoryNode, names: Name[]): number {
    this.told.push(...names);
    return this.missing;
  }
}

/** A reader of a directory whose files are on a disk, or in memory. */
class Reader {
  readonly overlay: Overlay;
  readonly #layer: Told;
  readonly #waited: Uint32Array = new Uint32Array(1);
  readonly #entry: Entry = { ino: 0, attr: new Attr() };

  constructor(t: ExecutionContext) {
    const fd = native.open(planted(t), constants.O_RDONLY | constants.O_DIRECTORY, 0);
    this.#layer = new Told(native, fd, { links: 'shared' });
    const upper = new MemoryUpper(native, native.memfd('ahead'), LIMIT);
    const overlay = new Overlay([this.#layer], upper);
    t.teardown(() => overlay.close());
    overlay.readAhead(this.#waited);
    this.overlay = overlay as Overlay;
  }

  list(): Name[] {
    const names: Name[] = [];
    this.overlay.readdir(ROOT_INO, 0, (name) => names.push(name) > 0);
    return names.filter((name) => /^f\d\d$/.test(name));
  }

  ino(name: Name): number {
    this.overlay.lookup(ROOT_INO, name, this.#entry);
    return this.#entry.ino;
  }

  /** @returns what is read ahead then. */
  read(name: Name, { waits = false, missing = 0, offset = 0 } = {}): Name[] {
    this.#layer.told = [];
    this.#layer.missing += missing;
    this.overlay.read(this.ino(name), offset, 4, new Segments());
    if (waits) this.#waited[0]!++;
    return this.#layer.told;
  }
}

test('who takes files by their names finds the next ones read, more as he goes on, none twice', (t) => {
  const reader = new Reader(t);
  reader.list();
  t.deepEqual(reader.read('f00', { waits: true }), [], 'nothing is known of him');
  t.deepEqual(reader.read('f01', { waits: true }), []);
  t.deepEqual(reader.read('f02', { waits: true }), [], 'two steps are no run');
  const ahead = NAMES.slice(3).map((name) => {
    const told = reader.read(name, { missing: 1 });
    return { name, told };
  });
  const all = ahead.flatMap(({ told }) => told);
  t.deepEqual(all, NAMES.slice(4), 'each once, in order');
  for (const [index, { told }] of ahead.entries()) {
    const last = told.at(-1);
    if (last === undefined) continue;
    t.true(NAMES.indexOf(last) <= index + 3 + 16, `${last} is not too far ahead`);
  }
  t.true(ahead.filter(({ told }) => told.length > 0).length < 20, 'some at a time');
});

test('who takes them as they are listed is followed too', (t) => {
  const reader = new Reader(t);
  const listed = reader.list();
  const told = listed.flatMap((name) => reader.read(name, { waits: true }));
  t.true(told.length > 50);
  t.deepEqual(
    told,
    listed.filter((name) => told.includes(name)),
  );
});

test('nothing is read ahead of who need not wait, of who takes them in no order, and of who has not listed', (t) => {
  const quick = new Reader(t);
  quick.list();
  t.deepEqual(
    NAMES.flatMap((name) => quick.read(name)),
    [],
    'in memory',
  );
  const anyhow = new Reader(t);
  const scattered = scatter(anyhow.list());
  t.true(scattered.length > 40);
  t.deepEqual(
    scattered.flatMap((name) => anyhow.read(name, { waits: true })),
    [],
    'in no order',
  );
  const blind = new Reader(t);
  t.deepEqual(
    NAMES.flatMap((name) => blind.read(name, { waits: true })),
    [],
    'without a list',
  );
});

test('it ends where everything is found in memory, and begins again at the next wait', (t) => {
  const reader = new Reader(t);
  reader.list();
  const pass = (waits: boolean) => NAMES.flatMap((name) => reader.read(name, { waits }));
  t.true(pass(true).length > 0);
  pass(false);
  pass(false);
  t.deepEqual(pass(false), []);
  reader.read('f00', { waits: true });
  t.true(pass(false).length > 0);
});

test('files that were changed, and parts of files, tell nothing', (t) => {
  const reader = new Reader(t);
  reader.list();
  for (const name of NAMES)
    reader.overlay.write(reader.ino(name), 0, Buffer.from('x'), 0, 1, false, ROOT);
  t.deepEqual(
    NAMES.flatMap((name) => reader.read(name, { waits: true })),
    [],
  );
  const partly = new Reader(t);
  partly.list();
  t.deepEqual(
    NAMES.flatMap((name) => partly.read(name, { waits: true, offset: 2 })),
    [],
  );
});

/** Files of a folder that this process has open. */
function opened(folder: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(`${folder}/`) ? [path.slice(folder.length + 1)] : [];
    } catch {
      return [];
    }
  });
}

async function until(t: ExecutionContext, isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !isSo(); i++) await sleep(10);
  t.true(isSo());
}

/** What opens files of a folder. */
function opener(t: ExecutionContext) {
  const folder = planted(t);
  const fd = native.open(folder, constants.O_RDONLY | constants.O_DIRECTORY, 0);
  t.teardown(() => native.close(fd));
  const ahead = new native.ReadAhead();
  t.teardown(() => ahead.close());
  return { folder, fd, ahead };
}

test('files are opened ahead, given away once, and closed where nobody takes them', async (t) => {
  const { folder, fd, ahead } = opener(t);
  t.is(ahead.take(1, 'f00'), -ENOENT);
  t.is(ahead.begin(1, fd, FLAGS, ['f00', 'absent', 'f01.link', '../x', '/etc/passwd', '']), 0);
  ahead.begin(1, fd, FLAGS, ['f02', 'f02', 'f03']);
  await until(t, () => opened(folder).includes('f03'));
  t.deepEqual(
    opened(folder).toSorted(),
    ['f00', 'f02', 'f03'],
    'nothing but files of the folder, once',
  );
  t.is(ahead.take(2, 'f00'), -ENOENT, 'not in another place');
  const file = ahead.take(1, 'f00');
  const bytes = new Uint8Array(11);
  t.is(native.pread(file, bytes, 0), 11);
  t.is(Buffer.from(bytes).toString(), 'this is f00');
  t.is(ahead.take(1, 'f00'), -ENOENT, 'once');
  native.close(file);
  ahead.close();
  t.deepEqual(opened(folder), []);
});

test('no more files are kept open than can be of use', async (t) => {
  const { folder, fd, ahead } = opener(t);
  for (let place = 1; place <= 5; place++) {
    ahead.begin(place, fd, FLAGS, NAMES);
    // The last is there: the thread has come to the end of it.
    let last = -1;
    await until(t, () => (last = last < 0 ? ahead.take(place, 'f59') : last) >= 0);
    native.close(last);
  }
  t.true(opened(folder).length <= 128);
  t.is(ahead.take(1, 'f00'), -ENOENT, 'the oldest went');
  const kept = ahead.take(5, 'f00');
  t.true(kept >= 0);
  native.close(kept);
  ahead.close();
  t.deepEqual(opened(folder), []);
});
