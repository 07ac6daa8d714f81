/** Taking single paths back to what the source has, until programs see it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ByteString } from '../native.ts';
import { type Control, RefusedError } from './control.ts';
import type { Undone } from './session.ts';
import { ANSWER_MS } from './status.ts';

const UNDO_MS = 600_000;
/** The kernel is told of what was undone within a millisecond, unless programs hold a directory. */
const TOLD_MS = 2_000;
const TOLD_POLL_MS = 1;

/** As `Session.undo`. Until the kernel has been told, programs may see what it remembers. */
export async function undoPaths(control: Control, paths: ByteString[]): Promise<Undone[]> {
  const undone = await control.call<Undone[]>('undo', { paths }, UNDO_MS);
  const deadline = Date.now() + TOLD_MS;
  while (!(await isTold(control)) && Date.now() < deadline) await sleep(TOLD_POLL_MS);
  return undone;
}

async function isTold(control: Control): Promise<boolean> {
  try {
    return await control.call<boolean>('told', {}, ANSWER_MS);
  } catch (error) {
    // A daemon of a version before this question.
    if (error instanceof RefusedError) return true;
    throw error;
  }
}
