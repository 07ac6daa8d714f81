/**
 * Stands in for the worker thread where `fuse-native` serves the filesystem: the same messages, on the main thread, which
 * alone the package can work on. Its requests and the questions of control take turns on one event loop.
 *
 *   in    { type: 'mount' }, { id, call, args }
 *   out   { type: 'ready' }, { type: 'mounted' }, { type: 'log', message }, { id, result } or { id, error }, { type: 'ended' }
 */
import { EventEmitter } from 'node:events';
import { NotYet } from '../errors.ts';
import { native } from '../native.ts';
import { assemble } from './assemble.ts';
import { Control } from './control.ts';
import type { MountOptions } from './libfuse-mount.ts';
import { loadFuseNative, mountLibfuse } from './libfuse-mount.ts';
import { Paths } from './libfuse.ts';
import { Snapshots } from './snapshots.ts';
import type { WorkerData } from './worker-data.ts';

interface Message {
  type?: string;
  /** Never: there is no device to be handed over. */
  device?: number;
  id?: number;
  call?: string;
  args?: unknown;
}

export class LibfuseWorker extends EventEmitter<{ message: [object]; error: [unknown] }> {
  readonly #paths: Paths;
  readonly #control: Control;
  readonly #mount: MountOptions;
  readonly #close: () => void;

  constructor(data: WorkerData, mount: MountOptions) {
    super();
    // Now, while there is a path to it.
    loadFuseNative();
    this.#mount = mount;
    const log = (message: string) => this.#say({ type: 'log', message });
    const { overlay, problems } = assemble(native, data, log);
    const caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: 0 };
    this.#paths = new Paths({ filesystem: overlay, native, caller, log });
    const snapshots = new Snapshots(native, data, overlay);
    this.#control = new Control({ overlay, problems, server: this.#paths.calls, snapshots });
    this.#close = () => overlay.close();
    setImmediate(() => this.#say({ type: 'ready' }));
  }

  /** Takes a message, as a worker thread's port does. */
  postMessage(message: Message): void {
    if (message.type === 'mount') {
      mountLibfuse(this.#paths, this.#mount, () => this.#end()).then(
        () => this.#say({ type: 'mounted' }),
        (error: unknown) => this.emit('error', error),
      );
    } else if (message.id !== undefined && message.call !== undefined) {
      this.#say(this.#answer(message.id, message.call, message.args));
    }
  }

  #answer(id: number, call: string, args: unknown): object {
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

  #end(): void {
    this.#close();
    this.#say({ type: 'ended' });
  }

  #say(message: object): void {
    this.emit('message', message);
  }
}
