/** The system calls, on whatever holds the temp folder (ext4, as a rule) and on tmpfs. */
import test, { type ExecutionContext } from 'ava';
import {
  constants as fs,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { programPath } from '../src/built.ts';
import { type Listing, native, STAT, STAT_FIELDS } from '../src/native.ts';

const { ENOENT, EXDEV, ELOOP, EBADF, EISDIR, EEXIST, ENAMETOOLONG, ENODATA, ERANGE, EOPNOTSUPP } =
  constants.errno;
const AT_EMPTY_PATH = 0x1000;
const O_PATH = 0o10000000;
const PLACES = [tmpdir(), '/dev/shm'];

/** A folder in `place`, gone after the test, and a directory fd of it. */
function folderIn(t: ExecutionContext, place: string): { path: string; fd: number } {
  const path = mkdtempSync(join(place, 'ostree-ts-native-'));
  const fd = native.open(path, fs.O_RDONLY | fs.O_DIRECTORY, 0);
  t.teardown(() => {
    native.close(fd);
    rmSync(path, { recursive: true });
  });
  return { path, fd };
}

function stat(dirfd: number, path: string): Float64Array {
  const out = new Float64Array(STAT_FIELDS);
  const status = native.statx(dirfd, path, path === '' ? AT_EMPTY_PATH : 0, out);
  if (status < 0) throw new Error(`statx ${path}: ${status}`);
  return out;
}

function list(fd: number): Listing {
  const listing = native.listDirectory(fd);
  if (typeof listing === 'number') throw new Error(`listDirectory: ${listing}`);
  return listing;
}

/** A call that the types forbid. */
function call(
  name: 'statx' | 'pread' | 'fstatfs' | 'listDirectory' | 'getxattr',
  ...args: unknown[]
): unknown {
  return (native[name] as (...args: unknown[]) => unknown)(...args);
}

const everywhere = (
  title: string,
  run: (t: ExecutionContext, folder: { path: string; fd: number }) => void,
): void => {
  for (const place of PLACES) test(`${title} (${place})`, (t) => run(t, folderIn(t, place)));
};

everywhere('a name of any bytes is made, listed, looked up and removed as it is', (t, { fd }) => {
  // All bytes but NUL and '/', in names of one byte and of 253.
  const bytes = Array.from({ length: 255 }, (_, index) => String.fromCharCode(index + 1));
  const allowed = bytes.filter((byte) => byte !== '/');
  const names = [...allowed.filter((byte) => byte !== '.'), allowed.slice(0, 253).join('')];
  for (const name of names) t.is(native.mknodat(fd, name, 0o100600, 0, 0), 0);

  const listing = list(fd);
  t.deepEqual(listing.names.toSorted(), names.toSorted());
  const out = new Float64Array(STAT_FIELDS * names.length);
  t.is(native.statMany(fd, listing.names, 0, names.length, out), names.length);
  listing.names.forEach((name, index) => {
    t.is(listing.types[index], 8 /* DT_REG */);
    const at = index * STAT_FIELDS;
    t.is(out[at + STAT.ERRNO], 0);
    t.is(out[at + STAT.INO_LOW], listing.inos[2 * index]);
    t.is(out[at + STAT.INO_HIGH], listing.inos[2 * index + 1]);
    t.is(native.unlinkat(fd, name, 0), 0);
  });
  t.deepEqual(list(fd).names, []);
});

everywhere('a listing of more names than one getdents64 holds is whole, twice', (t, { fd }) => {
  const names = Array.from({ length: 6000 }, (_, index) => `${index}-`.padEnd(60, 'x'));
  for (const name of names) native.mknodat(fd, name, 0o100600, 0, 0);
  for (let round = 0; round < 2; round++) {
    const listing = list(fd);
    t.deepEqual(listing.names.toSorted(), names.toSorted());
    t.is(listing.types.length, 6000);
  }
});

everywhere('openBeneath never leaves the directory and follows no symlink', (t, { path, fd }) => {
  mkdirSync(join(path, 'in/deep'), { recursive: true });
  writeFileSync(join(path, 'in/deep/file'), 'x');
  symlinkSync('in', join(path, 'inside'));
  symlinkSync('/etc', join(path, 'outside'));
  const open = (name: string) => {
    const opened = native.openBeneath(fd, name, fs.O_RDONLY, 0);
    if (opened >= 0) native.close(opened);
    return Math.min(opened, 0);
  };
  t.is(open('in/deep/file'), 0);
  t.is(open('in/../in/deep/file'), 0);
  t.is(open('..'), -EXDEV);
  t.is(open('in/../../x'), -EXDEV);
  t.is(open('/etc'), -EXDEV);
  t.is(open('inside'), -ELOOP);
  t.is(open('inside/deep/file'), -ELOOP);
  t.is(open('outside/passwd'), -ELOOP);
  t.is(open('nothing'), -ENOENT);
  t.is(open('x'.repeat(5000)), -ENAMETOOLONG);
  t.is(open('in\0/deep'), -ENAMETOOLONG);
});

everywhere('offsets and sizes beyond 32 bits survive', (t, { fd }) => {
  const file = native.openBeneath(fd, 'large', fs.O_RDWR | fs.O_CREAT, 0o600);
  const far = 2 ** 42 + 12345;
  t.is(native.pwrite(file, Buffer.from('here'), far), 4);
  t.is(stat(fd, 'large')[STAT.SIZE], far + 4);
  t.is(native.lseek(file, far - 1_000_000, 3 /* SEEK_DATA */), far - (far % 4096));
  const into = new Uint8Array(8);
  t.is(native.pread(file, into, far), 4);
  t.is(Buffer.from(into).toString(), 'here\0\0\0\0');
  t.is(native.ftruncate(file, 2 ** 43), 0);
  t.is(native.lseek(file, 0, 2), 2 ** 43);
  t.is(native.fallocate(file, 1 /* KEEP_SIZE */, 2 ** 41, 8192), 0);
  t.is(stat(fd, 'large')[STAT.SIZE], 2 ** 43);
  t.is(native.pwrite(file, new Uint8Array(1), 2 ** 41), 1);
  t.is(native.lseek(file, 1, 3), 2 ** 41);
  t.is(native.close(file), 0);
  t.is(native.pread(file, into, 0), -EBADF);
});

everywhere(
  'a range of a buffer is written, and nothing beyond the buffer is',
  (t, { path, fd }) => {
    const file = native.openBeneath(fd, 'file', fs.O_RDWR | fs.O_CREAT, 0o600);
    t.is(native.pwriteRange(file, Buffer.from('abcdef'), 2, 3, 1), 3);
    t.is(readFileSync(join(path, 'file'), 'latin1'), '\0cde');
    t.is(native.pwriteRange(file, Buffer.from('abcdef'), 4, 3, 0), -constants.errno.EINVAL);
    t.is(native.pwriteRange(file, Buffer.from('abcdef'), -1, 1, 0), -constants.errno.EINVAL);
    native.close(file);
  },
);

test('a copy between file systems, or within one, ends at EOF and says how much it was', (t) => {
  const [a, b] = PLACES.map((place) => folderIn(t, place));
  const content = Buffer.alloc(300_000, 'abcdefg');
  writeFileSync(join(a!.path, 'from'), content);
  const from = native.openBeneath(a!.fd, 'from', fs.O_RDONLY, 0);
  for (const folder of [a!, b!]) {
    const to = native.openBeneath(folder.fd, 'to', fs.O_RDWR | fs.O_CREAT, 0o600);
    t.is(native.copyRange(from, 1000, to, 5, 1_000_000), 299_000);
    t.deepEqual(readFileSync(join(folder.path, 'to')).subarray(5), content.subarray(1000));
    t.is(native.copyRange(from, 0, to, 0, 10), 10);
    t.deepEqual(readFileSync(join(folder.path, 'to')).subarray(0, 10), content.subarray(0, 10));
    native.close(to);
  }
  native.close(from);
  const proc = native.open('/proc/self/status', fs.O_RDONLY, 0);
  const memory = native.memfd('copy');
  // copy_file_range(2) is no judge of files that have no size.
  t.true(native.copyRange(proc, 0, memory, 0, 100) === 100);
  native.close(proc);
  native.close(memory);
});

everywhere(
  'attributes change by directory fd, by O_PATH fd, and never through a symlink',
  (t, at) => {
    writeFileSync(join(at.path, 'target'), 'x');
    const before = stat(at.fd, 'target');
    symlinkSync('target', join(at.path, 'link'));
    t.is(native.utimensat(at.fd, 'link', -5, 1, 2 ** 33, 999_999_999), 0);
    if (process.getuid!() === 0) t.is(native.fchownat(at.fd, 'link', 12345, -1), 0);
    // A symlink's mode cannot be changed.
    t.is(native.fchmodat(at.fd, 'link', 0o600), -EOPNOTSUPP);
    t.deepEqual(stat(at.fd, 'target'), before);
    const link = stat(at.fd, 'link');
    t.deepEqual(Array.from(link.slice(STAT.ATIME_SEC, STAT.CTIME_SEC)), [
      -5,
      1,
      2 ** 33,
      999_999_999,
    ]);
    if (process.getuid!() === 0)
      t.deepEqual([link[STAT.UID], link[STAT.GID]], [12345, before[STAT.GID]]);

    const path = native.openBeneath(at.fd, 'target', O_PATH, 0);
    t.is(native.fchmodat(path, '', 0o4711), 0);
    t.is(native.utimensat(path, '', 1, 2, 3, 4), 0);
    t.is(native.fchownat(path, '', process.getuid!(), -1), 0);
    const after = stat(path, '');
    t.is(after[STAT.MODE]! & 0o777, 0o711);
    t.deepEqual(Array.from(after.slice(STAT.ATIME_SEC, STAT.CTIME_SEC)), [1, 2, 3, 4]);
    native.close(path);
  },
);

everywhere('names are made, linked, exchanged and removed', (t, { path, fd }) => {
  t.is(native.mkdirat(fd, 'd', 0o700), 0);
  t.is(native.mkdirat(fd, 'd', 0o700), -EEXIST);
  t.is(native.symlinkat('any\u00fftarget', fd, 'd/link'), 0);
  t.is(native.readlinkat(fd, 'd/link'), 'any\u00fftarget');
  t.is(native.readlinkat(fd, 'd'), -constants.errno.EINVAL);
  t.is(native.mknodat(fd, 'fifo', 0o010600, 0, 0), 0);
  t.is(native.linkat(fd, 'fifo', fd, 'd/fifo', 0), 0);
  t.is(stat(fd, 'fifo')[STAT.NLINK], 2);
  t.is(native.renameat2(fd, 'fifo', fd, 'd/link', 1 /* NOREPLACE */), -EEXIST);
  t.is(native.renameat2(fd, 'fifo', fd, 'd/link', 2 /* EXCHANGE */), 0);
  t.is(native.readlinkat(fd, 'fifo'), 'any\u00fftarget');
  t.is(native.unlinkat(fd, 'd', 0), -EISDIR);
  t.is(native.unlinkat(fd, 'd/link', 0), 0);
  t.is(native.unlinkat(fd, 'd/fifo', 0), 0);
  t.is(native.unlinkat(fd, 'd', 0x200 /* AT_REMOVEDIR */), 0);
  t.false(existsSync(join(path, 'd')));
});

everywhere('statMany tells the failure of one name in its own row', (t, { path, fd }) => {
  writeFileSync(join(path, 'a'), 'four');
  const out = new Float64Array(STAT_FIELDS * 2).fill(-1);
  t.is(native.statMany(fd, ['skipped', 'absent', 'a'], 1, 2, out), 2);
  t.is(out[STAT.ERRNO], ENOENT);
  t.is(out[STAT_FIELDS + STAT.ERRNO], 0);
  t.is(out[STAT_FIELDS + STAT.SIZE], 4);
  t.is(native.statMany(fd, ['a', 'a', 'a'], 0, 3, out), -constants.errno.EINVAL);
});

test('statx agrees with stat of Node on a device node', (t) => {
  const fields = stat(native.open('/dev', fs.O_RDONLY | fs.O_DIRECTORY, 0), 'null');
  const expected = statSync('/dev/null', { bigint: true });
  t.is(fields[STAT.RDEV_MAJOR], 1);
  t.is(fields[STAT.RDEV_MINOR], 3);
  t.is(fields[STAT.MODE], Number(expected.mode));
  t.is(BigInt(fields[STAT.INO_HIGH]!) * 2n ** 32n + BigInt(fields[STAT.INO_LOW]!), expected.ino);
  t.is(
    BigInt(fields[STAT.CTIME_SEC]!) * 1_000_000_000n + BigInt(fields[STAT.CTIME_NSEC]!),
    expected.ctimeNs,
  );
});

everywhere('fstatfs gives what statfs(2) gives', (t, { fd, path }) => {
  const out = new Float64Array(9);
  t.is(native.fstatfs(fd, out), 0);
  const [type, bsize, blocks, , , files, , namelen] = spawnSync(
    'stat',
    ['-f', '-c', '%t %s %b %f %a %c %d %l', path],
    { encoding: 'utf8' },
  ).stdout.split(' ');
  t.deepEqual(
    [out[0], out[1], out[2], out[5], out[7]],
    [Number.parseInt(type!, 16), Number(bsize), Number(blocks), Number(files), Number(namelen)],
  );
});

everywhere('xattrs of every size and type of file, by name and by O_PATH fd', (t, at) => {
  const root = process.getuid!() === 0;
  writeFileSync(join(at.path, 'file'), '');
  mkdirSync(join(at.path, 'dir'));
  symlinkSync('file', join(at.path, 'link'));
  native.mknodat(at.fd, 'fifo', 0o010600, 0, 0);
  // user.* is refused on what is neither file nor directory, trusted.* on nothing, for root.
  const names = root ? ['file', 'dir', 'link', 'fifo'] : ['file', 'dir'];
  const attribute = root ? 'trusted.t\u00fct' : 'user.t\u00fct';
  for (const name of names) {
    const fd = native.openBeneath(at.fd, name, O_PATH | fs.O_NOFOLLOW, 0);
    for (const [dirfd, path] of [
      [at.fd, name],
      [fd, ''],
    ] as const) {
      t.is(native.getxattr(dirfd, path, attribute), -ENODATA);
      // Past the first try's 1 KiB, and no more than a block of ext4 holds.
      for (const size of [0, 1, 1024, 1025, 3000]) {
        const value = new Uint8Array(size).fill(size % 251);
        t.is(native.setxattr(dirfd, path, attribute, value, 0), 0);
        t.deepEqual(native.getxattr(dirfd, path, attribute), value);
      }
      t.deepEqual(native.listxattr(dirfd, path), [attribute]);
      t.is(native.setxattr(dirfd, path, attribute, new Uint8Array(1), 1 /* CREATE */), -EEXIST);
      t.is(native.removexattr(dirfd, path, attribute), 0);
      t.is(native.removexattr(dirfd, path, attribute), -ENODATA);
      t.deepEqual(native.listxattr(dirfd, path), []);
    }
    native.close(fd);
  }
  t.is(native.getxattr(at.fd, 'file', `user.${'x'.repeat(300)}`), -ERANGE);
  t.is(native.getxattr(at.fd, 'absent', attribute), -ENOENT);
});

test('a value of 64 KiB and a list of more than 1 KiB come back whole', (t) => {
  const { fd } = folderIn(t, '/dev/shm');
  const trusted = process.getuid!() === 0 ? 'trusted' : 'user';
  native.mknodat(fd, 'file', 0o100600, 0, 0);
  const value = new Uint8Array(65536).map((_, index) => index % 253);
  const status = native.setxattr(fd, 'file', `${trusted}.large`, value, 0);
  // An ordinary user has 128 KiB in all on tmpfs, and none before 6.6.
  if (status === -EOPNOTSUPP) return t.log('tmpfs has no user.* here');
  t.is(status, 0);
  t.deepEqual(native.getxattr(fd, 'file', `${trusted}.large`), value);
  const names = Array.from({ length: 200 }, (_, index) => `${trusted}.${index}`);
  for (const name of names) t.is(native.setxattr(fd, 'file', name, new Uint8Array(), 0), 0);
  const listed = native.listxattr(fd, 'file') as string[];
  t.deepEqual(listed.toSorted(), [`${trusted}.large`, ...names].toSorted());
});

test('the clock, an eventfd, a memfd and the limits', (t) => {
  const out = new Float64Array(2);
  for (const coarse of [false, true]) {
    const before = Date.now();
    native.now(out, coarse);
    // The coarse clock is at most a tick behind: 10 ms at HZ=100.
    t.true(out[0]! * 1000 + out[1]! / 1e6 >= before - 11);
    t.true(out[0]! * 1000 + out[1]! / 1e6 <= Date.now() + 1);
    t.true(out[1]! < 1e9);
  }
  const event = native.eventfd();
  t.is(native.wake(event), 0);
  t.is(native.wake(event), 0);
  const count = new Uint8Array(8);
  t.is(native.pread(event, count, 0), -constants.errno.ESPIPE);
  t.is(native.wake(-1), -EBADF);
  native.close(event);
  const memory = native.memfd('m');
  t.is(native.fallocate(memory, 0, 0, 8192), 0);
  const copy = native.dup(memory);
  t.is(native.fsync(copy, true) + native.fsync(copy, false) + native.syncfs(copy), 0);
  t.is(native.lseek(copy, 0, 2), 8192);
  native.close(memory);
  native.close(copy);
  const limit = native.raiseNofile();
  t.regex(
    readFileSync('/proc/self/limits', 'latin1'),
    new RegExp(`Max open files +${limit} +${limit} `),
  );
});

test('wrong arguments are errors, not crashes', (t) => {
  t.is(call('statx', 0, ''), -constants.errno.EINVAL);
  t.is(call('statx', 0, '', AT_EMPTY_PATH, new Float64Array(3)), -constants.errno.EINVAL);
  t.is(call('statx', 0, '', AT_EMPTY_PATH, new Uint8Array(500)), -constants.errno.EINVAL);
  t.is(call('pread', undefined, new Uint8Array(1), 0), -EBADF);
  t.is(call('fstatfs', 0, null), -constants.errno.EINVAL);
  t.is(call('listDirectory', {}), -EBADF);
  t.is(call('getxattr', undefined, 'name', 'user.x'), -EBADF);
});

test('main thread and workers use the addon side by side', async (t) => {
  const source = `
    import { native } from ${JSON.stringify(new URL('../src/native.js', import.meta.url).href)};
    import { parentPort } from 'node:worker_threads';
    const fd = native.open('/usr', ${fs.O_RDONLY | fs.O_DIRECTORY}, 0);
    for (let round = 0; round < 500; round++) native.listDirectory(fd);
    parentPort.postMessage(native.listDirectory(fd).names.length);
  `;
  const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  const fd = native.open('/usr', fs.O_RDONLY | fs.O_DIRECTORY, 0);
  const workers = [new Worker(url), new Worker(url)].map(
    (worker) =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  const { names } = list(fd);
  t.deepEqual(await Promise.all(workers), [names.length, names.length]);
  native.close(fd);
});

test('the keeper is a program that needs no library', (t) => {
  const path = programPath('keeper');
  t.true((statSync(path).mode & 0o111) !== 0);
  // PT_INTERP names a loader: a static program has none.
  t.false(readFileSync(path).includes('/ld-linux'));
});
