/**
 * Inflates and checks large objects on a thread of its own, so that the thread that serves requests goes on meanwhile. A
 * small object is done faster than it could be handed over.
 */
import { Worker } from 'node:worker_threads';
import type { Expected, Source } from '../ostree/inflate.ts';

/** How far a job is, in the first word of its memory; the rest is what went wrong, as UTF-8, its length before it. */
export const STATE = { WORKING: 0, DONE: 1, FAILED: 2 } as const;
export const MESSAGE_BYTES = 512;

export interface Task {
  source: Source;
  expected: Expected;
  /** A memfd that takes the data; -1 when it is only to be checked. */
  into: number;
  /** Two words and a message. */
  memory: SharedArrayBuffer;
}

/** One task under way. */
export class Job {
  readonly task: Task;
  readonly #words: Int32Array;

  constructor(task: Task) {
    this.task = task;
    this.#words = new Int32Array(task.memory, 0, 2);
  }

  get isOver(): boolean {
    return Atomics.load(this.#words, 0) !== STATE.WORKING;
  }

  /** Blocks until it is over. */
  wait(): void {
    Atomics.wait(this.#words, 0, STATE.WORKING);
  }

  /** What was wrong with the object; `undefined` when nothing was. */
  get problem(): string | undefined {
    if (Atomics.load(this.#words, 0) !== STATE.FAILED) return undefined;
    const length = this.#words[1] ?? 0;
    return Buffer.from(new Uint8Array(this.task.memory, 8, length)).toString();
  }
}

/** The thread is given this. */
export interface InflaterData {
  /** An eventfd to write to when a job is over; -1 for none. */
  wakeFd: number;
  /** One word, 1 once the thread has loaded all it needs. */
  loaded: SharedArrayBuffer;
}

/** How long the thread may take to load. */
const LOAD_MS = 30_000;

export class Inflater {
  readonly #worker: Worker;
  readonly #loaded: Int32Array;

  /** @param wakeFd  an eventfd to write to when a job is over; -1 for none. */
  constructor(wakeFd: number) {
    const loaded = new SharedArrayBuffer(4);
    this.#loaded = new Int32Array(loaded);
    const workerData: InflaterData = { wakeFd, loaded };
    this.#worker = new Worker(new URL('../layers/inflate-thread.js', import.meta.url), {
      workerData,
    });
    this.#worker.unref();
  }

  /** Waits until the thread needs no file any more. */
  settle(): void {
    if (Atomics.wait(this.#loaded, 0, 0, LOAD_MS) === 'timed-out') {
      throw new Error('the inflating thread does not start');
    }
  }

  /** @param into  a memfd, or -1. It and the open object are to live until the job is over. */
  start(source: Source, expected: Expected, into: number): Job {
    const memory = new SharedArrayBuffer(8 + MESSAGE_BYTES);
    const task: Task = { source, expected, into, memory };
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(task);
    return new Job(task);
  }

  close(): void {
    void this.#worker.terminate();
  }
}
