/**
 * A real operating system as a lower: Debian as debootstrap makes it (minbase), with the packages and the sources that
 * the tests install and build waiting in its caches, so that a second run needs no network. Made once, kept in the
 * tests' cache folder.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './hand.ts';

/** What `apt-get install` in a session installs. */
export const PACKAGES: readonly string[] = [
  'git',
  'gcc',
  'libc6-dev',
  'make',
  'sqlite3',
  'rsync',
  'python3-venv',
  'xz-utils',
  'bzip2',
  'hello',
];
/** A source package to unpack and build. */
export const SOURCE = 'zlib';

/** Raised when what is in the tree changes. */
const VERSION = 2;

/** @returns the tree's path. Needs root, debootstrap and, the first time, the network. */
export function debianTree(): string {
  const folder = join(cacheFolder(), `debian-${VERSION}-${process.arch}`);
  if (existsSync(folder)) return folder;
  // Of two suites that make it at once the second to be ready throws its own away.
  const draft = mkdtempSync(`${folder}.draft-`);
  chmodSync(draft, 0o755);
  const codename = /^VERSION_CODENAME=(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const suite = codename ?? 'bookworm';
  run('debootstrap', ['--variant=minbase', '--include=ca-certificates', suite, draft]);
  const mirror = 'http://deb.debian.org';
  const sources = [
    `deb ${mirror}/debian ${suite} main`,
    `deb-src ${mirror}/debian ${suite} main`,
    `deb ${mirror}/debian ${suite}-updates main`,
    `deb ${mirror}/debian-security ${suite}-security main`,
  ];
  writeFileSync(join(draft, 'etc/apt/sources.list'), `${sources.join('\n')}\n`);
  writeFileSync(join(draft, 'etc/resolv.conf'), readFileSync('/etc/resolv.conf'));
  mkdirSync(join(draft, 'root/source'));
  run('chroot', [
    draft,
    'sh',
    '-ec',
    `
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get -y --no-install-recommends --download-only install ${PACKAGES.join(' ')}
    apt-get -y --download-only upgrade
    cd /root/source && apt-get source --download-only ${SOURCE}
  `,
  ]);
  try {
    renameSync(draft, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
    rmSync(draft, { recursive: true });
  }
  return folder;
}

function run(program: string, args: string[]): void {
  execFileSync(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 900_000,
    // A TMPDIR of the host is no folder in the tree.
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
  });
}

/** The package file of `name` in the tree's cache. */
export function packageFile(tree: string, name: string): string {
  const folder = join(tree, 'var/cache/apt/archives');
  return execFileSync('sh', ['-c', `ls ${folder}/${name}_*.deb`], { encoding: 'utf8' }).trim();
}
