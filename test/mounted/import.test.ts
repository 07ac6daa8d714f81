/** Images become commits; the real tools say what their trees are. */
import test from 'ava';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { importImage, unlock } from '../../src/index.ts';
import { compress } from '../../src/oci/compression.ts';
import { type TarEntry, tarEntry } from '../../src/oci/tar.ts';
import { writeTar } from '../../src/oci/tar-writer.ts';
import { compareTrees } from '../helpers/compare.ts';
import { Hand } from '../helpers/hand.ts';
import { must, unpack } from '../helpers/oci.ts';
import { ostree, plantEverything, remove, scratch } from '../helpers/repositories.ts';

/** Differences of two trees; a commit has no times of files, and no links. */
async function differences(a: string, b: string): Promise<string[]> {
  await using hand = new Hand({ cwd: '/' });
  await using other = new Hand({ cwd: '/' });
  const found = await compareTrees(hand, a, other, b, { limit: 1000 });
  return found.filter((line) => !/: (?:mtime|nlink|link|linked|group|d_ino)/.test(line));
}

function newRepository(folder: string, mode: string): string {
  const repo = join(folder, `repo-${mode}`);
  ostree('init', `--repo=${repo}`, `--mode=${mode}`);
  return repo;
}

/** A layout with an image of layers that umoci made: one of everything, one of changes. */
function makeImage(folder: string): string {
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  plantEverything(tree, { many: 50 });
  // In a commit this name means a whiteout.
  rmSync(join(tree, 'usr/share/.ostree-wh.gone'));
  const layout = join(folder, 'layout');
  const image = `${layout}:one`;
  must('umoci', 'init', '--layout', layout);
  must('umoci', 'new', '--image', image);
  must('umoci', 'insert', '--image', image, tree, '/');
  const bundle = join(folder, 'work');
  const rootfs = unpack(layout, 'one', bundle);
  rmSync(join(rootfs, 'usr/many'), { recursive: true });
  rmSync(join(rootfs, 'usr/lib/large.bin'));
  mkdirSync(join(rootfs, 'usr/many'));
  writeFileSync(join(rootfs, 'usr/many/new'), 'new\n');
  must('ln', join(rootfs, 'usr/many/new'), join(rootfs, 'usr/lib/linked'));
  must('mknod', join(rootfs, 'usr/lib/null'), 'c', '1', '3');
  must('mkfifo', join(rootfs, 'usr/lib/fifo'));
  must('umoci', 'repack', '--image', `${layout}:two`, bundle);
  return layout;
}

test('an image of umoci’s, imported and unlocked, is the tree that umoci unpacks', async (t) => {
  const folder = scratch();
  t.teardown(() => remove(folder));
  const layout = makeImage(folder);
  const expected = unpack(layout, 'two', join(folder, 'expected'));
  // What a commit cannot hold, links among it.
  rmSync(join(expected, 'usr/many/new'));
  must('cp', '-p', join(expected, 'usr/lib/linked'), join(expected, 'usr/many/new'));
  for (const name of ['null', 'fifo']) rmSync(join(expected, 'usr/lib', name));
  for (const mode of ['bare', 'archive', 'bare-user']) {
    const repo = newRepository(folder, mode);
    const options = { image: `oci:${layout}:two`, repo, branch: 'test/image' };
    const result = await importImage(options);
    t.deepEqual(
      result.skipped.map(({ path, kind }) => `${path} ${kind}`),
      ['/usr/lib/fifo fifo', '/usr/lib/null character device'],
    );
    ostree('fsck', `--repo=${repo}`);
    t.is(ostree('rev-parse', `--repo=${repo}`, 'test/image').toString().trim(), result.commit);
    const mountpoint = join(folder, `mnt-${mode}`);
    mkdirSync(mountpoint);
    await using session = await unlock({ repo, source: ['test/image'], mountpoint });
    t.deepEqual(await differences(mountpoint, expected), [], mode);
    t.true((await importImage(options)).isUnchanged);
    if (mode !== 'bare') continue;
    // Changed, and on top of the image it came from.
    writeFileSync(join(mountpoint, 'usr/lib/private'), 'changed\n');
    rmSync(join(mountpoint, 'usr/share'), { recursive: true });
    mkdirSync(join(mountpoint, 'opt/new'), { recursive: true });
    await session.export({
      format: 'oci-image',
      base: `oci:${layout}:two`,
      output: layout,
      tag: 'three',
    });
    const again = unpack(layout, 'three', join(folder, 'again'));
    for (const name of ['null', 'fifo']) rmSync(join(again, 'usr/lib', name));
    rmSync(join(again, 'usr/many/new'));
    must('cp', '-p', join(again, 'usr/lib/linked'), join(again, 'usr/many/new'));
    t.deepEqual(await differences(mountpoint, again), []);
  }
});

test('layers of zstd and tar, and archives, are the same commit’s tree', async (t) => {
  const folder = scratch();
  t.teardown(() => remove(folder));
  const layout = makeImage(folder);
  const repo = newRepository(folder, 'archive');
  const copies = [`oci:${layout}:two`];
  for (const how of ['zstd', 'gzip']) {
    const copy = `oci:${join(folder, how)}:x`;
    must('skopeo', 'copy', '--dest-compress-format', how, '--dest-compress', copies[0]!, copy);
    copies.push(copy);
  }
  const archive = `oci-archive:${join(folder, 'archive.tar')}:x`;
  must('skopeo', 'copy', copies[0]!, archive);
  copies.push(archive);
  const trees = new Set<string>();
  for (const image of copies) {
    const { commit } = await importImage({ image, repo, branch: 'b', timestamp: 1 });
    trees.add(ostree('ls', `--repo=${repo}`, '-dC', commit).toString());
  }
  t.is(trees.size, 1);
});

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** A layout with one layer, made by hand; `spoil` changes what is written. */
async function handMade(
  folder: string,
  entries: Partial<TarEntry>[],
  spoil: (tar: Buffer) => Buffer = (tar) => tar,
): Promise<string> {
  const parts: Uint8Array[] = [];
  const inputs = entries.map(({ path = 'x', ...given }) => ({
    entry: { ...tarEntry('file', path), ...given },
  }));
  for await (const part of writeTar(inputs)) parts.push(part);
  const tar = spoil(Buffer.concat(parts));
  const packed: Uint8Array[] = [];
  for await (const part of compress('gzip', [tar])) packed.push(part);
  const layout = join(folder, 'hand-made');
  rmSync(layout, { recursive: true, force: true });
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  const add = (bytes: Buffer, mediaType: string) => {
    const hex = execFileSync('sha256sum', { input: bytes }).toString().slice(0, 64);
    writeFileSync(join(layout, 'blobs/sha256', hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const type = 'application/vnd.oci.image';
  const diffId = `sha256:${execFileSync('sha256sum', { input: tar }).toString().slice(0, 64)}`;
  const config = add(
    json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [diffId] } }),
    `${type}.config.v1+json`,
  );
  const layers = [add(Buffer.concat(packed), `${type}.layer.v1.tar+gzip`)];
  const manifest = add(json({ schemaVersion: 2, config, layers }), `${type}.manifest.v1+json`);
  writeFileSync(join(layout, 'index.json'), json({ schemaVersion: 2, manifests: [manifest] }));
  writeFileSync(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
  return layout;
}

test('a hostile or damaged image is refused by name, and the repository stays as it was', async (t) => {
  const folder = scratch();
  t.teardown(() => remove(folder));
  const repo = newRepository(folder, 'bare-user');
  const before = must('find', repo, '-printf', '%p %s\n');
  const refuses = async (layout: string, message: RegExp) => {
    await t.throwsAsync(importImage({ image: `oci:${layout}`, repo, branch: 'b' }), { message });
    t.is(must('find', repo, '-printf', '%p %s\n'), before);
  };
  await refuses(await handMade(folder, [{ path: '/etc/x' }]), /'\/etc\/x', which is absolute/);
  await refuses(await handMade(folder, [{ path: '../x' }]), /leads upwards/);
  await refuses(await handMade(folder, [{}, {}]), /x is in the layer twice/);
  await refuses(await handMade(folder, [{ path: '\xff' }]), /is not UTF-8/);
  const symlink = async (target: string) => handMade(folder, [{ kind: 'symlink', target }]);
  await refuses(await symlink('\xff'), /x has a target that is not UTF-8/);
  await refuses(await symlink(''), /x has an empty target/);
  await refuses(await symlink('x'.repeat(4096)), /x has a target over 4095 bytes/);
  for (const [name, size] of [
    ['name', 1],
    ['.name', 1],
    ['user.', 1],
    [`user.${'n'.repeat(251)}`, 1],
    ['user.large', 65537],
  ] as const) {
    const xattrs = new Map([[name, Buffer.alloc(size, 1)]]);
    await refuses(await handMade(folder, [{ xattrs }]), /x has the attribute '[\w.]*', which/);
    const root = { kind: 'directory', path: '.', xattrs } as const;
    await refuses(await handMade(folder, [root]), /\/ has the attribute/);
  }
  const xattrs = new Map([['user.name', Buffer.from('1')]]);
  await refuses(
    await handMade(folder, [{ kind: 'symlink', target: 'x', xattrs }]),
    /x has the attribute 'user.name' on a symlink/,
  );
  await refuses(
    await handMade(folder, [{}], (tar) => tar.subarray(0, 600)),
    /cannot be read: it is truncated/,
  );
  const layout = await handMade(folder, [{ path: 'fine' }]);
  const blobs = join(layout, 'blobs/sha256');
  const gzip = readdirSync(blobs).find((name) => readFileSync(join(blobs, name))[0] === 0x1f);
  const whole = readFileSync(join(blobs, gzip ?? ''));
  writeFileSync(join(blobs, gzip ?? ''), whole.subarray(0, whole.length - 4));
  await refuses(layout, /not what its digest says|compressed data is damaged/);
  rmSync(join(blobs, gzip ?? ''));
  await refuses(layout, /the blob sha256:.* is missing/);
  await refuses(folder, /is no OCI image layout/);
  await refuses(join(folder, 'none'), /does not exist/);
});
