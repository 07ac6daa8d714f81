// Bytes of a WRITE that are stored when it has been answered.
import { closeSync, readSync, writeSync } from 'node:fs';
import test from 'ava';
import { FsError } from '../src/errors.ts';
import * as abi from '../src/fuse/abi.ts';
import { Control, type Subject } from '../src/fuse/control.ts';
import type { Filesystem } from '../src/overlay/filesystem.ts';
import { LateStores } from '../src/layers/late-stores.ts';
import { native, type Native } from '../src/native.ts';
import { readIn } from './helpers/kernel.ts';
import { served, type Served } from './helpers/served.ts';

const ENOMEM = 12;
const EIO = 5;
const OLD = Buffer.alloc(8192, 'old');

/** A filesystem whose writes go to a memory file that holds OLD, and what was done, in order. */
function storing(
  t: { teardown(end: () => void): void },
  options: { isFull?: boolean; refuses?: boolean } = {},
): Served & { contents: () => Buffer; order: string[] } {
  const fd = native.memfd('late');
  t.teardown(() => closeSync(fd));
  writeSync(fd, OLD);
  const order: string[] = [];
  const late = new LateStores({
    ...native,
    pwriteRange(...args: Parameters<Native['pwriteRange']>) {
      order.push('stored');
      return options.isFull === true ? -ENOMEM : native.pwriteRange(...args);
    },
    fallocate: (...args: Parameters<Native['fallocate']>) => native.fallocate(...args),
  });
  const write: Filesystem['write'] = (_ino, offset, data, start, length) => {
    if (!late.add(fd, data, start, length, offset)) order.push('now');
    if (options.refuses === true) throw new FsError('ENOSPC');
  };
  const result = served(
    { write, read() {}, fsync() {} },
    { late, onSend: () => order.push('answered') },
  );
  order.length = 0;
  const contents = (): Buffer => {
    const bytes = Buffer.alloc(OLD.length);
    readSync(fd, bytes, 0, bytes.length, 0);
    return bytes;
  };
  return { ...result, contents, order };
}

const NEW = Buffer.alloc(4096, 'new');

test('who writes is answered first, and the next request finds the bytes', (t) => {
  const { kernel, contents, order } = storing(t);
  t.is(kernel.write(7, 0, NEW), NEW.length);
  t.deepEqual(order, ['answered', 'stored']);
  t.deepEqual(contents(), Buffer.concat([NEW, OLD.subarray(NEW.length)]));
});

test('what waits in line is served when the bytes are stored', (t) => {
  const { kernel, contents, order } = storing(t);
  kernel.enqueue(abi.FUSE_FSYNC, 7, [0n, 0, 0]);
  kernel.write(7, 4096, NEW);
  t.deepEqual(order, ['answered', 'stored', 'answered']);
  t.deepEqual(contents(), Buffer.concat([OLD.subarray(0, 4096), NEW]));
});

test('a refusal does not lose what was written before it was met', (t) => {
  const { kernel, contents, order } = storing(t, { refuses: true });
  t.is(kernel.write(7, 0, NEW), -28);
  t.deepEqual(order, ['stored', 'answered']);
  t.deepEqual(contents().subarray(0, NEW.length), NEW);
});

test('a file whose bytes cannot be stored is read and written no more; log and status say why', (t) => {
  const { kernel, server, contents, logged } = storing(t, { isFull: true });
  t.is(kernel.write(7, 0, NEW), NEW.length);
  t.deepEqual(contents(), Buffer.concat([Buffer.alloc(4096), OLD.subarray(4096)]));
  t.regex(server.taint ?? '', /bytes .* node 7 are lost: errno 12/);
  t.is(logged.length, 1);
  for (const [opcode, words] of [
    [abi.FUSE_FSYNC, [0n, 0, 0]],
    [abi.FUSE_READ, readIn(0, 10)],
    [abi.FUSE_WRITE, [...readIn(0, 1), Buffer.from('x')]],
  ] as const) {
    t.is(kernel.call(opcode, 7, [...words]).error, -EIO);
    t.is(kernel.call(opcode, 8, [...words]).error, 0);
  }
});

test('no snapshot is taken of a session that lacks bytes', (t) => {
  const subject = {
    overlay: {} as Subject['overlay'],
    snapshots: {} as NonNullable<Subject['snapshots']>,
    late: { hasLost: true },
  };
  t.throws(() => new Control(subject).answer('snapshot', {}), { message: /lost/ });
});

test('bytes that are somewhere else are not left for later', (t) => {
  const late = new LateStores(native);
  t.false(late.add(-1, NEW, 0, NEW.length, 0));
  late.open(new ArrayBuffer(8));
  t.false(late.add(-1, NEW, 0, NEW.length, 0));
  t.false(late.isPending);
});
