/**
 * Sessions whose daemon is killed (kill -9) again and again while a program changes them: at a chosen step of a change (a
 * system call on the upper's files, counted) or at any moment, as the log says. Each time the session is brought back, and
 * everything that was acknowledged is there, which means all that write(2) has completed and msync(2) has, and nothing else: the tree
 * is that of a plain file system to which the same has been done, but for the one operation that was cut off.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Session, unlock } from '../../src/index.ts';
import { listTree } from '../helpers/checksum.ts';
import { compareListings } from '../helpers/compare.ts';
import { Hand } from '../helpers/hand.ts';
import { neither } from '../helpers/interrupted.ts';
import { DURABLE_STEPS, type Hit, Killer, STEPS } from '../helpers/killer.ts';
import { Generator, keepable, Random, randomTree } from '../helpers/random.ts';
import { file, type Node, PLANTED, plantScript, type Tree } from '../helpers/trees.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
/** For each upper. */
const ROUNDS = 20 * SCALE;
/** OSTREE_TS_TEST_SEED repeats one seed. */
const SEED = Number(process.env['OSTREE_TS_TEST_SEED'] ?? 31_001);
const LINES = 300;
const CHUNK = 50;
/** A round that hits no step ends by then. */
const ROUND_MS = 4000;
/** Every this many rounds, the moment is chosen by the clock. */
const BY_CLOCK = 5;

const NAME = 'killed';

/** For `everyStep`: one a round. */
const PLAIN: Tree = Object.fromEntries(
  Array.from({ length: ROUNDS }, (_, round) => [
    [`plain/write${round}`, file('w'.repeat(9000))],
    [`plain/remove${round}`, file('r')],
  ]).flat() as [string, Node][],
);

/** What needs every step, done by root where nothing is in its way. */
function everyStep(round: number): string[] {
  const at = `plain/new${round}`;
  return [
    'as 0 0',
    `open 9 plain/write${round} O_RDWR`,
    'pwrite 9 100 #1:5000',
    'fallocate 9 FALLOC_FL_KEEP_SIZE 0 20000',
    'truncate @9 7000',
    'fsync 9',
    'mmap 9 9 0 4096 PROT_READ|PROT_WRITE MAP_SHARED',
    'mput 9 17 #2:2000',
    `unlink plain/remove${round}`,
    `mkdir ${at} 0755`,
    `open 8 ${at}/a O_CREAT|O_RDWR 0644`,
    'write 8 #3:3000',
    'copyrange 9 0 8 2000 6000',
    `link ${at}/a ${at}/b`,
    `symlink b ${at}/s`,
    `mknod ${at}/p S_IFIFO|0644 0 0`,
    `setxattr ${at}/a user.a #4:100`,
    `removexattr ${at}/a user.a`,
    `chown ${at}/a 1000 1000`,
    `chmod ${at}/a 0600`,
    `utimens ${at}/a 5.5 6.6`,
    `rename ${at}/s ${at}/p RENAME_EXCHANGE`,
    `rename ${at}/s ${at}/b`,
    `unlink ${at}/a`,
    `rename ${at} plain/moved${round}`,
  ];
}

/** What a program is told when nobody serves its mount any more. */
const DEAD = /^(ENOTCONN|ECONNABORTED|ENODEV|EIO|EINTR)$/;

/** Which of the lines was the first to be told so; -1 for none. A mapping needs no server, and not everything can be mapped. */
function firstDead(lines: readonly string[], answers: readonly string[]): number {
  return answers.findIndex(
    (answer, index) => DEAD.test(answer) && lines[index]?.startsWith('mmap ') !== true,
  );
}

interface Place {
  lower: string;
  model: string;
  /** What the model was before the operation that was cut off. */
  kept: string;
  mountpoint: string;
  /** For a session on disk. */
  changes: string;
  /** Where the upper is made ready, as the machine sees it. */
  work: string;
}

for (const [kind, steps] of [
  ['tmpfs', STEPS],
  ['disk', DURABLE_STEPS],
] as const) {
  test.serial(
    `what was acknowledged outlives ${ROUNDS} kills of the daemon: ${kind}, seed ${SEED}`,
    async (t) => {
      t.timeout(3_600_000);
      const random = new Random(SEED);
      const tree = { ...randomTree(random), ...PLAIN };
      const place = await prepare(t, kind, plantScript(tree, '.'));
      const generator = new Generator(random, tree);
      const before = await listTree(place.lower);
      const since = Math.floor(Date.now() / 1000) - 1;
      const upper = kind === 'tmpfs' ? 'tmpfs' : place.changes;
      let session = await unlock({
        source: [place.lower],
        mountpoint: place.mountpoint,
        upper,
        name: NAME,
        ...(kind === 'tmpfs' && { size: '512M' }),
      });
      t.teardown(() => session.lock({ lazy: true, discard: true }).catch(() => undefined));
      const hits = new Map<string, number>();
      const usual = new Map<string, number>();
      let acknowledged = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const aim = aimAt(random, steps, round, hits, usual);
        const script: string[] = ['as 0 0'];
        while (script.length < LINES) script.push(...generator.next());
        script.splice(random.below(LINES / 2), 0, ...everyStep(round));
        const lines = keepable(script, kind === 'disk').filter((line) => !line.startsWith('drop '));
        const { hit, answers } = await killed(session, place, lines, aim, since);
        for (const [step, count] of hit.seen) usual.set(step, count);
        if (hit.where !== 'after') hits.set(hit.step, (hits.get(hit.step) ?? 0) + 1);
        session = await unlock({ source: [], name: NAME });
        const label = `round ${round}, killed ${hit.where} ${hit.step}`;
        const outcome = await judge(place, lines, answers, since);
        t.log(`${label}: ${answers.length - 1} acknowledged; cut off: ${outcome.cut}`);
        acknowledged += answers.length - 1;
        t.deepEqual(outcome.problems, [], `${label}, ${outcome.cut}`);
        t.deepEqual(readdirSync(place.work), [], `${label}: nothing is left in the work directory`);
        t.is(await listTree(place.lower), before, `${label}: the lower is what it was`);
      }
      t.log(`${acknowledged} operations acknowledged; steps hit: ${told(hits)}`);
      const missed = steps.filter((step) => !hits.has(step));
      if (ROUNDS >= 5 * steps.length) t.deepEqual(missed, [], 'every step is hit');
      else t.log(`steps that only more rounds hit: ${missed.join(' ')}`);
      t.true(hits.size >= Math.min(steps.length, ROUNDS / 2));
    },
  );
}

function told(hits: Map<string, number>): string {
  return [...hits].map(([step, count]) => `${step || 'none'} ${count}`).join(', ');
}

interface Aim {
  step: string;
  count: number;
  ms: number;
}

/** A step that was hit least, at any of its usual occurrences; or any moment. */
function aimAt(
  random: Random,
  steps: readonly string[],
  round: number,
  hits: Map<string, number>,
  usual: Map<string, number>,
): Aim {
  if (round % BY_CLOCK === BY_CLOCK - 1) return { step: '', count: 0, ms: 20 + random.below(1500) };
  const least = Math.min(...steps.map((step) => hits.get(step) ?? 0));
  const step = random.pick(steps.filter((each) => (hits.get(each) ?? 0) === least));
  const most = Math.ceil((usual.get(step) ?? 2) / 2);
  return { step, count: 1 + random.below(most), ms: ROUND_MS };
}

async function prepare(t: ExecutionContext, kind: string, planting: string[]): Promise<Place> {
  const root = mkdtempSync(join(tmpdir(), 'kills-'));
  const at = (name: string) => join(root, name);
  const place = {
    lower: at('lower'),
    model: at('memory/model'),
    kept: at('memory/kept'),
    mountpoint: at('mnt'),
    changes: at('changes'),
    work: join(kind === 'tmpfs' ? `/run/ostree-ts/${NAME}/upper` : at('changes'), 'work/work'),
  };
  for (const folder of ['lower', 'memory', 'mnt', 'changes']) mkdirSync(at(folder));
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', at('memory')]);
  t.teardown(() => {
    spawnSync('umount', ['-l', at('memory')]);
    rmSync(root, { recursive: true });
  });
  mkdirSync(place.model);
  for (const folder of [place.lower, place.model]) {
    await using hand = new Hand({ cwd: folder });
    await hand.must([...planting, `utimens . ${PLANTED} ${PLANTED}`]);
  }
  return place;
}

/** Has a program do `lines` until the daemon is dead. @returns the answers up to the first that says so. */
async function killed(
  session: Session,
  { mountpoint }: Place,
  lines: readonly string[],
  { step, count, ms }: Aim,
  since: number,
): Promise<{ hit: Hit; answers: string[] }> {
  const { pid, keeper } = await session.status();
  const killer = new Killer(pid ?? -1, step, count, ms);
  await killer.ready();
  const answers: string[] = [];
  {
    await using hand = new Hand({ cwd: mountpoint });
    await hand.script([`since ${since}`, 'emulate zero-range']);
    while (answers.length < lines.length && firstDead(lines, answers) < 0) {
      answers.push(...(await hand.script(lines.slice(answers.length, answers.length + CHUNK))));
    }
  }
  const hit = await killer.end();
  while (existsSync(`/proc/${pid}`) || existsSync(`/proc/${keeper}`)) await sleep(5);
  const cut = firstDead(lines, answers);
  return { hit, answers: cut < 0 ? answers : answers.slice(0, cut + 1) };
}

/** Does the same to the model, and compares. Afterwards the model is what the session is. */
async function judge(
  place: Place,
  lines: readonly string[],
  answers: readonly string[],
  since: number,
): Promise<{ problems: string[]; cut: string }> {
  const { model, kept, mountpoint } = place;
  const isDead = firstDead(lines, answers) >= 0;
  await using hand = new Hand({ cwd: model });
  await hand.script([`since ${since}`, 'emulate zero-range']);
  const problems: string[] = [];
  const states = () => Promise.all([listed(model, since), listed(mountpoint, since)]);
  for (const [index, answer] of answers.entries()) {
    const line = lines[index] ?? '';
    // Only a write can have been told in part: the kernel asks for it page by page.
    const isLast = isDead && index >= answers.length - 1;
    const mayBeCut = isLast || (isDead && isShort(line, answer));
    if (!mayBeCut) {
      const wanted = await hand.do(line);
      if (wanted !== answer) problems.push(`${line}: ${answer} instead of ${wanted}`);
      continue;
    }
    const [before] = isLast ? await states() : [''];
    execFileSync('cp', ['-a', `${model}/.`, kept]);
    const wanted = await hand.do(line);
    const done = countOf(answer);
    if (!isLast && wanted === answer) {
      rmSync(kept, { recursive: true });
      continue;
    }
    if (!isLast && done >= countOf(wanted)) {
      problems.push(`${line}: ${answer} instead of ${wanted}`);
      rmSync(kept, { recursive: true });
      continue;
    }
    const promised = isLast ? undefined : await rangeOf(hand, line, done, countOf(wanted));
    const [after, found] = await states();
    problems.push(
      ...neither(line.split(' ')[0] ?? '', {
        before: { listing: before || (await listed(kept, since)), folder: kept },
        after: { listing: after, folder: model },
        found: { listing: found, folder: mountpoint },
        promised,
      }),
    );
    rmSync(kept, { recursive: true });
    if (found !== after) resync(place);
    return { problems, cut: line.slice(0, 100) };
  }
  const [wanted, found] = await states();
  return { problems: [...problems, ...compareListings(wanted, found)], cut: '' };
}

/** Whether a write was told to have been done in part, or a copy, which may end with what is copied. */
function isShort(line: string, answer: string): boolean {
  const [operation = '', ...words] = line.split(' ');
  if (!answer.startsWith('ok ')) return false;
  if (operation === 'copyrange' || operation === 'sendfile') return true;
  if (operation !== 'write' && operation !== 'pwrite') return false;
  const data = words.at(-1) ?? '';
  return countOf(answer) < Number(/^#\d+:(\d+)$/.exec(data)?.[1] ?? data.length - 1);
}

/** How many bytes an answer tells of; 0 for a refusal. */
function countOf(answer: string): number {
  return Number(/^ok (\d+)$/.exec(answer)?.[1] ?? 0);
}

/** Which bytes of the file a write has told to be done, `whole` being all that the model has written by now. */
async function rangeOf(
  hand: Hand,
  line: string,
  done: number,
  whole: number,
): Promise<{ start: number; end: number } | undefined> {
  const [operation, slot, offset] = line.split(' ');
  if (operation !== 'write' && operation !== 'pwrite') return undefined;
  const O_APPEND = 0o2000;
  const isAppended = (countOf(await hand.do(`fcntl ${slot} F_GETFL 0`)) & O_APPEND) !== 0;
  const { size } = await hand.stat(`@${slot}`);
  const position = countOf(await hand.do(`lseek ${slot} 0 SEEK_CUR`)) - whole;
  const start = isAppended ? size - whole : operation === 'write' ? position : Number(offset);
  return { start, end: start + done };
}

/** Makes the model what the session is. */
function resync({ model, mountpoint }: Place): void {
  for (const name of readdirSync(model, 'buffer')) {
    rmSync(Buffer.concat([Buffer.from(`${model}/`), name]), { recursive: true });
  }
  execFileSync('cp', ['-a', `${mountpoint}/.`, model]);
}

async function listed(folder: string, since: number): Promise<string> {
  await using hand = new Hand({ cwd: folder });
  return await hand.do(`tree . ${since}`);
}
