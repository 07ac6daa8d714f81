/** The program that runs the command of `run` (native/runner.cc), as a process. */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Duplex, Writable } from 'node:stream';
import { programPath } from '../built.ts';
import type { HostPath } from './checks.ts';
import { environment } from './inside.ts';
import { exit } from './processes.ts';

/** A runner; it waits to be told where to run the command, and which. */
export class Runner {
  readonly process: ChildProcess;
  /** Its exit code; 128 and the signal, when it was killed by one. */
  readonly ended: Promise<number>;

  constructor(isRoot: boolean, hasUsers: boolean) {
    const args = [String(process.pid), hasUsers ? 'users' : 'mounts'];
    this.process = spawn(programPath('runner'), args, {
      stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'],
      cwd: '/',
      env: environment(isRoot),
    });
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject);
      // 'close', so that its last word has been heard.
      this.process.once('close', (exitCode, signal) => {
        resolve(signal === null ? (exitCode ?? 0) : 128 + constants.signals[signal]);
      });
    });
    // Whoever waits for it is told.
    this.ended.catch(() => {});
    // It may have ended before it has read all.
    this.#input.on('error', () => {});
  }

  get #input(): Writable {
    return this.process.stdio[4] as Writable;
  }

  get isOver(): boolean {
    return this.process.exitCode !== null || this.process.signalCode !== null;
  }

  tell(words: HostPath[]): void {
    this.#input.end(Buffer.concat(words.flatMap((word) => [Buffer.from(word), Buffer.of(0)])));
  }

  /** Each line that it says. */
  onWord(hear: (line: string) => void): void {
    let text = '';
    (this.process.stdio[3] as Duplex).on('data', (chunk: Buffer) => {
      const lines = (text + chunk.toString('utf8')).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) hear(line);
    });
  }

  /** One that was told nothing ends by itself. */
  async end(): Promise<void> {
    this.#input.destroy();
    (this.process.stdio[3] as Duplex).resume();
    await exit(this.process);
  }
}
