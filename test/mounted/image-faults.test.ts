/** Exports and imports that are killed, stopped, or run out of room: what is there afterwards is whole, or is not there. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { importImage } from '../../src/index.ts';
import { mounted, type Mounted } from '../helpers/mounted.ts';
import { must, umociImage } from '../helpers/oci.ts';
import { noise, ostree, remove, scratch } from '../helpers/repositories.ts';
import { PROGRAM } from '../helpers/program.ts';

const ROUNDS = 8 * Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);

const folder = scratch();
test.after.always(() => remove(folder));

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Starts a command again and again and kills it at random moments; `look` is told after each, at last after a whole one. */
async function killing(
  t: ExecutionContext,
  args: (round: number) => string[],
  look: (round: number) => void,
): Promise<void> {
  let usual = 0;
  let killed = 0;
  for (let round = 0; round <= ROUNDS; round++) {
    const isSpared = round % 10 === 0 || round === ROUNDS;
    const started = Date.now();
    const child = start(...args(round));
    const words: Buffer[] = [];
    child.stderr?.on('data', (chunk: Buffer) => words.push(chunk));
    const ended = once(child, 'close');
    await Promise.race([ended, ...(isSpared ? [] : [sleep(Math.random() * usual)])]);
    child.kill('SIGKILL');
    await ended;
    if (isSpared) usual = Date.now() - started;
    else if (child.signalCode === 'SIGKILL') killed++;
    if (child.exitCode !== null) t.is(child.exitCode, 0, Buffer.concat(words).toString());
    look(round);
  }
  t.log(`${killed} of ${ROUNDS} were killed; it takes ${usual} ms`);
}

/** Interrupts a command as soon as `hasBegun`. @returns what it said. */
async function interrupted(
  t: ExecutionContext,
  args: string[],
  hasBegun: () => boolean,
): Promise<string> {
  const child = start(...args);
  const words: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => words.push(chunk));
  while (!hasBegun() && child.exitCode === null) await sleep(2);
  child.kill('SIGINT');
  await once(child, 'close');
  t.is(child.exitCode, 1);
  return Buffer.concat(words).toString();
}

function disk(t: ExecutionContext, size: string): string {
  const path = join(folder, `disk-${size}`);
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]);
  t.teardown(() => void execFileSync('umount', ['-l', path]));
  return path;
}

async function busy(): Promise<Mounted> {
  const m = await mounted({ lower: { 'etc/base': 'base\n' } });
  for (let count = 0; count < 30; count++) {
    writeFileSync(join(m.mountpoint, `file-${count}`), noise(500_000, `${count}`));
  }
  return m;
}

function digestOf(path: string): string {
  return `sha256:${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
}

test.serial('an export that is killed leaves its output absent, old or new', async (t) => {
  t.timeout(1_800_000);
  await using m = await busy();
  const { name } = m.session;
  const fixed = ['--timestamp=1300000000', '--compress=none'];
  const out = join(m.folder, 'out');
  mkdirSync(out);
  const file = join(out, 'layer.tar');
  const options = { format: 'oci-layer', timestamp: 1_300_000_000, compress: 'none' } as const;
  const { digest } = await m.session.export({ ...options, output: join(m.folder, 'expected') });
  await killing(
    t,
    (round) => {
      if (round % 3 === 0) rmSync(file, { force: true });
      return ['export', name, '--format=oci-layer', `--output=${file}`, ...fixed];
    },
    () => t.true(!existsSync(file) || digestOf(file) === digest),
  );
  t.deepEqual(readdirSync(out), ['layer.tar'], 'the last has cleaned up after the others');
  const image = join(out, 'image');
  // As of one that was killed before it had a lock, or as it took itself away.
  mkdirSync(join(out, 'image.0123456789ab.draft/blobs'), { recursive: true });
  await killing(
    t,
    (round) => {
      if (round % 3 === 0) rmSync(image, { recursive: true, force: true });
      return ['export', name, '--format=oci-image', `--output=${image}`, `--tag=t`, ...fixed];
    },
    () => {
      if (existsSync(image)) must('skopeo', 'copy', `oci:${image}:t`, `dir:${m.folder}/copied`);
    },
  );
  t.deepEqual(readdirSync(out).sort(), ['image', 'layer.tar']);
  t.deepEqual(readdirSync(image).sort(), ['blobs', 'index.json', 'oci-layout']);
});

test.serial('an export without room, or interrupted, leaves nothing', async (t) => {
  await using m = await busy();
  const small = disk(t, '4m');
  for (const format of ['tar', 'oci-layer', 'oci-image'] as const) {
    for (const output of [join(small, 'out'), join(small, 'out.tar')]) {
      await t.throwsAsync(m.session.export({ format, output }), { message: /ENOSPC/ }, format);
      t.deepEqual(readdirSync(small), [], format);
    }
  }
  const out = join(m.folder, 'out');
  mkdirSync(out);
  for (const format of ['oci-layer', 'oci-image']) {
    const args = ['export', m.session.name, `--format=${format}`, `--output=${join(out, 'x')}`];
    const said = await interrupted(t, args, () => readdirSync(out).length > 0);
    t.regex(said, /interrupted; nothing is left/);
    t.deepEqual(readdirSync(out), [], format);
  }
});

/** An image of some megabytes, with layers of two tags. */
function images(): string {
  const layout = join(folder, 'layout');
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  for (const tag of ['one', 'two']) {
    for (let count = 0; count < 20; count++) {
      writeFileSync(join(tree, `file-${count}`), noise(300_000, `${tag} ${count}`));
    }
    if (tag === 'one') umociImage(tree, layout, tag);
    else {
      must('umoci', 'new', '--image', `${layout}:${tag}`);
      must('umoci', 'insert', '--image', `${layout}:${tag}`, tree, '/');
    }
  }
  return layout;
}

test.serial(
  'an import that is killed, interrupted or without room: the ref is old or new, the repository whole',
  async (t) => {
    t.timeout(1_800_000);
    const layout = images();
    const repo = join(folder, 'repo');
    ostree('init', `--repo=${repo}`, '--mode=archive');
    const ref = join(repo, 'refs/heads/image');
    const isWhole = () => t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
    await killing(
      t,
      (round) => {
        if (round % 3 === 0) {
          rmSync(ref, { force: true });
          ostree('prune', `--repo=${repo}`, '--refs-only', '--depth=0');
        }
        const image = `oci:${layout}:${round % 2 === 0 ? 'one' : 'two'}`;
        return ['import', image, `--repo=${repo}`, '--branch=image'];
      },
      () => {
        isWhole();
        if (!existsSync(ref)) return;
        t.is(
          ostree('ls', `--repo=${repo}`, '-R', 'image').toString().trim().split('\n').length,
          21,
        );
      },
    );
    t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
    const before = readFileSync(ref, 'utf8');
    rmSync(join(repo, 'objects'), { recursive: true });
    mkdirSync(join(repo, 'objects'));
    rmSync(ref);
    const args = ['import', `oci:${layout}:one`, `--repo=${repo}`, '--branch=image'];
    const hasBegun = () =>
      readdirSync(join(repo, 'tmp')).some((name) => name.startsWith('staging'));
    t.regex(await interrupted(t, args, hasBegun), /as it was/);
    t.false(existsSync(ref), before);
    t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
    isWhole();
    const small = join(disk(t, '3m'), 'repo');
    ostree('init', `--repo=${small}`, '--mode=archive');
    ostree('config', `--repo=${small}`, 'set', 'core.min-free-space-percent', '0');
    const options = { image: `oci:${layout}:one`, repo: small, branch: 'image' };
    await t.throwsAsync(importImage(options), { message: /no space left/ });
    t.regex(ostree('fsck', `--repo=${small}`).toString(), /no errors found/);
    t.deepEqual(readdirSync(join(small, 'tmp')), ['cache']);
    t.deepEqual(readdirSync(join(small, 'refs/heads')), []);
  },
);
