/**
 * The other side of inflater.ts: takes tasks, one after the other, and says in their memory how they ended. It loads no
 * addon and little else: a session waits for it to start.
 */
import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { FormatError } from '../ostree/gvariant.ts';
import { dataOf } from '../ostree/inflate.ts';
import { MESSAGE_BYTES, STATE, type InflaterData, type Task } from './inflater.ts';

const { wakeFd, loaded } = workerData as InflaterData;
/** What adds one to an eventfd. */
const ONE = new BigUint64Array([1n]);

async function run({ source, expected, into }: Task): Promise<void> {
  let written = 0;
  for await (const chunk of dataOf(source, expected)) {
    if (into < 0) continue;
    for (let at = 0; at < chunk.length;) {
      at += writeSync(into, chunk, at, chunk.length - at, written + at);
    }
    written += chunk.length;
  }
}

function finish({ memory }: Task, state: number, message: string): void {
  const words = new Int32Array(memory, 0, 2);
  const bytes = Buffer.from(message).subarray(0, MESSAGE_BYTES);
  new Uint8Array(memory, 8).set(bytes);
  words[1] = bytes.length;
  Atomics.store(words, 0, state);
  Atomics.notify(words, 0);
  if (wakeFd >= 0) writeSync(wakeFd, ONE);
}

if (parentPort === null) throw new Error('this module runs in a worker thread only');
let last = Promise.resolve();
parentPort.on('message', (task: Task) => {
  const before = last;
  last = (async () => {
    await before;
    try {
      await run(task);
      finish(task, STATE.DONE, '');
    } catch (error) {
      finish(task, STATE.FAILED, error instanceof FormatError ? error.message : String(error));
    }
  })();
});
const ready = new Int32Array(loaded);
Atomics.store(ready, 0, 1);
Atomics.notify(ready, 0);
