/**
 * Requests that nobody sent, served before the first real one comes, or while none is there. V8 interprets what has not run
 * often, and compiles it when it has: a session that began cold spent three times as long on its first thousands of
 * requests, while the compiler took the other processor from the program that waited for them. What is served is a
 * filesystem of its own, over the folder of these very modules; nothing of it is left but the code.
 */
import { fileURLToPath } from 'node:url';
import { DirectoryLayer } from '../layers/directory.ts';
import { LateStores } from '../layers/late-stores.ts';
import { MemoryUpper } from '../layers/memory.ts';
import type { MemoryNode } from '../layers/memory-node.ts';
import { DirectoryUpper, type DirectoryUpperOptions } from '../layers/overlayfs-dir.ts';
import type { HostNode } from '../layers/overlayfs-node.ts';
import { UpperError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { Channel } from '../native-channel.ts';
import { Overlay } from '../overlay/overlay.ts';
import * as abi from './abi.ts';
import { History } from './history.ts';
import type { Programs } from './programs.ts';
import { CHANGED, LOOKED_AT, NOWHERE, type Step } from './rehearsal-script.ts';
import { Server } from './server.ts';

/** What is rehearsed: each filesystem anew, one after another, so that no code is compiled for the objects of one alone. */
interface Act {
  readonly filesystems: number;
  readonly script: readonly Step[];
}

/** What a session may wait for: compiling changes as well would cost its start more than it brings. */
const FIRST: Act = { filesystems: 3, script: LOOKED_AT };
/** What is made, changed and removed by who unpacks something; nobody waits for it. */
const SECOND: Act = { filesystems: 4, script: CHANGED };
/** How much a function may run before V8 looks at it again: in a rehearsal, and what V8 itself takes. */
const BUDGET_REHEARSING = 2_000;
const BUDGET = 132 * 1024;

/** A limit of its own kind for V8, which keeps large numbers apart from small ones: sessions have large ones. */
const LIMIT_BYTES: number = 2 ** 40;
const HISTORY_ENTRIES = 256;
/** Of the tmpfs that stands for a session's directory. */
const TMPFS_BYTES: number = 16 * 2 ** 20;

const MEBIBYTE: number = 1 << 20;
const PAGE = 4096;
const O_PATH = 0o10000000;

/** The folder of modules, whether this one is in it or in a bundle. */
const SOURCES: URL = new URL('../../src/', import.meta.url);

/** Who asks: two that the history keeps in the same place. */
const THREADS: readonly number[] = [1, 1, 1, 65];

/** Requests at a time, while real ones may come: they wait a millisecond at most. */
const SLICE = 4;

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
    const thread = THREADS[this.#at % THREADS.length] ?? 0;
    this.#words.set([length, next.opcode, 1, 0, about, 0, 0, 0, thread, 0]);
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

/** Of the session's upper, when that is a directory: how it is kept. Where it is, nobody here is to know. */
export type RehearsedUpper = Pick<
  DirectoryUpperOptions,
  'isDurable' | 'redirects' | 'metacopy' | 'isUsers'
>;

type Rehearsed = Overlay<MemoryNode> | Overlay<HostNode>;

export class Rehearsal implements Disposable {
  readonly #native: Native;
  readonly #programs: Programs | undefined;
  /** `undefined`: in memory. */
  #upper: RehearsedUpper | undefined;
  readonly #folder: number;
  readonly #memory: number;
  readonly #acts: Act[] = [FIRST, SECOND];
  #stage: { channel: Stage; server: Server; overlay: Rehearsed } | undefined;
  /** Filesystems of the act at hand. */
  #begun = 0;
  /** Kinds of channels so far. */
  #kinds = 0;
  #isOver = false;
  /** Requests that were refused: none. */
  refused = 0;

  /**
   * Opens a folder by its path, so this must be before anything is mounted.
   *
   * @param upper  undefined: in memory.
   * @param programs  the session's; undefined when it keeps no history.
   */
  constructor(native: Native, upper: RehearsedUpper | undefined, programs: Programs | undefined) {
    this.#native = native;
    this.#programs = programs;
    if (upper !== undefined) {
      const { isDurable, redirects = true, metacopy = false, isUsers = false } = upper;
      this.#upper = { isDurable, redirects, metacopy, isUsers };
    }
    this.#folder = native.open(fileURLToPath(SOURCES), O_PATH, 0);
    this.#memory = native.memfd('rehearsal');
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Serves what a session may wait for. */
  prepare(): void {
    while (this.#acts[0] === FIRST) this.proceed();
  }

  /** Serves a few requests. @returns whether there are more. */
  proceed(): boolean {
    const [act] = this.#acts;
    if (this.#isOver || act === undefined) return false;
    if (this.#begun === 0) setBudget(BUDGET_REHEARSING);
    this.#stage ??= this.#begin(act.script);
    const { channel, server, overlay } = this.#stage;
    if (channel.extend(SLICE)) {
      server.run();
      return true;
    }
    overlay.close();
    this.refused += channel.refused;
    this.#stage = undefined;
    if (this.#begun < act.filesystems) return true;
    this.#begun = 0;
    this.#acts.shift();
    setBudget(BUDGET);
    if (this.#acts.length > 0) return true;
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

  #begin(script: readonly Step[]): { channel: Stage; server: Server; overlay: Rehearsed } {
    this.#begun++;
    const late = new LateStores(this.#native);
    const overlay = this.#overlay(late);
    const channel = new Stage(script);
    const kind = this.#kinds++;
    const server = new Server({
      channel: disguised(channel, kind),
      filesystem: overlay,
      late,
      history: this.#programs && new History(this.#programs, overlay, HISTORY_ENTRIES),
      // Whatever goes wrong here, goes wrong again where it matters.
      log: () => {},
      // In each slice, and by functions from two places, as the channel's are.
      onInterval: {
        requests: SLICE - 1,
        look: kind % 2 === 0 ? () => overlay.usage() : overlay.usage.bind(overlay),
      },
    });
    return { channel, server, overlay };
  }

  /** With an upper of the session's kind; in memory also where there is nothing that a directory could be on. */
  #overlay(late: LateStores): Rehearsed {
    const native = this.#native;
    const options = { links: 'shared', devices: new Map<number, number>() } as const;
    const lower = new DirectoryLayer(native, native.dup(this.#folder), options);
    const tmpfs = this.#upper === undefined ? -1 : native.detachedTmpfs(TMPFS_BYTES);
    if (this.#upper !== undefined && tmpfs >= 0) {
      try {
        return new Overlay([lower], new DirectoryUpper(native, tmpfs, this.#upper));
      } catch (error) {
        native.close(tmpfs);
        if (!(error instanceof UpperError)) throw error;
      }
    }
    this.#upper = undefined;
    return new Overlay([lower], new MemoryUpper(native, this.#memory, LIMIT_BYTES, late));
  }
}

/**
 * The channel as an object of a kind of its own, with functions of its own every other time. Code that has seen but one kind
 * is compiled for that, and thrown away when the first real request comes; five kinds, and functions from two places, are
 * more than V8 tells apart.
 */
function disguised(stage: Stage, kind: number): Channel {
  const mark = { [`kind${kind}`]: kind };
  if (kind % 2 === 0) return Object.assign(stage, mark);
  return Object.assign(mark, {
    request: stage.request,
    reply: stage.reply,
    statistics: stage.statistics,
    receive: () => stage.receive(),
    replyAndReceive: () => stage.replyAndReceive(),
    replySegmentsAndReceive: () => stage.replySegmentsAndReceive(),
    send: () => stage.send(),
    sendSegments: () => stage.sendSegments(),
    notify: () => stage.notify(),
    drain: () => stage.drain(),
    close: () => stage.close(),
  });
}

/** How much a function may run before V8 looks at it. The module takes milliseconds to load; it is part of Node: no path is opened. */
function setBudget(budget: number): void {
  process.getBuiltinModule('node:v8').setFlagsFromString(`--interrupt-budget=${budget}`);
}
