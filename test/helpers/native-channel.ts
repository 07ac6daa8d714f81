/**
 * A minimal file system behind a channel, for test/native-channel.test.ts: run by node in a mount namespace of its own,
 * with an IPC channel to the test. The main thread mounts and passes messages on; a worker answers the kernel.
 *
 * Names: those of `files`, of which `greedy` is always answered whole, and `brief` from descriptors that are closed when the
 * next request comes; `refused` (the reply to its lookup is malformed),
 * `held` (its lookup is answered twice, after the call `release` only); no others. Reads come unchanged to us (FOPEN_DIRECT_IO).
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import {
  isMainThread,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { native } from '../../src/native.ts';
import type { Channel } from '../../src/native-channel.ts';

export interface Piece {
  /** A file of the host; `memory` for a memfd with this content; neither for zeros. */
  path?: string;
  memory?: string;
  offset: number;
  length: number;
}

export interface Setup {
  mountpoint: string;
  threads: number;
  /** `size` is what stat(2) shows and how far the kernel reads. */
  files: Record<string, { size: number; pieces: Piece[] }>;
}

export interface Request {
  id: number;
  call: 'statistics' | 'release' | 'resize' | 'drain' | 'malformed-notification';
  name?: string;
  size?: number;
}

const OP = { LOOKUP: 1, GETATTR: 3, OPEN: 14, READ: 15, WRITE: 16, INIT: 26 };
const SILENT = new Set([2, 36, 42]);
const FOREVER = 1_000_000;
const ENODEV = -19;

class Responder {
  readonly #channel: Channel;
  readonly #request: DataView;
  readonly #reply: DataView;
  readonly #bytes: Uint8Array;
  readonly #names: string[];
  readonly #files: { size: number; segments: number[][] }[];
  #held: bigint[] = [];
  #wakes = 0;
  #written = '';

  constructor(setup: Setup, fd: number, wakeFd: number) {
    this.#names = Object.keys(setup.files);
    this.#files = Object.values(setup.files).map(({ size, pieces }) => ({
      size,
      segments: pieces.map((piece) => [open(piece), piece.offset, piece.length]),
    }));
    this.#channel = new native.Channel({
      fd,
      wakeFd,
      requestBytes: (1 << 20) + 4096,
      threads: setup.threads,
    });
    this.#request = new DataView(this.#channel.request);
    this.#reply = new DataView(this.#channel.reply);
    this.#bytes = new Uint8Array(this.#channel.reply);
  }

  run(): number {
    let length = this.#channel.receive();
    while (length >= 0) {
      if (length === 0) {
        this.#wakes++;
        this.#answerCalls();
        length = this.#channel.receive();
      } else {
        length = this.#serve(length);
      }
    }
    this.#channel.close();
    return length;
  }

  #serve(length: number): number {
    const view = this.#request;
    const opcode = view.getUint32(4, true);
    if (SILENT.has(opcode)) return this.#channel.receive();
    this.#bytes.fill(0, 0, 256);
    this.#reply.setBigUint64(8, view.getBigUint64(8, true), true);
    switch (opcode) {
      case OP.INIT:
        // Protocol 7.31; ASYNC_READ, BIG_WRITES, MAX_PAGES: 256 pages, 1 MiB.
        [7, 31, 1 << 20, 0x400021, 0, 1 << 20, 1, 256].forEach((value, index) =>
          this.#reply.setUint32(16 + 4 * index, value, true),
        );
        this.#reply.setUint32(32, 12, true);
        return this.#finish(64);
      case OP.GETATTR:
        this.#reply.setUint32(16, FOREVER, true);
        this.#attr(32, view.getUint32(16, true));
        return this.#finish(104);
      case OP.LOOKUP:
        return this.#lookup(Buffer.from(this.#channel.request, 40, length - 41).toString('latin1'));
      case OP.OPEN:
        this.#reply.setUint32(24, 1, true);
        return this.#finish(16);
      case OP.READ:
        return this.#read(Number(view.getBigUint64(48, true)), view.getUint32(56, true));
      case OP.WRITE: {
        const data = new Uint8Array(this.#channel.request, 80, length - 80);
        this.#written = `${data.length} ${data[0]} ${data.at(-1)}`;
        this.#reply.setUint32(16, data.length, true);
        return this.#finish(8);
      }
      default:
        return this.#finish(0, -38);
    }
  }

  #lookup(name: string): number {
    if (name === 'held') {
      this.#held.push(this.#request.getBigUint64(8, true));
      return this.#channel.receive();
    }
    // No fuse_entry_out has 4 bytes.
    if (name === 'refused') return this.#finish(4);
    const index = this.#names.indexOf(name);
    if (index < 0) return this.#finish(0, -2);
    this.#reply.setUint32(16, index + 2, true);
    this.#reply.setUint32(32, FOREVER, true);
    this.#reply.setUint32(40, FOREVER, true);
    this.#attr(56, index + 2);
    return this.#finish(128);
  }

  #read(offset: number, size: number): number {
    const index = this.#request.getUint32(16, true) - 2;
    const file = this.#files[index]!;
    if (this.#names[index] === 'greedy') {
      const all = file.segments.flat();
      return this.#channel.replySegmentsAndReceive(new Float64Array(all), all.length / 3);
    }
    const isBrief = this.#names[index] === 'brief';
    const opened: number[] = [];
    const wanted: number[] = [];
    let at = 0;
    for (const [fd, from, length] of file.segments as [number, number, number][]) {
      const start = Math.max(offset - at, 0);
      const end = Math.min(length, offset + size - at);
      if (start < end) {
        const own = isBrief && fd >= 0 ? native.dup(fd) : fd;
        if (own !== fd) opened.push(own);
        wanted.push(own, from + start, end - start);
      }
      at += length;
    }
    const next = this.#channel.replySegmentsAndReceive(new Float64Array(wanted), wanted.length / 3);
    for (const fd of opened) native.close(fd);
    return next;
  }

  #attr(at: number, nodeid: number): void {
    this.#reply.setUint32(at, nodeid, true);
    this.#reply.setBigUint64(at + 8, BigInt(this.#files[nodeid - 2]?.size ?? 0), true);
    this.#reply.setUint32(at + 60, nodeid === 1 ? 0o40755 : 0o100644, true);
    this.#reply.setUint32(at + 64, 1, true);
  }

  #finish(body: number, error = 0): number {
    this.#header(body, error);
    return this.#channel.replyAndReceive(16 + body);
  }

  #header(body: number, error: number): void {
    this.#reply.setUint32(0, 16 + body, true);
    this.#reply.setInt32(4, error, true);
  }

  #answerCalls(): void {
    for (;;) {
      const received = receiveMessageOnPort(parentPort!);
      if (!received) return;
      const { id, ...request } = received.message as Request;
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      parentPort!.postMessage({ id, result: this.#answer(request) });
    }
  }

  #answer({ call, name, size }: Omit<Request, 'id'>): unknown {
    switch (call) {
      case 'statistics': {
        const counters = new BigUint64Array(this.#channel.statistics);
        return {
          counters: Array.from(counters, Number),
          wakes: this.#wakes,
          written: this.#written,
          descriptors: readdirSync('/proc/self/fd').length,
        };
      }
      case 'release':
        return this.#held.splice(0).map((unique) => {
          this.#reply.setBigUint64(8, unique, true);
          this.#header(0, -2);
          return [this.#channel.send(16), this.#channel.send(16)];
        });
      case 'resize': {
        const index = this.#names.indexOf(name!);
        this.#files[index]!.size = size!;
        // FUSE_NOTIFY_INVAL_INODE: ino, off -1 (attributes only), len 0.
        const message = new DataView(new ArrayBuffer(40));
        message.setUint32(0, 40, true);
        message.setInt32(4, 2, true);
        message.setUint32(16, index + 2, true);
        message.setBigInt64(24, -1n, true);
        return this.#channel.notify(new Uint8Array(message.buffer));
      }
      case 'malformed-notification':
        return this.#channel.notify(new Uint8Array(16));
      case 'drain':
        this.#channel.drain();
    }
    return 0;
  }
}

function open({ path, memory }: Piece): number {
  if (path !== undefined) return native.open(path, 0, 0);
  if (memory === undefined) return -1;
  const fd = native.memfd('piece');
  native.pwrite(fd, Buffer.from(memory), 0);
  return fd;
}

/** Mounts, and joins the test with the worker. */
function main(): void {
  const setup = JSON.parse(process.argv[2]!) as Setup;
  const fd = native.open('/dev/fuse', 2, 0);
  const options = `fd=3,rootmode=40000,user_id=0,group_id=0`;
  const mount = spawnSync(
    'mount',
    ['-i', '-t', 'fuse', '-o', options, 'channel', setup.mountpoint],
    {
      stdio: ['ignore', 'inherit', 'inherit', fd],
    },
  );
  if (mount.status !== 0) throw new Error(`mount: ${mount.status}`);
  const wakeFd = native.eventfd();
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { setup, fd, wakeFd } });
  worker.on('message', (message) => process.send!(message as object));
  worker.once('exit', () => process.exit());
  process.on('message', (request) => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(request);
    native.wake(wakeFd);
  });
  process.send!({ id: 0 });
}

if (isMainThread) {
  main();
} else {
  const { setup, fd, wakeFd } = workerData as { setup: Setup; fd: number; wakeFd: number };
  const result = new Responder(setup, fd, wakeFd).run();
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage({ id: -1, result: result === ENODEV ? 'ENODEV' : result });
  parentPort!.close();
}
