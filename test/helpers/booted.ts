/**
 * An OSTree host that one can boot: a sysroot and deployments made by the real `ostree`, run in mount and process namespaces
 * of their own as ostree-prepare-root arranges them. It reboots as a machine that loses power: everything that runs is
 * killed, /run is empty, and the deployment of the boot loader's first entry is mounted anew, a hotfix by kernel overlayfs.
 * To be used in a sandbox.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cacheFolder } from './hand.ts';

/** What a host of tests has in /usr/bin, with the libraries of these. */
const PROGRAMS = (
  'bash sh cat ls mkdir rm rmdir mv cp ln touch sleep stat chmod chown env true false sync readlink head sha256sum find id ' +
  'sort cmp xargs grep sed mount umount unshare nsenter findmnt setpriv chattr lsattr getfattr setfattr ostree strace'
).split(' ');

export const STATEROOT = 'test';
export const BRANCH = 'test/main';

/** Becomes the first process of the host. $1: the sysroot, $2: `ro` for a read-only /sysroot, $3: the boot entry chosen. */
const BOOT = `
set -e
exec 2>&1
root=/mnt; sysroot=$1
argument=$(for entry in "$sysroot"/boot/loader/entries/*.conf; do
  echo "$(sed -n 's/^version //p' "$entry") $(grep -o 'ostree=[^ ]*' "$entry")"
done | sort -rn | sed -n "$(($3 + 1))p")
deployment=$(readlink -f "$sysroot/\${argument#*ostree=}")
stateroot=$(basename "$(dirname "$(dirname "$deployment")")")
mount --make-rprivate /
mount --bind "$sysroot" "$sysroot"
mount --bind "$deployment" "$root"
cd "$deployment"
if [ -e .usr-ovl-work ]; then
  mount -t overlay overlay -o lowerdir=usr,upperdir=.usr-ovl-upper,workdir=.usr-ovl-work "$root/usr"
else
  mount --bind usr "$root/usr"
  mount -o remount,bind,ro "$root/usr"
fi
mount --bind "$sysroot" "$root/sysroot"
[ "$2" != ro ] || mount -o remount,bind,ro "$root/sysroot"
mount --bind "$sysroot/ostree/deploy/$stateroot/var" "$root/var"
mount --bind "$sysroot/boot" "$root/boot"
[ "$2" != ro ] || mount -o remount,bind,ro "$root/boot"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /sys "$root/sys"
mkdir "$root/run/outer" "$root/run/outer/package"
touch "$root/run/outer/node" "$root/run/ostree-booted"
mount --bind "$PACKAGE" "$root/run/outer/package"
mount --bind "$NODE" "$root/run/outer/node"
mkdir "$root/run/outer/old"
cd "$root"
pivot_root . run/outer/old
cd /
umount -l /run/outer/old
rmdir /run/outer/old
mount --make-rshared /
echo booted
while read -r line; do :; done
`;

export interface BootOptions {
  /** How /sysroot and /boot are mounted. */
  sysroot?: 'ro' | 'rw';
  /** What is chosen in the boot loader's menu. */
  entry?: number;
}

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

export class BootedHost {
  /** The path of the sysroot outside. */
  readonly sysroot: string;
  #machine: ChildProcess | undefined;
  /** Of its first process, outside. */
  first = 0;

  /** Makes a sysroot in `folder` and deploys `tree`; it is not booted yet. */
  constructor(folder: string, tree: string) {
    this.sysroot = join(folder, 'sysroot');
    mkdirSync(this.sysroot, { recursive: true });
    ostree('admin', 'init-fs', this.sysroot);
    ostree('admin', 'os-init', `--sysroot=${this.sysroot}`, STATEROOT);
    this.commit(tree);
    ostree('admin', 'deploy', `--sysroot=${this.sysroot}`, `--os=${STATEROOT}`, BRANCH);
  }

  /** A new commit of the host's branch. */
  commit(tree: string): void {
    const repo = join(this.sysroot, 'ostree/repo');
    ostree(`--repo=${repo}`, 'commit', `--branch=${BRANCH}`, `--tree=dir=${tree}`, '--no-bindings');
  }

  /** Resolves when the host runs. @throws Error with what was printed. */
  async boot({ sysroot = 'rw', entry = 0 }: BootOptions = {}): Promise<void> {
    const flags = ['--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private'];
    const machine = spawn(
      'unshare',
      [...flags, 'bash', '--norc', '-c', BOOT, 'init', this.sysroot, sysroot, String(entry)],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: {
          PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
          PACKAGE: '/run/package',
          NODE: process.execPath,
        },
      },
    );
    let said = '';
    await new Promise<void>((resolve, reject) => {
      machine.once('exit', () => reject(new Error(`the host does not boot: ${said}`)));
      machine.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('booted\n')) resolve();
      });
    });
    this.#machine = machine;
    this.first = Number(readFileSync(`/proc/${machine.pid}/task/${machine.pid}/children`, 'utf8'));
  }

  /** Cuts the power. */
  async crash(): Promise<void> {
    const machine = this.#machine;
    if (machine === undefined) return;
    this.#machine = undefined;
    const ended = new Promise((resolve) => machine.once('exit', resolve));
    process.kill(this.first, 'SIGKILL');
    await ended;
  }

  async reboot(options: BootOptions = {}): Promise<void> {
    await this.crash();
    await this.boot(options);
  }

  /** Runs a program of the host to its end. */
  try(command: string, ...args: string[]): Ran {
    return this.#run([command, ...args], {});
  }

  #run(words: string[], env: Record<string, string>): Ran {
    const { status, stdout, stderr, error } = spawnSync(
      'nsenter',
      [`--target=${this.first}`, '--mount', '--pid', '--root', '--wdns=/', '--', ...words],
      {
        encoding: 'utf8',
        timeout: 60_000,
        env: {
          OSTREE_TS_COLD: process.env['OSTREE_TS_COLD'],
          PATH: '/usr/bin:/usr/sbin',
          ...env,
        },
      },
    );
    if (error !== undefined) throw error;
    return { status, stdout, stderr };
  }

  /** A script, in the host's own shell. @returns what it prints. @throws Error unless it succeeds. */
  sh(script: string): string {
    return succeed(script, this.try('bash', '--norc', '-ec', script)).trim();
  }

  /** Our command, as typed on the host. */
  tryOurs(args: string[], env: Record<string, string> = {}): Ran {
    return this.#run([...OURS, ...args], env);
  }

  /** @returns what it prints on stdout. @throws Error unless it succeeds. */
  ours(...args: string[]): string {
    return succeed(`ostree-ts ${args.join(' ')}`, this.tryOurs(args)).trim();
  }

  /** As JSON objects, one a line. */
  status(): Record<string, unknown>[] {
    const lines = this.ours('status', '--json').split('\n');
    return lines
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** What the real tool says of the booted deployment: `none`, `development`, `transient`, `hotfix`. */
  ostreeSays(): string {
    const text = this.sh('ostree admin status');
    const [, booted = ''] = /^\* (.*(?:\n {4}.*)*)/m.exec(text) ?? [];
    return /^ {4}Unlocked: (\w+)$/m.exec(booted)?.[1] ?? 'none';
  }

  /** Checksum of /usr of the first deployment of each commit, as it lies on disk: names, attributes, contents. */
  base(): string {
    const script = `
      cd "$1"/ostree/deploy/${STATEROOT}/deploy
      find *.0/usr -printf '%p %y %m %U %G %s %T@ %l\\n' | sort
      find *.0/usr -type f -print0 | sort -z | xargs -0 sha256sum`;
    const output = execFileSync('sh', ['-ec', script, 'base', this.sysroot], {
      maxBuffer: 1 << 28,
    });
    return createHash('sha256').update(output).digest('hex');
  }

  /** /usr as the host sees it: names, attributes, contents. */
  usr(): string {
    return this.sh(`
      cd /usr
      find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l\\n' | sort
      find . -type f -print0 | sort -z | xargs -0 sha256sum`);
  }

  /** What our status says of the booted deployment. */
  booted(): Record<string, unknown> {
    const found = this.status().find(({ booted }) => booted === true);
    if (found === undefined) throw new Error('status shows no booted deployment');
    return found;
  }

  /**
   * Everything that a refused or failed command must leave as it was: mounts, processes, /run, and the sysroot but for what
   * names the boot entries, which a deployment made and unmade exchanges.
   */
  everything(): string {
    return this.sh(`
      sed 's/^[0-9]* [0-9]* [^ ]* //; s/shared:[0-9]*//; s/master:[0-9]*//' /proc/self/mountinfo
      for exe in /proc/[0-9]*/exe; do readlink "$exe" || true; done | grep -v '^/usr/bin' | sort
      find /run -path /run/outer -prune -o -printf '%p %y %m %s\\n' | sort
      cd /sysroot
      find . -path ./ostree/repo -prune -o -path './ostree/boot.*' -prune -o -path './boot/loader*' -prune -o \\
        -printf '%p %y %m %U %G %l\\n' | sort
      cat ostree/deploy/*/deploy/*.origin
      lsattr -d ostree/deploy/*/deploy/*.[0-9]
      ostree admin status`);
  }

  /** Path of the booted deployment on the host. */
  deployment(): string {
    return this.sh(`
      for path in /sysroot/ostree/deploy/*/deploy/*.[0-9]; do
        [ "$(stat -c %d:%i "$path")" != "$(stat -c %d:%i /)" ] || echo "$path"
      done
    `);
  }

  /** Our command, as words. */
  static readonly ours: readonly string[] = [
    '/run/outer/node',
    '/run/outer/package/build/bundle/cli/main.cjs',
  ];
}

const OURS = BootedHost.ours;

function succeed(what: string, { status, stdout, stderr }: Ran): string {
  if (status === 0) return stdout;
  throw new Error(`${what}: exit ${status}: ${stderr}${stdout}`);
}

function ostree(...args: string[]): void {
  execFileSync('ostree', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A small tree that boots: PROGRAMS and their libraries. Made once for each set of them. @returns its path. */
export function smallTree(): string {
  const programs = PROGRAMS.map(whereIs);
  const hash = createHash('sha256').update(BOOT);
  for (const path of [...programs, process.execPath]) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path} ${size} ${mtimeMs}\n`);
  }
  const tree = join(cacheFolder(), `booted-${process.arch}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(tree)) return tree;
  // Tests that start together make one each.
  const draft = mkdtempSync(`${tree}.`);
  chmodSync(draft, 0o755);
  mkdirSync(join(draft, 'usr/bin'), { recursive: true });
  addPrograms(draft, PROGRAMS);
  symlinkSync('usr/bin', join(draft, 'bin'));
  makeBootable(draft);
  writeFileSync(join(draft, 'usr/bin/suid'), '#!/bin/sh\n', { mode: 0o4755 });
  mkdirSync(join(draft, 'usr/share/doc'), { recursive: true });
  writeFileSync(join(draft, 'usr/share/doc/text'), 'as delivered\n');
  if (existsSync(tree)) rmSync(draft, { recursive: true });
  else renameSync(draft, tree);
  return tree;
}

/** Adds to a tree programs of the machine, and what they and Node need. */
export function addPrograms(tree: string, names: readonly string[]): void {
  const programs = names.map(whereIs);
  for (const path of programs) cpSync(realpathSync(path), join(tree, 'usr/bin', basename(path)));
  addLibraries(tree, [...programs, process.execPath]);
}

/** Adds to a tree the libraries that these programs of the machine need, where they are looked for. */
export function addLibraries(tree: string, programs: string[]): void {
  const printed = execFileSync('ldd', programs, { encoding: 'utf8' });
  const paths = new Set(printed.match(/\/\S*\.so\S*/g));
  for (const path of paths) {
    // The directory may be a symlink there and here: files go to where it leads.
    const place = join(tree, path.startsWith('/usr/') ? path : `/usr${path}`);
    mkdirSync(dirname(place), { recursive: true });
    if (!existsSync(place)) cpSync(realpathSync(path), place);
  }
}

/** Makes an OSTree host of a tree: what is missing of the top directories, a kernel to be deployed, /etc in /usr/etc. */
export function makeBootable(tree: string): void {
  for (const name of [
    'boot',
    'dev',
    'home',
    'proc',
    'root',
    'run',
    'sys',
    'sysroot',
    'tmp',
    'var',
  ]) {
    mkdirSync(join(tree, name), { recursive: true });
  }
  for (const name of readdirSync(join(tree, 'usr'))) {
    if (!name.startsWith('lib') || existsSync(join(tree, name))) continue;
    symlinkSync(`usr/${name}`, join(tree, name));
  }
  symlinkSync('sysroot/ostree', join(tree, 'ostree'));
  if (existsSync(join(tree, 'etc'))) renameSync(join(tree, 'etc'), join(tree, 'usr/etc'));
  mkdirSync(join(tree, 'usr/etc'), { recursive: true });
  rmSync(join(tree, 'usr/etc/os-release'), { force: true });
  writeFileSync(join(tree, 'usr/etc/os-release'), 'NAME=Test\nID=test\nPRETTY_NAME="Test 1"\n');
  writeFileSync(join(tree, 'usr/etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  const modules = join(tree, 'usr/lib/modules/5.0');
  mkdirSync(modules, { recursive: true });
  writeFileSync(join(modules, 'vmlinuz'), 'a kernel');
  writeFileSync(join(modules, 'initramfs.img'), 'an initramfs');
}

function whereIs(program: string): string {
  const folders = (process.env['PATH'] ?? '').split(':');
  const found = [...folders, '/usr/sbin', '/sbin']
    .map((folder) => join(folder, program))
    .find(existsSync);
  if (found === undefined) throw new Error(`${program} is not installed`);
  return found;
}
