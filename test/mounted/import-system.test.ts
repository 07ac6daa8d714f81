/**
 * A whole operating system as an image: made by umoci, imported, unlocked, worked in, exported on top of itself and unpacked
 * again. From OSTREE_TS_TEST_SCALE=2 on, since it reads and writes some hundred megabytes several times.
 */
import test from 'ava';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { importImage, type Session, unlock } from '../../src/index.ts';
import { compareTrees } from '../helpers/compare.ts';
import { debianTree } from '../helpers/debian.ts';
import { Hand } from '../helpers/hand.ts';
import { must, umociImage, unpack } from '../helpers/oci.ts';
import { ostree, remove, scratch } from '../helpers/repositories.ts';

const LONG = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) >= 2;

/**
 * Differences of two trees, names and numbers of links and times apart, which a commit does not have, and devices, which
 * it cannot hold. A name that another shares its contents with has them under the first name in one tree only.
 */
async function differences(
  a: string,
  b: string,
  apart: RegExp = /: (?:mtime|nlink|same|sha256: (?:none|\w+ != none)|d_ino)/,
): Promise<string[]> {
  await using hand = new Hand({ cwd: '/', timeoutMs: 600_000 });
  await using other = new Hand({ cwd: '/', timeoutMs: 600_000 });
  const found = await compareTrees(hand, a, other, b, { limit: 10_000 });
  return found.filter((line) => !apart.test(line));
}

/** As above, but what the session has changed, which has times, has the same in both. Times alone are no change. */
async function differencesButTimes(session: Session, a: string, b: string): Promise<string[]> {
  const changed = new Set<string>();
  for await (const { path } of session.diff()) changed.add(path.slice(1));
  const apart = /: (?:nlink|same|sha256: (?:none|\w+ != none)|d_ino)/;
  const found = await differences(a, b, apart);
  return found.filter((line) => {
    const [path = '', field] = line.split(': ');
    return field !== 'mtime' || changed.has(path);
  });
}

const run = LONG ? test : test.skip;
if (!LONG) console.log('an image of Debian is imported from OSTREE_TS_TEST_SCALE=2 on');

run(
  'Debian as an image: imported, unlocked, a package installed, exported, unpacked',
  async (t) => {
    t.timeout(1_200_000);
    const folder = scratch();
    t.teardown(() => remove(folder));
    const layout = join(folder, 'layout');
    umociImage(debianTree(), layout, 'one');
    const repo = join(folder, 'repo');
    ostree('init', `--repo=${repo}`, '--mode=bare');
    const before = process.memoryUsage().rss;
    const result = await importImage({ image: `oci:${layout}:one`, repo, branch: 'debian' });
    const grown = Math.round((process.memoryUsage().rss - before) / (1 << 20));
    t.log(
      `${result.files} files in ${result.directories} directories; memory grew by ${grown} MiB`,
    );
    ostree('fsck', `--repo=${repo}`);
    const mountpoint = join(folder, 'mnt');
    mkdirSync(mountpoint);
    await using session = await unlock({ repo, source: ['debian'], mountpoint });
    const expected = unpack(layout, 'one', join(folder, 'expected'));
    for (const { path } of result.skipped) rmSync(join(expected, path));
    t.deepEqual(await differences(mountpoint, expected), []);
    const installed = spawnSync(
      'chroot',
      [
        mountpoint,
        'sh',
        '-ec',
        'dpkg -i /var/cache/apt/archives/hello_*.deb; hello; ln /usr/bin/hello /usr/bin/also-hello; rm -r /usr/share/man',
      ],
      { encoding: 'utf8', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
    );
    t.is(installed.status, 0, installed.stderr);
    t.regex(installed.stdout, /Hello, world!/);
    await session.export({
      format: 'oci-image',
      base: `oci:${layout}:one`,
      output: layout,
      tag: 'two',
    });
    const again = unpack(layout, 'two', join(folder, 'again'));
    for (const { path } of result.skipped) rmSync(join(again, path), { force: true });
    t.deepEqual(await differencesButTimes(session, mountpoint, again), []);
    const [hello, other] = ['hello', 'also-hello'].map((name) =>
      statSync(join(again, 'usr/bin', name)),
    );
    t.is(hello?.nlink, 2);
    t.is(hello?.ino, other?.ino);
    must('skopeo', 'inspect', `oci:${layout}:two`);
  },
);
