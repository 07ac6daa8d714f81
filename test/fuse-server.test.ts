import test from 'ava';
import { FsError } from '../src/errors.ts';
import * as abi from '../src/fuse/abi.ts';
import { Notifier } from '../src/fuse/notify.ts';
import { Server } from '../src/fuse/server.ts';
import { Attr } from '../src/layers/layer.ts';
import type { Entry, Filesystem } from '../src/overlay/filesystem.ts';
import type { DecodedDirent, Part, RequestOptions } from './helpers/kernel.ts';
import { bytesOf, Kernel, OFFERED_HIGH, OFFERED_LOW, readIn } from './helpers/kernel.ts';
import { stubFilesystem } from './helpers/stub-filesystem.ts';

/** Beginning and end of a fuse_open_out, between which are the flags. */
const NO_HANDLE = '00'.repeat(8);
const NO_BACKING = '00'.repeat(4);

/** Times are endless. */
const FOREVER = 0x7fffffff;

interface Served {
  kernel: Kernel;
  server: Server;
  calls: unknown[][];
  logged: string[];
}

/** A server over these methods and a kernel that has not yet said INIT. */
function started(
  methods: Partial<Filesystem>,
  options: {
    onBug?: 'answer' | 'rethrow';
    onWake?: () => void;
    readAt?: (fd: number, into: Uint8Array, offset: number) => number;
    canWake?: boolean;
  } = {},
): Served {
  const { onBug = 'rethrow', onWake = () => {}, readAt } = options;
  const { filesystem, calls } = stubFilesystem(methods);
  const kernel = new Kernel(readAt);
  const logged: string[] = [];
  const log = (message: string): unknown => logged.push(message);
  const wake = options.canWake === true ? { wake: () => kernel.wake() } : {};
  const server = new Server({ channel: kernel, filesystem, log, onBug, onWake, ...wake });
  kernel.attach(server);
  return { kernel, server, calls, logged };
}

/** As `started`, connected to a kernel that offers everything. */
function served(...given: Parameters<typeof started>): Served {
  const result = started(...given);
  result.kernel.init();
  return result;
}

/** Fills in an entry for node `ino`. */
function found(entry: Entry, ino: number): void {
  entry.ino = ino;
  describe(entry.attr, ino);
}

function describe(attr: Attr, ino: number): void {
  attr.ino = ino + 100;
  attr.mode = 0o100644;
  attr.nlink = 1;
  attr.size = 5;
}

const CALLER = { uid: 1000, gid: 1000, pid: 4242 };

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

test('LOOKUP gives the file and counts a reference', (t) => {
  const { kernel, calls } = served({ lookup: (_parent, _name, entry) => found(entry, 7) });
  const entry = kernel.lookup(1, 'lib');
  t.like(entry, { nodeid: 7, entryValidSec: FOREVER, attrValidSec: FOREVER });
  t.like(entry, { attr: { ino: 107, mode: 0o100644, blksize: 4096 } });
  t.deepEqual(calls, [['lookup', 1, 'lib']]);
  t.is(kernel.references.get(7), 1);
});

test('an absent name is an entry that the kernel may remember, not ENOENT', (t) => {
  const { kernel } = served({
    lookup: (_parent, _name, entry) => {
      entry.ino = 0;
    },
  });
  t.like(kernel.lookup(1, 'x'), { nodeid: 0, entryValidSec: FOREVER });
  t.is(kernel.references.size, 0);
});

test('FORGET and BATCH_FORGET take references back and are not answered', (t) => {
  const { kernel, calls } = served({ forget: () => {} });
  t.is(kernel.ask(abi.FUSE_FORGET, 7, [3n]), undefined);
  t.is(kernel.ask(abi.FUSE_BATCH_FORGET, 0, [2, 0, 8n, 1n, 9n, 2n]), undefined);
  t.deepEqual(calls, [
    ['forget', 7, 3],
    ['forget', 8, 1],
    ['forget', 9, 2],
  ]);
});

test('a BATCH_FORGET that claims more than it holds is served as far as it goes', (t) => {
  const { kernel, calls } = served({ forget: () => {} });
  t.is(kernel.ask(abi.FUSE_BATCH_FORGET, 0, [1000, 0, 8n, 1n, 9n]), undefined);
  t.deepEqual(calls, [['forget', 8, 1]]);
});

test('GETATTR and STATX give attributes for ever', (t) => {
  const { kernel } = served({
    getattr: (_ino, attr) => {
      describe(attr, 3);
      attr.btimeSec = 77;
    },
  });
  t.like(kernel.getattr(3), { ino: 103, size: 5, nlink: 1 });
  const { body } = kernel.call(abi.FUSE_STATX, 3, [0, 0, 0n, 0, 0xfff]);
  t.is(body.byteLength, 288);
  t.is(body.getUint32(32, true), 0xfff);
  t.is(Number(body.getBigInt64(112, true)), 77);
});

test('SETATTR passes the fields named in valid, times with their sign', (t) => {
  const { kernel, calls } = served({
    setattr: (_ino, _changes, _caller, attr) => describe(attr, 3),
  });
  // MODE UID GID SIZE ATIME MTIME FH LOCKOWNER CTIME KILL_SUIDGID; all but FH and LOCKOWNER mean something.
  const valid = 0b1110_0111_1111;
  const { error, body } = kernel.call(abi.FUSE_SETATTR, 3, [
    valid,
    0,
    99n,
    6n * 2n ** 30n,
    98n,
    -1n,
    2n ** 33n,
    5n,
    1,
    2,
    3,
    0o100600,
    0,
    11,
    22,
    0,
  ]);
  t.is(error, 0);
  t.is(body.byteLength, 104);
  t.deepEqual(calls, [
    [
      'setattr',
      3,
      {
        valid: valid & ~(1 << 6) & ~(1 << 9),
        mode: 0o100600,
        uid: 11,
        gid: 22,
        size: 6 * 2 ** 30,
        atimeSec: -1,
        atimeNsec: 1,
        mtimeSec: 2 ** 33,
        mtimeNsec: 2,
        ctimeSec: 5,
        ctimeNsec: 3,
      },
      CALLER,
    ],
  ]);
});

test('SETATTR looks at no field without its bit, and refuses sizes beyond 2^53 as too large', (t) => {
  const { kernel } = served({ setattr: (_ino, _changes, _caller, attr) => describe(attr, 3) });
  const junk = 0x7fffffffffffffffn;
  const rest = [junk, junk, junk, junk, 1, 2, 3, 0o644, 0, 0, 0, 0];
  t.is(kernel.call(abi.FUSE_SETATTR, 3, [1, 0, 0n, junk, ...rest]).error, 0);
  t.is(kernel.call(abi.FUSE_SETATTR, 3, [8, 0, 0n, junk, ...rest]).error, -27);
});

/** Attributes of a file of user 1000. */
function owned(_ino: number, attr: Attr): void {
  describe(attr, 3);
  attr.uid = 1000;
}

const NOTHING = new Uint8Array(80);

test('SETATTR of nothing is an order of the owner to clear privileges', (t) => {
  const valids: number[] = [];
  const { kernel } = served({
    getattr: owned,
    setattr: (_ino, changes) => void valids.push(changes.valid),
  });
  for (const uid of [1000, 1001, 0]) {
    t.is(kernel.call(abi.FUSE_SETATTR, 3, [0, 0, NOTHING], { uid }).body.byteLength, 104);
    // FH and LOCKOWNER say nothing about what is to change.
    kernel.call(abi.FUSE_SETATTR, 3, [(1 << 6) | (1 << 9), 0, NOTHING], { uid });
  }
  const kill = 1 << 11;
  t.deepEqual(valids, [kill, kill, 0, 0], "the owner's and root's");
});

test('a capability is taken away by root and the owner only, and nobody is refused', (t) => {
  const removed: number[] = [];
  const { kernel } = served({
    getattr: owned,
    removexattr: (_ino, _name, caller) => void removed.push(caller.uid),
  });
  for (const uid of [1000, 1001, 0]) {
    t.is(kernel.call(abi.FUSE_REMOVEXATTR, 3, ['security.capability'], { uid }).error, 0);
  }
  t.deepEqual(removed, [1000, 0]);
});

interface NameCase {
  opcode: number;
  parts: Part[];
  expected: unknown[];
}

const naming = test.macro({
  exec(t, { opcode, parts, expected }: NameCase) {
    const entries = Object.fromEntries(
      ['mknod', 'mkdir', 'create', 'symlink', 'tmpfile', 'link'].map((name) => [
        name,
        (...args: unknown[]) => found(args.at(-1) as Entry, 7),
      ]),
    );
    const { kernel, calls } = served({ ...entries, unlink() {}, rmdir() {}, rename() {} });
    t.is(kernel.call(opcode, 5, parts).error, 0);
    t.deepEqual(calls, [expected]);
  },
  title: (given) => `${given} passes what it was given`,
});

// new_encode_dev(8, 300)
const DEVICE = (300 & 0xff) | (8 << 8) | ((300 & ~0xff) << 12);
test('MKNOD', naming, {
  opcode: abi.FUSE_MKNOD,
  parts: [0o60666, DEVICE, 0o22, 0, 'sda'],
  expected: ['mknod', 5, 'sda', 0o60666, 8, 300, 0o22, CALLER],
});
test('MKDIR', naming, {
  opcode: abi.FUSE_MKDIR,
  parts: [0o777, 0o27, 'd'],
  expected: ['mkdir', 5, 'd', 0o777, 0o27, CALLER],
});
test('CREATE', naming, {
  opcode: abi.FUSE_CREATE,
  parts: [0x8041, 0o100666, 0o22, 0, 'f'],
  expected: ['create', 5, 'f', 0o100666, 0o22, CALLER],
});
test('TMPFILE', naming, {
  opcode: abi.FUSE_TMPFILE,
  parts: [0x8041, 0o100600, 0o22, 0, '#123'],
  expected: ['tmpfile', 5, 0o100600, 0o22, CALLER],
});
test('SYMLINK', naming, {
  opcode: abi.FUSE_SYMLINK,
  parts: ['s', '../a/b'],
  expected: ['symlink', 5, 's', '../a/b', CALLER],
});
test('LINK', naming, {
  opcode: abi.FUSE_LINK,
  parts: [9n, 'l'],
  expected: ['link', 9, 5, 'l', CALLER],
});
test('UNLINK', naming, {
  opcode: abi.FUSE_UNLINK,
  parts: ['f'],
  expected: ['unlink', 5, 'f', CALLER],
});
test('RMDIR', naming, {
  opcode: abi.FUSE_RMDIR,
  parts: ['d'],
  expected: ['rmdir', 5, 'd', CALLER],
});
test('RENAME', naming, {
  opcode: abi.FUSE_RENAME,
  parts: [6n, 'a', 'b'],
  expected: ['rename', 5, 'a', 6, 'b', 0, CALLER],
});
test('RENAME2', naming, {
  opcode: abi.FUSE_RENAME2,
  parts: [6n, 2, 0, 'a', 'b'],
  expected: ['rename', 5, 'a', 6, 'b', 2, CALLER],
});

test('CREATE and TMPFILE keep pages, name no handle, and let close report errors', (t) => {
  const { kernel } = served({
    create: (...args) => found(args[5], 7),
    tmpfile: (...args) => found(args[4], 8),
  });
  for (const opcode of [abi.FUSE_CREATE, abi.FUSE_TMPFILE]) {
    const { body } = kernel.call(opcode, 1, [0, 0o100644, 0, 0, 'f']);
    t.is(body.byteLength, 144);
    t.is(bytesOf(body).subarray(128).toString('hex'), `${NO_HANDLE}02000000${NO_BACKING}`);
  }
});

const LONG = 'n'.repeat(256);
const tooLong = test.macro({
  exec(t, opcode: number, parts: Part[]) {
    const { kernel, calls } = served({});
    t.is(kernel.call(opcode, 5, parts).error, -36);
    t.deepEqual(calls, []);
  },
  title: (given) => `${given} of a name of 256 bytes is ENAMETOOLONG`,
});
test('LOOKUP', tooLong, abi.FUSE_LOOKUP, [LONG]);
test('MKNOD', tooLong, abi.FUSE_MKNOD, [0, 0, 0, 0, LONG]);
test('MKDIR', tooLong, abi.FUSE_MKDIR, [0, 0, LONG]);
test('CREATE', tooLong, abi.FUSE_CREATE, [0, 0, 0, 0, LONG]);
test('SYMLINK', tooLong, abi.FUSE_SYMLINK, [LONG, 't']);
test('SYMLINK to it', tooLong, abi.FUSE_SYMLINK, ['s', 't'.repeat(4096)]);
test('LINK', tooLong, abi.FUSE_LINK, [9n, LONG]);
test('UNLINK', tooLong, abi.FUSE_UNLINK, [LONG]);
test('RMDIR', tooLong, abi.FUSE_RMDIR, [LONG]);
test('RENAME from', tooLong, abi.FUSE_RENAME, [1n, LONG, 'b']);
test('RENAME to', tooLong, abi.FUSE_RENAME, [1n, 'a', LONG]);
test('RENAME2 to', tooLong, abi.FUSE_RENAME2, [1n, 0, 0, 'a', LONG]);

test('READLINK gives the bytes of the target without a NUL', (t) => {
  const { kernel } = served({ readlink: () => '../l\u00ef\u00ff' });
  t.deepEqual(
    bytesOf(kernel.call(abi.FUSE_READLINK, 4).body),
    Buffer.from('../l\u00ef\u00ff', 'latin1'),
  );
});

test('READ answers the bytes of the segments, zeros among them', (t) => {
  const { kernel, calls } = served(
    {
      read(_ino, _offset, _length, into) {
        into.add(3, 10, 2);
        into.add(-1, 0, 3);
        into.add(4, 20, 1);
      },
    },
    { readAt: (fd, into, offset) => into.fill(fd * 16 + offset).length },
  );
  t.deepEqual(kernel.read(7, 2 ** 40, 6), Buffer.from([58, 58, 0, 0, 0, 84]));
  t.deepEqual(calls[0]?.slice(0, 4), ['read', 7, 2 ** 40, 6]);
});

test('READ starts each time with no segments, and none is the end of the file', (t) => {
  let isFirst = true;
  const { kernel } = served(
    {
      read(_ino, _offset, _length, into) {
        if (isFirst) into.add(3, 1, 1);
        isFirst = false;
      },
    },
    { readAt: (_fd, into) => into.fill(9).length },
  );
  t.deepEqual(kernel.read(7, 0, 10), Buffer.from([9]));
  t.deepEqual(kernel.read(7, 0, 10), Buffer.alloc(0));
});

test('WRITE hands on the data where it lies, and says when privileges go', (t) => {
  const seen: unknown[] = [];
  const { kernel } = served({
    write(ino, offset, data, start, length, clearPrivileges, caller) {
      const text = Buffer.from(data.subarray(start, start + length)).toString();
      seen.push([
        ino,
        offset,
        text,
        clearPrivileges,
        { ...caller },
        data.buffer === kernel.request,
      ]);
    },
  });
  t.is(kernel.write(7, 2 ** 41, Buffer.from('hello'), 1), 5);
  t.is(kernel.write(7, 0, Buffer.from('x'), 4 | 1), 1);
  t.deepEqual(seen, [
    [7, 2 ** 41, 'hello', false, CALLER, true],
    [7, 0, 'x', true, CALLER, true],
  ]);
});

test('WRITE of less data than it claims is EIO, beyond 2^53 EFBIG', (t) => {
  const { kernel, calls } = served({ write() {} });
  t.is(kernel.call(abi.FUSE_WRITE, 7, [...readIn(0, 6), Buffer.from('hello')]).error, -5);
  const far = [0n, 2n ** 60n, 1, 0, 0n, 0, 0, Buffer.from('x')];
  t.is(kernel.call(abi.FUSE_WRITE, 7, far).error, -27);
  t.deepEqual(calls, []);
});

const FILES = Array.from({ length: 200 }, (_, index) => `file-${String(index).padStart(3, '0')}`);

/** Lists FILES; file n has cookie n + 1 and node n + 1000. */
const LISTS: Partial<Filesystem> = {
  readdir(_ino, cookie, sink) {
    for (let at = cookie; at < FILES.length; at++) {
      if (!sink(FILES[at] ?? '', at + 1, at + 5000, 8)) return;
    }
  },
};

/** The entries of a listing that must not fail. */
function listed(entries: DecodedDirent[] | number): DecodedDirent[] {
  if (typeof entries === 'number') throw new Error(`listing failed: ${entries}`);
  return entries;
}

test('READDIR fills what fits, and goes on from the cookie', (t) => {
  const { kernel } = served(LISTS);
  const names: string[] = [];
  let cookie = 0;
  let requests = 0;
  while (true) {
    const entries = listed(kernel.readdir(1, cookie, 1024));
    requests++;
    const last = entries.at(-1);
    if (last === undefined) break;
    cookie = last.cookie;
    names.push(...entries.map(({ name }) => name));
    t.true(
      entries.every(({ ino, type, name }) => ino === 5000 + FILES.indexOf(name) && type === 8),
    );
  }
  t.deepEqual(names, FILES);
  // 32 bytes each.
  t.is(requests, Math.ceil(FILES.length / 32) + 1);
});

test('READDIRPLUS takes references for what it takes, and for nothing else', (t) => {
  const held = new Map<number, number>();
  const { kernel } = served({
    readdirplus(_ino, cookie, sink) {
      const entry = { ino: 0, attr: new Attr() };
      for (let at = cookie; at < FILES.length; at++) {
        describe(entry.attr, at);
        entry.ino = at < 2 ? 0 : at + 1000;
        if (!sink(at < 2 ? '..'.slice(at) : (FILES[at] ?? ''), at + 1, 4, entry)) return;
        if (entry.ino !== 0) held.set(entry.ino, (held.get(entry.ino) ?? 0) + 1);
      }
    },
  });
  const first = listed(kernel.readdirplus(1, 0, 4096));
  t.deepEqual(first[0]?.name, '..');
  t.deepEqual(first[0]?.entry?.nodeid, 0);
  t.is(first[0]?.ino, 100, 'd_ino is there without attributes');
  // 152 bytes and a name of 8: 160 each, 4096 holds 25; those of '.' and '..' are 160, too.
  t.is(first.length, 25);
  t.like(first[2], { name: 'file-002', cookie: 3, entry: { nodeid: 1002 } });
  kernel.readdirplus(1, 25, 4096);
  t.deepEqual(kernel.references, held);
});

test('GETXATTR: how much, too small, the value, none', (t) => {
  const { kernel, calls } = served({
    getxattr: (_ino, name) => (name === 'user.a' ? Buffer.from('value') : undefined),
  });
  const ask = (size: number, name: string) => kernel.call(abi.FUSE_GETXATTR, 7, [size, 0, name]);
  const size = ask(0, 'user.a');
  t.is(bytesOf(size.body).toString('hex'), '0500000000000000');
  t.is(ask(4, 'user.a').error, -34);
  t.is(bytesOf(ask(5, 'user.a').body).toString(), 'value');
  t.is(bytesOf(ask(100, 'user.a').body).toString(), 'value');
  t.is(ask(100, 'user.b').error, -61);
  t.is(ask(0, 'user.b').error, -61);
  t.deepEqual(calls[0], ['getxattr', 7, 'user.a']);
});

test('LISTXATTR: names with their NULs, by the same rules', (t) => {
  const { kernel } = served({ listxattr: () => ['user.a', 'user.\u00ff'] });
  const ask = (size: number) => kernel.call(abi.FUSE_LISTXATTR, 7, [size, 0]);
  t.is(bytesOf(ask(0).body).toString('hex'), '0e00000000000000');
  t.is(ask(13).error, -34);
  t.is(bytesOf(ask(14).body).toString('latin1'), 'user.a\0user.\u00ff\0');
});

test('a file without attributes lists nothing', (t) => {
  const { kernel } = served({ listxattr: () => [] });
  t.is(bytesOf(kernel.call(abi.FUSE_LISTXATTR, 7, [0, 0]).body).toString('hex'), '00'.repeat(8));
  t.is(kernel.call(abi.FUSE_LISTXATTR, 7, [100, 0]).body.byteLength, 0);
});

test('SETXATTR passes a copy of the value, flags, and whether setgid goes', (t) => {
  const values: Uint8Array[] = [];
  const { kernel, calls } = served({
    setxattr: (_ino, _name, value) => void values.push(value),
  });
  const value = Buffer.from('v\0v');
  t.is(kernel.call(abi.FUSE_SETXATTR, 7, [3, 1, 1, 0, 'user.a', value]).error, 0);
  t.is(kernel.call(abi.FUSE_SETXATTR, 7, [0, 2, 0, 0, 'user.b']).error, 0);
  t.deepEqual(calls, [
    ['setxattr', 7, 'user.a', 1, true, CALLER],
    ['setxattr', 7, 'user.b', 2, false, CALLER],
  ]);
  t.deepEqual(values, [new Uint8Array(value), new Uint8Array(0)]);
});

test('SETXATTR has a shorter struct without SETXATTR_EXT', (t) => {
  const { kernel, calls } = started({ setxattr() {} });
  kernel.init({ minor: 32, low: OFFERED_LOW & ~(1 << 29), old: true });
  t.is(kernel.call(abi.FUSE_SETXATTR, 7, [1, 2, 'user.a', Buffer.from('v')]).error, 0);
  t.deepEqual(calls, [['setxattr', 7, 'user.a', 2, false, CALLER]]);
});

test('SETXATTR: values end at 64 KiB, names at 255 bytes', (t) => {
  const { kernel } = served({ setxattr() {} });
  const set = (size: number, name: string) =>
    kernel.call(abi.FUSE_SETXATTR, 7, [size, 0, 0, 0, name, new Uint8Array(size)]).error;
  t.is(set(65536, 'user.a'), 0);
  t.is(set(65537, 'user.a'), -7);
  t.is(set(1, 'n'.repeat(256)), -34);
  t.is(set(1, ''), -34);
});

test('REMOVEXATTR', (t) => {
  const { kernel, calls } = served({ removexattr() {} });
  t.is(kernel.call(abi.FUSE_REMOVEXATTR, 7, ['user.a']).error, 0);
  t.deepEqual(calls, [['removexattr', 7, 'user.a', CALLER]]);
});

test('FSYNC and FSYNCDIR say whether metadata counts', (t) => {
  const { kernel, calls } = served({ fsync() {} });
  kernel.call(abi.FUSE_FSYNC, 7, [0n, 1, 0]);
  kernel.call(abi.FUSE_FSYNCDIR, 1, [0n, 0, 0]);
  t.deepEqual(calls, [
    ['fsync', 7, true],
    ['fsync', 1, false],
  ]);
});

test('FALLOCATE and LSEEK', (t) => {
  const { kernel, calls } = served({ fallocate() {}, lseek: () => 2 ** 33 });
  t.is(kernel.call(abi.FUSE_FALLOCATE, 7, [0n, 4096n, 2n ** 40n, 3, 0]).error, 0);
  t.is(kernel.call(abi.FUSE_FALLOCATE, 7, [0n, 4096n, 2n ** 60n, 0, 0]).error, -27);
  const { body } = kernel.call(abi.FUSE_LSEEK, 7, [0n, 10n, 4, 0]);
  t.is(bytesOf(body).toString('hex'), '0000000002000000');
  t.deepEqual(calls, [
    ['fallocate', 7, 3, 4096, 2 ** 40, CALLER],
    ['lseek', 7, 10, 4],
  ]);
});

test('COPY_FILE_RANGE counts in 32 bits, its successor in 64', (t) => {
  const { kernel, calls } = served({
    copyFileRange: (_in, _offsetIn, _out, _offsetOut, length) => length,
  });
  const parts = [0n, 5n, 8n, 0n, 6n, 2n ** 33n + 1n, 0n];
  const old = kernel.call(abi.FUSE_COPY_FILE_RANGE, 7, parts);
  t.is(bytesOf(old.body).toString('hex'), '00f0ffff00000000');
  const recent = kernel.call(abi.FUSE_COPY_FILE_RANGE_64, 7, parts);
  t.is(bytesOf(recent.body).toString('hex'), '0100000002000000');
  t.deepEqual(calls[1], ['copyFileRange', 7, 5, 8, 6, 2 ** 33 + 1, CALLER]);
  t.is(kernel.call(abi.FUSE_COPY_FILE_RANGE, 7, [...parts.slice(0, 6), 1n]).error, -22);
});

test('STATFS', (t) => {
  const { kernel } = served({
    statfs: (stat) => void Object.assign(stat, { blocks: 10, bfree: 4, bavail: 4, files: 3 }),
  });
  const { body } = kernel.call(abi.FUSE_STATFS, 1);
  t.is(body.byteLength, 80);
  t.is(Number(body.getBigUint64(0, true)), 10);
  t.is(body.getUint32(44, true), 255, 'namelen');
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
