/**
 * Drafts: what is being written, beside the place that it is for. Whoever writes one holds a lock on it, so that what a
 * killed process has left can be told from what another is still writing, and is removed by the next who writes there.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { constants as system } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { native } from '../native.ts';

const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
const F_WRLCK = 1;
/** In a draft that is a directory, the file that is locked. */
const LOCK = '.lock';

export interface Draft {
  path: string;
  /** Lets go of it, wherever it is then. */
  close(): void;
}

/** A new file beside `path`. @throws an error of the system. */
export function draftFile(path: string): Draft {
  removeStale(path);
  for (;;) {
    const draft = draftOf(path);
    const fd = made(draft);
    if (fd !== undefined) return { path: draft, close: () => closeSync(fd) };
  }
}

/** A new directory beside `path`. @throws an error of the system. */
export function draftFolder(path: string): Draft {
  removeStale(path);
  for (;;) {
    const draft = draftOf(path);
    mkdirSync(draft);
    const fd = madeIn(draft);
    if (fd !== undefined) return { path: draft, close: () => closeSync(fd) };
  }
}

/** The lock of a new directory; `undefined` when somebody took that for what is left, since it had none yet. */
function madeIn(draft: string): number | undefined {
  try {
    return made(join(draft, LOCK));
  } catch (error) {
    if (!existsSync(draft)) return undefined;
    throw error;
  }
}

/** Takes out of a directory, which is no draft any more, what made it one. */
export function finishFolder(path: string): void {
  rmSync(join(path, LOCK));
}

function draftOf(path: string): string {
  return `${path}.${randomBytes(6).toString('hex')}.draft`;
}

/** A new file, locked where files can be; `undefined` when somebody took it for what a killed process has left. */
function made(path: string): number | undefined {
  const fd = openSync(path, 'wx+');
  const isTaken = native.ofdLock(fd, F_WRLCK) === -system.errno.EAGAIN;
  if (!isTaken && fstatSync(fd).nlink > 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Removes drafts for the same place that nobody has locked. */
function removeStale(path: string): void {
  const start = `${basename(path)}.`;
  const folder = dirname(path);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    // Whoever makes the draft will say why.
    return;
  }
  for (const name of names) {
    if (!name.startsWith(start) || !/^[0-9a-f]{12}\.draft$/.test(name.slice(start.length)))
      continue;
    try {
      removeUnlocked(join(folder, name));
    } catch {
      // Somebody else's, or gone.
    }
  }
}

function removeUnlocked(draft: string): void {
  const isFolder = lstatSync(draft).isDirectory();
  const file = isFolder ? join(draft, LOCK) : draft;
  // Killed before it was made, or when it had been removed.
  if (isFolder && !existsSync(file)) {
    rmSync(draft, { recursive: true });
    return;
  }
  const fd = openSync(file, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  try {
    if (native.ofdLock(fd, F_WRLCK) >= 0) rmSync(draft, { recursive: true });
  } finally {
    closeSync(fd);
  }
}
