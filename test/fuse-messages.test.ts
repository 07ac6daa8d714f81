import test from 'ava';
import { FsError } from '../src/errors.ts';
import { deviceMajor, deviceMinor, encodeDevice } from '../src/fuse/device-number.ts';
import { Reply } from '../src/fuse/reply.ts';
import { Request } from '../src/fuse/request.ts';
import { Attr } from '../src/layers/layer.ts';

/** Parses hex with `#` comments, so that a vector can be read beside the header it follows. */
function bytes(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll(/#.*/g, '').match(/[\da-f]{2}/g) ?? [], (pair) =>
    Number.parseInt(pair, 16),
  );
}

/** A request over the bytes given, followed by what an older request left. */
function request(vector: Uint8Array): Request {
  const buffer = new ArrayBuffer(4096);
  new Uint8Array(buffer).fill(0xee).set(vector);
  const result = new Request(buffer);
  if (!result.begin(vector.length)) throw new Error('the vector has a wrong length');
  return result;
}

/** A request with an empty header and this body. */
function body(text: string): Request {
  const content = bytes(text);
  const vector = new Uint8Array(40 + content.length);
  vector[0] = vector.length & 0xff;
  vector[1] = vector.length >> 8;
  vector.set(content, 40);
  return request(vector);
}

/** A reply over a buffer full of what an older one left, and a way to see `size` bytes of its body as hex. */
function reply(): { reply: Reply; hex: (size: number) => string; buffer: ArrayBuffer } {
  const buffer = new ArrayBuffer(4096);
  new Uint8Array(buffer).fill(0xee);
  return {
    reply: new Reply(buffer),
    hex: (size) => Buffer.from(buffer, 16, size).toString('hex'),
    buffer,
  };
}

function hex(text: string): string {
  return Buffer.from(bytes(text)).toString('hex');
}

// lookup(2, "lib") by 1000:100, process 4242.
const LOOKUP = bytes(`
  2c 00 00 00               # len 44
  01 00 00 00               # opcode LOOKUP
  08 00 00 00 00 00 00 80   # unique: bit 63 marks a request that is sent again
  02 00 00 00 00 00 00 00   # nodeid
  e8 03 00 00               # uid
  64 00 00 00               # gid
  92 10 00 00               # pid
  00 00 00 00               # total_extlen, padding
  6c 69 62 00               # "lib"
`);

test('a header is read in wire order', (t) => {
  const lookup = request(LOOKUP);
  const caller = { uid: 0, gid: 0, pid: 0 };
  lookup.caller(caller);
  t.is(lookup.opcode, 1);
  t.is(lookup.uniqueLow, 8);
  t.is(lookup.uniqueHigh, 0x80000000);
  t.is(lookup.nodeid, 2);
  t.deepEqual(caller, { uid: 1000, gid: 100, pid: 4242 });
  t.is(lookup.size, 4);
  t.is(lookup.name(0), 'lib');
  t.is(lookup.next, 4);
});

test('a message whose length disagrees with its header is not taken', (t) => {
  const buffer = new ArrayBuffer(4096);
  new Uint8Array(buffer).set(LOOKUP);
  const incoming = new Request(buffer);
  t.false(incoming.begin(43));
  t.false(incoming.begin(45));
  t.false(incoming.begin(39));
  t.true(incoming.begin(44));
});

test('extensions are no part of the body', (t) => {
  const vector = new Uint8Array(52);
  vector.set(LOOKUP);
  vector[0] = 52;
  // total_extlen counts units of 8 bytes.
  vector[36] = 1;
  t.is(request(vector).size, 4);
  vector[36] = 2;
  t.throws(() => request(vector), { message: 'the vector has a wrong length' });
});

test('a node id beyond 2^53 is no node', (t) => {
  const vector = LOOKUP.slice();
  vector.set(bytes('ff ff ff ff ff ff 1f 00'), 16);
  t.is(request(vector).nodeid, Number.MAX_SAFE_INTEGER);
  vector.set(bytes('00 00 00 00 00 00 20 00'), 16);
  t.is(request(vector).nodeid, Number.NaN);
});

test('a name keeps bytes that are not UTF-8', (t) => {
  t.is(body('ff fe 80 00').name(0), '\u00ff\u00fe\u0080');
});

test('names that follow each other are read one after the other', (t) => {
  // rename: newdir, "a", "bc"
  const rename = body('07 00 00 00 00 00 00 00  61 00  62 63 00');
  t.is(rename.u64(0), 7);
  t.is(rename.name(8), 'a');
  t.is(rename.name(rename.next), 'bc');
  t.is(rename.next, 13);
});

const refusal = test.macro({
  exec(t, read: () => unknown, code: string) {
    t.throws(read, { instanceOf: FsError, code });
  },
  title: (given) => `refused: ${given}`,
});

test('a name without NUL', refusal, () => body('61 62 63').name(0), 'EIO');
test('a name behind the end', refusal, () => body('61 00').name(2), 'EIO');
test('an empty name', refusal, () => body('00').name(0), 'EINVAL');
test('the name .', refusal, () => body('2e 00').name(0), 'EINVAL');
test('the name ..', refusal, () => body('2e 2e 00').name(0), 'EINVAL');
test('a name with a slash', refusal, () => body('61 2f 62 00').name(0), 'EINVAL');
test('a name of 256 bytes', refusal, () => body(`${'61'.repeat(256)} 00`).name(0), 'ENAMETOOLONG');
test('a target without NUL', refusal, () => body('61 2f 62').text(0), 'EIO');
test('more data than there is', refusal, () => body('61 62').copy(0, 3), 'EIO');
test('a 64-bit field beyond 2^53', refusal, () => body('00 00 00 00 00 00 20 00').u64(0), 'EINVAL');
test('a size beyond 2^53', refusal, () => body('ff ff ff ff ff ff ff 7f').extent(0), 'EFBIG');
test('a time beyond 2^53', refusal, () => body('ff ff ff ff ff ff ff 7f').seconds(0), 'EINVAL');

test('names of 255 bytes and of dots that mean nothing are names', (t) => {
  t.is(body(`${'61'.repeat(255)} 00`).name(0).length, 255);
  t.is(body('2e 2e 2e 00').name(0), '...');
  t.is(body('2e 61 00').name(0), '.a');
  t.is(body('61 2e 00').name(0), 'a.');
});

test('64-bit fields up to 2^53 are exact', (t) => {
  const fields = body('01 00 00 00 01 00 00 00  ff ff ff ff ff ff 1f 00');
  t.is(fields.u64(0), 0x100000001);
  t.is(fields.u64(8), Number.MAX_SAFE_INTEGER);
  t.is(fields.extent(8), Number.MAX_SAFE_INTEGER);
  t.is(body('ff ff ff ff ff ff ff ff').amount(0), Number.MAX_SAFE_INTEGER);
});

test('seconds before 1970 are negative', (t) => {
  t.is(body('ff ff ff ff ff ff ff ff').seconds(0), -1);
  t.is(body('00 00 00 00 ff ff ff ff').seconds(0), -(2 ** 32));
  t.is(body('00 00 00 80 00 00 00 00').seconds(0), 2 ** 31);
});

test('a copy does not change when the buffer does', (t) => {
  const incoming = body('61 62 63');
  const copy = incoming.copy(1, 2);
  incoming.bytes.fill(0);
  t.deepEqual(copy, Uint8Array.of(0x62, 0x63));
});

/** A file of 5 GiB last changed a second before 1970. */
function someAttr(): Attr {
  return Object.assign(new Attr(), {
    ino: 0x100000002,
    mode: 0o100644,
    nlink: 3,
    uid: 1000,
    gid: 100,
    size: 5 * 2 ** 30,
    blocks: 8,
    atimeSec: 1,
    atimeNsec: 999_999_999,
    mtimeSec: -1,
    mtimeNsec: 500,
    ctimeSec: 2 ** 33,
    ctimeNsec: 2,
    btimeSec: 9,
    btimeNsec: 8,
  });
}

// struct fuse_attr of someAttr().
const ATTR = `
  02 00 00 00 01 00 00 00   # ino
  00 00 00 40 01 00 00 00   # size
  08 00 00 00 00 00 00 00   # blocks
  01 00 00 00 00 00 00 00   # atime
  ff ff ff ff ff ff ff ff   # mtime
  00 00 00 00 02 00 00 00   # ctime
  ff c9 9a 3b               # atimensec
  f4 01 00 00               # mtimensec
  02 00 00 00               # ctimensec
  a4 81 00 00               # mode
  03 00 00 00               # nlink
  e8 03 00 00               # uid
  64 00 00 00               # gid
  00 00 00 00               # rdev
  00 10 00 00               # blksize
  00 00 00 00               # flags
`;

test('fuse_attr_out: valid for ever, times with their sign', (t) => {
  const out = reply();
  t.is(out.reply.attr(7, someAttr()), 104);
  t.is(
    out.hex(104),
    hex(`
      ff ff ff 7f 00 00 00 00   # attr_valid
      00 00 00 00               # attr_valid_nsec
      00 00 00 00               # dummy
      ${ATTR}
    `),
  );
});

test('fuse_entry_out: node, generation 0, valid for ever', (t) => {
  const out = reply();
  t.is(out.reply.entry({ ino: 0x200000001, attr: someAttr() }), 128);
  t.is(
    out.hex(128),
    hex(`
      01 00 00 00 02 00 00 00   # nodeid
      00 00 00 00 00 00 00 00   # generation
      ff ff ff 7f 00 00 00 00   # entry_valid
      ff ff ff 7f 00 00 00 00   # attr_valid
      00 00 00 00 00 00 00 00   # entry_valid_nsec, attr_valid_nsec
      ${ATTR}
    `),
  );
});

test('fuse_entry_out of an absence: node 0, to be remembered', (t) => {
  const out = reply();
  t.is(out.reply.entry({ ino: 0, attr: someAttr() }), 128);
  t.is(
    out.hex(128),
    hex(`
      00 00 00 00 00 00 00 00   # nodeid
      00 00 00 00 00 00 00 00   # generation
      ff ff ff 7f 00 00 00 00   # entry_valid
      ff ff ff 7f 00 00 00 00   # attr_valid
      00 00 00 00 00 00 00 00   # entry_valid_nsec, attr_valid_nsec
      ${'00'.repeat(88)}        # attr
    `),
  );
});

test('fuse_dirent: padded to 8 bytes, with zeros', (t) => {
  const out = reply();
  t.is(out.reply.dirent(0, 'lib\u00ff', 0x100000003, 0x100000002, 4), 32);
  t.is(
    out.hex(32),
    hex(`
      02 00 00 00 01 00 00 00   # ino
      03 00 00 00 01 00 00 00   # off
      04 00 00 00               # namelen
      04 00 00 00               # type DT_DIR
      6c 69 62 ff 00 00 00 00   # name
    `),
  );
  t.is(out.reply.dirent(0, '12345678', 1, 1, 8), 32);
  t.is(out.hex(32).slice(48), hex('31 32 33 34 35 36 37 38'));
});

test('fuse_statx_out: everything, creation time too', (t) => {
  const out = reply();
  const attr = Object.assign(someAttr(), { mode: 0o020600, rdevMajor: 8, rdevMinor: 300 });
  t.is(out.reply.statx(7, attr), 288);
  t.is(
    out.hex(288),
    hex(`
      ff ff ff 7f 00 00 00 00   # attr_valid
      00 00 00 00 00 00 00 00   # attr_valid_nsec, flags
      ${'00'.repeat(16)}        # spare
      ff 0f 00 00               # stx_mask: basic, btime
      00 10 00 00               # blksize
      00 00 00 00 00 00 00 00   # attributes
      03 00 00 00               # nlink
      e8 03 00 00               # uid
      64 00 00 00               # gid
      80 21 00 00               # mode u16, spare
      02 00 00 00 01 00 00 00   # ino
      00 00 00 40 01 00 00 00   # size
      08 00 00 00 00 00 00 00   # blocks
      00 00 00 00 00 00 00 00   # attributes_mask
      01 00 00 00 00 00 00 00  ff c9 9a 3b 00 00 00 00   # atime
      09 00 00 00 00 00 00 00  08 00 00 00 00 00 00 00   # btime
      00 00 00 00 02 00 00 00  02 00 00 00 00 00 00 00   # ctime
      ff ff ff ff ff ff ff ff  f4 01 00 00 00 00 00 00   # mtime
      08 00 00 00  2c 01 00 00   # rdev
      00 00 00 00  00 00 00 00   # dev
      ${'00'.repeat(112)}        # spare
    `),
  );
});

test('a creation time that is not known is not claimed', (t) => {
  const out = reply();
  out.reply.statx(7, Object.assign(someAttr(), { btimeSec: 0, btimeNsec: 0 }));
  t.is(new DataView(out.buffer).getUint32(16 + 32, true), 0x7ff);
});

test('fuse_statfs_out', (t) => {
  const out = reply();
  const stat = {
    blocks: 2 ** 33,
    bfree: 3,
    bavail: 2,
    files: 7,
    ffree: 5,
    bsize: 4096,
    namelen: 255,
  };
  t.is(out.reply.statfs(stat), 80);
  t.is(
    out.hex(80),
    hex(`
      00 00 00 00 02 00 00 00   # blocks
      03 00 00 00 00 00 00 00   # bfree
      02 00 00 00 00 00 00 00   # bavail
      07 00 00 00 00 00 00 00   # files
      05 00 00 00 00 00 00 00   # ffree
      00 10 00 00               # bsize
      ff 00 00 00               # namelen
      00 10 00 00               # frsize
      00 00 00 00               # padding
      ${'00'.repeat(24)}        # spare
    `),
  );
});

test('an out header has the length, the error and the request it answers', (t) => {
  const out = reply();
  out.reply.address(request(LOOKUP));
  t.is(out.reply.finish(8), 24);
  t.is(
    Buffer.from(out.buffer, 0, 16).toString('hex'),
    hex('18 00 00 00  00 00 00 00  08 00 00 00 00 00 00 80'),
  );
  t.is(out.reply.finish(-2), 16);
  t.is(
    Buffer.from(out.buffer, 0, 16).toString('hex'),
    hex('10 00 00 00  fe ff ff ff  08 00 00 00 00 00 00 80'),
  );
});

test('device numbers are packed as the kernel does', (t) => {
  t.is(encodeDevice(8, 1), 0x801);
  // makedev(0xabc, 0x12345): the low byte of the minor, the major, the rest of the minor.
  t.is(encodeDevice(0xabc, 0x12345), 0x123abc45);
  t.is(encodeDevice(0xfff, 0xfffff), 0xffffffff);
  for (const [major, minor] of [
    [0, 0],
    [8, 1],
    [0xabc, 0x12345],
    [0xfff, 0xfffff],
  ] as const) {
    t.is(deviceMajor(encodeDevice(major, minor)), major);
    t.is(deviceMinor(encodeDevice(major, minor)), minor);
  }
});
