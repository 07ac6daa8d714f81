/**
 * The npm package `fuse-native`, as far as it is used here: loaded when it is there, mended where it would give callers
 * what is not theirs, mounted, and watched. It works on the main thread only (in another it aborts the process).
 */
import { fstatSync, readdirSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { SessionError } from '../errors.ts';
import { ERANGE } from './abi.ts';
import type { Done } from './libfuse-calls.ts';
import type { Paths } from './libfuse.ts';

const PACKAGE = 'fuse-native';

type Operations = ReturnType<Paths['operations']>;
/** Answers one request: an errno or a count, then values that the operation knows. */
type Signal = Done;

/** What `fuse-native` 2.2.6 exports. */
interface Fuse {
  mount(done: (error: Error | null) => void): void;
  /** By the numbers of the package's operations; the first argument is a `fuse_thread_locals_t`. */
  _handlers: ((call: Buffer, op: number, ...args: unknown[]) => unknown)[];
  _op_getxattr(signal: Signal, path: string, name: string, into: Buffer): void;
  _op_listxattr(signal: Signal, path: string, into: Buffer): void;
}

type FuseClass = new (
  mountpoint: string,
  operations: Operations,
  options: Record<string, unknown>,
) => Fuse;

/** Number of the operation utimens, and where its times are in a `fuse_thread_locals_t`. */
const OP_UTIMENS = 12;
const ATIME_OFFSET = 104;
const MTIME_OFFSET = 112;

/** st_rdev of /dev/fuse, 10:229. */
const FUSE_DEVICE = 10 * 256 + 229;
const WATCH_MS = 100;

/** @throws SessionError the package, its binary for this machine, or libfuse 2 is missing. */
export function loadFuseNative(): FuseClass {
  try {
    return createRequire(import.meta.url)(PACKAGE) as FuseClass;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const [first = ''] = message.split('\n', 1);
    if (code === 'MODULE_NOT_FOUND' && first.includes(`'${PACKAGE}'`)) {
      throw new SessionError(
        `the package ${PACKAGE} is not installed`,
        `install it beside ostree-ts: npm install ${PACKAGE}@2.2.6 (and libfuse 2: apt install libfuse2)`,
        { cause: error },
      );
    }
    throw new SessionError(
      `the package ${PACKAGE} cannot be loaded: ${first}`,
      first.includes('libfuse')
        ? 'install libfuse 2: apt install libfuse2, or dnf install fuse-libs'
        : 'it brings a binary for Linux on x86-64 only; use --transport=kernel',
      { cause: error },
    );
  }
}

/** Where the package is. It must be there. */
export function fuseNativePath(): string {
  return realpathSync(createRequire(import.meta.url).resolve(PACKAGE));
}

export interface MountOptions {
  /** UTF-8. */
  mountpoint: string;
  /** The session's, for lists of mounts. */
  name: string;
  suid: boolean;
  dev: boolean;
}

/**
 * Mounts, and serves from then on, on this thread's event loop. Only the owner of this process may enter the mount: the
 * package does not say who asks, so everybody would be taken for him.
 *
 * @param onEnd  called when the mount is gone and nobody holds anything of it.
 */
export async function mountLibfuse(
  paths: Paths,
  { mountpoint, name, suid, dev }: MountOptions,
  onEnd: () => void,
): Promise<void> {
  const fuse = new (mended(loadFuseNative(), paths))(mountpoint, paths.operations(), {
    fsname: name,
    // The package knows no word for the others, and joins them all by commas.
    subtype: `ostree-ts,use_ino,big_writes,nonempty,${suid ? 'suid' : 'nosuid'},${dev ? 'dev' : 'nodev'}`,
    defaultPermissions: true,
    // Names of one file are files apart for libfuse, so nothing may be remembered of either.
    attrTimeout: '0',
    entryTimeout: '0',
    timeout: false,
  });
  mendTimes(fuse);
  await new Promise<void>((resolve, reject) => {
    fuse.mount((error) => (error === null ? resolve() : reject(error)));
  });
  const device = readdirSync('/proc/self/fd').map(Number).find(isFuse);
  // The package does not say when libfuse has ended, but libfuse closes the device then.
  const timer = setInterval(() => {
    if (device !== undefined && isFuse(device)) return;
    clearInterval(timer);
    onEnd();
  }, WATCH_MS);
}

function isFuse(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isCharacterDevice() && stat.rdev === FUSE_DEVICE;
  } catch {
    return false;
  }
}

/** The package answers with more bytes than there is room for, out of memory that is not the attribute's. */
function mended(base: FuseClass, paths: Paths): FuseClass {
  return class extends base {
    override _op_getxattr(signal: Signal, path: string, name: string, into: Buffer): void {
      answer(
        signal,
        into,
        paths.calls.run('getxattr', () => paths.getxattr(path, name)),
      );
    }

    override _op_listxattr(signal: Signal, path: string, into: Buffer): void {
      answer(
        signal,
        into,
        paths.calls.run('listxattr', () => paths.listxattr(path)),
      );
    }
  };
}

/** A buffer without room asks for the size; it is detached, so that even nothing could not be put into it. */
function answer(
  signal: Signal,
  into: Buffer,
  outcome: { value: Uint8Array } | { errno: number },
): void {
  if ('errno' in outcome) {
    signal(outcome.errno, into.buffer);
    return;
  }
  const { value } = outcome;
  const room = into.length;
  if (room > 0 && value.length <= room) into.set(value);
  signal(room === 0 || value.length <= room ? value.length : -ERANGE, into.buffer);
}

/** The package hands the access time on as the modification time, too; the right one lies beside it. */
function mendTimes(fuse: Fuse): void {
  const { _handlers: handlers } = fuse;
  const utimens = handlers[OP_UTIMENS];
  if (utimens === undefined) return;
  handlers[OP_UTIMENS] = (call, op, path, low, high) => {
    const mtime =
      call.readUInt32LE(ATIME_OFFSET) === low && call.readUInt32LE(ATIME_OFFSET + 4) === high
        ? [call.readUInt32LE(MTIME_OFFSET), call.readInt32LE(MTIME_OFFSET + 4)]
        : [low, high];
    return utimens(call, op, path, low, (high as number) | 0, ...mtime);
  };
}
