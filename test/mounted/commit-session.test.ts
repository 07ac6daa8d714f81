/**
 * Sessions kept as commits, as the real `ostree` sees them: of every writable mode of repository, from every upper, while
 * the session goes on; and refusals. Commits that fail or are killed: commit-faults.test.ts, commit-kills.test.ts.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { type Session, SessionError, UsageError } from '../../src/index.ts';
import { listTree } from '../helpers/checksum.ts';
import { compareListings } from '../helpers/compare.ts';
import { mounted } from '../helpers/mounted.ts';
import {
  commitTree,
  listing,
  noise,
  normalDiff,
  ostree,
  plantEverything,
  remove,
  rootOf,
  scratch,
  theirDiff,
  type WritableMode,
} from '../helpers/repositories.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);
const WRITABLE: WritableMode[] = ['bare', 'bare-user', 'bare-user-only', 'archive'];

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
plantEverything(tree, { many: 300 });
// What the mount shows as a device is refused when the tool commits it.
rmSync(join(tree, 'usr/share/.ostree-wh.gone'));
const small = join(folder, 'small');
plantEverything(small, { many: 20 });

/** Changes of every kind. */
function change(root: string): void {
  const at = (path: string) => join(root, path);
  appendFileSync(at('usr/bin/program'), 'more\n');
  truncateSync(at('usr/lib/zeros.bin'), 1_000_000);
  rmSync(at('usr/lib/also-empty'));
  rmSync(at('usr/attributes'), { recursive: true });
  renameSync(at('usr/share'), at('usr/renamed'));
  writeFileSync(at('usr/renamed/new'), 'new\n');
  rmSync(at('usr/bin/link'));
  mkdirSync(at('usr/bin/link/deep'), { recursive: true });
  writeFileSync(at('usr/bin/link/deep/file'), noise(300_000, 'deep'));
  rmSync(at('usr/many/below'), { recursive: true });
  writeFileSync(at('usr/many/below'), 'a file now\n');
  chmodSync(at('usr/lib/private'), 0o4711);
  chmodSync(at('usr/empty'), 0o700);
  symlinkSync('somewhere/else', at('new-link'));
  writeFileSync(at('hard'), 'links\n');
  linkSync(at('hard'), at('harder'));
  writeFileSync(at('usr/bin/setuid'), readFileSync(at('usr/bin/setuid')));
  execFileSync('setfattr', ['-n', 'user.new', '-v', 'value', at('usr/lib/large.bin')]);
  execFileSync('setfattr', ['-n', 'user.none', at('usr/renamed/new'), at('usr/empty')]);
}

async function ourDiff(session: Session): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, path } of session.diff()) {
    // Of what has become a directory the tool tells nothing below.
    if (path.startsWith('/usr/bin/link/')) continue;
    lines.push(`${kind} ${Buffer.from(path, 'latin1').toString()}`);
  }
  return normalDiff(lines);
}

/** What a mode keeps of files, for trees that are compared outside of a repository. */
function described(root: string): string {
  const format = String.raw`%P %y %m %U:%G %l\n`;
  const files = execFileSync('find', [root, '-printf', format], { encoding: 'latin1' });
  const sums = execFileSync('sh', ['-c', 'cd "$0" && find . -type f -exec sha256sum {} +', root], {
    encoding: 'latin1',
  });
  return [...files.split('\n').sort(), ...sums.split('\n').sort()].join('\n');
}

for (const mode of WRITABLE) {
  test.serial(
    `${mode}: a session over a commit becomes its child, as the tool would have made it`,
    async (t) => {
      const { path: repo, commit } = commitTree(folder, mode, tree);
      await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
      change(session.mountpoint);
      const result = await session.session.commit({
        branch: 'kept/ours',
        subject: 'ours',
        body: 'of a test',
        metadata: { version: '2' },
      });
      t.is(result.parent, commit);
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
      const show = ostree('show', `--repo=${repo}`, 'kept/ours').toString();
      for (const line of [`Parent:  ${commit}`, 'Version: 2', '    ours', '    of a test']) {
        t.true(show.includes(line), line);
      }
      const key = '--print-metadata-key=ostree.ref-binding';
      t.is(ostree('show', `--repo=${repo}`, key, 'kept/ours').toString(), "['kept/ours']\n");
      // The tool reads the mount file by file, and stores the same tree.
      ostree('commit', `--repo=${repo}`, '-b', 'theirs', `--tree=dir=${session.mountpoint}`);
      t.deepEqual(listing(repo, 'kept/ours'), listing(repo, 'theirs'));
      t.is(rootOf(repo, 'kept/ours'), rootOf(repo, 'theirs'));
      // Checked out it is the session; committed again, the same once more.
      const out = join(folder, `out-${mode}`);
      ostree('checkout', `--repo=${repo}`, 'kept/ours', out);
      if (mode !== 'bare-user-only') t.is(described(out), described(session.mountpoint));
      ostree('commit', `--repo=${repo}`, '-b', 'again', `--tree=dir=${out}`);
      t.is(rootOf(repo, 'again'), rootOf(repo, 'kept/ours'));
      if (mode !== 'bare-user-only') {
        t.deepEqual(await ourDiff(session.session), theirDiff(repo, 'main', 'kept/ours'));
      }
      const other = join(folder, `pulled-${mode}`);
      ostree('init', `--repo=${other}`, `--mode=${mode}`);
      ostree('pull-local', `--repo=${other}`, repo, 'kept/ours');
      t.regex(ostree('fsck', `--repo=${other}`).toString(), /no errors found/);
      t.is(await untouched(session.session), null);
    },
  );
}

/** What a second commit of a session over its own changes says when the first was committed: it still has changed. */
async function untouched(session: Session): Promise<string | null> {
  const { commit } = await session.commit({
    branch: 'kept/ours',
    subject: 'twice',
    parent: 'none',
  });
  return commit === null ? 'none' : null;
}

test.serial('what has not changed is no commit, unless it is to be one', async (t) => {
  const { path: repo, commit } = commitTree(join(folder, 'same'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const before = await listTree(repo);
  writeFileSync(join(session.mountpoint, 'usr/bin/program'), 'hello\n');
  const touched = await session.session.commit({ branch: 'main' });
  t.like(touched, { commit: null, parent: commit });
  t.deepEqual(
    compareListings(before, await listTree(repo)).filter(
      (line) => !/lock|^tmp: [cm]time/.test(line),
    ),
    [],
  );
  const forced = await session.session.commit({ branch: 'main', allowEmpty: true });
  t.is(rootOf(repo, forced.commit ?? ''), rootOf(repo, commit));
  t.is(readFileSync(join(repo, 'refs/heads/main'), 'utf8'), `${forced.commit}\n`);
});

test.serial('a directory is committed whole; in a deployment, against its commit', async (t) => {
  const root = join(folder, 'sysroot');
  mkdirSync(join(root, 'ostree/deploy/os/deploy'), { recursive: true });
  const { path, commit } = commitTree(join(folder, 'hosts'), 'bare', tree);
  renameSync(path, join(root, 'ostree/repo'));
  const repo = join(root, 'ostree/repo');
  const deployment = join(root, `ostree/deploy/os/deploy/${commit}.0`);
  ostree('checkout', `--repo=${repo}`, commit, deployment);
  writeFileSync(`${deployment}.origin`, '[origin]\nrefspec=main\n');
  const usr = join(deployment, 'usr');
  const plain = join(folder, 'plain');
  execFileSync('cp', ['-a', tree, plain]);
  {
    await using session = await mounted({ lower: usr, unchecked: true });
    appendFileSync(join(session.mountpoint, 'bin/program'), 'hotfix\n');
    renameSync(join(session.mountpoint, 'share'), join(session.mountpoint, 'moved'));
    const made = await session.session.commit({ branch: 'hotfix' });
    t.like(made, { parent: commit, files: 1 });
  }
  // The whole commit, with its usr as it is now.
  execFileSync('sh', ['-c', 'echo hotfix >> usr/bin/program && mv usr/share usr/moved'], {
    cwd: plain,
  });
  ostree('commit', `--repo=${repo}`, '-b', 'plain', `--tree=dir=${plain}`);
  t.is(rootOf(repo, 'hotfix'), rootOf(repo, 'plain'));
  {
    await using session = await mounted({ lower: plain, unchecked: true });
    await t.throwsAsync(session.session.commit({ branch: 'x' }), { instanceOf: UsageError });
    writeFileSync(join(session.mountpoint, 'usr/bin/another'), 'x');
    rmSync(join(session.mountpoint, 'usr/moved'), { recursive: true });
    await session.session.commit({ branch: 'whole', repo });
    ostree('commit', `--repo=${repo}`, '-b', 'theirs', `--tree=dir=${session.mountpoint}`);
    t.is(rootOf(repo, 'whole'), rootOf(repo, 'theirs'));
  }
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
});

test.serial('to a repository that lacks the commit, all of it is copied', async (t) => {
  const { path: repo } = commitTree(join(folder, 'from'), 'bare', small);
  const target = join(folder, 'target');
  ostree('init', `--repo=${target}`, '--mode=archive');
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  writeFileSync(join(session.mountpoint, 'usr/bin/program'), 'changed\n');
  await session.session.commit({ branch: 'copied', repo: target });
  await session.session.commit({ branch: 'here' });
  t.is(rootOf(target, 'copied'), rootOf(repo, 'here'));
  t.regex(ostree('fsck', `--repo=${target}`).toString(), /no errors found/);
});

for (const upper of ['memory', 'tmpfs', 'dir'] as const) {
  test.serial(
    `${upper}: what is written while a session is committed is there whole or not at all`,
    async (t) => {
      const { path: repo } = commitTree(join(folder, `live-${upper}`), 'bare-user', small);
      const place = join(folder, `upper-${upper}`);
      if (upper === 'dir') mkdirSync(place);
      await using session = await mounted({
        lower: 'main',
        unchecked: true,
        options: { repo, upper: upper === 'dir' ? place : upper },
      });
      using writer = startWriter(session.mountpoint);
      while (!existsSync(join(session.mountpoint, 'live', `${FILES - 1}`))) await sleep(20);
      await sleep(100);
      for (let round = 0; round < 3 * SCALE; round++) {
        const { commit } = await session.session.commit({ branch: 'live', parent: 'none' });
        const held = Array.from({ length: FILES }, (_, index) =>
          ostree('cat', `--repo=${repo}`, commit ?? '', `/live/${index}`),
        );
        for (const bytes of held) {
          t.is(bytes.length, LENGTH);
          t.true(bytes.every((byte) => byte === bytes[0]));
        }
        if (upper !== 'memory') continue;
        // One instant for all: the writer goes through the files in order, one letter after the other.
        const letters = held.map((bytes) => bytes[0] ?? 0);
        const turns = letters.filter((letter, index) => letter !== letters[(index + 1) % FILES]);
        t.true(turns.length <= 2, letters.join(' '));
      }
      writer.check();
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
    },
  );
}

const FILES = 8;
const LENGTH = 65_536;

/** A process that writes files over and over, each with one letter in one call. */
function startWriter(root: string): Disposable & { check(): void } {
  const script = `
import os, sys
os.makedirs('live', exist_ok=True)
fds = [os.open('live/%d' % i, os.O_RDWR | os.O_CREAT) for i in range(${FILES})]
letter = 0
while True:
    letter = letter % 250 + 1
    for fd in fds:
        os.pwrite(fd, bytes([letter]) * ${LENGTH}, 0)
    print(letter, flush=True)
`;
  const child = spawn('python3', ['-c', script], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return {
    check() {
      if (child.exitCode !== null) throw new Error('the writer has ended');
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

test.serial('what a commit cannot hold is refused by name, or left out', async (t) => {
  const { path: repo } = commitTree(join(folder, 'special'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const before = await listTree(repo);
  const hand = session.hand();
  await hand.must(['mkdir special 0755', 'mknod special/fifo S_IFIFO|0600 0 0']);
  await hand.must(['mknod special/null S_IFCHR|0600 1 3', 'mkdir special/%ff 0755']);
  const refused = await t.throwsAsync(session.session.commit({ branch: 'x' }), {
    instanceOf: SessionError,
  });
  for (const name of ['/special/fifo', '/special/null', '/special/']) {
    t.true(refused.message.includes(name), name);
  }
  const { skipped } = await session.session.commit({ branch: 'x', skipSpecial: true });
  t.deepEqual(skipped.sort(), ['/special/fifo', '/special/null', '/special/\xff']);
  t.deepEqual(ostree('ls', `--repo=${repo}`, 'x', '/special').toString().split('\n').length, 2);
  writeFileSync(join(session.mountpoint, 'special/.ostree-wh.name'), '');
  await t.throwsAsync(session.session.commit({ branch: 'y', skipSpecial: true }), {
    message: /\.ostree-wh\.name/,
  });
  await session.session.commit({ branch: 'y', skipSpecial: true, allowWhiteouts: true });
  await t.throwsAsync(session.session.commit({ branch: '../x' }), { instanceOf: UsageError });
  await t.throwsAsync(session.session.commit({ branch: 'main/below' }), {
    instanceOf: SessionError,
  });
  t.false(existsSync(join(repo, 'refs/heads/main/below')));
  t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
  t.true(before.length > 0);
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
});

test.serial('the command may itself lie in the session', async (t) => {
  const { path: repo } = commitTree(join(folder, 'inside'), 'archive', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const within = join(session.mountpoint, 'package');
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  mkdirSync(within);
  for (const name of ['build/src', 'native/build/Release', 'node_modules', 'package.json']) {
    const to = join(within, name);
    mkdirSync(join(to, '..'), { recursive: true });
    if (name === 'node_modules') {
      for (const each of [
        'commander',
        'lru-cache',
        'diff',
        'cli-progress',
        'string-width',
        'strip-ansi',
      ]) {
        mkdirSync(to, { recursive: true });
        execFileSync('cp', ['-a', join(root, name, each), join(to, each)]);
      }
    } else execFileSync('cp', ['-a', join(root, name), to]);
  }
  execFileSync('cp', [process.execPath, join(within, 'node')]);
  const node = join(within, 'node');
  const args = [
    join(within, 'build/src/cli/main.js'),
    'commit',
    session.session.name,
    '--branch=in',
  ];
  const ran = spawnSync(node, args, { encoding: 'utf8', timeout: 60_000 });
  t.is(ran.status, 0, ran.stderr);
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
});
