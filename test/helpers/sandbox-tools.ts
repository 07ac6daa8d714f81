/** What the body of a sandboxed test needs again and again. Runs inside the sandbox. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from '../../src/index.ts';

export { addLibraries, addPrograms, BootedHost, makeBootable, smallTree } from './booted.ts';
export { debianTree, packageFile } from './debian.ts';
export { buildRpms } from './rpm.ts';
export { sleep };

// Not the assertions themselves: the compiler wants those to be named in the file that uses them.
export function equal(actual: unknown, expected: unknown, message?: string): void {
  assert.equal(actual, expected, message);
}

export function same(actual: unknown, expected: unknown): void {
  assert.deepEqual(actual, expected);
}

export function matches(text: string, pattern: RegExp): void {
  assert.match(text, pattern);
}

export function throws(act: () => unknown, pattern: RegExp): void {
  assert.throws(act, pattern);
}

/** Makes files from `{ 'a/b': 'content' }`. @returns the folder. */
export function plant(folder: string, files: Record<string, string>): string {
  mkdirSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

/** Waits until `isTrue`; an assertion of the caller says what was expected. @returns milliseconds waited. */
export async function until(isTrue: () => boolean, timeoutMs: number): Promise<number> {
  const from = performance.now();
  while (!isTrue() && performance.now() - from < timeoutMs) await sleep(5);
  return performance.now() - from;
}

/** Paths of all sessions' mounts. */
export function mountpoints(): string[] {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return lines
    .filter((line) => line.includes(' fuse.ostree-ts '))
    .map((line) => line.split(' ')[1]!);
}

/** /proc/PID/mounts. */
export function mountsOf(pid: number): string {
  return readFileSync(`/proc/${pid}/mounts`, 'utf8');
}

/** Processes of sessions: `ostree-ts-keep` and daemons. */
export function sessionProcesses(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
        const isOurs = /^(\S*keeper --|\S+ \S*daemon\.cjs|ostree-ts: session)/.test(command);
        return isOurs ? [`${pid} ${command}`] : [];
      } catch {
        return [];
      }
    });
}

/** Whether there is a folder, and what is in it. */
function listed(path: string): string[] {
  try {
    return [`folder ${path}: ${readdirSync(path).join(' ')}`];
  } catch (error) {
    // It may go at any time.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Fails unless everything of every session has gone. The daemon's end may take a moment after its mount's. */
export async function nothingIsLeft(): Promise<void> {
  const registry =
    (process.getuid?.() ?? 0) === 0
      ? '/run/ostree-ts'
      : `/run/user/${process.getuid?.()}/ostree-ts`;
  const left = () => [
    ...mountpoints().map((path) => `mount ${path}`),
    ...sessionProcesses().map((process) => `process ${process}`),
    ...listed(registry),
  ];
  await until(() => left().length === 0, 5000);
  if (left().length > 0) throw new Error(`something is left: ${left().join('; ')}`);
}

/** A program that goes on until killed; `ready` when it has said its first word. */
export async function start(
  command: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<ChildProcess> {
  const child = spawn(command, args, { ...options, stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`${command} ended`)));
    child.stdout?.once('data', resolve);
  });
  return child;
}

/** Kills a program and waits for its end. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** Follows a process and its threads with strace(1). @returns ends that, and gives a line for each call. */
export async function traced(
  pid: number,
  file: string,
  args: string[],
): Promise<() => Promise<string[]>> {
  const trace = spawn('strace', ['-f', '-qq', '-o', file, ...args, '-p', String(pid)], {
    stdio: 'ignore',
  });
  const isFollowed = () => /TracerPid:\s*[1-9]/.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  await until(isFollowed, 5000);
  await sleep(200);
  return async () => {
    const ended = new Promise((resolve) => trace.once('exit', resolve));
    trace.kill('SIGTERM');
    await ended;
    return wholeCalls(readFileSync(file, 'utf8').split('\n'));
  };
}

/** A call during which another thread's was printed stands in two lines: makes one of them, where the second was. */
function wholeCalls(lines: readonly string[]): string[] {
  const begun = new Map<string, string>();
  const whole: string[] = [];
  for (const line of lines) {
    const thread = /^\d+/.exec(line)?.[0] ?? '';
    const first = /^(.*) <unfinished \.\.\.>$/.exec(line)?.[1];
    const rest = /^\d+ +<\.\.\. \w+ resumed>(.*)$/.exec(line)?.[1];
    if (first !== undefined) begun.set(thread, first);
    else if (rest === undefined) whole.push(line);
    else {
      whole.push(`${begun.get(thread) ?? line} ${rest}`);
      begun.delete(thread);
    }
  }
  // Those that waited when it ended.
  return [...whole, ...begun.values()];
}

/** Runs a program to its end. @throws Error with what it printed, unless it exits 0. */
export function run(
  command: string,
  args: string[],
  options: { cwd?: string; timeout?: number } = {},
): string {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    timeout: 60_000,
    encoding: 'utf8',
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(' ')}: ${error?.message ?? signal ?? status}: ${stderr}${stdout}`,
  );
}

/** The command, as a program and its first arguments. */
export const PROGRAM: readonly string[] = ['/run/node', '/run/package/build/bundle/cli/main.cjs'];

/** Runs the command to its end. */
export function ostreeTs(
  args: string[],
  options: { cwd?: string; timeout?: number } = {},
): { code: number | null; out: string; err: string } {
  const [node = '', ...main] = PROGRAM;
  const { status, stdout, stderr } = spawnSync(node, [...main, ...args], {
    timeout: 30_000,
    encoding: 'utf8',
    cwd: '/',
    ...options,
  });
  return { code: status, out: stdout, err: stderr };
}

/** Starts the command, and waits for the first thing that it prints. */
export function startCommand(
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<ChildProcess> {
  const [node = '', ...main] = PROGRAM;
  return start(node, [...main, ...args], { cwd: '/', ...options });
}

/** Waits for the end of a program; `null` when a signal ended it. */
export function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

/** A program on a terminal of its own: what it is typed, and what it shows. */
export class Terminal {
  /** The program's exit code. */
  readonly ended: Promise<number | null>;
  readonly #script: ChildProcess;
  #shown = '';

  constructor(line: string, env: NodeJS.ProcessEnv) {
    // script(1) is the one that every system has: it makes the terminal, and passes on what it reads.
    this.#script = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
      cwd: '/',
      env: { ...process.env, TERM: 'xterm', ...env, SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#script.stdout?.on('data', (chunk: Buffer) => {
      this.#shown += chunk.toString();
    });
    this.ended = exitCode(this.#script);
  }

  type(keys: string): void {
    this.#script.stdin?.write(keys);
  }

  /** Waits until these words are shown, and forgets all up to them. */
  async until(words: string): Promise<void> {
    await until(() => this.#shown.includes(words), 10_000);
    const at = this.#shown.indexOf(words);
    if (at < 0) throw new Error(`'${words}' is not shown: ${JSON.stringify(this.#shown)}`);
    this.#shown = this.#shown.slice(at + words.length);
  }
}

/** The command on a terminal. */
export function onTerminal(args: string[], env: NodeJS.ProcessEnv = {}): Terminal {
  const { SHELL: shell, ...rest } = env;
  const words = [...PROGRAM, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
  // The shell that script(1) starts would be the one that Ctrl-C ends.
  return new Terminal(
    `exec env ${shell === undefined ? '' : `SHELL=${shell}`} ${words.join(' ')}`,
    rest,
  );
}

/** Any command line on a terminal. */
export function typeAt(line: string): Terminal {
  return new Terminal(line, {});
}

/** Pids of the processes that have these words in their command lines, the one that asks left out. */
export function processesOf(words: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
        return pid > 0 && pid !== process.pid && line.includes(words);
      } catch {
        return false;
      }
    });
}

/** The pids of a session's daemon and keeper. */
export async function pids(session: Session): Promise<{ daemon: number; keeper: number }> {
  const { pid, keeper } = await session.status();
  if (pid === null || keeper === null) throw new Error('the session has no daemon or no keeper');
  return { daemon: pid, keeper };
}

/** What a promise is rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { remedy?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}
