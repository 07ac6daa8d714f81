/** A server over a pretended filesystem and a pretended kernel. */
import { Server } from '../../src/fuse/server.ts';
import type { LateStores } from '../../src/layers/late-stores.ts';
import type { Attr } from '../../src/layers/layer.ts';
import type { Entry, Filesystem } from '../../src/overlay/filesystem.ts';
import { Kernel } from './kernel.ts';
import { stubFilesystem } from './stub-filesystem.ts';

/** Beginning and end of a fuse_open_out, between which are the flags. */
export const NO_HANDLE: string = '00'.repeat(8);
export const NO_BACKING: string = '00'.repeat(4);

/** Times are endless. */
export const FOREVER: number = 0x7fffffff;

export interface Served {
  kernel: Kernel;
  server: Server;
  calls: unknown[][];
  logged: string[];
}

/** A server over these methods and a kernel that has not yet said INIT. */
export function started(
  methods: Partial<Filesystem>,
  options: {
    onBug?: 'answer' | 'rethrow';
    onWake?: () => void;
    readAt?: (fd: number, into: Uint8Array, offset: number) => number;
    canWake?: boolean;
    late?: LateStores;
    /** Told before each reply. */
    onSend?: () => void;
  } = {},
): Served {
  const { onBug = 'rethrow', onWake = () => {}, readAt, late, onSend } = options;
  const { filesystem, calls } = stubFilesystem(methods);
  const kernel = new Kernel(readAt, onSend);
  const logged: string[] = [];
  const log = (message: string): unknown => logged.push(message);
  const wake = options.canWake === true ? { wake: () => kernel.wake() } : {};
  const server = new Server({ channel: kernel, filesystem, late, log, onBug, onWake, ...wake });
  kernel.attach(server);
  return { kernel, server, calls, logged };
}

/** As `started`, connected to a kernel that offers everything. */
export function served(...given: Parameters<typeof started>): Served {
  const result = started(...given);
  result.kernel.init();
  return result;
}

/** Fills in an entry for node `ino`. */
export function found(entry: Entry, ino: number): void {
  entry.ino = ino;
  describe(entry.attr, ino);
}

export function describe(attr: Attr, ino: number): void {
  attr.ino = ino + 100;
  attr.mode = 0o100644;
  attr.nlink = 1;
  attr.size = 5;
}

export const CALLER: { uid: number; gid: number; pid: number } = {
  uid: 1000,
  gid: 1000,
  pid: 4242,
};
