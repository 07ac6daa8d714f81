#!/usr/bin/env node
/** The program: hands the real streams, arguments and library to the command. */
import { readFileSync } from 'node:fs';
import { SessionError } from '../errors.ts';
import { decodeArguments } from './bytes.ts';
import type { Library } from './context.ts';
import { painter } from './output.ts';
import { run } from './program.ts';

/** Collects lines, since `diff` may print a hundred thousand and each write is a system call. */
class Lines {
  static readonly #FULL = 1 << 16;
  readonly #stream: NodeJS.WriteStream;
  #text = '';

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  add(line: string): void {
    if (this.#text === '') setImmediate(() => this.flush());
    this.#text += `${line}\n`;
    if (this.#text.length > Lines.#FULL) this.flush();
  }

  flush(): void {
    if (this.#text !== '') this.#stream.write(this.#text);
    this.#text = '';
  }
}

function typedArguments(): string[] {
  const args = process.argv.slice(2);
  if (!args.some((arg) => arg.includes('\ufffd'))) return args;
  return decodeArguments(readFileSync('/proc/self/cmdline'), args.length);
}

async function load(): Promise<Library> {
  try {
    return await import('../index.ts');
  } catch (error) {
    // The addon does not fit this system; the loader says why, and what to do.
    throw new SessionError(error instanceof Error ? error.message : String(error), undefined, {
      cause: error,
    });
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
// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

process.exitCode = await run(typedArguments(), {
  load,
  out: (line) => out.add(line),
  write: (bytes) => {
    out.flush();
    return new Promise((resolve) => {
      process.stdout.write(bytes, () => resolve());
    });
  },
  err: (line) => {
    out.flush();
    process.stderr.write(`${line}\n`);
  },
  paint: painter(process.stdout.isTTY && !noColour && process.env['TERM'] !== 'dumb'),
  cwd: workingDirectory(),
  now: Date.now,
  interrupted,
});
out.flush();
