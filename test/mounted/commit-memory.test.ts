/** What a session over a commit holds in memory, whatever the commit's size, and what sessions share. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  statfsSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { manyFiles } from '../helpers/many.ts';
import { mounted, residentBytes, type Mounted } from '../helpers/mounted.ts';
import { commitTree, noise, ostree, remove, scratch } from '../helpers/repositories.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
const MIB = 1024 * 1024;
const LIMIT = 150 * MIB;
/** What a session keeps of inflated objects. */
const CACHE = 128 * MIB;

const folder = scratch();
test.after.always(() => remove(folder));

async function daemonOf(session: Mounted): Promise<number> {
  const { pid } = await session.session.status();
  if (pid === null) throw new Error('no daemon');
  return pid;
}

const walked = test.macro({
  async exec(t, directories: number, files: number) {
    t.timeout(180_000);
    const repo = join(folder, `many-${directories}`);
    manyFiles(repo, directories, files);
    t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    const pid = await daemonOf(session);
    const before = residentBytes(pid);
    const hand = session.hand(120_000);
    t.is(await hand.do('count .'), `ok ${directories * (files + 1)}`);
    const after = residentBytes(pid);
    t.log(`${Math.round(before / MIB)} MiB, then ${Math.round(after / MIB)} MiB`);
    t.true(after < LIMIT, `${Math.round(after / MIB)} MiB`);
    remove(repo);
  },
  title: (_given, directories: number, files: number) =>
    `100,000 entries of a commit walked, ${directories} directories of ${files}, leave the daemon small`,
});
test.serial(walked, 100, 999);
if (SCALE >= 2) test.serial(walked, 10_000, 9);
else console.log('small directories from OSTREE_TS_TEST_SCALE=2 on');

/** Bytes of memory behind the anonymous files of a process whose name begins with `name`. */
function memoryBehind(pid: number, name: string): number {
  let bytes = 0;
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${fd}`;
    try {
      if (readlinkSync(path).startsWith(`/memfd:${name}`)) bytes += 512 * statSync(path).blocks;
    } catch (error) {
      // Closed meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return bytes;
}

test.serial('an archive commit read in full takes no more memory than the cache has', async (t) => {
  t.timeout(180_000);
  const tree = join(folder, 'large');
  mkdirSync(tree);
  // 240 MiB, which compress.
  execFileSync('sh', [
    '-ec',
    'cd "$0"; for i in $(seq 120); do yes "some text $i" | head -c 2097152 > $i; done',
    tree,
  ]);
  const { path: repo } = commitTree(join(folder, 'archive'), 'archive', tree);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const pid = await daemonOf(session);
  let most = 0;
  for (let file = 1; file <= 120; file++) {
    execFileSync('cmp', [join(session.mountpoint, String(file)), join(tree, String(file))]);
    most = Math.max(most, memoryBehind(pid, 'object'));
  }
  const resident = residentBytes(pid);
  t.log(`inflated ${Math.round(most / MIB)} MiB, resident ${Math.round(resident / MIB)} MiB`);
  t.true(most > CACHE / 2, `${most}: this counts something else`);
  t.true(most <= CACHE, `${most}`);
  t.true(resident < LIMIT, `${resident}`);
});

const TMPFS_MAGIC = 0x01021994;

/** Bytes that a process has had read from disks. */
function readBytes(pid: number): number {
  const match = /^read_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'));
  return Number(match?.[1] ?? Number.NaN);
}

test.serial('what one session has read, another reads from the page cache', async (t) => {
  const size = 8 * MIB;
  if (statfsSync('/var/tmp').type === TMPFS_MAGIC) {
    t.log('/var/tmp is memory: what is read from disks cannot be told here');
    t.pass();
    return;
  }
  const disk = mkdtempSync('/var/tmp/ostree-ts-shared-');
  t.teardown(() => remove(disk));
  const tree = join(disk, 'tree');
  mkdirSync(tree);
  execFileSync('tee', [join(tree, 'big')], {
    input: noise(size),
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const { path: repo } = commitTree(disk, 'bare', tree);
  execFileSync('sync', ['-f', repo]);
  // Only these files leave the page cache: POSIX_FADV_DONTNEED.
  const forget =
    'find "$0/objects" -name "*.file" -exec dd if={} iflag=nocache count=0 status=none ";"';
  execFileSync('sh', ['-ec', forget, repo]);
  await using first = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  await using second = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const pids = [await daemonOf(first), await daemonOf(second)];
  const costs: number[] = [];
  for (const [index, session] of [first, second].entries()) {
    const pid = pids[index] ?? 0;
    const before = readBytes(pid);
    execFileSync('cmp', [join(session.mountpoint, 'big'), join(tree, 'big')]);
    costs.push(readBytes(pid) - before);
  }
  t.log(`read from the disk: ${costs.join(', then ')} bytes`);
  t.true((costs[0] ?? 0) >= size / 2, `${costs[0]}: this counts something else`);
  t.is(costs[1], 0);
});
