/**
 * The thread that is the filesystem: builds layers and overlay, says ready, is given the mounted device, and from then on
 * does nothing but serve it, blocked in the channel between requests. Run by the daemon's main thread as a worker.
 *
 *   main -> worker   WorkerData, { type: 'serve', device }, { id, call, args } and a wake-up
 *   worker -> main   { type: 'ready' }, { type: 'busy' }, { type: 'log', message }, { id, result } or { id, error }, { type: 'ended' }
 */
import type { MessagePort } from 'node:worker_threads';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { NotYet } from '../errors.ts';
import type { Native } from '../native.ts';
import { native } from '../native.ts';
import { STATISTICS } from '../native-channel.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import { ENODEV } from './abi.ts';
import { assemble } from './assemble.ts';
import type { Assembled } from './assemble.ts';
import { Control, NEARLY_FULL, nearlyFull } from './control.ts';
import type { Subject } from './control.ts';
import { MAX_WRITE } from './negotiate.ts';
import type { Undone } from '../overlay/undo.ts';
import { History } from './history.ts';
import { Notifier } from './notify.ts';
import { backingDevice, Passthrough } from './passthrough.ts';
import { Programs } from './programs.ts';
import { Rehearsal } from './rehearsal.ts';
import { Server } from './server.ts';
import { operationStatistics } from './statistics.ts';
import { Snapshots } from './snapshots.ts';
import { Unwritten } from './unwritten.ts';
import type { WorkerData } from './worker-data.ts';

interface Message {
  type?: string;
  device?: number;
  id?: number;
  call?: string;
  args?: unknown;
}

/**
 * How much V8 lets its heap grow, in percent of what is alive, before it collects: what a walk leaves is alive, and with
 * V8's own choice as much again lies about as garbage. Marking costs a walk of 100,000 files no time that could be measured.
 */
const GROWTH_PERCENT = 40;

/** Threads that wait for slow disks, so that metadata need not. */
const READERS = 4;

/** A session that is in use each time one looks has long had compiled what it runs. */
const BUSY_MAX = 100;

/** Requests between two looks at how full the upper is. */
const LOOK_INTERVAL = 256;

/** Part of the limit at which a session counts as relieved, and would be warned about again. */
const RELIEVED = 0.8;

/**
 * Files forgotten at least, three in four of those known, before their memory is collected. V8 alone would leave the
 * garbage of a walk of 140,000 files (100 MB) lying until the next walk has made as much again; collecting takes time
 * for what is alive, and that is little then.
 */
const FORGOTTEN_MIN = 20_000;

class Worker {
  readonly #port: MessagePort;
  readonly #data: WorkerData;
  readonly #native: Native;
  readonly #overlay: Assembled['overlay'];
  readonly #late: Assembled['late'];
  readonly #filesystem: Filesystem;
  readonly #nameOf: Assembled['nameOf'];
  readonly #subject: Subject;
  readonly #control: Control;
  #collect: (() => void) | undefined;
  readonly #history: History | undefined;
  /** With a directory of /proc, opened while there is a path to it. */
  readonly #programs: Programs | undefined;
  readonly #rehearsal: Rehearsal;
  /** Requests, when it was last seen whether there are any. */
  #served = 0;
  /** How often there were some. */
  #busy = 0;
  #isNearlyFull = false;
  /** The most files known since memory was last collected. */
  #peak = 0;

  constructor(port: MessagePort, data: WorkerData, addon: Native) {
    this.#port = port;
    this.#data = data;
    this.#native = addon;
    const { overlay, late, filesystem, problems, nameOf } = assemble(addon, data, (message) =>
      this.#log(message),
    );
    this.#overlay = overlay;
    this.#late = late;
    this.#nameOf = nameOf;
    this.#filesystem = filesystem;
    if (data.historyEntries > 0) {
      this.#programs = new Programs(addon);
      this.#history = new History(this.#programs, filesystem, data.historyEntries);
    }
    this.#subject = {
      ...(this.#history !== undefined && { history: this.#history }),
      overlay,
      late,
      problems,
      snapshots: new Snapshots(addon, data, overlay),
    };
    this.#control = new Control(this.#subject);
    this.#rehearsal = new Rehearsal(addon, data.upper, this.#programs);
  }

  start(): void {
    if (this.#data.rehearses === 'before') {
      this.#collect ??= collector();
      this.#rehearsal.prepare();
    }
    this.#port.on('message', (message: Message) => this.#take(message));
    this.#post({ type: 'ready' });
  }

  #take(message: Message): void {
    if (message.type === 'serve' && message.device !== undefined) {
      this.#serve(message.device);
    } else if (message.id !== undefined && message.call !== undefined) {
      this.#post(this.#answer(message.id, message.call, message.args));
    }
  }

  #answer(
    id: number,
    call: string,
    args: unknown,
  ): { id: number; result?: unknown; error?: string } {
    try {
      return { id, result: this.#control.answer(call, args) };
    } catch (error) {
      if (error instanceof NotYet) {
        error.job.wait();
        return this.#answer(id, call, args);
      }
      return { id, error: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Serves until the mount is gone; the event loop stands still meanwhile. */
  #serve(device: number): void {
    const { wakeFd } = this.#data;
    const channel = new this.#native.Channel({
      fd: device,
      wakeFd,
      requestBytes: MAX_WRITE + 4096,
      memoryFd: this.#data.arenaFd,
      threads: READERS,
    });
    const notifier = new Notifier(channel);
    const passthrough = this.#passthrough(device, notifier);
    const server = new Server({
      channel,
      passthrough,
      unwritten: new Unwritten(notifier),
      filesystem: this.#filesystem,
      late: this.#late,
      begun: this.#overlay.begun,
      log: (message) => this.#log(message),
      history: this.#history,
      onWake: () => this.#drain(),
      onIdle: () => this.#settle(server),
      wake: () => void this.#native.wake(wakeFd),
      onInterval: { requests: LOOK_INTERVAL, look: () => this.#look() },
    });
    this.#subject.server = server;
    this.#subject.isTold = () => notifier.isWritten();
    this.#subject.undo = (paths) => {
      if (this.#data.readonly) throw new Error('the session is read-only');
      return this.#overlay.undo(paths, (undone) => this.#announce(notifier, undone));
    };
    if (passthrough !== undefined) {
      const { problems } = this.#subject;
      this.#subject.problems = () => [...(problems?.() ?? []), ...passthrough.problems];
    }
    const statistics = new BigUint64Array(channel.statistics);
    this.#subject.refused = () => Number(statistics[STATISTICS.REFUSED] ?? 0n);
    this.#subject.operations = () => operationStatistics(statistics);
    this.#overlay.readAhead(new Uint32Array(channel.statistics, 8 * STATISTICS.WAITED, 1));
    const end = server.run();
    this.#rehearsal[Symbol.dispose]();
    if (end !== -ENODEV) this.#log(`the device failed: errno ${-end}`);
    channel.close();
    this.#native.close(device);
    this.#programs?.close();
    this.#overlay.close();
    this.#post({ type: 'ended' });
    this.#port.close();
  }

  #passthrough(device: number, notifier: Notifier): Passthrough | undefined {
    if (this.#data.io === 'cached') return undefined;
    return new Passthrough({
      device: backingDevice(this.#native, device),
      filesystem: this.#overlay.backed,
      notifier,
      log: (message) => this.#log(message),
      nameOf: this.#nameOf,
    });
  }

  /** Has the kernel look again at what was changed without its asking. */
  #announce(notifier: Notifier, { parent, child, name }: Undone): void {
    if (parent === 0) return;
    const results = [notifier.entry(parent, name), notifier.inode(parent, false)];
    // What is still open has a link less.
    if (child !== 0) results.push(notifier.inode(child, true));
    if (results.some((result) => result < 0)) this.#log('the kernel could not be told of an undo');
  }

  /** Takes up what the main thread has asked while the event loop stood still. */
  #drain(): void {
    while (true) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      this.#take(received.message as Message);
    }
  }

  /** What nobody is to wait for, nor to share the processors with. @returns whether there is more to do at once. */
  #settle(server: Server): boolean {
    this.#collect ??= collector();
    if (this.#data.rehearses === 'never' || this.#rehearsal.isOver) return false;
    const before = this.#served;
    this.#served = server.served;
    if (this.#served === before) {
      const hasMore = this.#rehearsal.proceed();
      // What a rehearsal leaves would be collected while programs wait; now it is, once, in 15 ms.
      if (!hasMore) this.#collect();
      return hasMore;
    }
    if (++this.#busy < BUSY_MAX) this.#post({ type: 'busy' });
    else this.#rehearsal[Symbol.dispose]();
    return false;
  }

  /** Between requests, now and then: how full, how much to collect. */
  #look(): void {
    const { used, limit, inodes } = this.#overlay.usage();
    this.#peak = Math.max(this.#peak, inodes);
    this.#collect ??= collector();
    if (this.#peak - inodes >= FORGOTTEN_MIN && 4 * inodes <= this.#peak) {
      this.#collect();
      this.#peak = inodes;
    }
    // Said once, and again after it was not so.
    if (used >= NEARLY_FULL * limit) {
      if (!this.#isNearlyFull) this.#log(nearlyFull(used, limit));
      this.#isNearlyFull = true;
    } else if (used < RELIEVED * limit) {
      this.#isNearlyFull = false;
    }
  }

  #post(message: object): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port has no origin
    this.#port.postMessage(message);
  }

  #log(message: string): void {
    this.#post({ type: 'log', message });
  }
}

/**
 * Bounds V8's garbage. As flags of the daemon's command they would make Node distrust what it has compiled beforehand: its
 * start took 36 ms more.
 *
 * @returns V8's collector, which only a context that is made after the flag was set can see.
 */
function collector(): () => void {
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
  setFlagsFromString('--expose-gc');
  return process.getBuiltinModule('node:vm').runInNewContext('gc') as () => void;
}

const port = parentPort;
if (port === null) throw new Error('this module runs in a worker thread only');
port.once('message', (data: WorkerData) => new Worker(port, data, native).start());
