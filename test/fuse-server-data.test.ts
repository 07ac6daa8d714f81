// Requests on contents, listings and extended attributes, as the kernel sends them, and what it is answered.
import test from 'ava';
import * as abi from '../src/fuse/abi.ts';
import { Attr } from '../src/layers/layer.ts';
import type { Filesystem } from '../src/overlay/filesystem.ts';
import type { DecodedDirent } from './helpers/kernel.ts';
import { bytesOf, OFFERED_LOW, readIn } from './helpers/kernel.ts';
import { CALLER, describe, served, started } from './helpers/served.ts';

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

test('COPY_FILE_RANGE does a part of what is long, and says how much, in 32 bits, its successor in 64', (t) => {
  const { kernel, calls } = served({
    copyFileRange: (_in, _offsetIn, _out, _offsetOut, length) => length,
  });
  const parts = [0n, 5n, 8n, 0n, 6n, 2n ** 33n + 1n, 0n];
  const old = kernel.call(abi.FUSE_COPY_FILE_RANGE, 7, parts);
  t.is(bytesOf(old.body).toString('hex'), '0000400000000000');
  const recent = kernel.call(abi.FUSE_COPY_FILE_RANGE_64, 7, parts);
  t.is(bytesOf(recent.body).toString('hex'), '0000400000000000');
  t.deepEqual(calls[1], ['copyFileRange', 7, 5, 8, 6, 2 ** 22, CALLER]);
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
