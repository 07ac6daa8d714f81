/** The other side of inflater.ts: takes tasks, one after the other, and says in their memory how they ended. */
import { parentPort, workerData } from 'node:worker_threads';
import { check } from '../errors.ts';
import { native } from '../native.ts';
import { chunksOfData } from '../ostree/data.ts';
import { ObjectError } from '../ostree/repo.ts';
import { MESSAGE_BYTES, STATE, type InflaterData, type Task } from './inflater.ts';

const { wakeFd, loaded } = workerData as InflaterData;

async function run({ checksum, data, xattrs, into }: Task): Promise<void> {
  let written = 0;
  for await (const chunk of chunksOfData(native, checksum, data, xattrs)) {
    if (into < 0) continue;
    check(native.pwriteRange(into, chunk, 0, chunk.length, written));
    written += chunk.length;
  }
}

function finish({ memory }: Task, state: number, message: string): void {
  const words = new Int32Array(memory, 0, 2);
  const { written } = new TextEncoder().encodeInto(
    message,
    new Uint8Array(memory, 8, MESSAGE_BYTES),
  );
  words[1] = written;
  Atomics.store(words, 0, state);
  Atomics.notify(words, 0);
  if (wakeFd >= 0) native.wake(wakeFd);
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
      finish(task, STATE.FAILED, error instanceof ObjectError ? error.problem : String(error));
    }
  })();
});
const ready = new Int32Array(loaded);
Atomics.store(ready, 0, 1);
Atomics.notify(ready, 0);
