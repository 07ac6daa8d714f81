/** `ostree-ts commit`, as a process that a test may stop. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { PROGRAM } from './program.ts';

export interface Committing {
  child: ChildProcess;
  /** How it ended, and what it said on stderr. */
  ended: Promise<{ code: number | null; said: string }>;
}

/** Commits a session to the branch `work`. */
export function committing(session: string, options: string[] = []): Committing {
  const args = [PROGRAM, 'commit', session, '--branch=work', ...options];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const words: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => words.push(chunk));
  const ended = once(child, 'close').then(() => ({
    code: child.exitCode,
    said: Buffer.concat(words).toString(),
  }));
  return { child, ended };
}
