// How a connection begins, what is not served, refusals and bugs, and what is done between requests.
import test from 'ava';
import { FsError } from '../src/errors.ts';
import * as abi from '../src/fuse/abi.ts';
import { Notifier } from '../src/fuse/notify.ts';
import type { Filesystem } from '../src/overlay/filesystem.ts';
import type { Part, RequestOptions } from './helpers/kernel.ts';
import { bytesOf, OFFERED_HIGH, OFFERED_LOW, readIn } from './helpers/kernel.ts';
import {
  describe,
  found,
  NO_BACKING,
  NO_HANDLE,
  served,
  type Served,
  started,
} from './helpers/served.ts';

test('INIT answers what is taken of what 6.18 offers', (t) => {
  const { kernel, server } = started({});
  const { error, body } = kernel.init();
  t.is(error, 0);
  t.is(body.byteLength, 64);
  t.is(body.getUint32(0, true), 7);
  t.is(body.getUint32(4, true), 45);
  t.is(body.getUint32(8, true), 128 * 1024, 'max_readahead as offered');
  // ASYNC_READ 0, BIG_WRITES 5, DONT_MASK 6, READDIRPLUS 13 and AUTO 14, ASYNC_DIO 15, NO_OPEN 17, PARALLEL_DIROPS 18,
  // POSIX_ACL 20, MAX_PAGES 22, CACHE_SYMLINKS 23, NO_OPENDIR 24, EXPLICIT_INVAL_DATA 25, KILLPRIV_V2 28, SETXATTR_EXT
  // 29, INIT_EXT 30.
  const low = [0, 5, 6, 13, 14, 15, 17, 18, 20, 22, 23, 24, 25, 28, 29, 30];
  t.is(
    body.getUint32(12, true),
    low.reduce((flags, bit) => flags + 2 ** bit, 0),
  );
  // NO_EXPORT_SUPPORT 38.
  t.is(body.getUint32(32, true), 1 << 6);
  t.is(body.getUint32(20, true), 1 << 20, 'max_write');
  t.is(body.getUint32(24, true), 1, 'time_gran');
  t.is(body.getUint16(28, true), 256, 'max_pages');
  t.is(body.getUint16(40, true), 0, 'no request timeout');
  t.is(server.connection.minor, 45);
});

test('INIT takes nothing that was not offered', (t) => {
  const { kernel } = started({});
  const { body } = kernel.init({ minor: 31, low: 1 << 5, high: 0xffff, old: true });
  t.is(body.getUint32(4, true), 31);
  t.is(body.getUint32(12, true), 1 << 5);
  t.is(body.getUint32(32, true), 0);
});

test('INIT speaks no newer protocol than the kernel, and none beyond 7.45', (t) => {
  t.is(started({}).kernel.init({ minor: 36 }).body.getUint32(4, true), 36);
  t.is(started({}).kernel.init({ minor: 99 }).body.getUint32(4, true), 45);
});

test('INIT of a newer major is told ours, and may come again', (t) => {
  const { kernel, server } = started({});
  const { error, body } = kernel.init({ major: 8, minor: 0 });
  t.is(error, 0);
  t.is(body.getUint32(0, true), 7);
  t.is(server.connection.minor, 0);
  t.is(kernel.init().body.getUint32(4, true), 45);
});

test('INIT of a kernel before 7.31 is refused, and the log says why', (t) => {
  const { kernel, logged } = started({});
  t.is(kernel.init({ minor: 30, old: true }).error, -71);
  t.regex(logged[0] ?? '', /7\.30/);
});

test('the flags offered to the pretend kernel leave out what a server must not take', (t) => {
  // POSIX_LOCKS, ATOMIC_O_TRUNC, FLOCK_LOCKS, AUTO_INVAL_DATA and WRITEBACK_CACHE are on offer.
  for (const bit of [1, 3, 10, 12, 16]) t.is((OFFERED_LOW >>> bit) & 1, 1);
  t.is((OFFERED_HIGH >>> 8) & 1, 1, 'ALLOW_IDMAP');
});

test('OPEN and OPENDIR are not served where the kernel knows what that means', (t) => {
  const { kernel } = served({});
  t.is(kernel.call(abi.FUSE_OPEN, 2, [0, 0]).error, -38);
  t.is(kernel.call(abi.FUSE_OPENDIR, 1, [0, 0]).error, -38);
});

test('OPEN and OPENDIR are answered, and caches kept, where it does not', (t) => {
  const { kernel } = started({});
  kernel.init({ low: OFFERED_LOW & ~(1 << 17) & ~(1 << 24) });
  const open = kernel.call(abi.FUSE_OPEN, 2, [0, 0]);
  t.is(bytesOf(open.body).toString('hex'), `${NO_HANDLE}02000000${NO_BACKING}`);
  const opendir = kernel.call(abi.FUSE_OPENDIR, 1, [0, 0]);
  t.is(bytesOf(opendir.body).toString('hex'), `${NO_HANDLE}0a000000${NO_BACKING}`);
  t.is(kernel.call(abi.FUSE_RELEASE, 2, [0n, 0, 0, 0n]).error, 0);
  t.is(kernel.call(abi.FUSE_RELEASEDIR, 1, [0n, 0, 0, 0n]).error, 0);
});

const answered = test.macro({
  exec(t, opcode: number, size: number, error: number) {
    const { kernel, calls } = served({});
    t.is(kernel.call(opcode, 1, [new Uint8Array(size)]).error, error);
    t.deepEqual(calls, []);
  },
  title: (given) => `${given}`,
});
test('FLUSH is not served', answered, abi.FUSE_FLUSH, 24, -38);
test('ACCESS is not served', answered, abi.FUSE_ACCESS, 8, -38);
test('POLL is not served', answered, abi.FUSE_POLL, 24, -38);
test('BMAP is not served', answered, abi.FUSE_BMAP, 16, -38);
test('GETLK is not served', answered, abi.FUSE_GETLK, 48, -38);
test('an opcode that does not exist is not served', answered, 63, 0, -38);
test('an opcode far beyond any is not served', answered, 0xffffffff, 0, -38);
test('IOCTL knows no command', answered, abi.FUSE_IOCTL, 32, -25);
test('SYNCFS has nothing to do', answered, abi.FUSE_SYNCFS, 8, 0);
test('DESTROY is acknowledged', answered, abi.FUSE_DESTROY, 0, 0);

test('INTERRUPT needs no answer, since every request runs to completion', (t) => {
  const { kernel } = served({});
  t.is(kernel.ask(abi.FUSE_INTERRUPT, 0, [4n]), undefined);
});

test('a refusal is its errno', (t) => {
  const { kernel, server, logged } = served({
    rmdir() {
      throw new FsError('ENOTEMPTY');
    },
  });
  t.is(kernel.call(abi.FUSE_RMDIR, 1, ['d']).error, -39);
  t.is(server.taint, undefined);
  t.deepEqual(logged, []);
});

test('a bug is EIO, logged once with where it was met, and taints', (t) => {
  const { kernel, server, logged } = served(
    {
      rmdir() {
        throw new TypeError('oops');
      },
      unlink: () => {},
    },
    { onBug: 'answer' },
  );
  for (let times = 0; times < 3; times++) t.is(kernel.call(abi.FUSE_RMDIR, 77, ['d']).error, -5);
  t.is(kernel.call(abi.FUSE_UNLINK, 1, ['d']).error, 0, 'it goes on');
  t.is(logged.length, 1);
  t.regex(logged[0] ?? '', /RMDIR of node 77.*TypeError: oops\n\s+at /s);
  t.regex(server.taint ?? '', /RMDIR.*TypeError: oops/);
});

test('a bug in FORGET is not answered', (t) => {
  const { kernel, server } = served(
    {
      forget() {
        throw new TypeError('oops');
      },
    },
    { onBug: 'answer' },
  );
  t.is(kernel.ask(abi.FUSE_FORGET, 7, [1n]), undefined);
  t.regex(server.taint ?? '', /FORGET/);
});

test('a bug is thrown in tests', (t) => {
  const { kernel } = served({});
  t.throws(() => kernel.call(abi.FUSE_RMDIR, 1, ['d']), { message: 'unexpected call of rmdir' });
});

const malformed = test.macro({
  exec(t, opcode: number, parts: Part[], options: RequestOptions = {}) {
    const { kernel, server, calls } = served({}, { onBug: 'answer' });
    t.is(kernel.call(opcode, 1, parts, options).error, -5);
    t.is(server.taint, undefined);
    t.deepEqual(calls, []);
  },
  title: (given) => `EIO for that request alone: ${given}`,
});
test('a struct that is cut short', malformed, abi.FUSE_SETATTR, [1, 0]);
test('a name without NUL', malformed, abi.FUSE_LOOKUP, [Buffer.from('abc')]);
test('no name', malformed, abi.FUSE_LOOKUP, []);
test('one name of two', malformed, abi.FUSE_RENAME, [2n, 'a']);
test('a length beyond what came', malformed, abi.FUSE_LOOKUP, ['a'], { length: 1000 });
test('a length short of what came', malformed, abi.FUSE_LOOKUP, ['a'], { length: 41 });
test('a value that is cut short', malformed, abi.FUSE_SETXATTR, [9, 0, 0, 0, 'user.a', 1]);

test('a node id that nobody was given is EIO', (t) => {
  const { kernel } = served({});
  t.is(kernel.call(abi.FUSE_GETATTR, 2n ** 63n, [0, 0, 0n]).error, -5);
});

test('random bytes crash nothing', (t) => {
  const { kernel, server } = served(
    {
      lookup: (_parent, _name, entry) => found(entry, 7),
      forget() {},
      getattr: (_ino, attr) => describe(attr, 3),
    },
    { onBug: 'answer' },
  );
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 5000; round++) {
    const bytes = Uint8Array.from({ length: 8 + random(120) }, () => random(256));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, random(60), true);
    kernel.raw(bytes);
  }
  t.like(kernel.getattr(3), { ino: 103 });
  t.truthy(server);
});

test('requests are counted by the names of their opcodes', (t) => {
  const { kernel, server } = served({
    lookup: (_parent, _name, entry) => found(entry, 7),
    forget() {},
  });
  kernel.lookup(1, 'a');
  kernel.lookup(1, 'b');
  kernel.forget(7);
  kernel.call(63, 1);
  t.deepEqual(server.requests, { INIT: 1, LOOKUP: 2, FORGET: 1, OPCODE_63: 1 });
});

test('requests that may change something are counted apart', (t) => {
  const { kernel, server } = served({
    lookup: (_parent, _name, entry) => found(entry, 7),
    unlink() {},
    copyFileRange: () => 1,
  });
  kernel.lookup(1, 'a');
  t.is(server.mutations, 0);
  kernel.call(abi.FUSE_UNLINK, 1, ['a']);
  kernel.call(abi.FUSE_COPY_FILE_RANGE_64, 7, [0n, 0n, 8n, 0n, 0n, 1n, 0n]);
  t.is(server.mutations, 2);
});

test('a wake-up is seen between requests', (t) => {
  let woken = 0;
  const { kernel } = served(
    { getattr: (_ino, attr) => describe(attr, 3) },
    { onWake: () => woken++ },
  );
  kernel.wakes = 2;
  t.like(kernel.getattr(3), { ino: 103 });
  t.is(woken, 2);
});

/** Header of a notification: length and code as two hex digits. */
function header(length: string, code: string): string {
  return `${length}000000 ${code}000000 ${'00'.repeat(8)}`;
}

/** A server over a filesystem with room for one file, which is there until one is forgotten. */
function full(canWake: boolean): Served {
  let isThere = true;
  const methods: Partial<Filesystem> = {
    create(_parent, _name, _mode, _umask, _caller, entry) {
      if (isThere) throw new FsError('ENOSPC');
      isThere = true;
      found(entry, 8);
    },
    forget: () => {
      isThere = false;
    },
    getattr: (_ino, attr) => describe(attr, 3),
    read: (_ino, _offset, _length, into) => into.add(-1, 0, 3),
  };
  return served(methods, { canWake });
}

const CREATE: Part[] = [0, 0o100644, 0, 0, 'f'];

test('before ENOSPC is answered, what waits to be forgotten is forgotten', (t) => {
  const { kernel, server, calls } = full(true);
  kernel.enqueue(abi.FUSE_FORGET, 7, [1n]);
  t.like(kernel.making(abi.FUSE_CREATE, 1, CREATE), { nodeid: 8 });
  t.deepEqual(
    calls.map(([name]) => name),
    ['create', 'forget', 'create'],
  );
  t.deepEqual(server.requests, { INIT: 1, FORGET: 1, CREATE: 1 });
});

test('requests that are met on the way are served after it, in order', (t) => {
  const { kernel, calls } = full(true);
  const getattr = kernel.enqueue(abi.FUSE_GETATTR, 3, [0, 0, 0n]);
  kernel.enqueue(abi.FUSE_BATCH_FORGET, 0, [1, 0, 7n, 1n]);
  const read = kernel.enqueue(abi.FUSE_READ, 3, readIn(0, 10));
  t.like(kernel.making(abi.FUSE_CREATE, 1, CREATE), { nodeid: 8 });
  t.deepEqual(
    calls.map(([name]) => name),
    ['create', 'forget', 'create', 'getattr', 'read'],
  );
  t.is(kernel.answerTo(getattr)?.body.byteLength, 104);
  t.is(kernel.answerTo(read)?.body.byteLength, 3);
});

test('ENOSPC is answered when there is nothing to forget, and others are served still', (t) => {
  const { kernel, calls } = full(true);
  const waiting = [1, 2, 3].map(() => kernel.enqueue(abi.FUSE_GETATTR, 3, [0, 0, 0n]));
  t.is(kernel.making(abi.FUSE_CREATE, 1, CREATE), -28);
  t.is(calls.length, 4);
  for (const unique of waiting) t.is(kernel.answerTo(unique)?.error, 0);
});

test('ENOSPC is answered at once where there is no way to look for more', (t) => {
  const { kernel } = full(false);
  t.is(kernel.making(abi.FUSE_CREATE, 1, CREATE), -28);
});

test('notifications are laid out as the kernel reads them', (t) => {
  const { kernel } = served({});
  const notifier = new Notifier(kernel);
  notifier.inode(0x100000002, true);
  notifier.inode(3, false);
  notifier.entry(5, 'ab\u00ff');
  notifier.deleted(5, 6, 'c');
  t.deepEqual(
    kernel.notified.map((message) => Buffer.from(message).toString('hex')),
    [
      `${header('28', '02')} 0200000001000000 ffffffffffffffff 0000000000000000`,
      `${header('28', '02')} 0300000000000000 0000000000000000 0000000000000000`,
      `${header('24', '03')} 0500000000000000 03000000 00000000 6162ff00`,
      `${header('2a', '06')} 0500000000000000 0600000000000000 01000000 00000000 6300`,
    ].map((text) => text.replaceAll(' ', '')),
  );
});
