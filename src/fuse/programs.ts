/**
 * Names of the processes that ask, from /proc through a directory that was opened at the start: no path is looked up that
 * could lead to a mount of ours. A kept descriptor of /proc/PID/comm is of one process for ever, whoever gets its number
 * later, and tells the new name after an exec. Reading it neither touches memory of that process nor a file of its.
 */
import { constants } from 'node:fs';
import type { Native } from '../native.ts';

/** Words of a name: TASK_COMM_LEN, 16 bytes. */
export const PROGRAM_WORDS = 4;

/** Processes remembered, each with a descriptor. */
const SLOTS = 64;

export class Programs {
  /** When `slot` was last called, ms since 1970. */
  nowMs = 0;
  readonly #native: Native;
  readonly #procFd: number;
  readonly #thread: Uint32Array = new Uint32Array(SLOTS);
  readonly #pid: Uint32Array = new Uint32Array(SLOTS);
  readonly #fd: Int32Array = new Int32Array(SLOTS).fill(-1);
  /** A name is read once in a millisecond at most. */
  readonly #readMs: Float64Array = new Float64Array(SLOTS);
  readonly #words: Uint32Array = new Uint32Array(SLOTS * PROGRAM_WORDS);
  readonly #bytes: readonly Uint8Array[];
  readonly #status: Uint8Array = new Uint8Array(512);

  constructor(native: Native) {
    this.#native = native;
    this.#procFd = native.open('/proc', constants.O_RDONLY | constants.O_DIRECTORY, 0);
    const { buffer } = this.#words;
    const size = 4 * PROGRAM_WORDS;
    this.#bytes = Array.from(
      { length: SLOTS },
      (_, slot) => new Uint8Array(buffer, slot * size, size),
    );
  }

  /** Where the process of this thread is kept, its name as it is now. */
  slot(thread: number): number {
    const slot = thread % SLOTS;
    this.nowMs = Date.now();
    if (this.#thread[slot] === thread) {
      if (this.#readMs[slot] === this.nowMs || thread === 0) return slot;
      if (this.#read(slot)) return slot;
    }
    this.#find(thread, slot);
    return slot;
  }

  /** The process's number, 0 when it is not known. */
  pid(slot: number): number {
    return this.#pid[slot]!;
  }

  copy(slot: number, into: Uint32Array, at: number): void {
    const from = PROGRAM_WORDS * slot;
    for (let i = 0; i < PROGRAM_WORDS; i++) into[at + i] = this.#words[from + i]!;
  }

  #find(thread: number, slot: number): void {
    if (this.#fd[slot]! >= 0) this.#native.close(this.#fd[slot]!);
    this.#fd[slot] = -1;
    this.#thread[slot] = thread;
    this.#pid[slot] = thread;
    this.#bytes[slot]!.fill(0);
    if (thread === 0 || this.#procFd < 0) return;
    this.#pid[slot] = this.#processOf(thread);
    this.#fd[slot] = this.#open(`${this.#pid[slot]}/comm`);
    this.#read(slot);
  }

  /** The kernel tells the thread that asks. */
  #processOf(thread: number): number {
    const fd = this.#open(`${thread}/status`);
    if (fd < 0) return thread;
    const length = this.#native.pread(fd, this.#status, 0);
    this.#native.close(fd);
    if (length <= 0) return thread;
    const text = Buffer.from(this.#status.buffer, 0, length).toString('latin1');
    return Number(/^Tgid:\t(\d+)$/m.exec(text)?.[1] ?? thread);
  }

  /** @returns whether it is still there. */
  #read(slot: number): boolean {
    this.#readMs[slot] = this.nowMs;
    if (this.#fd[slot]! < 0) return false;
    const bytes = this.#bytes[slot]!;
    const length = this.#native.pread(this.#fd[slot]!, bytes, 0);
    if (length <= 0) return false;
    bytes.fill(0, length);
    return true;
  }

  #open(path: string): number {
    return this.#native.openBeneath(this.#procFd, path, constants.O_RDONLY, 0);
  }

  close(): void {
    for (const fd of this.#fd) if (fd >= 0) this.#native.close(fd);
    if (this.#procFd >= 0) this.#native.close(this.#procFd);
  }
}
