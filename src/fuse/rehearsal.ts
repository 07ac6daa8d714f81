/**
 * Requests that nobody sent, served before the first real one comes, or while none is there. V8 interprets what has not run
 * often, and compiles it when it has: a session that began cold spent three times as long on its first thousands of
 * requests, while the compiler took the other processor from the program that waited for them. What is served is a
 * filesystem of its own, over the folder of these very modules; nothing of it is left but the code.
 */
import { fileURLToPath } from 'node:url';
import { DirectoryLayer } from '../layers/directory.ts';
import { type MemoryNode, MemoryUpper } from '../layers/memory.ts';
import type { Channel, Native } from '../native.ts';
import { Overlay } from '../overlay/overlay.ts';
import * as abi from './abi.ts';
import { Server } from './server.ts';

/** Filesystems, one after another, so that no code is compiled for the objects of one alone. */
const FILESYSTEMS = 3;
/** How often each is looked at; it is changed once, since compiling that as well costs a start more than it brings. */
const PASSES = 4;

/** How much a function may run before V8 looks at it again: in a rehearsal, and what V8 itself takes. */
const BUDGET_REHEARSING = 2_000;
const BUDGET = 132 * 1024;

/** A limit of its own kind for V8, which keeps large numbers apart from small ones: sessions have large ones. */
const LIMIT_BYTES: number = 2 ** 40;

const MEBIBYTE: number = 1 << 20;
const PAGE = 4096;
const O_PATH = 0o10000000;

/** The folder of modules, whether this one is in it or in a bundle. */
const SOURCES: URL = new URL('../../src/', import.meta.url);

/** Folders of modules, and modules of the last. */
const FOLDERS: readonly string[] = ['overlay', 'layers', 'fuse'];
const NAMES: readonly string[] = ['abi', 'codec', 'control', 'exchange', 'negotiate', 'server'];

/** Requests at a time, while real ones may come: they wait a millisecond at most. */
const SLICE = 4;

/** One request of the script. */
interface Step {
  readonly opcode: number;
  /** Whom it is about: an index of the nodes met so far. */
  readonly about: number;
  /** Where the node in its reply goes. */
  readonly into: number;
  /** The body: a struct, then a string with its NUL, then bytes that are as they are. */
  readonly words: readonly number[];
  readonly text: string;
  readonly bytes: number;
}

const ROOT = 0;
/** Of FOLDERS: 1 to 3. */
const FIRST_DIRECTORY = 1;
const DIRECTORY: number = FOLDERS.length;
const FILE = 4;
/** What is made; the rest is there. */
const NEW_DIRECTORY = 5;
const NEW_FILE = 6;
const NOWHERE = 7;

/** struct fuse_read_in, of a page from the start; struct fuse_getattr_in; struct fuse_forget_in. */
const READ_IN: readonly number[] = [0, 0, 0, 0, PAGE, 0, 0, 0, 0, 0];
const GETATTR_IN: readonly number[] = [0, 0, 0, 0];
const FORGET_IN: readonly number[] = [1000, 0];
/** struct fuse_setattr_in with mode, owner, atime and mtime: what is set by who unpacks an archive. */
const SETATTR_IN: readonly number[] = Array.from({ length: 22 }, (_, index) => {
  if (index === 0) return 0b110111;
  if (index === 8 || index === 10) return 1_700_000_000;
  return index === 17 ? 0o100644 : 0;
});

function step(
  opcode: number,
  about: number,
  words: readonly number[] = [],
  text = '',
  into: number = NOWHERE,
  bytes = 0,
): Step {
  return { opcode, about, into, words, text, bytes };
}

/** As walks and reads do. */
const LOOK: readonly Step[] = [
  ...FOLDERS.flatMap((folder, index) => [
    step(abi.FUSE_LOOKUP, ROOT, [], folder, FIRST_DIRECTORY + index),
    step(abi.FUSE_READDIRPLUS, FIRST_DIRECTORY + index, READ_IN),
    step(abi.FUSE_GETATTR, FIRST_DIRECTORY + index, GETATTR_IN),
  ]),
  ...NAMES.flatMap((name, index) => [
    step(abi.FUSE_LOOKUP, FIRST_DIRECTORY + (index % FOLDERS.length), [], `${name}.absent`),
    step(abi.FUSE_LOOKUP, DIRECTORY, [], `${name}.js`, FILE),
    step(abi.FUSE_READ, FILE, READ_IN),
    step(abi.FUSE_GETATTR, FILE, GETATTR_IN),
    step(abi.FUSE_FORGET, FILE, FORGET_IN),
  ]),
  step(abi.FUSE_STATFS, ROOT),
];

/** Makes, changes and removes files. */
const CHANGE: readonly Step[] = [
  step(abi.FUSE_MKDIR, ROOT, [0o755, 0o22], 'd', NEW_DIRECTORY),
  ...NAMES.flatMap((name) => [
    step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], name),
    step(abi.FUSE_CREATE, NEW_DIRECTORY, [0o101, 0o100644, 0o22, 0], name, NEW_FILE),
    step(abi.FUSE_GETXATTR, NEW_FILE, [PAGE, 0], 'security.capability'),
    ...[PAGE, 1000].map((size) => {
      const words = [0, 0, 0, 0, size, 0, 0, 0, 0, 0];
      return step(abi.FUSE_WRITE, NEW_FILE, words, '', NOWHERE, size);
    }),
    step(abi.FUSE_GETATTR, NEW_DIRECTORY, GETATTR_IN),
    step(abi.FUSE_GETATTR, NEW_FILE, GETATTR_IN),
    step(abi.FUSE_READ, NEW_FILE, READ_IN),
    step(abi.FUSE_SETATTR, NEW_FILE, SETATTR_IN),
    step(abi.FUSE_RENAME2, NEW_DIRECTORY, [0, 0, 0, 0], `${name}\0${name}.new`),
  ]),
  step(abi.FUSE_READDIRPLUS, NEW_DIRECTORY, READ_IN),
  ...NAMES.flatMap((name) => [
    step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], `${name}.new`, NEW_FILE),
    step(abi.FUSE_UNLINK, NEW_DIRECTORY, [], `${name}.new`),
    step(abi.FUSE_GETATTR, NEW_DIRECTORY, GETATTR_IN),
    step(abi.FUSE_FORGET, NEW_FILE, FORGET_IN),
  ]),
  step(abi.FUSE_RMDIR, ROOT, [], 'd'),
];

const OFFERED: readonly number[] = [
  abi.FUSE_KERNEL_VERSION,
  abi.FUSE_KERNEL_MINOR_VERSION,
  0,
  0xffffffff,
  0x3ff,
];

/** A channel without a kernel: its requests are a script's. */
class Stage implements Channel {
  readonly request: ArrayBuffer = new ArrayBuffer(MEBIBYTE + PAGE);
  readonly reply: ArrayBuffer = new ArrayBuffer(MEBIBYTE + PAGE);
  readonly statistics: ArrayBuffer = new ArrayBuffer(0);
  readonly #words: Uint32Array = new Uint32Array(this.request);
  readonly #text: Buffer = Buffer.from(this.request);
  readonly #answer: Uint32Array = new Uint32Array(this.reply);
  readonly #script: readonly Step[];
  /** Where this slice of the script ends. */
  #end = 0;
  readonly #nodes: number[] = [1, 0, 0, 0, 0, 0, 0, 0];
  #at = 0;
  /** Where the node in the next reply goes. */
  #into = NOWHERE;
  /** Requests that were refused, which none should be. */
  refused = 0;

  constructor(script: readonly Step[]) {
    this.#script = script;
  }

  /** Has so many more requests come. @returns whether there are any. */
  extend(count: number): boolean {
    this.#end = Math.min(this.#at + count, this.#script.length);
    return this.#at < this.#end;
  }

  receive(): number {
    const next = this.#at < this.#end ? this.#script[this.#at++] : undefined;
    if (next === undefined) return -abi.ENODEV;
    this.#into = next.into;
    const about = this.#nodes[next.about] ?? 0;
    this.#words.set(next.words, abi.IN_HEADER_SIZE >> 2);
    // Within a directory: `newdir` is the same.
    if (next.opcode === abi.FUSE_RENAME2) this.#words[abi.IN_HEADER_SIZE >> 2] = about;
    let length = abi.IN_HEADER_SIZE + 4 * next.words.length;
    if (next.text !== '') {
      length += this.#text.write(next.text, length, 'latin1');
      this.#text[length++] = 0;
    }
    length += next.bytes;
    this.#words.set([length, next.opcode, 1, 0, about, 0, 0, 0, 1, 0]);
    return length;
  }

  replyAndReceive(): number {
    const error = (this.#answer[1] ?? 0) | 0;
    if (error !== 0 && error !== -abi.ENODATA) this.refused++;
    this.#nodes[this.#into] = this.#answer[abi.OUT_HEADER_SIZE >> 2] ?? 0;
    return this.receive();
  }

  replySegmentsAndReceive(): number {
    return this.receive();
  }

  send(): number {
    return 0;
  }

  sendSegments(): number {
    return 0;
  }

  notify(): number {
    return 0;
  }

  drain(): void {
    // Nothing is in flight.
  }

  close(): void {
    // Nothing was opened.
  }
}

const SCRIPT: readonly Step[] = [
  step(abi.FUSE_INIT, ROOT, OFFERED),
  ...CHANGE,
  ...Array.from({ length: PASSES }, () => LOOK).flat(),
];

export class Rehearsal implements Disposable {
  readonly #native: Native;
  readonly #folder: number;
  readonly #memory: number;
  #stage: { channel: Stage; server: Server; overlay: Overlay<MemoryNode> } | undefined;
  #begun = 0;
  #isOver = false;
  /** Requests that were refused: none. */
  refused = 0;

  /** Opens a folder by its path, so this must be before anything is mounted. */
  constructor(native: Native) {
    this.#native = native;
    this.#folder = native.open(fileURLToPath(SOURCES), O_PATH, 0);
    this.#memory = native.memfd('rehearsal');
  }

  /** Serves a few requests. @returns whether there are more. */
  proceed(): boolean {
    if (this.#isOver) return false;
    if (this.#begun === 0) setBudget(BUDGET_REHEARSING);
    this.#stage ??= this.#begin();
    const { channel, server, overlay } = this.#stage;
    if (channel.extend(SLICE)) {
      server.run();
      return true;
    }
    overlay.close();
    this.refused += channel.refused;
    this.#stage = undefined;
    if (this.#begun < FILESYSTEMS) return true;
    this[Symbol.dispose]();
    return false;
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stage?.overlay.close();
    if (this.#begun > 0) setBudget(BUDGET);
    this.#native.close(this.#memory);
    this.#native.close(this.#folder);
  }

  #begin(): { channel: Stage; server: Server; overlay: Overlay<MemoryNode> } {
    this.#begun++;
    const native = this.#native;
    const options = { links: 'shared', devices: new Map<number, number>() } as const;
    const lower = new DirectoryLayer(native, native.dup(this.#folder), options);
    const overlay = new Overlay([lower], new MemoryUpper(native, this.#memory, LIMIT_BYTES));
    const channel = new Stage(SCRIPT);
    const server = new Server({
      channel,
      filesystem: overlay,
      // Whatever goes wrong here, goes wrong again where it matters.
      log: () => {},
      onInterval: { requests: 256, look: () => overlay.usage() },
    });
    return { channel, server, overlay };
  }
}

/** How much a function may run before V8 looks at it. The module takes milliseconds to load; it is part of Node: no path is opened. */
function setBudget(budget: number): void {
  process.getBuiltinModule('node:v8').setFlagsFromString(`--interrupt-budget=${budget}`);
}
