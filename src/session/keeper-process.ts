/**
 * The keeper as a process. A command whose session is all it waits for begins it before it has loaded itself: the
 * daemon's Node and its thread start meanwhile, which takes longest, and learn for which session once that is known
 * (native/keeper-later.cc). So this module, and what it loads, is small.
 */
import { spawn, type ChildProcess, type SpawnOptions, type StdioOptions } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { native, programPath } from '../native.ts';

/** The descriptor that is the keeper's socket to us. */
export const LAUNCHER = 3;

/** As the keeper takes them. */
const DESCRIPTORS_MAX = 250;
const BYTES_MAX = 60_000;

/** What runs a daemon, without the argument that says for what. */
export function daemonCommand(): [string, string] {
  const daemon = new URL('../../bundle/session/daemon.cjs', import.meta.url);
  return [process.execPath, fileURLToPath(daemon)];
}

/** Nothing that this shell sets may change how the daemon runs. */
export function spawnKeeper(
  [program = '', ...args]: string[],
  stdio: StdioOptions,
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const libraries = process.env['LD_LIBRARY_PATH'];
  const options: SpawnOptions = {
    stdio,
    cwd: '/',
    env: { ...env, ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) },
    detached: true,
  };
  return spawn(program, args, options);
}

/** A keeper that waits to be told for what it is. */
export interface EarlyKeeper {
  readonly process: ChildProcess;
  /** Our end of its socket. */
  readonly fd: number;
}

let early: EarlyKeeper | undefined;

/** Begins a keeper for the session that is to come. When that fails there is none, and no harm done. */
export function beginKeeper(): void {
  const ends = native.socketPair();
  if (typeof ends === 'number') return;
  const [ours, theirs] = ends;
  try {
    const command = [programPath('keeper'), '--later', ...daemonCommand()];
    const child = spawnKeeper(command, ['ignore', 'ignore', 'ignore', theirs]);
    child.on('error', () => {});
    early = { process: child, fd: ours };
  } catch {
    // There is none: it is said when one is needed.
    native.close(ours);
  } finally {
    native.close(theirs);
  }
}

/** The keeper that was begun, if it still is: for one session. */
export function takeKeeper(): EarlyKeeper | undefined {
  const taken = early;
  early = undefined;
  if (taken === undefined || isRunning(taken.process)) return taken;
  native.close(taken.fd);
  return undefined;
}

function isRunning({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

/** Has the keeper that was begun end, if no session took it. */
export function dropKeeper(): void {
  const dropped = takeKeeper();
  if (dropped !== undefined) native.close(dropped.fd);
}

/**
 * Tells a keeper for what it is.
 *
 * @param args  As for one that is started when all is known.
 * @param fds  The log, and what is given to such a keeper after its socket.
 * @returns whether it has been told; otherwise it ends.
 */
export function tellKeeper({ fd }: EarlyKeeper, args: string[], fds: number[]): boolean {
  const text = Buffer.from(args.map((arg) => `${arg}\0`).join(''));
  if (fds.length > DESCRIPTORS_MAX || text.length > BYTES_MAX) return false;
  const header = new Uint8Array(Uint32Array.of(fds.length, text.length).buffer);
  const isTold =
    native.sendMessage(fd, header, -1) >= 0 &&
    fds.every((each) => native.sendMessage(fd, Uint8Array.of(0), each) >= 0);
  return isTold && native.sendMessage(fd, text, -1) >= 0;
}
