/** What keeps a repository from being used, told apart: what is not there, what cannot be read, and what is not right. */
import { constants } from 'node:os';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { FormatError } from './gvariant.ts';

const { errno } = constants;

/** An object cannot be used: it is not there, it cannot be read, or it is not what its name says. */
export class ObjectError extends Error {
  override readonly name: string = 'ObjectError';
  /** As the file is called, `CHECKSUM.dirtree`. */
  readonly object: string;
  readonly problem: string;

  constructor(object: string, problem: string) {
    super(`${object}: ${problem}`);
    this.object = object;
    this.problem = problem;
  }
}

/** What the kernel's -errno is called, as in 'ENOENT'. */
export function errnoName(result: number): string {
  return Object.entries(errno).find(([, value]) => value === -result)?.[0] ?? `errno ${-result}`;
}

/** A byte string as people read it. */
export function shown(bytes: ByteString): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** Whether an open says that there is nothing of this name, and not that it cannot be told. */
export function isNone(result: number): boolean {
  return result === -errno.ENOENT || result === -errno.ENOTDIR;
}

export const LOOK = 'look at the kernel log and at the disk, and check it: ostree fsck';

/** What is wrong is not the repository, as far as is known. */
export function unreadable(label: string, path: ByteString, result: number): SessionError {
  const isForbidden = result === -errno.EACCES || result === -errno.EPERM;
  return new SessionError(
    `${label} cannot be read: ${shown(path)}: ${errnoName(result)}`,
    isForbidden ? 'run this as its owner' : LOOK,
  );
}

/** What should be a file is a directory, or something else. */
export class NoFileError extends FormatError {}

/** A file is there, but the host fails to say what is in it. */
export class ReadError extends FormatError {
  /** -errno. */
  readonly result: number;

  constructor(result: number) {
    super(errnoName(result));
    this.result = result;
  }
}

/** An object cannot be used, as something to be told. */
export function unusable(label: string, { message }: ObjectError): SessionError {
  return new SessionError(
    `an object of ${label} cannot be used: ${message}`,
    'check the repository: ostree fsck',
  );
}
