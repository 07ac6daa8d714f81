/** Paths that are longer than a system call takes. */
import { type ByteString, native } from '../native.ts';

const O_PATH_DIRECTORY = 0o10200000;
/** Less than PATH_MAX, with its NUL. */
const STEP_BYTES = 4000;

/**
 * Opens what is at a path from a directory, of any length; no symlink is followed, and nothing leads out.
 *
 * @param path  Begins with '/', for that directory.
 * @returns the descriptor, or -errno.
 */
export function openFrom(root: number, path: ByteString, flags: number): number {
  let at = root;
  let rest = path.slice(1);
  while (rest.length > STEP_BYTES) {
    const slash = rest.lastIndexOf('/', STEP_BYTES);
    const next = native.openBeneath(at, rest.slice(0, slash), O_PATH_DIRECTORY, 0);
    if (at !== root) native.close(at);
    if (next < 0) return next;
    at = next;
    rest = rest.slice(slash + 1);
  }
  const fd = native.openBeneath(at, rest === '' ? '.' : rest, flags, 0);
  if (at !== root) native.close(at);
  return fd;
}
