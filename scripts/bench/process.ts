/** Running programs, so that none outlives the benchmark, and what a process has used so far. */
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

/** Whatever keeps a peer from a row: told in the report, and no reason to stop. */
export class CannotDo extends Error {}

/** The benchmark is being interrupted: whatever runs ends, and everything is cleaned up. */
export const interruption: AbortController = new AbortController();

/** `git` as it is told to be: whoever owns the repository, and nothing in the background. */
const GIT_CONFIG = { 'safe.directory': '*', 'gc.auto': '0', 'maintenance.auto': 'false' };

/** The environment of everything that is measured: the same for all. */
export const WORK_ENV: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: '/nonexistent',
  LC_ALL: 'C.UTF-8',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_CONFIG_COUNT: String(Object.keys(GIT_CONFIG).length),
  ...Object.fromEntries(
    Object.entries(GIT_CONFIG).flatMap(([key, value], index) => [
      [`GIT_CONFIG_KEY_${index}`, key],
      [`GIT_CONFIG_VALUE_${index}`, value],
    ]),
  ),
  GIT_AUTHOR_NAME: 'bench',
  GIT_AUTHOR_EMAIL: 'bench@localhost',
  GIT_COMMITTER_NAME: 'bench',
  GIT_COMMITTER_EMAIL: 'bench@localhost',
  GIT_AUTHOR_DATE: '2020-01-01T00:00:00Z',
  GIT_COMMITTER_DATE: '2020-01-01T00:00:00Z',
};

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Nothing here takes longer; a mount that hangs would. */
  timeoutMs?: number;
  /** Runs on while everything is being cleaned up. */
  uninterrupted?: boolean;
}

/**
 * Runs a program to its end.
 *
 * @returns what it printed.
 * @throws CannotDo it failed, or took too long; with the first line that it complained with.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const child = spawn(program, args, {
    cwd: options.cwd ?? '/',
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 120_000,
    killSignal: 'SIGKILL',
    ...(!options.uninterrupted && { signal: interruption.signal }),
  });
  let output = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const how = await new Promise<string | number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  if (how === 0) return output;
  const words = complaint.trim().split('\n', 1)[0];
  throw new CannotDo(words === '' ? `${program} ended with ${how}` : words);
}

/** What a process has used since it started. */
export interface Usage {
  /** On all its threads. */
  cpuMs: number;
  /** Resident now. */
  bytes: number;
}

export const NO_USAGE: Usage = { cpuMs: 0, bytes: 0 };

/** Of a process that lives; the counters of /proc/PID/stat are too coarse. */
export function usageOf(pid: number): Usage {
  let nanoseconds = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += onCpu(`/proc/${pid}/task/${task}/schedstat`);
  }
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
  return { cpuMs: nanoseconds / 1e6, bytes: kib * 1024 };
}

function onCpu(schedstat: string): number {
  try {
    return Number(readFileSync(schedstat, 'utf8').split(' ', 1)[0]);
  } catch {
    // The thread has ended since it was listed, and its time is told nowhere.
    return 0;
  }
}
