/** Makes an empty repository, as `ostree init` does. */
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import { native, type ByteString } from '../native.ts';
import { unwritable } from './lock.ts';
import { shown } from './failures.ts';
import { Repository } from './repo.ts';
import { type Mode } from './settings.ts';

const { errno } = constants;
const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_PATH = 0o10000000;

export type WritableMode = Exclude<Mode, 'bare-split-xattrs'>;

const FOLDERS = [
  'extensions',
  'objects',
  'refs',
  'refs/heads',
  'refs/mirrors',
  'refs/remotes',
  'state',
  'tmp',
  'tmp/cache',
];

/**
 * A repository that is there already, of the same mode, is left as it is.
 *
 * @param path  a byte string; its parent folder exists.
 * @throws SessionError when it cannot be made, or there is one of another mode.
 */
export function initRepository(path: ByteString, mode: WritableMode): void {
  const label = `repository ${shown(path)}`;
  const must = (result: number) => {
    if (result < 0) throw unwritable(label, result);
    return result;
  };
  const made = native.mkdirat(AT_FDCWD, path, 0o777);
  if (made < 0 && made !== -errno.EEXIST) throw unwritable(label, made);
  const fd = must(native.open(path, O_PATH | O_DIRECTORY, 0));
  try {
    for (const folder of FOLDERS) {
      const result = native.mkdirat(fd, folder, 0o777);
      if (result < 0 && result !== -errno.EEXIST) throw unwritable(label, result);
    }
    // Last and at once: a folder without it is no repository.
    const file = native.openBeneath(fd, 'config', O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    if (file === -errno.EEXIST) {
      checkMode(path, mode, label);
      return;
    }
    must(file);
    const written = mode === 'archive' ? 'archive-z2' : mode;
    const config = `[core]\nrepo_version=1\nmode=${written}\n`;
    const result = native.pwrite(file, Buffer.from(config), 0);
    native.close(file);
    must(result);
  } finally {
    native.close(fd);
  }
}

const AT_FDCWD = -100;

function checkMode(path: ByteString, mode: WritableMode, label: string): void {
  const repository = Repository.open(native, path);
  const { mode: existing } = repository;
  repository.close();
  if (existing === mode) return;
  throw new SessionError(`${label} exists already, and is of mode ${existing}, not ${mode}`);
}
