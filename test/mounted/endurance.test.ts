/**
 * A session that works for long holds no more at the end than at its beginning, and is no slower: several programs at once
 * make, change, rename, read and remove files, of their own and of the lower, while the kernel forgets what it knows.
 * 12 seconds by default; OSTREE_TS_TEST_SCALE multiplies them (300: an hour).
 */
import test from 'ava';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Hand } from '../helpers/hand.ts';
import { mounted, type Mounted, residentBytes } from '../helpers/mounted.ts';
import { file, link, type Tree } from '../helpers/trees.ts';

const SECONDS = 12 * Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
/** The parts that are compared: the second, when all caches have been filled, and the last. */
const PARTS = 5;
const MIB = 2 ** 20;
/**
 * What is kept open besides the daemon's own, in the end: directories, files, a program's name for each of 64 threads, files
 * opened ahead, and as many requests of those.
 */
const OPENED_MAX = 4096 + 2048 + 64 + 128 + 8;
/** Of the small piece of work, at each look: a median of fewer may be twice another by chance, as what it waits for varies. */
const PROBES = 5;
const PROBE_MS = 20;
/** The caches are everybody's: whatever else runs is slower for it. */
const FORGET_MS = 4_000;

const LOWER: Tree = {
  big: file('0123456789abcdef'.repeat(65_536)),
  twin: link('big'),
  ...Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`moving/d${index}/f`, 'f'])),
  ...Object.fromEntries(
    Array.from({ length: 2000 }, (_, index) => [
      `tree/d${index % 40}/f${index}`,
      file(`${index} `.repeat(200), { xattrs: { 'user.index': String(index) } }),
    ]),
  ),
};

/** Each takes back what it has done: afterwards all is as before. `n` counts its rounds. */
const ROUNDS: ((hand: Hand, n: number) => Promise<void>)[] = [
  async (hand, n) => {
    const folder = `own${n}`;
    await hand.must([`mkdir ${folder}`, `makefiles ${folder} 300`]);
    const names = await hand.do(`list ${folder}`);
    await hand.must([
      `open 1 ${folder}/data O_CREAT|O_RDWR 0600`,
      'pwrite 1 0 *65:300000',
      'fallocate 1 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 4096 100000',
      'mmap 1 1 0 65536 PROT_READ|PROT_WRITE MAP_SHARED',
      'mstore 1 100 =stored',
      'msync 1 MS_SYNC',
      'munmap 1 65536',
      `setxattr ${folder}/data user.round =${n}`,
      `link ${folder}/data ${folder}/other`,
      `rename ${folder}/data ${folder}/moved`,
      `unlink ${folder}/moved`,
      'pread 1 100 6',
      `unlink ${folder}/other`,
      'close 1',
      `rename ${folder} gone${n}`,
    ]);
    await hand.must(namesOf(names).map((name) => `unlink gone${n}/${name}`));
    await hand.must([`rmdir gone${n}`]);
  },
  async (hand, n) => {
    // Of the lower: bytes, modes and times of a file with two names, and a directory that goes away and comes back.
    const at = (n * 4099) % 1_000_000;
    await hand.must([
      'open 1 big O_RDWR',
      `pwrite 1 ${at} #${n}:8192`,
      `chmod twin ${n % 2 === 0 ? '0644' : '0600'}`,
      `utimens big ${n + 1}.5 ${n + 2}.25`,
      'fsync 1',
      'close 1',
      `rename moving/d${n % 10} away`,
      `mkdir moving/d${n % 10}`,
      `rmdir moving/d${n % 10}`,
      `rename away moving/d${n % 10}`,
      'sha256 twin',
    ]);
  },
];

function namesOf(answer: string): string[] {
  return answer.split(' ').slice(1);
}

/** Programs as people run them. */
const SCRIPT = `set -e
rm -rf work && mkdir work
cp -a tree/d1 work/copy
tar cf - tree/d2 | tar xf - -C work
git -C work init -q -b main && git -C work add . && git -C work -c user.name=t -c user.email=t@t commit -qm all
git -C work gc -q && git -C work fsck --no-progress
find tree -type f | head -500 | xargs cat | cksum
rm -rf work`;

/** What is held, and how long a small piece of work took, since the last look. */
interface Part {
  bytes: number;
  files: number;
  used: number;
  latencies: number[];
}

test.serial('a session that works for long holds no more and is no slower', async (t) => {
  t.timeout((SECONDS + 120) * 1000);
  await using session = await mounted({ lower: LOWER });
  const { pid } = await session.session.status();
  if (pid === null) throw new Error('no daemon');
  const own = descriptors(pid);
  const end = performance.now() + SECONDS * 1000;
  const running = () => performance.now() < end;
  let rounds = 0;
  const work = [
    ...ROUNDS.map(async (round) => {
      const hand = session.hand();
      for (let n = 0; running(); n++) {
        await round(hand, n);
        rounds++;
      }
    }),
    programs(session, running),
    forgetting(session.hand(), running),
  ];
  const parts: Part[] = [];
  const probe = session.hand();
  for (let part = 1; part <= PARTS; part++) {
    parts.push(await watched(session, pid, probe, end - (SECONDS * 1000 * (PARTS - part)) / PARTS));
  }
  await Promise.all(work);
  t.log(`${own} descriptors at first`);
  for (const part of parts) t.log(told(part));
  t.log(`${rounds} rounds in ${SECONDS} s`);
  const [, early, ...later] = parts;
  const late = later.at(-1);
  if (early === undefined || late === undefined) throw new Error('too few parts');
  t.true(late.bytes < 1.15 * early.bytes + 24 * MIB, `${told(early)}, then ${told(late)}`);
  t.true(late.files <= own + OPENED_MAX, `${own} descriptors at first, then ${told(late)}`);
  t.true(late.used <= 1.1 * early.used + 2 * MIB, `${told(early)}, then ${told(late)}`);
  const [before, after] = [early, late].map(({ latencies }) => percentile(latencies, 0.5));
  t.true(after! < 2 * before!, `median of ${before} ms, then of ${after} ms`);
});

async function programs({ mountpoint }: Mounted, running: () => boolean): Promise<void> {
  while (running()) await promisify(execFile)('sh', ['-c', SCRIPT], { cwd: mountpoint });
}

/** The kernel forgets names and pages now and then, and all is asked for again. */
async function forgetting(hand: Hand, running: () => boolean): Promise<void> {
  while (running()) {
    await sleep(FORGET_MS);
    await hand.must(['drop', 'count tree']);
  }
}

/** Does the same small thing again and again until then, and looks at the daemon all the while. */
async function watched(
  { session }: Mounted,
  pid: number,
  probe: Hand,
  until: number,
): Promise<Part> {
  const part: Part = { bytes: 0, files: 0, used: 0, latencies: [] };
  while (performance.now() < until) {
    for (let n = 0; n < PROBES; n++) {
      const began = performance.now();
      await probe.must([
        'open 9 probe O_CREAT|O_RDWR 0600',
        'pwrite 9 0 =probe',
        'close 9',
        'unlink probe',
      ]);
      part.latencies.push(performance.now() - began);
      await sleep(PROBE_MS);
    }
    const { used } = await session.status();
    part.bytes = Math.max(part.bytes, residentBytes(pid));
    part.files = Math.max(part.files, descriptors(pid));
    part.used = Math.max(part.used, used ?? 0);
  }
  return part;
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function told({ bytes, files, used, latencies }: Part): string {
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((p) => percentile(latencies, p).toFixed(2));
  const memory = `${Math.round(bytes / MIB)} MiB, ${files} descriptors, ${Math.round(used / 1024)} KiB used`;
  return `${memory}; ${latencies.length} times ${p50} ms (90 %: ${p90}, 99 %: ${p99})`;
}

function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}
