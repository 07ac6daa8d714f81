/**
 * The keeper as a process. A command whose session is all it waits for begins it before it has loaded itself: the
 * daemon's Node and its thread start meanwhile, which takes longest, and learn for which session once that is known
 * (native/keeper-later.cc). So this module, and what it loads, is small.
 */
import { spawn, type ChildProcess, type SpawnOptions, type StdioOptions } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { programPath } from '../built.ts';

/** The descriptor that is its socket to us. */
const LAUNCHER = 3;

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

/** Our end of a keeper's socket. Closed, it tells one that is tied to us, or that waits, that nobody needs it any more. */
export function socketOf(keeper: ChildProcess): Duplex {
  return keeper.stdio[LAUNCHER] as Duplex;
}

let early: ChildProcess | undefined;

/** Begins a keeper for the session that is to come. When that fails there is none, and no harm done. */
export function beginKeeper(): void {
  try {
    const command = [programPath('keeper'), '--later', ...daemonCommand()];
    early = spawnKeeper(command, ['ignore', 'ignore', 'ignore', 'pipe']);
    early.on('error', () => {});
    socketOf(early).on('error', () => {});
  } catch {
    // It is said when one is needed.
  }
}

/** The keeper that was begun, if it waits still: for one session, with the descriptor of its socket. */
export function takeKeeper(): { process: ChildProcess; fd: number } | undefined {
  const taken = early;
  early = undefined;
  if (taken?.pid === undefined) return undefined;
  const socket = socketOf(taken);
  // oxlint-disable-next-line no-underscore-dangle -- Node documents no way to it
  const { fd } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
  if (fd !== undefined && fd >= 0 && taken.exitCode === null && taken.signalCode === null) {
    return { process: taken, fd };
  }
  socket.destroy();
  return undefined;
}

/** Has the keeper that was begun end, if no session took it. */
export async function dropKeeper(): Promise<void> {
  const dropped = takeKeeper()?.process;
  if (dropped === undefined) return;
  const ended = new Promise((resolve) => dropped.once('exit', resolve));
  socketOf(dropped).destroy();
  await ended;
}
