/** What programs have stored into mapped pages, which the kernel keeps to itself until it is told to write. */
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import { native, STAT_FIELDS } from '../native.ts';
import { errnoName } from '../ostree/failures.ts';
import type { Control } from './control.ts';

const { errno } = constants;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_FORCE_SYNC = 0x2000;
const ANSWER_MS = 10_000;
/** What was stored before is written long before; programs that go on storing are not waited for. */
const WRITTEN_MS = 30_000;

/**
 * Has the kernel write a session's mapped pages, and waits until the daemon has them. The kernel tells of pages that it could
 * not write just once, to whoever asks first, and then forgets them; so nobody may ask and not pass the answer on.
 *
 * @param root  descriptor of a session's root.
 * @returns why something that programs have stored is not in the session.
 */
export async function writeOut(root: number, control: Control): Promise<SessionError | undefined> {
  const begun = native.syncfs(root);
  if (begun < 0) return explained(begun);
  await written(root, control);
  // Only now is it known how the writes went.
  const result = native.syncfs(root);
  return result < 0 ? explained(result) : undefined;
}

/**
 * Of a FUSE file system syncfs(2) only sends the writes. The kernel hands over its requests in order, but of those that
 * nobody waits for so many at a time (MAX_BACKGROUND), the others when these are answered. So something is asked after
 * them, again and again, until no write has come before the answer.
 */
async function written(root: number, control: Control): Promise<void> {
  const stat = new Float64Array(STAT_FIELDS);
  const deadline = Date.now() + WRITTEN_MS;
  for (let seen = await writes(control); ;) {
    native.statx(root, '', AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, stat);
    const now = await writes(control);
    if (now === seen || Date.now() >= deadline) return;
    seen = now;
  }
}

/** Writes that the daemon has been asked for since its start. */
function writes(control: Control): Promise<number> {
  return control.call<number>('writes', {}, ANSWER_MS);
}

function explained(result: number): SessionError {
  const again = 'run the programs that stored it again, then this';
  return result === -errno.ENOSPC || result === -errno.EDQUOT
    ? new SessionError(
        'the session was full, and lacks what programs have stored in mapped files since',
        `make room in it, ${again}`,
      )
    : new SessionError(
        `what programs have stored in mapped files could not be written to the session: ${errnoName(result)}`,
        `look at ostree-ts status, ${again}`,
      );
}
