// Requests on names and attributes, as the kernel sends them, and what the filesystem is asked.
import test from 'ava';
import * as abi from '../src/fuse/abi.ts';
import type { Attr } from '../src/layers/layer.ts';
import type { Entry } from '../src/overlay/filesystem.ts';
import type { Part } from './helpers/kernel.ts';
import { bytesOf } from './helpers/kernel.ts';
import {
  CALLER,
  describe,
  FOREVER,
  found,
  NO_BACKING,
  NO_HANDLE,
  served,
} from './helpers/served.ts';

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
