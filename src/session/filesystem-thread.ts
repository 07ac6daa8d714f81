/**
 * The thread that the filesystem is to run in. Loading this module starts it, so that it starts while the daemon loads
 * itself: whoever loads the daemon loads this first.
 */
import { totalmem } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { DaemonOptions } from './daemon-options.ts';

/**
 * The worker's young generation, MiB. Requests leave next to nothing behind, so a large one only holds dead entries of
 * walks: with V8's own choice the daemon takes twice the memory after a walk of 140,000 files.
 */
const YOUNG_MB = 4;

/**
 * Bound of its old generation, MiB: a session is full when its own limit is reached, never before because of V8, which would
 * stop at 4 GiB or less, and lose all that is in memory.
 */
const OLD_MB = Math.max(4096, Math.ceil(totalmem() / 2 ** 20));

/** A directory in a directory, 100,000 times over, is walked by functions that call themselves; of memory only what is used is taken. */
const STACK_MB = 64;

const [, , argument] = process.argv;

/** What the launcher has told; `undefined` when it will. */
export const options: DaemonOptions | undefined =
  argument === undefined ? undefined : (JSON.parse(argument) as DaemonOptions);

/** Waits for its `WorkerData`, as a message. `undefined` with fuse-native, which wants a process's first thread. */
export const thread: Worker | undefined = options?.libfuse === undefined ? begin() : undefined;

function begin(): Worker {
  return new Worker(new URL('../../bundle/fuse/worker.cjs', import.meta.url), {
    resourceLimits: {
      maxYoungGenerationSizeMb: YOUNG_MB,
      maxOldGenerationSizeMb: OLD_MB,
      stackSizeMb: STACK_MB,
    },
  });
}
