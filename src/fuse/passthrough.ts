/**
 * Opens that are answered with a file of the host, which the kernel then reads, writes and maps by itself.
 *
 * What the kernel demands, of each node: all opens at one time have the same backing file or none, or the opener gets EIO. It opens
 * the file anew for each, as the opener asked, with our rights: a file of a lower is never given to whoever writes, and its
 * mount is read-only besides. So a file that is written to while others read it in the lower gets another node: ESTALE has the
 * kernel look its name up again.
 */
import { FsError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { Backed, Backing } from '../overlay/backing.ts';
import * as abi from './abi.ts';
import type { Reply } from './reply.ts';
import type { Notifier } from './notify.ts';

/** What is asked of the system. */
export interface BackingDevice {
  /** @returns an id above 0, or -errno. */
  open(fd: number): number;
  close(id: number): void;
  /** Whether nothing can be written through the mount that a file was opened by. */
  isReadonly(fd: number): boolean;
}

/** Of `Native.fstatfs`: how much it tells, where the flags of the mount are, and the one that says read-only. */
const STATFS_FIELDS = 9;
const STATFS_FLAGS = 8;
const ST_RDONLY = 1;

/** @param device  /dev/fuse, of a mounted filesystem. */
export function backingDevice(native: Native, device: number): BackingDevice {
  const space = new Float64Array(STATFS_FIELDS);
  return {
    open: (fd) => native.backingOpen(device, fd),
    close: (id) => void native.backingClose(device, id),
    isReadonly: (fd) =>
      native.fstatfs(fd, space) === 0 && ((space[STATFS_FLAGS] ?? 0) & ST_RDONLY) !== 0,
  };
}

export interface PassthroughOptions {
  device: BackingDevice;
  filesystem: Backed;
  notifier: Pick<Notifier, 'inode'>;
  log: (message: string) => void;
  /** What a lower is called, for people. */
  nameOf: (lower: object) => string;
}

/** The opens of one node, which have something in common. */
interface Opened {
  /** Of the backing file; 0: all go through the kernel's cache and us. */
  readonly id: number;
  readonly isLower: boolean;
  count: number;
  writers: number;
}

/** Refusals that will not change: of a filesystem, or of all. */
const LASTING: readonly number[] = [abi.EPERM, abi.ELOOP, abi.EOPNOTSUPP, abi.ENOTTY];

export class Passthrough {
  readonly #options: PassthroughOptions;
  readonly #open: Map<number, Opened> = new Map();
  /**
   * Nodes that were open for reading and writing: their pages may be mapped and stored into, which changes times of the host's
   * file and tells the kernel's node nothing. A mapping lasts longer than what is open, but not longer than the node.
   */
  readonly #mappable: Set<number> = new Set();
  #writers = 0;
  /** Layers whose files go through the cache, and why; `undefined` is the upper. */
  readonly #refused: Map<object | undefined, string> = new Map();
  #hasFailed = false;

  constructor(options: PassthroughOptions) {
    this.#options = options;
  }

  /** Whether any file may be changing. */
  get isWriting(): boolean {
    return this.#writers > 0 || this.#mappable.size > 0;
  }

  /** What does not go past us though it should, one line each. */
  get problems(): string[] {
    return [...this.#refused.values()];
  }

  /** Whether attributes of a node change without the kernel's knowing. (Of what it writes itself it knows.) */
  has(ino: number): boolean {
    return this.#mappable.has(ino) || this.#options.filesystem.isRetired(ino);
  }

  /** Whether the kernel writes to a file by itself. */
  isWritten(ino: number): boolean {
    const opened = this.#open.get(ino);
    return opened !== undefined && opened.id !== 0 && opened.writers > 0;
  }

  /**
   * Opens a file, and writes struct fuse_open_out at `at`. @returns its size.
   *
   * @throws FsError ESTALE its name leads to another node by now. What a copy-up says.
   */
  open(ino: number, flags: number, reply: Reply, at: number): number {
    const isWriter = (flags & abi.O_ACCMODE) !== 0;
    const { filesystem } = this.#options;
    if (filesystem.isRetired(ino)) throw new FsError('ESTALE');
    const known = this.#open.get(ino);
    if (isWriter && known !== undefined && known.id !== 0 && known.isLower) this.#part(ino);
    const opened = known ?? this.#begin(ino, isWriter);
    opened.count++;
    if (isWriter) {
      opened.writers++;
      this.#writers++;
    }
    if (opened.id !== 0 && (flags & abi.O_ACCMODE) === abi.O_RDWR) this.#mappable.add(ino);
    if (opened.id !== 0) return reply.opened(at, abi.FOPEN_PASSTHROUGH, opened.id);
    // Pages of the upper may be from before somebody wrote past us.
    return reply.opened(at, opened.isLower ? abi.FOPEN_KEEP_CACHE : 0);
  }

  release(ino: number, flags: number): void {
    const opened = this.#open.get(ino);
    if (opened === undefined) return;
    if ((flags & abi.O_ACCMODE) !== 0) {
      opened.writers--;
      this.#writers--;
    }
    if (--opened.count > 0) return;
    this.#open.delete(ino);
    if (opened.id !== 0) this.#options.device.close(opened.id);
  }

  /** The kernel has given back references to a node. */
  forgotten(ino: number): void {
    if (this.#mappable.size > 0 && !this.#options.filesystem.isKnown(ino)) {
      this.#mappable.delete(ino);
    }
  }

  /**
   * Before a file is truncated, by its path: its readers go on with what the lower has.
   *
   * @throws FsError as `open`.
   */
  beforeTruncation(ino: number): void {
    if (this.#options.filesystem.isRetired(ino)) throw new FsError('ESTALE');
    const known = this.#open.get(ino);
    if (known !== undefined && known.id !== 0 && known.isLower) this.#part(ino);
  }

  /** A file of the lower that is open is about to change: what is open stays as it is, and its names get another node. */
  #part(ino: number): never {
    const { filesystem, notifier } = this.#options;
    filesystem.backing(ino, true);
    filesystem.retire(ino);
    notifier.inode(ino, true);
    throw new FsError('ESTALE');
  }

  #begin(ino: number, isWriter: boolean): Opened {
    const { filesystem } = this.#options;
    const backing = filesystem.backing(ino, isWriter);
    const isLower = backing?.lower !== undefined;
    const id = backing === undefined ? 0 : this.#backingId(backing);
    const opened = { id, isLower, count: 0, writers: 0 };
    this.#open.set(ino, opened);
    return opened;
  }

  /** @returns 0 where it cannot be. */
  #backingId({ fd, lower }: Backing): number {
    const { device, log } = this.#options;
    if (this.#refused.has(lower)) return 0;
    if (lower !== undefined && !device.isReadonly(fd)) {
      return this.#refuse(lower, 'it is not bound read-only');
    }
    const id = device.open(fd);
    if (id > 0) return id;
    if (LASTING.includes(-id)) return this.#refuse(lower, reasonOf(-id));
    if (!this.#hasFailed) log(`a file is not passed through: errno ${-id}`);
    this.#hasFailed = true;
    return 0;
  }

  #refuse(lower: object | undefined, reason: string): 0 {
    const { nameOf, log } = this.#options;
    const name = lower === undefined ? 'the upper' : nameOf(lower);
    const problem = `files of ${name} go through ostree-ts, as with --io=cached: ${reason}`;
    this.#refused.set(lower, problem);
    log(problem);
    return 0;
  }
}

function reasonOf(errno: number): string {
  if (errno === abi.ELOOP) return 'they are on a stacked filesystem, as overlayfs';
  if (errno === abi.EPERM) return 'this takes CAP_SYS_ADMIN outside of any container';
  return `the kernel refuses it, errno ${errno}`;
}
