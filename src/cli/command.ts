/** The program: hands the real streams, arguments and library to the command. */
import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { painter } from './output.ts';
import { isMountForm, mount } from './mount-program.ts';
import { failureCode, run } from './program.ts';
import { load, typedArguments } from './startup.ts';

let hasOutput = false;

/** Collects lines, since `diff` may print a hundred thousand and each write is a system call. */
class Lines {
  static readonly #FULL = 1 << 16;
  readonly #stream: NodeJS.WriteStream;
  #text = '';

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  add(line: string): void {
    hasOutput = true;
    if (this.#text === '') setImmediate(() => this.flush());
    this.#text += `${line}\n`;
    if (this.#text.length > Lines.#FULL) this.flush();
  }

  flush(): void {
    if (this.#text !== '') this.#stream.write(this.#text);
    this.#text = '';
  }
}

function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => controller.abort());
  }
  return controller.signal;
}

/** '' when it has been removed. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '';
  }
}

const noColour = (process.env['NO_COLOR'] ?? '') !== '';
const out = new Lines(process.stdout);
const typed = typedArguments();
// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  process.stderr.write(`ostree-ts: stdout cannot be written: ${error.code}\n`);
  process.exit(failureCode(typed));
});
const streams = {
  out: (line: string) => out.add(line),
  err: (line: string) => {
    out.flush();
    process.stderr.write(`${line}\n`);
  },
};
/** @param dropEarly  called, and waited for, when the command needs no session any more. */
export async function main(dropEarly: () => Promise<void>): Promise<void> {
  process.exitCode = await (isMountForm(typed)
    ? mount(typed, 'helper', streams)
    : run(typed, {
        ...streams,
        load,
        write: (bytes) => {
          out.flush();
          hasOutput = true;
          return new Promise((resolve) => {
            process.stdout.write(bytes, () => resolve());
          });
        },
        paint: painter(process.stdout.isTTY && !noColour && process.env['TERM'] !== 'dumb'),
        cwd: workingDirectory(),
        now: Date.now,
        interrupted,
      }));
  out.flush();
  if (hasOutput) await written();
  await dropEarly();
  leaveTerminal();
  // What Node would take apart, the kernel does in half the time. A reader that is slow is waited for.
  if (process.stdout.writableLength + process.stderr.writableLength === 0) process.exit();
}

/** Everything that was said, or has failed, which is told of in an event. */
function written(): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write('', () => setImmediate(resolve));
  });
}

/**
 * As it ends Node gives a terminal that it still holds the modes which that had when Node began: in a pipeline it would take them
 * from less(1), which has set its own meanwhile.
 */
function leaveTerminal(): void {
  for (const fd of [0, 1, 2]) if (isatty(fd)) closeSync(fd);
}
