import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { FsError } from '../src/errors.ts';
import { DirectoryLayer } from '../src/layers/directory.ts';
import { Attr, S_IFREG, Segments } from '../src/layers/layer.ts';
import { MemoryUpper } from '../src/layers/memory.ts';
import type { MemoryNode } from '../src/layers/memory-node.ts';
import { native } from '../src/native.ts';

/** Offsets, lengths and sizes of files that are tried: of some blocks, and of some of the regions that blocks are kept in. */
interface Scale {
  readonly span: number;
  readonly length: number;
  readonly base: Buffer;
  readonly runs: number;
}

const MIB = 2 ** 20;
const FULL = Buffer.from(Array.from({ length: 21_000 }, (_, i) => (i % 251) + 1));
/** Data at the beginning, in the middle and at the end of 6 MiB. */
const SPARSE = Buffer.alloc(6 * MIB + 1000);
for (const at of [0, 3 * MIB - 10_000, 6 * MIB - 20_000]) FULL.copy(SPARSE, at);

const SCALES: Readonly<Record<string, Scale>> = {
  'over a lower file': { span: 40_000, length: 9000, base: FULL, runs: 500 },
  'of its own': { span: 40_000, length: 9000, base: Buffer.alloc(0), runs: 500 },
  'over a sparse lower file': { span: 7 * MIB, length: 5 * MIB, base: SPARSE, runs: 40 },
};
/** Places where data and holes are looked for. */
const SEEKS = 40;
const ZEROS = Buffer.alloc(13 * MIB);

const LIMIT = 64 * 1024 * 1024;
const O_PATH = 0o10000000;

type Step =
  | { op: 'write'; offset: number; length: number; byte: number }
  | { op: 'truncate'; size: number }
  | { op: 'punch'; offset: number; length: number }
  | { op: 'allocate'; offset: number; length: number };

function steps(scale: Scale): fc.Arbitrary<Step[]> {
  const offset = fc.integer({ min: 0, max: scale.span });
  const length = fc.integer({ min: 1, max: scale.length });
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({
      op: fc.constant('write' as const),
      offset,
      length,
      byte: fc.integer({ min: 1, max: 255 }),
    }),
    fc.record({ op: fc.constant('truncate' as const), size: offset }),
    fc.record({ op: fc.constant('punch' as const), offset, length }),
    fc.record({ op: fc.constant('allocate' as const), offset, length }),
  );
  return fc.array(step, { maxLength: 25 });
}

/** The bytes that the upper says a file has. */
function bytesOf(upper: MemoryUpper, node: MemoryNode, size: number): Buffer {
  const segments = new Segments();
  upper.read(node, 0, size, segments);
  const parts: Buffer[] = [];
  for (let i = 0; i < segments.count; i++) {
    const [fd = -1, start = 0, count = 0] = segments.values.subarray(3 * i, 3 * i + 3);
    const part = Buffer.alloc(count);
    if (fd >= 0) native.pread(fd, part, start);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The plain model: a buffer as long as the file. */
function apply(model: Buffer, made: Step): Buffer {
  if (made.op === 'truncate') {
    return made.size <= model.length
      ? model.subarray(0, made.size)
      : Buffer.concat([model, Buffer.alloc(made.size - model.length)]);
  }
  const copy = Buffer.from(model);
  if (made.op === 'punch') {
    const end = Math.min(copy.length, made.offset + made.length);
    return made.offset < end ? copy.fill(0, made.offset, end) : copy;
  }
  if (made.op === 'allocate') return copy;
  const end = made.offset + made.length;
  const grown = end > copy.length ? Buffer.concat([copy, Buffer.alloc(end - copy.length)]) : copy;
  return grown.fill(made.byte, made.offset, end);
}

function run(upper: MemoryUpper, node: MemoryNode, size: number, made: Step): void {
  if (made.op === 'truncate') upper.truncate(node, made.size);
  else if (made.op === 'allocate') upper.allocate(node, made.offset, made.length);
  else if (made.op === 'punch') {
    const count = Math.min(made.length, size - made.offset);
    if (count > 0) upper.punch(node, made.offset, count);
  } else {
    // The bytes stand at an odd place of a larger buffer, as in a request.
    const data = Buffer.alloc(made.length + 7).fill(made.byte);
    upper.write(node, made.offset, data, 7, made.length);
  }
}

/** What is zeros becomes a hole. */
function writeSparse(path: string, bytes: Buffer): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes.length);
  for (let at = 0; at < bytes.length; at += 4096) {
    const block = bytes.subarray(at, at + 4096);
    if (block.some((byte) => byte !== 0)) writeSync(fd, block, 0, block.length, at);
  }
  closeSync(fd);
}

/** SEEK_DATA must never pass over a byte that is not zero, nor SEEK_HOLE stop where one is. */
function seeksAreTrue(upper: MemoryUpper, node: MemoryNode, model: Buffer): boolean {
  const stride = Math.ceil(model.length / SEEKS);
  for (let at = 0; at < model.length; at += stride) {
    let data: number;
    try {
      data = upper.seek(node, at, 3);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== 'ENXIO') throw error;
      data = model.length;
    }
    if (Buffer.compare(model.subarray(at, data), ZEROS.subarray(0, data - at)) !== 0) return false;
    const hole = upper.seek(node, at, 4);
    if (hole < at || hole > model.length) return false;
    if (hole < model.length && model[hole] !== 0) return false;
  }
  return true;
}

for (const [title, scale] of Object.entries(SCALES)) {
  test(`contents ${title} are those of a plain buffer after any writes, truncations and holes`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-contents-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const { base } = scale;
    writeSparse(join(folder, 'file'), base);
    const layer = new DirectoryLayer(native, native.open(folder, O_PATH, 0), { links: 'shared' });
    t.teardown(() => layer.close());
    const attr = new Attr();
    const lower = layer.lookup(layer.root, 'file', attr);
    if (lower === undefined) throw new Error('the file is not there');
    const origin = base.length === 0 ? [] : [{ layer, node: lower }];
    fc.assert(
      fc.property(steps(scale), (made) => {
        const arena = native.memfd('test');
        try {
          const upper = new MemoryUpper(native, arena, LIMIT);
          attr.mode = S_IFREG | 0o644;
          attr.size = base.length;
          const node = upper.make(attr, origin, undefined, false);
          const empty = upper.usage().used;
          let model: Buffer = base;
          for (const step of made) {
            run(upper, node, model.length, step);
            model = apply(model, step);
            if (Buffer.compare(bytesOf(upper, node, scale.span * 2), model) !== 0) return false;
            if (node.size !== model.length || !seeksAreTrue(upper, node, model)) return false;
          }
          // What is of another length differs without a look, and what is no file of the lower from nothing.
          if (base.length > 0 && model.length === base.length) {
            if (upper.contentDiffers(node) !== (Buffer.compare(model, base) !== 0)) return false;
          }
          upper.truncate(node, 0);
          return upper.usage().used === empty;
        } finally {
          native.close(arena);
        }
      }),
      {
        seed: 20_261_123,
        numRuns: scale.runs * Math.max(1, Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1)),
      },
    );
    t.pass();
  });
}

test('a write beyond the limit is refused and changes nothing', (t) => {
  const arena = native.memfd('test');
  t.teardown(() => native.close(arena));
  const upper = new MemoryUpper(native, arena, 16_384);
  const attr = new Attr();
  attr.mode = S_IFREG;
  const node = upper.make(attr, [], undefined, false);
  upper.write(node, 0, Buffer.alloc(4096, 1), 0, 4096);
  const { used } = upper.usage();
  t.throws(() => upper.write(node, 0, Buffer.alloc(20_000, 2), 0, 20_000), {
    instanceOf: FsError,
    code: 'ENOSPC',
  });
  t.is(upper.usage().used, used);
  t.deepEqual(bytesOf(upper, node, 8192), Buffer.alloc(4096, 1));
});

test('what is too large is refused at once, and holes of a huge file cost next to nothing', (t) => {
  const folder = mkdtempSync('/dev/shm/ostree-ts-contents-');
  t.teardown(() => rmSync(folder, { recursive: true }));
  const size = 2 ** 42;
  const huge = openSync(join(folder, 'file'), 'w');
  ftruncateSync(huge, size);
  writeSync(huge, 'data', 2 ** 41);
  closeSync(huge);
  const layer = new DirectoryLayer(native, native.open(folder, O_PATH, 0), { links: 'shared' });
  t.teardown(() => layer.close());
  const arena = native.memfd('test');
  t.teardown(() => native.close(arena));
  const upper = new MemoryUpper(native, arena, 10_000);
  const attr = new Attr();
  const lower = layer.lookup(layer.root, 'file', attr);
  if (lower === undefined) throw new Error('the file is not there');
  const node = upper.make(attr, [{ layer, node: lower }], undefined, false);
  t.throws(() => upper.allocate(node, 0, 2 ** 52), { code: 'ENOSPC' });
  upper.punch(node, 4096, 2 ** 41 - 4096);
  t.false(upper.contentDiffers(node));
  t.is(upper.seek(node, 0, 3), 2 ** 41);
  upper.punch(node, 4096, 2 ** 41);
  t.true(upper.contentDiffers(node));
  t.throws(() => upper.seek(node, 0, 3), { code: 'ENXIO' });
  upper.punch(node, 1, size - 1);
  t.is(upper.seek(node, 0, 4), 0);
});

test('a hole that needs two blocks where there is room for one is refused, and nothing has changed', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-contents-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const base = Buffer.alloc(40_000, 'L');
  writeFileSync(join(folder, 'file'), base);
  const layer = new DirectoryLayer(native, native.open(folder, O_PATH, 0), { links: 'shared' });
  t.teardown(() => layer.close());
  const arena = native.memfd('test');
  t.teardown(() => native.close(arena));
  const attr = new Attr();
  const lower = layer.lookup(layer.root, 'file', attr);
  if (lower === undefined) throw new Error('the file is not there');
  const upper = new MemoryUpper(native, arena, 7000);
  const node = upper.make(attr, [{ layer, node: lower }], undefined, false);
  const { used } = upper.usage();
  t.throws(() => upper.punch(node, 100, 20_000), { code: 'ENOSPC' });
  t.is(Buffer.compare(bytesOf(upper, node, 40_000), base), 0);
  t.is(upper.usage().used, used);
});

test('one byte of a large lower file costs one block', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-contents-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'file'), Buffer.alloc(8 * 1024 * 1024, 7));
  const layer = new DirectoryLayer(native, native.open(folder, O_PATH, 0), { links: 'shared' });
  t.teardown(() => layer.close());
  const arena = native.memfd('test');
  t.teardown(() => native.close(arena));
  const upper = new MemoryUpper(native, arena, LIMIT);
  const attr = new Attr();
  const lower = layer.lookup(layer.root, 'file', attr);
  if (lower === undefined) throw new Error('the file is not there');
  const node = upper.make(attr, [{ layer, node: lower }], undefined, false);
  const { used } = upper.usage();
  upper.write(node, 5_000_000, Buffer.from('x'), 0, 1);
  t.is(upper.usage().used - used, 4096);
  t.is(upper.usage().bytesCopied, 4096);
});
