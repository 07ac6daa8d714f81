/**
 * How many requests each operation costs, exactly: what the protocol needs and no more. The counts are the session's own.
 * They hold for Linux 6.12 and later; FORGET and BATCH_FORGET come when the kernel likes, and are not counted.
 */
import test, { type ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import type { Hand } from '../helpers/hand.ts';
import { type Mounted, mounted, UPPER } from '../helpers/mounted.ts';
import { runScript } from '../helpers/posix.ts';
import { dir, file, symlink, type Tree } from '../helpers/trees.ts';

type Counts = Readonly<Record<string, number>>;

interface Case {
  /** Lower files of this case alone. */
  tree: Tree;
  /** Not counted. */
  before?: string;
  script: string;
  counts: Counts;
}

const MIB = 2 ** 20;

/**
 * What stands beside a count is why it cannot be less. Three causes come back: reading from us makes a file's atime
 * unknown to the kernel, changing a directory makes all its attributes unknown, and the first change of a file asks
 * whether it has a capability, which would have to go.
 */
const CASES: Readonly<Record<string, Case>> = {
  'the first listing and fsync': {
    tree: { f: 'x' },
    script: `
      open 0 f O_RDWR
      fsync 0
      close 0
      list .`,
    // OPENDIR and FSYNC are answered ENOSYS once, and the kernel never asks again; for OPEN and FLUSH the keeper has seen
    // to that.
    counts: { LOOKUP: 1, FSYNC: 1, OPENDIR: 1, READDIRPLUS: 1, READDIR: 1 },
  },
  'stat, cold': {
    tree: { f: 'x' },
    script: 'stat f',
    // The attributes come with the name.
    counts: { LOOKUP: 1 },
  },
  'stat, warm': { tree: { f: 'x' }, before: 'stat f', script: 'stat f', counts: {} },
  'stat of what is absent, three times': {
    tree: {},
    script: `
      stat f => ENOENT
      stat f => ENOENT
      stat f => ENOENT`,
    // An absence is remembered like a name.
    counts: { LOOKUP: 1 },
  },
  'a path of four names, cold': {
    tree: { 'a/b/c/f': 'x' },
    script: 'stat a/b/c/f',
    // The kernel looks names up one by one.
    counts: { LOOKUP: 4 },
  },
  'open, read, close, cold': {
    tree: { f: 'hello' },
    script: `
      open 0 f O_RDONLY
      pread 0 0 100 => ok =hello
      close 0`,
    counts: { LOOKUP: 1, READ: 1 },
  },
  'open, read, close, warm': {
    tree: { f: 'hello' },
    before: `
      open 0 f O_RDONLY
      pread 0 0 100
      close 0`,
    script: `
      open 0 f O_RDONLY
      pread 0 0 100 => ok =hello
      close 0`,
    counts: {},
  },
  'stat after reading, twice': {
    tree: { f: 'hello' },
    before: `
      open 0 f O_RDONLY
      pread 0 0 100`,
    script: `
      stat f
      stat f`,
    // The READ may have changed the atime: fuse_invalidate_atime().
    counts: { GETATTR: 1 },
  },
  'read 512 KiB': {
    tree: { f: file('x', { size: MIB / 2 }) },
    before: 'open 0 f O_RDONLY',
    script: `pread 0 0 ${MIB / 2}`,
    // The kernel's readahead is 128 KiB; for root the keeper has made it 512.
    counts: { READ: process.getuid?.() === 0 ? 1 : 4 },
  },
  'read 64 KiB through mmap': {
    tree: { f: file('x', { size: MIB / 16 }) },
    before: 'open 0 f O_RDONLY',
    script: `
      mmap 0 0 0 ${MIB / 16} PROT_READ MAP_SHARED
      mload 0 0 1 => ok =x
      mload 0 65535 1 => ok =%00`,
    counts: { READ: 1 },
  },
  'list, cold': {
    tree: { a: '', b: '', c: '' },
    script: 'list . => ok a b c',
    // Names and attributes; then, asked for what is left, nothing, which is how a directory ends.
    counts: { READDIRPLUS: 1, READDIR: 1 },
  },
  'list, warm': {
    tree: { a: '', b: '', c: '' },
    before: 'list .',
    script: `
      list . => ok a b c
      list . => ok a b c`,
    // opendir(3) looks at the directory, once: the READDIR may have changed the atime.
    counts: { GETATTR: 1 },
  },
  'list and stat everything (ls -l)': {
    tree: { a: '', b: '', c: '' },
    script: `
      list .
      stat a
      stat b
      stat c`,
    counts: { READDIRPLUS: 1, READDIR: 1 },
  },
  'create, write, close': {
    tree: {},
    script: `
      open 0 f O_CREAT|O_WRONLY 0644
      pwrite 0 0 =hello
      close 0`,
    // The first write of a file asks for its capability.
    counts: { LOOKUP: 1, CREATE: 1, GETXATTR: 1, WRITE: 1 },
  },
  'create a second file': {
    tree: {},
    before: 'open 0 e O_CREAT|O_WRONLY 0644',
    script: 'open 0 f O_CREAT|O_WRONLY 0644',
    // Whether it may be made depends on the directory's mode, which may have changed with its contents.
    counts: { LOOKUP: 1, CREATE: 1, GETATTR: 1 },
  },
  'stat of a file just written': {
    tree: {},
    before: `
      open 0 f O_CREAT|O_WRONLY 0644
      pwrite 0 0 =hello
      stat .`,
    script: 'stat f',
    // Its mtime, ctime and blocks.
    counts: { GETATTR: 1 },
  },
  'write a byte of a file of the lower': {
    tree: { f: 'hello' },
    script: `
      open 0 f O_WRONLY
      pwrite 0 1 =a
      close 0`,
    counts: { LOOKUP: 1, GETXATTR: 1, WRITE: 1 },
  },
  'write 1 MiB': {
    tree: { f: '' },
    before: 'open 0 f O_WRONLY',
    script: `pwrite 0 0 *120:${MIB}`,
    counts: { GETXATTR: 1, WRITE: 1 },
  },
  'append three times': {
    tree: { f: 'hello' },
    before: 'open 0 f O_WRONLY|O_APPEND',
    script: `
      write 0 =a
      write 0 =b
      write 0 =c`,
    counts: { GETXATTR: 1, WRITE: 3 },
  },
  'open with O_TRUNC': {
    tree: { f: 'hello' },
    script: 'open 0 f O_WRONLY|O_TRUNC',
    counts: { LOOKUP: 1, GETXATTR: 1, SETATTR: 1 },
  },
  truncate: {
    tree: { f: 'hello' },
    before: 'stat f',
    script: 'truncate f 2',
    counts: { GETXATTR: 1, SETATTR: 1 },
  },
  fallocate: {
    tree: { f: 'hello' },
    before: 'open 0 f O_WRONLY',
    script: 'fallocate 0 0 0 8192',
    counts: { GETXATTR: 1, FALLOCATE: 1 },
  },
  fsync: {
    tree: { f: 'hello' },
    before: 'open 0 f O_WRONLY',
    script: `
      fsync 0
      fdatasync 0`,
    // Memory has nothing to write to, nor has a tmpfs; pages that were stored into are written without it.
    counts: UPPER === 'disk' ? { FSYNC: 2 } : {},
  },
  unlink: {
    tree: { f: 'x' },
    script: 'unlink f',
    counts: { LOOKUP: 1, UNLINK: 1 },
  },
  'unlink a second file': {
    tree: { e: 'x', f: 'x' },
    before: `
      stat f
      unlink e`,
    script: 'unlink f',
    // As for a second creation.
    counts: { UNLINK: 1, GETATTR: 1 },
  },
  rename: {
    tree: { f: 'x' },
    script: 'rename f g',
    counts: { LOOKUP: 2, RENAME: 1 },
  },
  'rename a directory of the lower': {
    tree: { 'd/a': '', 'd/b': '' },
    script: 'rename d e',
    counts: { LOOKUP: 2, RENAME: 1 },
  },
  mkdir: { tree: {}, script: 'mkdir d', counts: { LOOKUP: 1, MKDIR: 1 } },
  rmdir: { tree: { d: dir() }, script: 'rmdir d', counts: { LOOKUP: 1, RMDIR: 1 } },
  link: { tree: { f: 'x' }, script: 'link f g', counts: { LOOKUP: 2, LINK: 1 } },
  symlink: { tree: {}, script: 'symlink target l', counts: { LOOKUP: 1, SYMLINK: 1 } },
  'readlink, twice': {
    tree: { l: symlink('target') },
    script: `
      readlink l
      readlink l`,
    counts: { LOOKUP: 1, READLINK: 1 },
  },
  'chmod, and stat after it': {
    tree: { f: 'x' },
    before: 'stat f',
    script: `
      chmod f 0600
      stat f`,
    // The reply has the new attributes.
    counts: { SETATTR: 1 },
  },
  chown: {
    tree: { f: 'x' },
    before: 'stat f',
    script: 'chown f 1 1',
    counts: { GETXATTR: 1, SETATTR: 1 },
  },
  'getxattr, twice': {
    tree: { f: file('x', { xattrs: { 'user.a': 'b' } }) },
    before: 'stat f',
    script: `
      getxattr f user.a => ok =b
      getxattr f user.a => ok =b`,
    // The kernel keeps none.
    counts: { GETXATTR: 2 },
  },
  'a file without a name': {
    tree: {},
    script: 'open 0 . O_TMPFILE|O_RDWR 0600',
    counts: { TMPFILE: 1 },
  },
  'exec, warm': {
    tree: { p: file(readFileSync('/usr/bin/true', 'latin1'), { mode: 0o755 }) },
    before: `
      exec p => ok 0
      exec p => ok 0`,
    script: 'exec p => ok 0',
    // For its capabilities, each time.
    counts: { GETXATTR: 1 },
  },
  statfs: { tree: {}, script: 'statfs .', counts: { STATFS: 1 } },
  'access, warm': { tree: { f: 'x' }, before: 'stat f', script: 'access f R_OK', counts: {} },
};

let session: Mounted | undefined;

test.before(async () => {
  const lower: Record<string, Tree[string]> = {};
  for (const [index, { tree }] of Object.values(CASES).entries()) {
    lower[`${index}`] = dir();
    for (const [path, node] of Object.entries(tree)) lower[`${index}/${path}`] = node;
  }
  session = await mounted({ lower });
});

test.after.always('the session ends', async () => {
  await session?.[Symbol.asyncDispose]();
});

async function requests(mount: Mounted): Promise<Counts> {
  return (await mount.session.status()).requests;
}

async function count(t: ExecutionContext, hand: Hand, script: string): Promise<Counts> {
  if (session === undefined) throw new Error('no session');
  const before = await requests(session);
  await runScript(t, hand, script);
  const after = await requests(session);
  const counts: Record<string, number> = {};
  for (const [name, total] of Object.entries(after)) {
    const more = total - (before[name] ?? 0);
    if (more !== 0 && !name.endsWith('FORGET')) counts[name] = more;
  }
  return counts;
}

for (const [index, [title, { before, script, counts }]] of Object.entries(CASES).entries()) {
  test.serial(title, async (t) => {
    if (session === undefined) throw new Error('no session');
    await using hand = session.hand();
    await runScript(t, hand, `cd ${index}`);
    if (before !== undefined) await runScript(t, hand, before);
    t.deepEqual(await count(t, hand, script), counts);
  });
}

test.serial('statistics tell what is served meanwhile, and how long it takes', async (t) => {
  if (session === undefined) throw new Error('no session');
  await using hand = session.hand();
  const before = await requests(session);
  const state = { isOver: false };
  const asking = session.session.statistics(500).finally(() => (state.isOver = true));
  let tried = 0;
  while (!state.isOver) t.is(await hand.do(`mkdir made${tried++}`), 'ok');
  const { seconds, perSecond, operations, ...rest } = await asking;
  const {
    requests: all = 0,
    perSecond: rate = 0,
    p50Us = 0,
    p99Us = 0,
  } = operations['MKDIR'] ?? {};
  const made = all - (before['MKDIR'] ?? 0);
  t.true(made > 0 && made <= tried, `${made} of ${tried}`);
  t.true(seconds >= 0.5 && rate > 0, `${rate} a second over ${seconds} s`);
  // The rate is told to a tenth, and the seconds to a thousandth.
  const rounding = 0.05 * seconds + 0.0005 * rate;
  t.true(rate * seconds <= made + rounding, `${rate} a second over ${seconds} s, of ${made}`);
  t.true(perSecond >= rate);
  t.true(p50Us > 0 && p99Us >= p50Us, `${p50Us} ${p99Us}`);
  const status = await session.session.status();
  t.true(rest.used > 0 && rest.used <= (status.used ?? 0));
  t.true(rest.nodes >= made && rest.inodes > 0);
  t.true((rest.daemonBytes ?? 0) > 1e6);
});
