/** Listings without strings, and the directory entries that are made of them. */
import { constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants as errnos, tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { unpack, type PackedListing } from '../src/layers/packed-listing.ts';
import { native } from '../src/native.ts';
import type { Listing } from '../src/native.ts';

/** A directory of empty files and one directory, open at its start, and what is in it. */
function folderOf(t: ExecutionContext, names: readonly string[]): { fd: number; listed: Listing } {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-packed-'));
  for (const name of names) writeFileSync(join(folder, name), '');
  mkdirSync(join(folder, 'directory'));
  const fd = native.open(folder, constants.O_RDONLY | constants.O_DIRECTORY, 0);
  t.teardown(() => {
    native.close(fd);
    rmSync(folder, { recursive: true });
  });
  const listed = native.listDirectory(fd);
  if (typeof listed === 'number') throw new Error(`listDirectory: ${listed}`);
  native.lseek(fd, 0, 0);
  return { fd, listed };
}

/** What follows of a directory. */
function packedOf(fd: number): PackedListing {
  const packed = native.packDirectory(fd);
  if (typeof packed === 'number') throw new Error(`packDirectory: ${packed}`);
  return unpack(packed);
}

test('packed, a directory holds what it holds listed, and its entries are encoded as they fit', (t) => {
  const { fd, listed } = folderOf(t, ['a', 'größe', 'x'.repeat(255), '.hidden', 'with space']);
  const packed = packedOf(fd);
  t.true(packed.isLast);
  const text = Buffer.from(packed.names).toString('latin1');
  t.is(text, listed.names.map((name) => `${name}/`).join(''));
  t.deepEqual(
    [...packed.ends].map((end, i) => text.slice(packed.ends[i - 1] ?? 0, end - 1)),
    listed.names,
  );
  t.deepEqual(packed.types, listed.types);
  t.deepEqual(packed.inos, listed.inos);
  t.false(packed.hasLarge);

  const { ends, types } = packed;
  const inos = Float64Array.from(types, (_type, i) => 2 ** 52 + i);
  const into = new Uint8Array(4096).fill(0xff);
  const sizes = listed.names.map((name) => (24 + name.length + 7) & ~7);
  const first = sizes[2] ?? 0;
  const second = sizes[3] ?? 0;
  const encode = (limit: number, numbers: Float64Array | Uint32Array): number =>
    native.encodeDirents(into, 8, limit, packed.names, ends, types, numbers, 2, 2 ** 40);
  t.is(encode(8 + first - 1, inos), 8, 'what does not fit is left out');
  t.is(encode(8 + first + second, inos), 8 + first + second);
  const view = new DataView(into.buffer, 8);
  const at = (start: number): unknown[] => [
    view.getBigUint64(start, true),
    view.getBigUint64(start + 8, true),
    view.getUint32(start + 20, true),
    Buffer.from(
      into.subarray(8 + start + 24, 8 + start + 24 + view.getUint32(start + 16, true)),
    ).toString('latin1'),
  ];
  t.deepEqual(at(0), [2n ** 52n + 2n, 2n ** 40n, types[2], listed.names[2]]);
  t.deepEqual(at(first), [2n ** 52n + 3n, 2n ** 40n + 1n, types[3], listed.names[3]]);
  t.is(encode(4096, packed.inos), 8 + sizes.slice(2).reduce((sum, size) => sum + size, 0));
  t.is(view.getUint32(0, true), packed.inos[4] ?? 0);
  t.is(encode(8, inos), 8);
  t.is(
    native.encodeDirents(into, 0, 4096, packed.names, ends, types, inos, 6, 9),
    0,
    'none is left',
  );
});

test('a large directory is packed in parts, of which the last says so', (t) => {
  const made = Array.from({ length: 3000 }, (_, i) => `a name of some length ${i}`);
  const { fd, listed } = folderOf(t, made);
  const parts = [];
  do {
    const part = packedOf(fd);
    t.true(part.isLast || part.types.length > 200);
    parts.push(part);
  } while (parts.at(-1)?.isLast === false);
  t.true(parts.length > 2);
  t.is(
    parts.map(({ names }) => Buffer.from(names).toString('latin1')).join(''),
    listed.names.map((name) => `${name}/`).join(''),
  );
  t.deepEqual(
    parts.flatMap(({ types }) => [...types]),
    [...listed.types],
  );
  t.deepEqual(
    parts.flatMap(({ inos }) => [...inos]),
    [...listed.inos],
  );
  const after = packedOf(fd);
  t.true(after.isLast && after.types.length === 0);
});

/** A call that the types forbid. */
function encodeAny(...args: unknown[]): unknown {
  return (native['encodeDirents'] as (...args: unknown[]) => unknown)(...args);
}

test('a descriptor that is no directory is an error, and wrong arguments encode nothing', (t) => {
  const file = native.memfd('no-directory');
  t.teardown(() => native.close(file));
  t.is(native.packDirectory(file), -errnos.errno.ENOTDIR);
  const into = new Uint8Array(64).fill(7);
  t.is(encodeAny(into, 0, 64, {}, [], 1, 'x', 0, 0), 0);
  t.is(
    encodeAny(
      into,
      0,
      64,
      new Uint8Array(4),
      Uint32Array.of(400),
      Uint8Array.of(1),
      Float64Array.of(1),
      0,
      1,
    ),
    0,
  );
  t.deepEqual(into, new Uint8Array(64).fill(7));
});
