/**
 * Commits of a real operating system: a Debian tree in repositories that the real `ostree` wrote, in every mode. The
 * mount is what a checkout is, `ls` prints what `ostree ls` does, programs run, and the repository stays what it was.
 *
 * By default an archive repository only; all five modes from OSTREE_TS_TEST_SCALE=2 on.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { listTree } from '../helpers/checksum.ts';
import { compareListings, compareTrees } from '../helpers/compare.ts';
import { debianTree, packageFile } from '../helpers/debian.ts';
import { mounted, residentBytes } from '../helpers/mounted.ts';
import {
  MODES,
  type RepositoryMode,
  commitTree,
  ostree,
  remove,
  scratch,
} from '../helpers/repositories.ts';
import { PROGRAM } from '../helpers/program.ts';

const ALL = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) >= 2;
const SOME: readonly RepositoryMode[] = ALL ? MODES : ['archive'];

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

/** A checkout that shares nothing with the repository; all times 0, as a commit has them. */
function checkOut(repo: string, commit: string, path: string): void {
  ostree('checkout', `--repo=${repo}`, '--force-copy', commit, path);
  execFileSync('find', [path, '-depth', '-exec', 'touch', '-h', '-d', '@0', '{}', '+']);
}

/** What `ostree-ts ls -RCX` prints. */
function listing(repo: string): string {
  const args = [PROGRAM, 'ls', `--repo=${repo}`, '-RCX', 'main'];
  return execFileSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
}

for (const mode of SOME) {
  test.serial(`${mode}: the mount of a system is what a checkout is`, async (t) => {
    t.timeout(600_000);
    const { path: repo, commit } = commitTree(folder, mode, tree);
    const checkout = join(folder, `checkout-${mode}`);
    checkOut(repo, commit, checkout);
    const before = await listTree(repo);
    {
      await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
      const hand = session.hand(300_000);
      t.deepEqual(await compareTrees(hand, '.', hand, checkout), []);
    }
    const ours = listing(repo);
    t.true(ours.length > 500_000, `${ours.length}`);
    t.true(ours === ostree('ls', `--repo=${repo}`, '-RCX', 'main').toString());
    t.deepEqual(compareListings(before, await listTree(repo)), []);
    remove(checkout);
    if (mode !== 'archive') remove(repo);
  });
}

test.serial('a package is installed in a chroot into a commit of an archive', async (t) => {
  t.timeout(300_000);
  const repo = join(folder, 'archive');
  const before = await listTree(repo);
  const deb = packageFile(debianTree(), 'hello');
  {
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    const root = session.mountpoint;
    execFileSync('cp', [deb, join(root, 'root')]);
    const script = `
      set -e
      mount -t proc proc ${root}/proc
      mount --rbind /dev ${root}/dev
      exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C chroot ${root} sh -ec '
        dpkg -i /root/${basename(deb)}
        hello
        dpkg --verify hello
        dpkg --audit
        perl -e "print 6 * 7"
        ls -R / > /tmp/everything
      '`;
    const { stdout, stderr, status } = spawnSync(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-ec', script],
      { encoding: 'utf8' },
    );
    t.is(status, 0, stderr);
    t.regex(stdout, /Hello, world!\n42$/);
    t.true(readFileSync(join(root, 'tmp/everything'), 'utf8').length > 100_000);
    // Everything is read, and what is kept of it is bounded by the cache of inflated objects, which is no heap.
    execFileSync('sh', ['-c', `find ${root} -xdev -type f -print0 | xargs -0 cat > /dev/null`]);
    const { pid } = await session.session.status();
    const resident = residentBytes(pid ?? 0);
    t.log(`resident after reading all: ${Math.round(resident / 2 ** 20)} MiB`);
    t.true(resident < 200 * 2 ** 20, `${resident}`);
  }
  t.deepEqual(compareListings(before, await listTree(repo)), []);
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
});
