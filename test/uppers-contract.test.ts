/** What every upper must do, each case written once: over memory, a tmpfs and a disk. */
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  Attr,
  type Name,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  Segments,
} from '../src/layers/layer.ts';
import { MemoryUpper } from '../src/layers/memory.ts';
import { DirectoryUpper } from '../src/layers/overlayfs-dir.ts';
import { OWN_COOKIES, type UpperLayer } from '../src/layers/upper.ts';
import { native } from '../src/native.ts';
import { BIG, bytesOf, directory, Lower, open, plant } from './helpers/layers.ts';
import { remove, scratch } from './helpers/repositories.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** On disk, whatever holds the temp folder; and on a tmpfs. */
const FOLDER = scratch();
const MEMORY = mkdtempSync('/dev/shm/ostree-ts-layers-');
test.after.always(() => {
  for (const folder of [FOLDER, MEMORY]) remove(folder);
});
const TREE = plant(join(FOLDER, 'tree'));

/** An upper over the directory, as the overlay has it. */
interface Trial {
  upper: UpperLayer<object>;
  root: object;
  lower: Lower;
}

const LIMIT = 16 << 20;

function onHost(folder: string): (lower: Lower) => UpperLayer<object> {
  let number = 0;
  return () => {
    const path = join(folder, `upper-${number++}`);
    mkdirSync(path);
    return new DirectoryUpper(native, open(path), { isDurable: folder === FOLDER });
  };
}

const UPPERS: Readonly<Record<string, (lower: Lower) => UpperLayer<object>>> = {
  memory: () => new MemoryUpper(native, native.memfd('layers'), LIMIT),
  tmpfs: onHost(MEMORY),
  disk: onHost(FOLDER),
};

function overUppers(title: string, run: (t: ExecutionContext, trial: Trial) => void): void {
  for (const [kind, make] of Object.entries(UPPERS)) {
    test.serial(`${title} [${kind}]`, (t) => {
      if (kind !== 'memory' && process.getuid?.() !== 0) {
        t.log('skipped: only root can set trusted.overlay.*');
        t.pass();
        return;
      }
      const lower = new Lower([directory(TREE)]);
      const upper = make(lower);
      const attached = upper.attach(lower.stack);
      const attr = new Attr();
      const [top] = lower.stack.roots;
      top?.layer.attr(top.node, attr);
      const root = attached ?? upper.make(attr, lower.stack.roots, undefined, true);
      run(t, { upper, root, lower });
      upper.close();
      t.is(readFileSync(join(TREE, 'f'), 'utf8'), 'hello', 'the lower is what it was');
    });
  }
}

function attrOf(mode: number): Attr {
  return Object.assign(new Attr(), {
    mode,
    nlink: (mode & S_IFMT) === S_IFDIR ? 2 : 1,
    atimeSec: 1,
    mtimeSec: 1_000_000_000,
    mtimeNsec: 123_456_789,
    ctimeSec: 3,
  });
}

function add({ upper, root }: Trial, name: Name, mode = S_IFREG | 0o640, dir = root): object {
  const node = upper.make(attrOf(mode), [], undefined, false);
  upper.put(dir, name, node, false, false);
  return node;
}

function copyUp({ upper, root, lower }: Trial, name: Name): object {
  const { refs, attr } = lower.at(name);
  const node = upper.make(attr, refs, undefined, false);
  upper.adopt(root, name, node);
  return node;
}

function write(upper: UpperLayer<object>, node: object, offset: number, text: string): void {
  const data = Buffer.from(text);
  upper.write(node, offset, data, 0, data.length);
}

function read(upper: UpperLayer<object>, node: object, offset = 0, length?: number): string {
  const attr = new Attr();
  upper.attr(node, attr);
  const segments = new Segments();
  upper.read(node, offset, length ?? attr.size - offset, segments);
  return bytesOf(segments).toString();
}

overUppers('a new file has its name, its attributes and what is written', (t, trial) => {
  const { upper, root } = trial;
  const node = add(trial, 'new');
  t.is(upper.lookup(root, 'new')?.node, node);
  t.is(upper.lookup(root, 'other'), undefined);
  const attr = new Attr();
  upper.attr(node, attr);
  t.deepEqual([attr.mode, attr.nlink, attr.size], [S_IFREG | 0o640, 1, 0]);
  t.true(attr.ino > 0);
  write(upper, node, 0, 'first');
  write(upper, node, 10_000, 'far');
  t.is(read(upper, node, 0, 7), 'first\0\0');
  t.is(read(upper, node, 9998), '\0\0far');
  upper.truncate(node, 3);
  upper.truncate(node, 6);
  t.is(read(upper, node), 'fir\0\0\0');
});

overUppers('a copy-up is what the lower has, until it is written', (t, trial) => {
  const { upper } = trial;
  const big = copyUp(trial, 'big');
  t.is(read(upper, big, 100_000, 10), BIG.subarray(100_000, 100_010).toString());
  t.false(upper.contentDiffers(big));
  write(upper, big, 100_000, 'changed');
  const segments = new Segments();
  upper.read(big, 0, BIG.length, segments);
  const expected = Buffer.from(BIG);
  expected.write('changed', 100_000);
  t.true(bytesOf(segments).equals(expected));
  t.true(upper.contentDiffers(big));
  const f = copyUp(trial, 'f');
  t.is(Buffer.from(upper.getxattr(f, 'user.k') ?? []).toString(), 'value');
  const attr = new Attr();
  upper.attr(f, attr);
  t.deepEqual([attr.mode, attr.size], [S_IFREG | 0o755, 5]);
  write(upper, f, 0, 'J');
  t.is(read(upper, f), 'Jello');
});

overUppers('a name of the lower that goes leaves a whiteout, others leave nothing', (t, trial) => {
  const { upper, root } = trial;
  const mine = add(trial, 'mine');
  upper.setNlink(mine, 0);
  upper.remove(root, 'mine', false);
  upper.free(mine);
  t.is(upper.lookup(root, 'mine'), undefined);
  upper.remove(root, 'f', true);
  const entry = upper.lookup(root, 'f');
  t.true(entry !== undefined && entry.node === undefined);
  const again = upper.make(attrOf(S_IFREG | 0o600), [], undefined, false);
  upper.put(root, 'f', again, true, false);
  t.is(upper.lookup(root, 'f')?.node, again);
  t.deepEqual(
    [...upper.entries(root)].map(({ name, node }) => [name, node !== undefined]),
    [['f', true]],
  );
});

overUppers('a name moves, onto others too, and two names change places', (t, trial) => {
  const { upper, root } = trial;
  const dir = add(trial, 'dir', S_IFDIR | 0o755);
  const a = add(trial, 'a');
  const b = add(trial, 'b');
  write(upper, a, 0, 'a');
  upper.move(root, 'a', dir, 'moved', false, false);
  t.is(upper.lookup(root, 'a'), undefined);
  t.is(upper.lookup(dir, 'moved')?.node, a);
  upper.exchange(dir, 'moved', root, 'b');
  t.is(upper.lookup(root, 'b')?.node, a);
  t.is(upper.lookup(dir, 'moved')?.node, b);
  upper.setNlink(b, 0);
  upper.move(root, 'b', dir, 'moved', false, true);
  upper.free(b);
  t.is(upper.lookup(dir, 'moved')?.node, a);
  t.is(read(upper, a), 'a');
  copyUp(trial, 'f');
  upper.move(root, 'f', dir, 'g', false, false);
  t.is(upper.lookup(root, 'f')?.node, undefined);
  t.not(upper.lookup(root, 'f'), undefined, 'a whiteout stays where the lower has a name');
});

overUppers('attributes and extended attributes are kept as they are set', (t, trial) => {
  const { upper } = trial;
  const node = add(trial, 'new');
  const wanted = attrOf(S_IFREG | 0o4711);
  wanted.uid = 1000;
  wanted.gid = 1001;
  wanted.atimeSec = -5;
  wanted.atimeNsec = 999_999_999;
  upper.setAttr(node, wanted);
  const attr = new Attr();
  upper.attr(node, attr);
  t.deepEqual(
    [attr.mode, attr.uid, attr.gid, attr.atimeSec, attr.atimeNsec, attr.mtimeNsec],
    [S_IFREG | 0o4711, 1000, 1001, -5, 999_999_999, 123_456_789],
  );
  upper.setxattr(node, 'user.a', Buffer.from([0, 1, 255]));
  upper.setxattr(node, 'user.b', Buffer.alloc(0));
  t.deepEqual([...(upper.getxattr(node, 'user.a') ?? [])], [0, 1, 255]);
  t.is(upper.getxattr(node, 'user.b')?.length, 0);
  t.deepEqual(upper.listxattr(node).toSorted(), ['user.a', 'user.b']);
  upper.removexattr(node, 'user.a');
  t.is(upper.getxattr(node, 'user.a'), undefined);
  t.deepEqual(upper.listxattr(node), ['user.b']);
});

overUppers('a symlink keeps its target', (t, trial) => {
  const { upper, root } = trial;
  const target = '/no/such/\u00ff';
  const node = upper.make(attrOf(S_IFLNK | 0o777), [], target, false);
  upper.put(root, 's', node, false, false);
  t.is(upper.readlink(node), target);
  t.is(upper.readlink(copyUp(trial, 'outside')), '/etc/passwd');
});

overUppers('holes are made, told, and read as zeros', (t, trial) => {
  const { upper } = trial;
  const node = add(trial, 'new');
  write(upper, node, 0, 'x'.repeat(16_384));
  upper.punch(node, 4096, 8192);
  t.is(read(upper, node, 4090, 12), `xxxxxx${'\0'.repeat(6)}`);
  t.is(upper.seek(node, 0, SEEK_HOLE), 4096);
  t.is(upper.seek(node, 4096, SEEK_DATA), 12_288);
  t.throws(() => upper.seek(node, 16_384, SEEK_DATA), { code: 'ENXIO' });
  upper.allocate(node, 0, 16_384);
  t.is(read(upper, node, 8192, 2), '\0\0');
});

overUppers('names of its own are listed in the order of their cookies, which stay', (t, trial) => {
  const { upper, root } = trial;
  for (const name of ['one', 'two', 'three']) add(trial, name);
  copyUp(trial, 'f');
  const before = [...upper.ownEntries(root, OWN_COOKIES)];
  t.deepEqual(
    before.map(({ name }) => name),
    ['one', 'two', 'three'],
  );
  const cookies = before.map(({ cookie }) => cookie);
  t.deepEqual(
    cookies,
    cookies.toSorted((a, b) => a - b),
  );
  t.true((cookies[0] ?? 0) > OWN_COOKIES);
  const [one] = before;
  upper.remove(root, 'one', false);
  if (one?.node !== undefined) upper.free(one.node);
  add(trial, 'four');
  t.deepEqual(
    [...upper.ownEntries(root, cookies[0] ?? 0)].map(({ name }) => name),
    ['two', 'three', 'four'],
  );
});

overUppers('what is freed is free', (t, trial) => {
  const { upper, root } = trial;
  // The first of everything may stay; and others use the disk, whose count this is: until they leave it alone for a moment.
  let isFreed = false;
  const last = Date.now() + 20_000;
  for (let round = 0; !isFreed && Date.now() < last; round++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(round, 20));
    const before = upper.usage().nodes;
    const node = add(trial, 'new');
    write(upper, node, 0, 'x'.repeat(100_000));
    const made = upper.usage().nodes;
    upper.setNlink(node, 0);
    upper.remove(root, 'new', false);
    upper.free(node);
    isFreed = round > 0 && made === before + 1 && upper.usage().nodes === before;
  }
  t.true(isFreed);
});
