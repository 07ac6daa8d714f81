/**
 * Commits that are cut off: the command killed or stopped, the daemon of the session killed. The ref is old or new, the
 * repository whole, and what the session keeps outside of its daemon is all there.
 */
import { mkdirSync, readdirSync, readFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type Session, unlock } from '../../src/index.ts';
import { committing } from '../helpers/committing.ts';
import { mounted } from '../helpers/mounted.ts';
import {
  commitTree,
  noise,
  ostree,
  plantEverything,
  remove,
  scratch,
} from '../helpers/repositories.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
/** A command whose daemon has died ends by then, also on a busy machine. */
const ENDS_MS = 10_000;
const FILES = 20;

const folder = scratch();
test.after.always(() => remove(folder));
const small = join(folder, 'small');
plantEverything(small, { many: 20 });

test.serial(
  'a commit that is killed leaves the ref old or new, and the repository whole',
  async (t) => {
    t.timeout(1_800_000);
    const { path: repo } = commitTree(join(folder, 'killed'), 'bare-user', small);
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    const { name } = session.session;
    mkdirSync(join(session.mountpoint, 'made'));
    await session.session.commit({ branch: 'work' });
    const ref = join(repo, 'refs/heads/work');
    const rounds = SCALE >= 10 ? 300 : 4;
    let isNew = 0;
    let isStaged = 0;
    // How long a commit takes that nobody kills: moments are chosen out of that, and a little more.
    let usual = 0;
    for (let round = 0; round < rounds; round++) {
      for (let count = 0; count < 20; count++) {
        writeFileSync(
          join(session.mountpoint, `made/${count}`),
          noise(100_000, `${round} ${count}`),
        );
      }
      const before = readFileSync(ref, 'utf8');
      const started = Date.now();
      const { child, ended } = committing(name);
      // Each tenth is left alone, so that what the machine can do at the moment is known.
      const isSpared = round % 10 === 0;
      await Promise.race([ended, ...(isSpared ? [] : [sleep(Math.random() * usual * 1.05)])]);
      child.kill('SIGKILL');
      await ended;
      if (isSpared) usual = Date.now() - started;
      if (readdirSync(join(repo, 'tmp')).length > 1) isStaged++;
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
      const after = readFileSync(ref, 'utf8');
      if (after !== before) {
        isNew++;
        ostree('ls', `--repo=${repo}`, after.trim());
      }
    }
    t.log(
      `${rounds} rounds: ${isNew} ended with a new commit, ${isStaged} in the middle of one; it takes ${usual} ms`,
    );
    if (rounds >= 100) {
      t.true(isNew > rounds / 10 && isNew < rounds, 'some were killed too early');
      t.true(isStaged > 0, 'some were killed while they wrote');
    }
    const { commit } = await session.session.commit({ branch: 'work' });
    t.is(readFileSync(ref, 'utf8'), `${commit}\n`);
    t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
  },
);

test.serial('Ctrl-C leaves the repository as it was', async (t) => {
  const { path: repo } = commitTree(join(folder, 'stopped'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  for (let count = 0; count < 60; count++) {
    writeFileSync(join(session.mountpoint, `${count}`), noise(1_000_000, `${count}`));
  }
  const { child, ended } = committing(session.session.name);
  while (!readdirSync(join(repo, 'tmp')).some((name) => name.startsWith('staging'))) await sleep(5);
  child.kill('SIGINT');
  const { code, said } = await ended;
  t.is(code, 1);
  t.regex(said, /as it was/);
  t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
  t.false(existsSync(join(repo, 'refs/heads/work')));
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
});

function workOf(round: number): Buffer[] {
  return Array.from({ length: FILES }, (_, index) => noise(100_000, `${round} ${index}`));
}

/** Kills the session's daemon in a while. @returns whether the command ended well. */
async function killing(
  t: ExecutionContext,
  session: Session,
  repo: string,
  afterMs: number,
): Promise<boolean> {
  const ref = join(repo, 'refs/heads/work');
  const before = readFileSync(ref, 'utf8');
  const { pid } = await session.status();
  if (pid === null) throw new Error('no daemon');
  const { ended } = committing(session.name);
  await Promise.race([ended, sleep(afterMs)]);
  process.kill(pid, 'SIGKILL');
  const killed = Date.now();
  const { code, said } = await ended;
  const label = `killed after ${Math.round(afterMs)} ms: ${said}`;
  t.true(Date.now() - killed < ENDS_MS, `${label}, took ${Date.now() - killed} ms`);
  t.true(code === 0 || code === 1, label);
  if (code === 1) {
    t.regex(said, /^ostree-ts: [^\n]*daemon[^\n]*\n[^\n]*ostree-ts status[^\n]*\n$/, label);
    t.notRegex(said, /unexpected|does not answer/, label);
  }
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/, label);
  t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache'], label);
  t.is(code === 0, readFileSync(ref, 'utf8') !== before, label);
  return code === 0;
}

for (const upper of ['memory', 'tmpfs'] as const) {
  test.serial(
    `${upper}: a commit whose daemon is killed says so, and leaves nothing`,
    async (t) => {
      t.timeout(1_800_000);
      const { path: repo } = commitTree(join(folder, `daemon-${upper}`), 'bare-user', small);
      const mountpoint = join(folder, `mnt-${upper}`);
      mkdirSync(mountpoint);
      const name = `daemon-${upper}`;
      const options = { source: ['main'], repo, mountpoint, upper, name };
      let session = await unlock(options);
      t.teardown(() => session.lock({ lazy: true }).catch(() => undefined));
      mkdirSync(join(mountpoint, 'made'));
      await session.commit({ branch: 'work' });
      const rounds = SCALE >= 10 ? 100 : 2;
      let usual = 0;
      let whole = 0;
      for (let round = 0; round < rounds; round++) {
        const work = workOf(round);
        mkdirSync(join(mountpoint, 'made'), { recursive: true });
        for (const [index, bytes] of work.entries()) {
          writeFileSync(join(mountpoint, `made/${index}`), bytes);
        }
        // What the machine can do at the moment: moments are chosen out of that, and a little more.
        if (round % 10 === 0) {
          const started = Date.now();
          await committing(name, ['--allow-empty']).ended;
          usual = Date.now() - started;
          writeFileSync(join(mountpoint, 'made/more'), noise(1000, `${round}`));
        }
        if (await killing(t, session, repo, Math.random() * usual * 1.05)) whole++;
        if (upper === 'memory') {
          await session.lock({ lazy: true });
          session = await unlock(options);
          continue;
        }
        session = await unlock({ source: [], name });
        const { commit } = await session.commit({ branch: 'work', allowEmpty: true });
        for (const [index, bytes] of work.entries()) {
          const kept = ostree('cat', `--repo=${repo}`, commit ?? '', `/made/${index}`);
          t.true(kept.equals(bytes), `round ${round}: ${index}`);
        }
      }
      t.log(`${rounds} rounds, ${whole} of which ended before; a commit takes ${usual} ms`);
      writeFileSync(join(mountpoint, 'last'), 'last\n');
      await session.commit({ branch: 'work' });
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
      t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
    },
  );
}
