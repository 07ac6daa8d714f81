/** Where a rehearsal takes place: a channel without a kernel, in as many kinds as V8 needs to see. */
import type { Channel } from '../native-channel.ts';
import * as abi from './abi.ts';
import { NOBODY, NOWHERE, type Step } from './rehearsal-script.ts';

const MEBIBYTE: number = 1 << 20;
const PAGE = 4096;

/** Of all stages, as there is one at a time. */
const REQUEST = new ArrayBuffer(MEBIBYTE + PAGE);
const REPLY = new ArrayBuffer(MEBIBYTE + PAGE);

/** Who asks: two that the history keeps in the same place. */
const THREADS: readonly number[] = [1, 1, 1, 65];

const ENOTEMPTY = 39;
/** What some requests of the script are refused with. */
const EXPECTED: readonly number[] = [abi.ENODATA, ENOTEMPTY];

/** A channel without a kernel: its requests are a script's. */
export class Stage implements Channel {
  readonly request: ArrayBuffer = REQUEST;
  readonly reply: ArrayBuffer = REPLY;
  readonly statistics: ArrayBuffer = new ArrayBuffer(0);
  readonly #words: Uint32Array = new Uint32Array(REQUEST);
  readonly #text: Buffer = Buffer.from(REQUEST);
  readonly #answer: Uint32Array = new Uint32Array(REPLY);
  readonly #script: readonly Step[];
  /** Where this slice of the script ends. */
  #end = 0;
  readonly #nodes: number[] = [1, 0, 0, 0, 0, 0, 0, 0, 0];
  #at = 0;
  /** Where the node in the next reply goes. */
  #into = NOWHERE;
  /** Requests that were refused and should not be. */
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
    if (next.with !== NOBODY) this.#words[abi.IN_HEADER_SIZE >> 2] = this.#nodes[next.with] ?? 0;
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
    this.send();
    return this.receive();
  }

  replySegmentsAndReceive(): number {
    return this.receive();
  }

  send(): number {
    const error = (this.#answer[1] ?? 0) | 0;
    if (error !== 0 && !EXPECTED.includes(-error)) this.refused++;
    this.#nodes[this.#into] = this.#answer[abi.OUT_HEADER_SIZE >> 2] ?? 0;
    return 0;
  }

  sendSegments(): number {
    return 0;
  }

  notify(): number {
    return 0;
  }

  isAsked(): boolean {
    return true;
  }

  drain(): void {
    // Nothing is in flight.
  }

  close(): void {
    // Nothing was opened.
  }
}

/**
 * The channel as an object of a kind of its own, with functions of its own every other time. Code that has seen but one kind
 * is compiled for that, and thrown away when the first real request comes; five kinds, and functions from two places, are
 * more than V8 tells apart.
 */
export function disguised(stage: Stage, kind: number): Channel {
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
    isAsked: () => stage.isAsked(),
    drain: () => stage.drain(),
    close: () => stage.close(),
  });
}
