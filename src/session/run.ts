/** One command in a session that only it and its children see, and that ends with it. */
import { existsSync, openSync, closeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { SessionError, UsageError } from '../errors.ts';
import type { IdMaps } from '../layers/ids.ts';
import { bytes, type HostPath, realPath, shown } from './checks.ts';
import { OWN_PLACE, release } from './folders.ts';
import { additions, inPlace, inRoot } from './inside.ts';
import { socketOf } from './keeper-process.ts';
import { launch, type Launched, type Secluded } from './launcher.ts';
import type { UnlockOptions } from './options.ts';
import type { SessionRecord } from './record.ts';
import { exit } from './processes.ts';
import { Runner } from './runner.ts';
import { innerShell, ownShell } from './shell.ts';
import { logTail } from './status.ts';
import { findIdMaps, isSingle } from './user-ids.ts';

export interface RunOptions extends Omit<UnlockOptions, 'mountpoint' | 'foreground'> {
  /** A program and its arguments; the user's shell when left out. */
  command?: HostPath[];
  /** Where the command sees the session: over the source when left out; of a commit, in the session's own folder. */
  at?: HostPath;
  /** The session is the command's root. */
  chroot?: boolean;
  /** /etc and /var are sessions, too. */
  protectEtcVar?: boolean;
  /** What changed is kept when the command has ended, by a session of this name on a tmpfs. */
  keep?: string;
  /** Where the command starts, when it has no root of its own: the current directory when left out. */
  cwd?: string;
}

/** The command could not be run: 127 when there is none, 126 when it is not for us. */
export class CommandError extends SessionError {
  override readonly name: string = 'CommandError';
  readonly exitCode: 126 | 127;

  constructor(message: string, exitCode: 126 | 127) {
    super(message, 'see that it is there, and for you, in the session as well');
    this.exitCode = exitCode;
  }
}

const ENOENT = 2;
/** A command that stands still may have been woken again: then a word of that is on its way. */
const STANDSTILL_MS = 20;
/** Passed on to the command. With a terminal it has had what is typed there. */
const PASSED = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
const TYPED = ['SIGINT', 'SIGQUIT'] as const;
const PROTECTED = ['/etc', '/var'];

/**
 * Runs a command in a session of its own, with this process's standard streams, and ends the session.
 *
 * @returns the command's exit code; 128 and the signal, when it was killed by one.
 * @throws CommandError it cannot be run. SessionError the session cannot start, or broke. UsageError options that make no
 * sense together.
 */
export async function run(options: RunOptions): Promise<number> {
  check(options);
  const ids = process.getuid?.() === 0 ? undefined : findIdMaps();
  if (ids !== undefined && isSingle(ids) && options.chroot === true) {
    options.onWarning?.(
      'you have no subordinate ids (/etc/subuid, newuidmap), so that everything in the session belongs to one user: packages cannot be installed',
    );
  }
  const launched: Launched[] = [];
  // Meanwhile it starts.
  const runner = new Runner(options.chroot === true, ids !== undefined);
  try {
    const first = await launch(sessionOptions(options), seclusion(options, ids));
    launched.push(first);
    if (options.protectEtcVar === true) launched.push(...(await protect(options, first, ids)));
    return await new Running(options, runner, launched, ids).ended;
  } finally {
    await runner.end();
    await Promise.all(launched.map(end));
  }
}

function check({ command, chroot, at, keep, name, upper, protectEtcVar }: RunOptions): void {
  if (command?.length === 0) {
    throw new UsageError('the command is empty', 'name a program, or leave it out for a shell');
  }
  if (chroot === true && at !== undefined) {
    throw new UsageError('with chroot the session is at /', 'leave one of the two out');
  }
  if (chroot === true && protectEtcVar === true) {
    throw new UsageError(
      "with chroot /etc and /var are the session's own",
      'leave one of the two out',
    );
  }
  if (keep !== undefined && (name ?? keep) !== keep) {
    throw new UsageError('keep names the session, and so does name', 'leave name out');
  }
  if (keep !== undefined && (upper ?? 'tmpfs') !== 'tmpfs') {
    throw new UsageError('what is kept is kept on a tmpfs', 'leave the upper out');
  }
  if (keep !== undefined && process.getuid?.() !== 0) {
    throw new SessionError(
      "an ordinary user's run keeps its changes in memory, and they end with it",
      'leave keep out, or do it as root',
    );
  }
}

function sessionOptions(options: RunOptions): UnlockOptions {
  const { keep, at } = options;
  return {
    ...options,
    foreground: true,
    ...(at !== undefined && { mountpoint: at }),
    ...(keep !== undefined && { name: keep, upper: 'tmpfs' }),
  };
}

function seclusion({ chroot, repo, at, keep }: RunOptions, ids: IdMaps | undefined): Secluded {
  return {
    ...(ids !== undefined && { ids }),
    keep: keep !== undefined,
    inFolder: chroot === true || (repo !== undefined && at === undefined),
  };
}

/** Starts what a session has kept again, without a command and seen by nobody. */
export async function awaken(record: SessionRecord): Promise<AsyncDisposable> {
  const inFolder = record.mountpoint.endsWith(`/${OWN_PLACE}`);
  const options = { source: [], name: record.name, foreground: true };
  const awake = await launch(options, { keep: true, inFolder });
  return { [Symbol.asyncDispose]: () => end(awake) };
}

/** Sessions over /etc and /var, which end with the first. */
async function protect(
  { size, onWarning }: RunOptions,
  { session, keeper, record }: Launched,
  ids: IdMaps | undefined,
): Promise<Launched[]> {
  const join = keeper?.pid ?? 0;
  const secluded = { ...(ids !== undefined && { ids }), join, keep: false, inFolder: false };
  const places = PROTECTED.filter(
    (path) => existsSync(path) && realPath(path) !== record.mountpoint,
  );
  const outcomes = await Promise.allSettled(
    places.map((path) =>
      launch(
        {
          source: [path],
          name: `${session.name}${path.replace('/', '-')}`,
          foreground: true,
          ...(size !== undefined && { size }),
          ...(onWarning !== undefined && { onWarning }),
        },
        secluded,
      ),
    ),
  );
  const launched = outcomes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = outcomes.find((one) => one.status === 'rejected');
  if (failed === undefined) return launched;
  await Promise.all(launched.map(end));
  throw failed.reason;
}

/** Ends a session of which no process is left; one whose daemon has died is cleaned up, unless its changes are to be kept. */
async function end({ session, keeper, keep }: Launched): Promise<void> {
  if (keeper === undefined) return;
  socketOf(keeper).destroy();
  await exit(keeper);
  if (keeper.exitCode !== 0 && !keep) release(session.folder);
}

/** A command that runs, and what happens to it meanwhile. */
class Running {
  /** The exit code. */
  readonly ended: Promise<number>;
  readonly #runner: Runner;
  readonly #handlers = new Map<NodeJS.Signals, () => void>();
  readonly #program: string;
  #failure: SessionError | undefined;
  #standstill: NodeJS.Timeout | undefined;

  constructor(options: RunOptions, runner: Runner, launched: Launched[], ids: IdMaps | undefined) {
    const [first] = launched;
    const { record, keeper } = first!;
    const { words, program } = commandLine(options, first!, ids);
    this.#program = program;
    this.#runner = runner;
    this.#heed();
    runner.onWord((line) => this.#hear(line));
    runner.tell([String(keeper?.pid), ...words]);
    for (const { keeper: one, session: broken } of launched) {
      one?.once('exit', () => this.#break(broken.folder, shown(record.mountpoint)));
    }
    this.ended = this.#wait();
  }

  async #wait(): Promise<number> {
    try {
      const code = await this.#runner.ended;
      if (this.#failure !== undefined) throw this.#failure;
      return code;
    } finally {
      clearTimeout(this.#standstill);
      for (const [signal, handler] of this.#handlers) process.off(signal, handler);
    }
  }

  /** The session has gone while the command runs: it would go on, on what lies beneath. */
  #break(folder: string, mountpoint: string): void {
    if (this.#runner.isOver) return;
    const last = logTail(folder).at(-1);
    this.#failure ??= new SessionError(
      `the session at ${mountpoint} has ended, and its command with it`,
      last === undefined ? undefined : `the log says: ${last}`,
    );
    this.#runner.process.kill('SIGKILL');
  }

  #heed(): void {
    const pass = (signal: NodeJS.Signals) => this.#runner.process.kill(signal);
    for (const signal of PASSED) this.#on(signal, () => pass(signal));
    this.#on('SIGCONT', () => pass('SIGCONT'));
    // A command that has all of a terminal is a process group of its own: nothing that is typed comes here.
    const isTyped = hasTerminal() && ![0, 1, 2].every((fd) => isatty(fd));
    for (const signal of TYPED) {
      this.#on(signal, () => {
        if (!isTyped) pass(signal);
      });
    }
  }

  #on(signal: NodeJS.Signals, handler: () => void): void {
    this.#handlers.set(signal, handler);
    process.on(signal, handler);
  }

  /** What the runner says of its command. */
  #hear(line: string): void {
    const [kind = '', number = '', ...why] = line.split(' ');
    if (kind === 'failed') {
      this.#failure = new SessionError(
        `the command was not run: ${line.slice('failed '.length)}`,
        'see what is allowed here: ostree-ts doctor',
      );
    } else if (kind === 'exec') {
      this.#failure = new CommandError(
        `cannot run ${this.#program}: ${why.join(' ')}`,
        Number(number) === ENOENT ? 127 : 126,
      );
    } else if (kind === 'stopped') {
      // As a job of the shell that started it, it stands still as a whole.
      this.#standstill = setTimeout(() => process.kill(process.pid, 'SIGSTOP'), STANDSTILL_MS);
    } else if (kind === 'continued') {
      clearTimeout(this.#standstill);
    }
  }
}

function commandLine(
  options: RunOptions,
  { session, record }: Launched,
  ids: IdMaps | undefined,
): { words: HostPath[]; program: string } {
  const isRoot = options.chroot === true;
  const inner = isRoot && options.command === undefined ? innerShell(session.name) : undefined;
  const shell =
    inner ?? (options.command === undefined ? ownShell(session.folder, session.name) : undefined);
  const command = options.command ?? shell?.command ?? [];
  const inFolder = seclusion(options, ids).inFolder;
  const cwd = inFolder ? shown(record.mountpoint) : (options.cwd ?? process.cwd());
  return {
    words: [
      ...(isRoot ? inRoot(record.mountpoint, ids, inner?.files ?? []) : inPlace(cwd)).flat(),
      ...additions(session.name, { ...shell?.env, ...(!isRoot && { PWD: cwd }) }).flat(),
      '--',
      ...command,
    ],
    program: shown(bytes(command[0] ?? '')),
  };
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
