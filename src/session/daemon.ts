/**
 * The daemon of one session: a program of its own, started by the keeper. This thread is control (keeper, socket,
 * signals, log); the worker thread is the filesystem.
 *
 * Everything is loaded before `ready` is said. From then on no path is opened, no module loaded and no process started:
 * what they would need may lie under the very mount that is served. For root the process has no path left to open.
 * With fuse-native this process mounts, so it stays where it is, and this thread is the filesystem as well.
 */
// Before all else: it starts the thread.
import { options as told, thread } from './filesystem-thread.ts';
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { LibfuseWorker } from '../fuse/libfuse-worker.ts';
import { HISTORY_DEFAULT } from '../fuse/history.ts';
import type { LowerData, UpperData, WorkerData } from '../fuse/worker-data.ts';
import { describe, Log } from '../log.ts';
import { native } from '../native.ts';
import { PROTOCOL, readLines, serve, SOCKET_NAME } from './control.ts';
import type { DaemonOptions } from './daemon-options.ts';
import {
  ARENA,
  type Descriptors,
  inherited,
  KEEPER,
  LOG,
  PACKETS,
  receive,
} from './descriptors.ts';
import { type Answered, Questions } from './questions.ts';

/** So long nothing is to be asked for, before a rehearsal takes one processor and the compiler another. */
const QUIET_MS = 300;

/** How long a question to the worker may take before its asker is told so. */
const WORKER_MS = 30_000;
/** One whose answer takes a look at all that has changed: a million paths take seconds, and much longer with all there is to tell. */
const WALK_MS = 600_000;

interface WorkerMessage extends Partial<Answered> {
  /** `ready`, `mounted`, `busy`, `ended`, or `log` with `message`; absent in an answer. */
  type?: string;
  message?: string;
}

const log = new Log(LOG);

class Daemon {
  readonly #options: DaemonOptions;
  readonly #folder: number;
  readonly #keeper: Socket;
  readonly #worker: Worker | LibfuseWorker;
  readonly #wakeFd: number;
  readonly #questions: Questions;
  readonly #warned = new Set<string>();
  readonly #unmounts: { resolve(): void; reject(error: Error): void }[] = [];
  #quiet: NodeJS.Timeout | undefined;
  #isGuarded = true;
  #isReady = false;

  /** @param startLibfuse  makes what there is instead of a thread, with the option of that name. */
  constructor(
    options: DaemonOptions,
    descriptors: Descriptors,
    startLibfuse: ((data: WorkerData) => LibfuseWorker) | undefined,
  ) {
    this.#options = options;
    this.#folder = descriptors.folder;
    this.#keeper = new Socket({ fd: KEEPER, readable: true, writable: true });
    this.#wakeFd = native.eventfd();
    const data: WorkerData = {
      lowers: lowersOf(options, descriptors),
      links: options.links,
      ids: options.ids,
      arenaFd: ARENA,
      limitBytes: options.limitBytes,
      io: options.io,
      ...upperOf(options, descriptors),
      wakeFd: this.#wakeFd,
      readonly: options.readonly,
      rehearses: options.rehearses,
      presentation: options.presentation,
      historyEntries: options.historyEntries ?? HISTORY_DEFAULT,
    };
    const worker = thread ?? startLibfuse?.(data);
    if (worker === undefined) throw new Error('there is nothing that serves');
    this.#worker = worker;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
    if (worker instanceof Worker) worker.postMessage(data);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
    this.#questions = new Questions((question) => worker.postMessage(question), {
      silence: () => new Error('the filesystem does not answer'),
      refusal: (message) => new Error(message),
    });
    this.#worker.on('message', (message: WorkerMessage) => this.#fromWorker(message));
    this.#worker.on('error', (error) => this.#die('the filesystem failed', error));
    if (this.#worker instanceof Worker) {
      this.#worker.on('exit', (code) => this.#die(`the filesystem ended with code ${code}`));
    }
    readLines(this.#keeper, Infinity, (line) => this.#fromKeeper(line));
    this.#keeper.on('error', () => {});
    this.#keeper.on('close', () => {
      this.#isGuarded = false;
      log.write('the keeper has gone: nobody unmounts when this process dies');
      for (const waiting of this.#unmounts.splice(0))
        waiting.reject(new Error('the keeper has gone'));
    });
    // A bug in the control of a session must not end it.
    process.on('uncaughtException', (error) => {
      if (!this.#isReady) this.#die('the daemon cannot start', error);
      log.write(`a bug: ${describe(error)}`);
    });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        log.write(signal);
        this.#unmount().catch((error: unknown) => log.write(describe(error)));
      });
    }
  }

  #fromWorker(message: WorkerMessage): void {
    switch (message.type) {
      case 'ready':
        this.#getReady().catch((error: unknown) => this.#die('the daemon cannot start', error));
        return;
      case 'mounted':
        this.#keeper.write('mounted\n');
        return;
      case 'busy':
        this.#wakeWhenQuiet();
        return;
      case 'ended':
        this.#exit(0);
        return;
      case 'log':
        // Not to be said again when `status` meets it.
        this.#warned.add(message.message ?? '');
        log.write(message.message ?? '');
        return;
    }
    this.#questions.answered(message);
  }

  /** The worker has loaded everything: listens, leaves every path behind, and asks to be mounted. */
  async #getReady(): Promise<void> {
    const greeting = { protocol: PROTOCOL, name: this.#options.name, pid: process.pid };
    // Of a daemon that died: this one has the upper's lock by now, so nobody listens there.
    native.unlinkat(this.#folder, SOCKET_NAME, 0);
    // Through the folder's descriptor: its path may be too long for a socket.
    await serve(
      `/proc/self/fd/${this.#folder}/${SOCKET_NAME}`,
      greeting,
      (call, args, connection) => this.#answer(call, args, connection),
    );
    native.close(this.#folder);
    if (this.#options.isolated) {
      const left = native.enterEmptyRoot();
      if (left < 0) throw new Error(`cannot leave the mounts behind: errno ${-left}`);
    }
    this.#isReady = true;
    this.#keeper.write('ready\n');
  }

  /** Idle moments begin with a wake-up; whether it is one, the worker sees. */
  #wakeWhenQuiet(): void {
    if (this.#quiet !== undefined) return;
    this.#quiet = setTimeout(() => {
      this.#quiet = undefined;
      native.wake(this.#wakeFd);
    }, QUIET_MS);
  }

  #fromKeeper(line: string): void {
    if (line === 'mounted') {
      // The device was sent before this line, so this does not wait.
      const message = native.receiveMessage(PACKETS);
      if (typeof message === 'number' || message.fd < 0) {
        this.#die('no device came from the keeper');
        return;
      }
      native.close(PACKETS);
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      this.#worker.postMessage({ type: 'serve', device: message.fd });
      this.#wakeWhenQuiet();
    } else if (line === 'mount') {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- no window
      this.#worker.postMessage({ type: 'mount' });
    } else if (line === 'detached') {
      log.write('unmounted; serving until the last file is closed');
      for (const waiting of this.#unmounts.splice(0)) waiting.resolve();
    } else if (line.startsWith('stays ')) {
      const error = new Error(`cannot unmount: ${line.slice('stays '.length)}`);
      for (const waiting of this.#unmounts.splice(0)) waiting.reject(error);
    }
  }

  async #answer(call: string, args: unknown, connection: Socket): Promise<unknown> {
    switch (call) {
      case 'status': {
        const status = (await this.#ask('status', args)) as { warnings?: string[] };
        for (const warning of status.warnings ?? []) {
          if (this.#warned.has(warning)) continue;
          this.#warned.add(warning);
          log.write(warning);
        }
        return { ...status, isGuarded: this.#isGuarded };
      }
      case 'diff': {
        const part = (await this.#ask(call, args, WALK_MS)) as { done: boolean; listing: number };
        const isBegun = (args as { from?: number } | undefined)?.from === 0;
        if (isBegun && !part.done)
          this.#whenGone(connection, 'diff-end', { listing: part.listing });
        return part;
      }
      case 'undo':
        return this.#ask(call, args, WALK_MS);
      case 'statistics':
      case 'writes':
      case 'told':
      case 'snapshot-entries':
      case 'snapshot-content':
      case 'snapshot-end':
        return this.#ask(call, args);
      case 'snapshot':
      case 'comparison': {
        const taken = (await this.#ask(call, args, WALK_MS)) as { snapshot: number };
        this.#whenGone(connection, 'snapshot-end', { snapshot: taken.snapshot });
        return taken;
      }
      case 'unmount':
        return this.#unmount();
      default:
        throw new Error(`this daemon knows no '${call}'`);
    }
  }

  /** Has the worker let go of something when whoever asked for it has gone, or was killed. */
  #whenGone(connection: Socket, call: string, args: unknown): void {
    const end = () => void this.#ask(call, args).catch(() => {});
    if (connection.destroyed) end();
    else connection.once('close', end);
  }

  /** Asks the worker, which looks up between two requests of the kernel. */
  #ask(call: string, args: unknown, limitMs: number = WORKER_MS): Promise<unknown> {
    const answer = this.#questions.ask(call, args, limitMs);
    native.wake(this.#wakeFd);
    return answer;
  }

  /** Asks the keeper, the only one who can. */
  #unmount(): Promise<void> {
    if (!this.#isGuarded) return Promise.reject(new Error('the keeper has gone'));
    return new Promise((resolve, reject) => {
      this.#unmounts.push({ resolve, reject });
      this.#keeper.write('unmount\n');
    });
  }

  #die(why: string, cause?: unknown): never {
    log.write(cause === undefined ? why : `${why}: ${describe(cause)}`);
    const brief = cause instanceof Error ? `${why}: ${cause.message}` : why;
    try {
      // Tells the launcher, when it still waits. The keeper takes lines of 255 bytes.
      writeSync(KEEPER, `failed ${brief.replaceAll('\n', ' ').slice(0, 200)}\n`);
    } catch {
      // The keeper has gone, or is told by our end.
    }
    return this.#exit(1);
  }

  /** At once: nothing is left to be written, and to take V8 down takes ten milliseconds. */
  #exit(code: number): never {
    return native.exit(code);
  }
}

/** The descriptor itself stays open: the lock on the folder goes with it. */
function upperOf(
  { io, upper, upperNames, withoutRedirects, metacopy }: DaemonOptions,
  descriptors: Descriptors,
): { upper?: UpperData } {
  if (descriptors.upper === undefined) return {};
  return {
    upper: {
      fd: io === 'passthrough' ? withoutAtime(descriptors.upper) : native.dup(descriptors.upper),
      ...(descriptors.work !== undefined && { workFd: native.dup(descriptors.work) }),
      isDurable: upper === 'disk',
      redirects: withoutRedirects !== true,
      metacopy: metacopy === true,
      isUsers: process.getuid?.() !== 0,
      ...(upperNames !== undefined && { names: upperNames }),
    },
  };
}

/** The kernel opens files there as programs do, whose reads would change access times. */
function withoutAtime(fd: number): number {
  const bound = native.detachedWritableBind(fd, true);
  return bound < 0 ? native.dup(fd) : bound;
}

function lowersOf(
  { commit, hasAufsWhiteouts }: DaemonOptions,
  { lowers: fds }: Descriptors,
): LowerData[] {
  return commit === undefined
    ? fds.map((fd) => ({ kind: 'directory', fd, hasAufsWhiteouts: hasAufsWhiteouts === true }))
    : [{ kind: 'commit', fds, ...commit }];
}

/** Held by what it listens to. */
async function start(options: DaemonOptions, descriptors: Descriptors): Promise<void> {
  process.title = `ostree-ts: session ${options.name}`;
  const { libfuse, name } = options;
  if (libfuse === undefined) return void new Daemon(options, descriptors, undefined);
  // Not needed by those whom the kernel client serves.
  const { LibfuseWorker } = await import('../fuse/libfuse-worker.ts');
  void new Daemon(options, descriptors, (data) => new LibfuseWorker(data, { ...libfuse, name }));
}

function begin(): Promise<void> {
  if (told !== undefined) return start(told, inherited(told));
  const received = receive();
  // The command that began it needs no session.
  if (received === undefined) return native.exit(0);
  return start(received.options, received.descriptors);
}

begin().catch((error: unknown) => {
  process.stderr.write(`${describe(error)}\n`);
  process.exit(1);
});
