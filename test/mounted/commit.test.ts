/** Sessions from a repository: what the mount shows, in every mode, and that the repository stays what it was. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SessionError, UsageError, unlock } from '../../src/index.ts';
import { listTree } from '../helpers/checksum.ts';
import { compareListings, compareTrees } from '../helpers/compare.ts';
import { mounted, residentBytes, UPPER } from '../helpers/mounted.ts';
import {
  MODES,
  addCommit,
  commitTree,
  objectPath,
  objectsOf,
  ostree,
  plantEverything,
  remove,
  scratch,
} from '../helpers/repositories.ts';

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
plantEverything(tree);
const small = join(folder, 'small');
plantEverything(small, { many: 20 });

/** A checkout that shares nothing with the repository; all times 0, as a commit has them. */
function checkOut(repo: string, commit: string, path: string): void {
  const options = ['--force-copy', '--process-passthrough-whiteouts'];
  ostree('checkout', `--repo=${repo}`, ...options, commit, path);
  execFileSync('find', [path, '-depth', '-exec', 'touch', '-h', '-d', '@0', '{}', '+']);
}

for (const mode of MODES) {
  test.serial(`${mode}: the mount is what a checkout is, and the repository stays`, async (t) => {
    const { path: repo, commit } = commitTree(folder, mode, tree);
    const checkout = join(folder, `checkout-${mode}`);
    checkOut(repo, commit, checkout);
    const before = await listTree(repo);
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    const hand = session.hand();
    t.deepEqual(await compareTrees(hand, '.', hand, checkout), []);
    t.like(await session.session.status(), { mode: 'commit', source: 'main', repo, commit });
    await hand.must([
      'open 0 usr/bin/program O_RDWR',
      'pwrite 0 0 =J',
      'rename usr/lib usr/moved',
      'unlink usr/bin/link',
      'mkdir usr/new 0755',
      'chmod usr/empty 0700',
    ]);
    const changes: string[] = [];
    for await (const change of session.session.diff()) {
      if (!change.path.startsWith('/usr/moved/')) changes.push(`${change.kind} ${change.path}`);
    }
    t.deepEqual(changes.sort(), [
      'A /usr/moved',
      'A /usr/new',
      'D /usr/bin/link',
      'D /usr/lib',
      'M /usr/bin/program',
      'M /usr/empty',
    ]);
    t.is(readFileSync(join(session.mountpoint, 'usr/bin/program'), 'utf8'), 'Jello\n');
    t.deepEqual(compareListings(before, await listTree(repo)), []);
    if (mode !== 'bare-user-only') {
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
    }
  });
}

test.serial('objects that are missing here come from the parent', async (t) => {
  const parent = commitTree(join(folder, 'parent'), 'bare', small);
  const child = join(folder, 'child');
  ostree('init', `--repo=${child}`, '--mode=archive');
  ostree('config', `--repo=${child}`, 'set', 'core.parent', parent.path);
  await using session = await mounted({
    lower: 'main',
    unchecked: true,
    options: { repo: child, verify: true },
  });
  const program = readFileSync(join(session.mountpoint, 'usr/bin/program'), 'utf8');
  t.is(program, 'hello\n');
});

for (const mode of ['bare', 'archive'] as const) {
  test.serial(
    `${mode}: broken objects are EIO for themselves, named in status and once in the log`,
    async (t) => {
      const { path: repo } = commitTree(join(folder, `broken-${mode}`), mode, small);
      const extension = mode === 'archive' ? 'filez' : 'file';
      const lines = ostree('ls', `--repo=${repo}`, '-C', 'main', '/usr/lib').toString().split('\n');
      const checksumOf = (name: string) =>
        lines.find((line) => line.endsWith(`/${name}`))?.match(/[0-9a-f]{64}/)?.[0] ?? '';
      const missing = objectPath(repo, checksumOf('private'), extension);
      const corrupt = objectPath(repo, checksumOf('large.bin'), extension);
      rmSync(missing);
      const bytes = readFileSync(corrupt);
      bytes[100_000] = (bytes[100_000] ?? 0) ^ 1;
      writeFileSync(corrupt, bytes);

      const mountpoint = join(folder, `broken-${mode}-mnt`);
      mkdirSync(mountpoint);
      const session = await unlock({ source: ['main'], repo, mountpoint, verify: true });
      try {
        const listed = spawnSync('ls', [join(mountpoint, 'usr/lib')])
          .stdout.toString()
          .split('\n');
        t.true(listed.includes('private'), 'it is still listed');
        for (const name of ['private', 'large.bin']) {
          const { stderr } = spawnSync('cat', [join(mountpoint, 'usr/lib', name)]);
          t.regex(stderr.toString(), /Input\/output error/, name);
        }
        const same = readFileSync(join(mountpoint, 'usr/lib/same.bin').replace('same', 'zeros'));
        t.is(same.length, 3_000_000);
        const { problems, log } = await session.status();
        for (const name of ['private', 'large.bin']) {
          const checksum = checksumOf(name);
          t.is(problems.filter((line) => line.includes(checksum)).length, 1, name);
          t.is(log.filter((line) => line.includes(checksum)).length, 1, name);
        }
      } finally {
        await session.lock({ lazy: true });
      }
    },
  );
}

test.serial('the session survives what others do in the repository', async (t) => {
  const { path: repo, commit } = commitTree(join(folder, 'busy'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  writeFileSync(join(small, 'usr/lib/private'), 'another\n');
  const other = addCommit(repo, 'other', small);
  ostree('refs', `--repo=${repo}`, '--delete', 'other');
  ostree('prune', `--repo=${repo}`, '--refs-only');
  t.false(objectsOf(repo, 'commit').includes(other));
  const checkout = join(folder, 'busy-checkout');
  checkOut(repo, commit, checkout);
  const hand = session.hand();
  t.deepEqual(await compareTrees(hand, '.', hand, checkout), []);
});

test.serial('diff knows a file that was moved over its like by the checksum alone', async (t) => {
  const { path: repo } = commitTree(join(folder, 'like'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const hand = session.hand();
  await hand.must(['rename usr/lib/same.bin usr/lib/large.bin']);
  const [line = ''] = ostree('ls', `--repo=${repo}`, '-C', 'main', '/usr/lib/large.bin')
    .toString()
    .match(/[0-9a-f]{64}/) ?? [''];
  // To compare the data it would have to be read.
  rmSync(objectPath(repo, line, 'filez'));
  const changes: string[] = [];
  for await (const { kind, path } of session.session.diff()) changes.push(`${kind} ${path}`);
  t.deepEqual(changes, ['D /usr/lib/same.bin']);
});

test.serial('an archive object is inflated once for all who read it', async (t) => {
  const { path: repo } = commitTree(join(folder, 'once'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const fd = openSync(join(session.mountpoint, 'usr/lib/large.bin'), 'r');
  const chunk = Buffer.alloc(4096);
  const length = readSync(fd, chunk, 0, 4096, 150_000);
  closeSync(fd);
  t.is(length, 4096);
  const expected = readFileSync(join(small, 'usr/lib/large.bin'));
  t.true(chunk.equals(expected.subarray(150_000, 154_096)));
  t.true(readFileSync(join(session.mountpoint, 'usr/lib/large.bin')).equals(expected));
  t.true(readFileSync(join(session.mountpoint, 'usr/lib/same.bin')).equals(expected));
});

test.serial('while a large object is inflated, everything else goes on', async (t) => {
  const root = join(folder, 'large-tree');
  mkdirSync(root);
  const large = Buffer.alloc(60_000_000, 'so much text that it takes a while ');
  for (const name of ['large', 'written', 'cut']) writeFileSync(join(root, name), large);
  appendFileSync(join(root, 'written'), 'of its own');
  appendFileSync(join(root, 'cut'), 'of another');
  writeFileSync(join(root, 'small'), 'small\n');
  const { path: repo } = commitTree(join(folder, 'large'), 'archive', root);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const slow = session.hand(60_000);
  const quick = session.hand();
  await slow.must(['open 0 large O_RDONLY']);
  await quick.must(['open 0 small O_RDONLY']);
  let isRead = false;
  const reading = slow.do('pread 0 50000000 4').finally(() => {
    isRead = true;
  });
  t.regex(await quick.do('pread 0 0 6'), /small/);
  t.false(isRead, 'the small file waited for the large one');
  t.regex(await reading, /ok/);
  // A write into the middle needs what is there; a truncation needs the last block.
  await slow.must(['open 1 written O_RDWR', 'pwrite 1 30000001 =CHANGED', 'truncate cut 29999999']);
  const written = readFileSync(join(session.mountpoint, 'written'));
  const expected = readFileSync(join(root, 'written'));
  expected.write('CHANGED', 30_000_001);
  t.true(written.equals(expected));
  t.true(readFileSync(join(session.mountpoint, 'cut')).equals(large.subarray(0, 29_999_999)));
  const { pid, used } = await session.session.status();
  // Others copy whole files.
  if (UPPER === 'memory') t.true((used ?? Infinity) < 1 << 20, `${used}`);
  t.true(residentBytes(pid ?? 0) < 200_000_000, `${residentBytes(pid ?? 0)}`);
});

const refused = test.macro({
  async exec(t, source: string[], options: object, expected: RegExp, mistake = false) {
    const { path: repo } = commitTree(join(folder, t.title.replaceAll(/\W/g, '-')), 'bare', small);
    const mountpoint = join(folder, `mnt-${t.title.replaceAll(/\W/g, '-')}`);
    mkdirSync(mountpoint);
    const error = await t.throwsAsync<SessionError>(
      unlock({ source, repo, mountpoint, ...options }),
      {
        instanceOf: mistake ? UsageError : SessionError,
        message: expected,
      },
    );
    t.truthy(error.remedy);
  },
  title: (given = '') => `refuses ${given}`,
});
test.serial('an unknown ref', refused, ['nope'], {}, /nope/);
test.serial('two refs', refused, ['main', 'main'], {}, /one commit/, true);
test.serial('no ref', refused, [], {}, /one commit/, true);
test.serial('shared links', refused, ['main'], { links: 'shared' }, /links/, true);
test.serial('no mountpoint', refused, ['main'], { mountpoint: undefined }, /mountpoint/, true);

test.serial('refuses the repository as mountpoint', async (t) => {
  const { path: repo } = commitTree(join(folder, 'in-place'), 'bare', small);
  await t.throwsAsync(unlock({ source: ['main'], repo, mountpoint: repo }), {
    instanceOf: SessionError,
    message: /repository itself/,
  });
});

test.serial('a partial commit is refused, or shown with holes', async (t) => {
  const { path: source } = commitTree(join(folder, 'partial'), 'archive', small);
  const repo = join(folder, 'partial-pulled');
  ostree('init', `--repo=${repo}`, '--mode=archive');
  ostree('pull-local', `--repo=${repo}`, source, 'main');
  const commit = ostree('rev-parse', `--repo=${repo}`, 'main').toString().trim();
  writeFileSync(join(repo, 'state', `${commit}.commitpartial`), '');
  const mountpoint = join(folder, 'partial-mnt');
  mkdirSync(mountpoint);
  await t.throwsAsync(unlock({ source: ['main'], repo, mountpoint }), {
    instanceOf: SessionError,
    message: /partial/,
  });
  const session = await unlock({ source: ['main'], repo, mountpoint, allowPartial: true });
  t.is(readFileSync(join(mountpoint, 'usr/bin/program'), 'utf8'), 'hello\n');
  await session.lock();
});
