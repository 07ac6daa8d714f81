/**
 * The thread that the filesystem is to run in. Loading this module starts it, so that it starts while the daemon loads
 * itself: whoever loads the daemon loads this first. Its program is compiled meanwhile, here, so that it has it at once:
 * V8 takes as long to read it as a quarter of a thread's start.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { Worker } from 'node:worker_threads';
import type { DaemonOptions } from './daemon.ts';

/**
 * The worker's young generation, MiB. Requests leave next to nothing behind, so a large one only holds dead entries of
 * walks: with V8's own choice the daemon takes twice the memory after a walk of 140,000 files.
 */
const YOUNG_MB = 4;

/** What the thread begins with: it waits for its program, compiled. */
const BEGINNING = `
const { parentPort } = require('node:worker_threads');
const { Script } = require('node:vm');
parentPort.once('message', ({ text, path, compiled }) => {
  const script = new Script(text, { filename: path, cachedData: compiled });
  script.runInThisContext()(require, path);
});`;

const [, , argument] = process.argv;

/** What the launcher has told; `undefined` when it will. */
export const options: DaemonOptions | undefined =
  argument === undefined ? undefined : (JSON.parse(argument) as DaemonOptions);

/** Waits for its `WorkerData`, as a message. `undefined` with fuse-native, which wants a process's first thread. */
export const thread: Worker | undefined = options?.libfuse === undefined ? begin() : undefined;

function begin(): Worker {
  const worker = new Worker(BEGINNING, {
    eval: true,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
  });
  const path = fileURLToPath(new URL('../../bundle/fuse/worker.cjs', import.meta.url));
  // In one line, as Node does it, so that line numbers stay.
  const text = `(function (require, __filename) {${readFileSync(path, 'utf8')}\n})`;
  const compiled = new Script(text, { filename: path }).createCachedData();
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
  worker.postMessage({ text, path, compiled });
  return worker;
}
