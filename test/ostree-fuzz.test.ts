// Every parser against mutations of real objects: it gives a value that keeps the rules, or refuses; nothing else.
// OSTREE_TS_TEST_SCALE raises the number of inputs, to a million from 10 on; OSTREE_TS_TEST_SEED repeats a run.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { native } from '../src/native.ts';
import { inflateWhole } from '../src/ostree/data.ts';
import { parseDirTree } from '../src/ostree/dirtree.ts';
import { FormatError } from '../src/ostree/gvariant.ts';
import { parseKeyFile } from '../src/ostree/keyfile.ts';
import {
  HEADER_PREFIX,
  archiveHeaderLength,
  parseArchiveHeader,
  parseCommit,
  parseDirMeta,
  parseFileMeta,
  parseFileXattrs,
  type Xattr,
} from '../src/ostree/objects.ts';
import { ObjectError } from '../src/ostree/failures.ts';
import {
  commitTree,
  objectPath,
  objectsOf,
  plantEverything,
  remove,
  scratch,
} from './helpers/repositories.ts';

const scale = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
const INPUTS = scale >= 10 || Number.isNaN(scale) ? 1_000_000 : 10_000 * scale;
const seed = Number(process.env['OSTREE_TS_TEST_SEED'] ?? 20_260_101);
/** Far above what any of these takes, far below what a loop would. */
const SLOW_MS = 2000;

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
plantEverything(tree, { many: 40 });
const archive = commitTree(folder, 'archive', tree);
const split = commitTree(folder, 'bare-split-xattrs', tree);

function corpus(repository: string, extension: string): Buffer[] {
  return objectsOf(repository, extension).map((checksum) =>
    readFileSync(objectPath(repository, checksum, extension)),
  );
}

type Random = () => number;

/** Mulberry32: numbers in [0, 1), the same for the same seed. */
function randomFrom(start: number): Random {
  let state = start | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)] as T;
}

const INTERESTING = [0, 1, 2, 7, 8, 31, 32, 33, 47, 127, 128, 254, 255];

/** What goes wrong with objects: bits, bytes, lengths, offsets (which are at the end), pieces of others. */
const MUTATIONS: ((random: Random, input: Buffer, other: Buffer) => Buffer)[] = [
  (random, input) => {
    const at = Math.floor(random() * input.length);
    input[at] = (input[at] ?? 0) ^ (1 << Math.floor(random() * 8));
    return input;
  },
  (random, input) => {
    input[Math.floor(random() * input.length)] = pick(random, INTERESTING);
    return input;
  },
  (random, input) => input.subarray(0, Math.floor(random() * input.length)),
  (random, input) => {
    const at = input.length - 1 - Math.floor(random() ** 3 * Math.min(input.length, 64));
    if (at >= 0) input[at] = pick(random, [...INTERESTING, input.length, input[at] ?? 0]) & 0xff;
    return input;
  },
  (random, input) => {
    const at = input.length - 1 - Math.floor(random() * Math.min(input.length, 16));
    if (at >= 0) input[at] = ((input[at] ?? 0) + (random() < 0.5 ? 1 : 255)) & 0xff;
    return input;
  },
  (random, input) => {
    const at = Math.floor(random() * input.length);
    const length = Math.floor(random() * 40);
    return Buffer.concat([input.subarray(0, at), input.subarray(at + length)]);
  },
  (random, input, other) => {
    const at = Math.floor(random() * input.length);
    const from = Math.floor(random() * other.length);
    const piece = other.subarray(from, from + Math.floor(random() * 80));
    return Buffer.concat([input.subarray(0, at), piece, input.subarray(at)]);
  },
  (random, input) => Buffer.concat([input, Buffer.alloc(Math.floor(random() * 300))]),
  (random, input) => {
    const at = Math.floor(random() * input.length);
    const end = Math.min(input.length, at + Math.floor(random() * 16));
    return input.fill(pick(random, INTERESTING), at, end);
  },
];

function* mutants(random: Random, originals: readonly Buffer[], count: number): Generator<Buffer> {
  for (let made = 0; made < count; made++) {
    let input: Buffer = Buffer.from(pick(random, originals));
    for (let times = 1 + Math.floor(random() ** 2 * 4); times > 0; times--) {
      input = pick(random, MUTATIONS)(random, input, pick(random, originals));
    }
    yield input;
  }
}

interface Target {
  /** Objects that are fine. */
  originals: Buffer[];
  parse: (input: Buffer) => unknown;
}

const parseArchive = (input: Buffer) => {
  const end = HEADER_PREFIX + archiveHeaderLength(input, input.length);
  const header = parseArchiveHeader(input.subarray(HEADER_PREFIX, end));
  if (!Number.isSafeInteger(header.size)) throw new Error('size');
  if (header.target.includes('\0')) throw new Error('target');
  assertXattrs(header.xattrs);
};

const TARGETS: Record<string, Target> = {
  commit: {
    originals: corpus(archive.path, 'commit'),
    parse: (input) => {
      const { tree: root, meta, parent } = parseCommit(input);
      for (const each of [root, meta, parent ?? root]) {
        if (!/^[0-9a-f]{64}$/.test(each)) throw new Error(`checksum ${each}`);
      }
    },
  },
  dirtree: {
    originals: corpus(archive.path, 'dirtree'),
    parse: (input) => {
      const { files, dirs } = parseDirTree(input);
      assertNames(files.names);
      assertNames(dirs.names);
      const dirNames = new Set(dirs.names);
      for (const name of files.names) if (dirNames.has(name)) throw new Error(name);
      for (const [index, name] of [...dirNames].entries()) {
        if (dirs.find(name) !== index) throw new Error(name);
        if (!/^[0-9a-f]{64}$/.test(dirs.checksum(index, 1))) throw new Error(name);
      }
    },
  },
  dirmeta: {
    originals: corpus(archive.path, 'dirmeta'),
    parse: (input) => assertXattrs(parseDirMeta(input).xattrs),
  },
  'user.ostreemeta': {
    originals: corpus(archive.path, 'dirmeta').map((bytes) => {
      bytes.writeUInt32BE((bytes.readUInt32BE(8) & 0o7777) | 0o100000, 8);
      return bytes;
    }),
    parse: (input) => assertXattrs(parseFileMeta(input).xattrs),
  },
  'file-xattrs': {
    originals: corpus(split.path, 'file-xattrs').filter((bytes) => bytes.length > 0),
    parse: (input) => assertXattrs(parseFileXattrs(input)),
  },
  'archive header': {
    originals: corpus(archive.path, 'filez').map((bytes) =>
      bytes.subarray(0, HEADER_PREFIX + bytes.readUInt32BE(0) + 20),
    ),
    parse: parseArchive,
  },
  config: {
    originals: [archive, split].map(({ path }) => readFileSync(join(path, 'config'))),
    parse: (input) => parseKeyFile(input.toString()),
  },
};

function assertNames(names: string[]): void {
  for (const [index, name] of names.entries()) {
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || name.length > 255) {
      throw new Error(`name ${name}`);
    }
    if (index > 0 && name <= (names[index - 1] ?? '')) throw new Error(`order ${name}`);
  }
}

function assertXattrs(xattrs: Xattr[]): void {
  const names = xattrs.map(({ name }) => name);
  if (new Set(names).size !== names.length) throw new Error('an attribute twice');
  for (const name of names) if (name === '' || name.includes('\0')) throw new Error(name);
}

/** Feeds inputs to `parse`: whatever it throws but a refusal fails, and so does one that takes too long. */
function feed(
  t: ExecutionContext,
  inputs: Iterable<Buffer>,
  parse: (input: Buffer) => unknown,
  isRefusal: (error: unknown) => boolean,
): void {
  let accepted = 0;
  let refused = 0;
  for (const input of inputs) {
    const started = performance.now();
    try {
      parse(input);
      accepted++;
    } catch (error) {
      if (!isRefusal(error)) {
        t.fail(`${String(error)} for ${input.toString('hex')}`);
        return;
      }
      refused++;
    }
    if (performance.now() - started > SLOW_MS) t.fail(`slow for ${input.toString('hex')}`);
  }
  t.log(`seed ${seed}: ${accepted} accepted, ${refused} refused`);
  t.true(refused > accepted / 50, 'hardly anything was refused: these are no mutations');
}

const share = Math.ceil(INPUTS / (Object.keys(TARGETS).length + 1));

for (const [index, [name, { originals, parse }]] of Object.entries(TARGETS).entries()) {
  test(`${name}: a value or a refusal for ${share} mutations`, (t) => {
    t.timeout(600_000);
    t.true(originals.length > 0);
    for (const original of originals) t.notThrows(() => parse(original));
    const inputs = mutants(randomFrom(seed + index), originals, share);
    feed(t, inputs, parse, (error) => error instanceof FormatError);
  });
}

test(`deflated data: what was declared, or a refusal, for ${share} mutations`, (t) => {
  t.timeout(600_000);
  const fd = native.memfd('fuzz');
  t.teardown(() => native.close(fd));
  const texts = ['', 'x', 'some text, some text', 'z'.repeat(5000)].map((each) =>
    Buffer.from(each),
  );
  const size = 5000;
  const info = { uid: 0, gid: 0, mode: 0o100644, size, target: '', xattrs: [] };
  const inflate = (input: Buffer) => {
    native.ftruncate(fd, 0);
    native.pwrite(fd, input, 0);
    const data = { fd, deflated: true, offset: 0, fileSize: input.length, info };
    const bytes = inflateWhole('0'.repeat(64), data);
    throw new Error(`${bytes.length} bytes that hash to nothing`);
  };
  const originals = texts.map((text) => deflateRawSync(text));
  const inputs = mutants(randomFrom(seed - 1), originals, share);
  feed(t, inputs, inflate, (error) => error instanceof ObjectError);
});
