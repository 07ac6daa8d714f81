/**
 * A session on a real operating system, kept: packages installed, files of every kind added, changed, removed, renamed and
 * replaced by other types; and what the real `ostree` says of the commit.
 *
 * By default in an archive repository; in every mode that can be written from OSTREE_TS_TEST_SCALE=2 on.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  lchownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Session } from '../../src/index.ts';
import { compareTrees } from '../helpers/compare.ts';
import { debianTree, packageFile } from '../helpers/debian.ts';
import { mounted } from '../helpers/mounted.ts';
import {
  commitTree,
  listing,
  noise,
  normalDiff,
  ostree,
  remove,
  rootOf,
  scratch,
  theirDiff,
  type WritableMode,
} from '../helpers/repositories.ts';

const ALL = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) >= 2;
const SOME: readonly WritableMode[] = ALL
  ? ['archive', 'bare', 'bare-user', 'bare-user-only']
  : ['archive'];
if (!ALL) console.log('other modes than archive from OSTREE_TS_TEST_SCALE=2 on');

const folder = scratch();
test.after.always(() => remove(folder));

/** Debian without its devices and caches of packages, which a commit cannot hold or need not. */
let tree = '';
test.before((t) => {
  t.timeout(1_500_000);
  tree = join(folder, 'debian');
  execFileSync('cp', ['-a', debianTree(), tree]);
  execFileSync('sh', ['-c', 'rm -rf "$0"/dev/* "$0"/var/cache/apt/archives/*.deb', tree]);
});

/** Installs two packages, and removes one of them again. */
function install(root: string): void {
  for (const name of ['hello', 'make']) {
    execFileSync('cp', [packageFile(debianTree(), name), join(root, 'root')]);
  }
  const script = `
    set -e
    mount -t proc proc ${root}/proc
    mount --rbind /dev ${root}/dev
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C chroot ${root} sh -ec '
      dpkg -i /root/hello_*.deb /root/make_*.deb
      hello
      dpkg --verify hello make
      dpkg --purge make
      rm /root/*.deb
    '`;
  const flags = ['--mount', '--propagation', 'private', 'sh', '-ec', script];
  const { stdout, stderr, status } = spawnSync('unshare', flags, { encoding: 'utf8' });
  if (status !== 0 || !stdout.includes('Hello, world!')) throw new Error(stderr);
}

/** What can happen to files, directories and symlinks. */
function change(root: string): void {
  const at = (path: string) => join(root, path);
  const set = (path: string, name: string, value: string) =>
    execFileSync('setfattr', ['-h', '-n', name, '-v', value, at(path)]);
  // Added.
  mkdirSync(at('opt/new/deep'), { recursive: true });
  writeFileSync(at('opt/new/deep/file'), noise(300_000, 'deep'));
  writeFileSync(at('opt/new/größe'), 'a name\n');
  writeFileSync(at('opt/new/setuid'), 'setuid\n');
  chmodSync(at('opt/new/setuid'), 0o6755);
  writeFileSync(at('opt/new/sparse'), '');
  truncateSync(at('opt/new/sparse'), 5_000_000);
  symlinkSync('deep/file', at('opt/new/link'));
  linkSync(at('opt/new/deep/file'), at('opt/new/linked'));
  // Changed: contents, length, permissions, owners, attributes.
  appendFileSync(at('etc/passwd'), 'new:x:1000:1000::/:/bin/sh\n');
  truncateSync(at('var/lib/dpkg/status'), 10_000);
  chmodSync(at('usr/bin/env'), 0o700);
  chmodSync(at('usr/share/doc'), 0o2750);
  lchownSync(at('usr/bin/id'), 1000, 1001);
  lchownSync(at('var/tmp'), 1000, 1001);
  lchownSync(at('etc/localtime'), 5, 6);
  set('usr/bin/ls', 'user.note', 'changed');
  set('usr/bin/cat', 'security.capability', '0x0100000200040000000000000000000000000000');
  set('usr/share', 'user.directory', 'd');
  // Removed.
  rmSync(at('usr/bin/yes'));
  rmSync(at('usr/share/man'), { recursive: true });
  rmSync(at('etc/dpkg/origins/default'));
  // Renamed.
  renameSync(at('usr/share/zoneinfo'), at('usr/share/zones'));
  renameSync(at('usr/bin/tac'), at('usr/bin/cat-backwards'));
  renameSync(at('usr/share/zones/UTC'), at('opt/new/UTC'));
  renameSync(at('bin'), at('bin-link'));
  renameSync(at('bin-link'), at('bin'));
  // Replaced by another type.
  rmSync(at('usr/bin/comm'));
  mkdirSync(at('usr/bin/comm'));
  writeFileSync(at('usr/bin/comm/inside'), 'inside\n');
  rmSync(at('usr/share/menu'), { recursive: true });
  writeFileSync(at('usr/share/menu'), 'a file now\n');
  rmSync(at('usr/share/bug'), { recursive: true });
  symlinkSync('doc', at('usr/share/bug'));
  rmSync(at('usr/bin/nl'));
  symlinkSync('cat', at('usr/bin/nl'));
  rmSync(at('etc/rc0.d'), { recursive: true });
  mkdirSync(at('etc/rc0.d'));
  writeFileSync(at('etc/rc0.d/only'), 'what is left\n');
}

async function ourDiff(session: Session): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, path } of session.diff()) {
    // Of what has become a directory the tool tells nothing below.
    if (!path.startsWith('/usr/bin/comm/')) {
      lines.push(`${kind} ${Buffer.from(path, 'latin1').toString()}`);
    }
  }
  return normalDiff(lines);
}

for (const mode of SOME) {
  test.serial(`${mode}: a session on Debian becomes the commit that the tool makes`, async (t) => {
    t.timeout(900_000);
    const { path: repo, commit } = commitTree(folder, mode, tree);
    {
      await using m = await mounted({ lower: 'main', unchecked: true, options: { repo } });
      const { session, mountpoint } = m;
      install(mountpoint);
      change(mountpoint);
      const result = await session.commit({ branch: 'kept', subject: 'kept' });
      t.is(result.parent, commit);
      t.log(`${result.files} files were read`);
      t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
      const keeps = mode !== 'bare-user-only';
      if (keeps) t.deepEqual(await ourDiff(session), theirDiff(repo, 'main', 'kept'));
      // Checked out it is the session's tree, times and links apart; committed again, the same once more.
      const out = join(folder, `out-${mode}`);
      ostree('checkout', `--repo=${repo}`, '--force-copy', 'kept', out);
      if (keeps) {
        const hand = m.hand(300_000);
        const found = await compareTrees(hand, '.', hand, out, { limit: 1_000_000 });
        const apart = /: (?:mtime|nlink|same|d_ino|sha256: (?:none|\w+ != none))/;
        t.deepEqual(found.filter((line) => !apart.test(line)).slice(0, 20), []);
      }
      ostree('commit', `--repo=${repo}`, '-b', 'again', `--tree=dir=${out}`);
      remove(out);
      t.is(rootOf(repo, 'again'), rootOf(repo, 'kept'));
      // The tool reads the mount file by file, and stores the same tree.
      ostree('commit', `--repo=${repo}`, '-b', 'theirs', `--tree=dir=${mountpoint}`);
      t.true(listing(repo, 'kept').equals(listing(repo, 'theirs')));
    }
    const other = join(folder, `pulled-${mode}`);
    ostree('init', `--repo=${other}`, `--mode=${mode}`);
    ostree('pull-local', `--repo=${other}`, repo, 'kept');
    t.regex(ostree('fsck', `--repo=${other}`).toString(), /no errors found/);
    t.true(listing(other, 'kept').equals(listing(repo, 'kept')));
    remove(other);
    remove(repo);
  });
}
