/**
 * Where data and holes are, of files that programs have stored into through mmap: the kernel passes SEEK_DATA and SEEK_HOLE
 * on without writing such pages first, so what we take for a hole may be the newest data. The kernel is told that the hole has
 * changed, which makes it write its pages, and the request is put off until it has.
 */
import { FsError, NotYet } from '../errors.ts';
import { Attr } from '../layers/layer.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import type { Notifier } from './notify.ts';

const SEEK_DATA = 3;

/** A request, as it came. */
export interface Seek {
  /** What no other request has while it is not answered. */
  readonly unique: string;
  readonly ino: number;
  readonly offset: number;
  readonly whence: number;
}

export class Unwritten {
  readonly #notifier: Pick<Notifier, 'range' | 'isWritten'>;
  /** Of each request that was put off, the end of what has been written since. */
  readonly #ends: Map<string, number> = new Map();
  readonly #attr: Attr = new Attr();

  constructor(notifier: Pick<Notifier, 'range' | 'isWritten'>) {
    this.#notifier = notifier;
  }

  /** As `Filesystem.lseek`. @throws NotYet until the hole that the answer tells of is known to be one. */
  seek(fs: Filesystem, request: Seek): number {
    const { unique, ino, offset, whence } = request;
    const written = this.#ends.get(unique) ?? 0;
    this.#ends.delete(unique);
    fs.getattr(ino, this.#attr);
    const { size } = this.#attr;
    const found = find(fs, ino, offset, whence, size);
    const start = whence === SEEK_DATA ? offset : found;
    const end =
      whence === SEEK_DATA || found >= size ? found : find(fs, ino, found, SEEK_DATA, size);
    if (start < end && end > written) this.#write(request, start, end);
    if (whence === SEEK_DATA && found >= size) throw new FsError('ENXIO');
    return found;
  }

  /** Where the kernel cannot be told, the answer is what we know. */
  #write({ unique, ino }: Seek, start: number, end: number): void {
    const ticket = this.#notifier.range(ino, start, end - start);
    if (ticket < 0) return;
    this.#ends.set(unique, end);
    const notifier = this.#notifier;
    throw new NotYet({
      get isOver() {
        return notifier.isWritten(ticket);
      },
      wait: () => {
        throw new Error('only the kernel asks for this');
      },
    });
  }
}

/** Beyond the last data there is none: the end of the file. */
function find(fs: Filesystem, ino: number, offset: number, whence: number, size: number): number {
  try {
    return fs.lseek(ino, offset, whence);
  } catch (error) {
    if (offset < size && error instanceof FsError && error.code === 'ENXIO') return size;
    throw error;
  }
}
