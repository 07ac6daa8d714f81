/** Those we are compared with: each shows a lower, writable, with an upper that is memory. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CannotDo, NO_USAGE, run, type Usage, usageOf } from './process.ts';

/** A fresh mount. */
export interface Place extends AsyncDisposable {
  /** Where the lower is seen. */
  readonly root: string;
  /** A new folder, in which files may be made. */
  scratch(): string;
  /** Of the process that serves it; nothing where that is the kernel. */
  usage(): Usage;
  /** The command that has the lower seen at `root`, where that is what is measured. */
  readonly begin?: readonly string[];
  /** The repository that is written to, where that is what is measured. */
  readonly repo?: string;
  /** Bytes that it holds for the session, where that should be no more than what was changed. */
  held?(): Promise<number>;
}

export interface Peer {
  readonly name: string;
  /** Why it cannot be measured here; `undefined` when it can. */
  missing(): string | undefined;
  /**
   * @param lower   ours and overlayfs take several, with colons between.
   * @param folder  on a tmpfs; for uppers, work directories and mountpoints.
   */
  open(lower: string, folder: string): Promise<Place>;
}

const MOUNT_MS = 10_000;

/** Nothing over the lower: what there is to lose. Its new files are made on the tmpfs. */
export const plain: Peer = {
  name: 'plain',
  missing: () => undefined,
  open: (lower, folder) =>
    Promise.resolve({
      root: lower,
      scratch: () => newFolder(folder),
      usage: () => NO_USAGE,
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
};

export const overlayfs: Peer = {
  name: 'overlayfs',
  missing() {
    const known = readFileSync('/proc/filesystems', 'utf8').includes('\toverlay\n');
    return known || spawnSync('modprobe', ['overlay']).status === 0
      ? undefined
      : 'this kernel has no overlayfs';
  },
  async open(lower, folder) {
    const { mountpoint, upper, work } = folders(folder);
    const paths = lower.split(':');
    // Relative: all paths together must fit into a page.
    const cwd = dirname(paths[0] ?? '/');
    const lowers = paths.map((path) => relative(cwd, path)).join(':');
    const options = `lowerdir=${lowers},upperdir=${upper},workdir=${work}`;
    await run('mount', ['-t', 'overlay', 'overlay', '-o', options, mountpoint], { cwd });
    return {
      root: mountpoint,
      scratch: () => newFolder(mountpoint),
      usage: () => NO_USAGE,
      [Symbol.asyncDispose]: () => unmount(mountpoint),
    };
  },
};

const fuseOverlayfs: Peer = served('fuse-overlayfs', 'fuse-overlayfs', (lower, folder) => {
  const { mountpoint, upper, work } = folders(folder);
  return ['-f', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, mountpoint];
});

const unionfs: Peer = served('unionfs-fuse', 'unionfs', (lower, folder) => {
  const { mountpoint, upper } = folders(folder);
  return ['-f', '-o', 'cow,allow_other,suid,dev', `${upper}=RW:${lower}=RO`, mountpoint];
});

/** It writes into what it shows: the lower is read-only here, so new files are made in a second one, of a tmpfs. */
const rofiles: Peer = {
  ...served('rofiles-fuse', 'rofiles-fuse', () => []),
  async open(lower, folder) {
    const own = join(folder, 'own');
    mkdirSync(own);
    const show = (path: string, at: string) => {
      mkdirSync(at);
      const words = ['-f', '-o', 'allow_other,suid,dev', path, at];
      return served('rofiles-fuse', 'rofiles-fuse', () => words).open(path, folder);
    };
    const shown = await show(lower, join(folder, 'mnt'));
    const made = await show(own, join(folder, 'new'));
    return {
      root: shown.root,
      scratch: () => newFolder(made.root),
      usage() {
        const [one, other] = [shown.usage(), made.usage()];
        return { cpuMs: one.cpuMs + other.cpuMs, bytes: one.bytes + other.bytes };
      },
      async [Symbol.asyncDispose]() {
        await made[Symbol.asyncDispose]();
        await shown[Symbol.asyncDispose]();
      },
    };
  },
};

/** In the order of the report. */
export const PEERS: readonly Peer[] = [plain, overlayfs, fuseOverlayfs, unionfs, rofiles];

/** A peer that is a program, in the foreground so that its process is known. */
function served(
  name: string,
  program: string,
  words: (lower: string, folder: string) => string[],
): Peer {
  return {
    name,
    missing: () =>
      spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
        ? undefined
        : `${program} is not installed`,
    async open(lower, folder) {
      const args = words(lower, folder);
      const mountpoint = args.at(-1) ?? '';
      const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
      let complaint = '';
      child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
      const exit = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      const close = async () => {
        await unmount(mountpoint);
        const timer = setTimeout(() => child.kill('SIGKILL'), MOUNT_MS);
        await exit;
        clearTimeout(timer);
      };
      if (!(await appears(mountpoint, child))) {
        await close();
        throw new CannotDo(`${name} did not mount: ${complaint.trim().split('\n').at(-1)}`);
      }
      return {
        root: mountpoint,
        scratch: () => newFolder(mountpoint),
        usage: () => usageOf(child.pid ?? 0),
        [Symbol.asyncDispose]: close,
      };
    },
  };
}

/** Waits for a mount, as long as whoever mounts it lives. */
async function appears(mountpoint: string, child: ChildProcess): Promise<boolean> {
  for (let waited = 0; waited < MOUNT_MS; waited += 10) {
    if (isMounted(mountpoint)) return true;
    if (child.exitCode !== null || child.signalCode !== null) return false;
    await sleep(10);
  }
  child.kill('SIGKILL');
  return false;
}

function isMounted(mountpoint: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountpoint} `);
}

/** Unmounts, whether anything is mounted there or not. */
export async function unmount(mountpoint: string): Promise<void> {
  for (let attempt = 0; isMounted(mountpoint); attempt++) {
    const lazily = attempt < 5 ? [] : ['-l'];
    await run('umount', [...lazily, mountpoint], { uninterrupted: true }).catch(
      (error: unknown) => {
        if (attempt > 5) throw error;
      },
    );
    if (isMounted(mountpoint)) await sleep(50);
  }
}

function folders(folder: string): { mountpoint: string; upper: string; work: string } {
  const [mountpoint, upper, work] = ['mnt', 'upper', 'work'].map((name) => join(folder, name));
  for (const path of [mountpoint, upper, work]) mkdirSync(path!);
  return { mountpoint: mountpoint!, upper: upper!, work: work! };
}

export function newFolder(parent: string): string {
  return mkdtempSync(join(parent, 'new-'));
}

/** Opens a place, gives it to `use`, and removes every trace of it. */
export async function withPlace<T>(
  peer: Peer,
  lower: string,
  tmpfs: string,
  use: (place: Place) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpfs, 'p-'));
  try {
    await using place = await peer.open(lower, folder);
    return await use(place);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
