/**
 * The log of a session: one line an event, in a file that stays small. It is written through a descriptor, since the
 * daemon reaches no path.
 */
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';

/** Bytes after which the older half is dropped. */
const LIMIT_BYTES = 256 * 1024;

export class Log {
  readonly #fd: number;
  readonly #limitBytes: number;

  /** @param fd  Open for reading and appending. */
  constructor(fd: number, limitBytes: number = LIMIT_BYTES) {
    this.#fd = fd;
    this.#limitBytes = limitBytes;
  }

  /** Adds one line. Never throws: a full disk must not end a session. */
  write(text: string): void {
    const line = `${new Date().toISOString()} daemon: ${text.trimEnd().replaceAll(/\n\s*/g, ' | ')}\n`;
    try {
      this.#shorten();
      writeSync(this.#fd, line);
    } catch {
      // There is nobody to tell.
    }
  }

  /** Drops the older half of a log that has grown past its limit. The keeper may append meanwhile: its lines are few. */
  #shorten(): void {
    const { size } = fstatSync(this.#fd);
    if (size <= this.#limitBytes) return;
    const tail = Buffer.alloc(Math.floor(this.#limitBytes / 2));
    const length = readSync(this.#fd, tail, 0, tail.length, size - tail.length);
    const start = tail.indexOf('\n') + 1;
    ftruncateSync(this.#fd, 0);
    writeSync(this.#fd, '(older lines were dropped)\n');
    writeSync(this.#fd, tail.subarray(start, length));
  }
}

/** An error in one line, with its stack when it is a bug. */
export function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
