/**
 * Serves a filesystem to the kernel at the other end of a channel: INIT, one request after another, refusals as errnos,
 * notifications. A request is answered by the native call that fetches the next, so each costs one.
 */
import { errnoOf, NotYet } from '../errors.ts';
import type { LateStores } from '../layers/late-stores.ts';
import type { Channel } from '../native-channel.ts';
import type { BegunListing } from '../overlay/begun-listing.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import * as abi from './abi.ts';
import type { History } from './history.ts';
import { Exchange, NO_REPLY, SEGMENTS } from './exchange.ts';
import { answerInit } from './init.ts';
import type { Connection } from './negotiate.ts';
import { CHANGING, OPERATIONS } from './operations.ts';
import type { Passthrough } from './passthrough.ts';
import type { Unwritten } from './unwritten.ts';

export interface ServerOptions {
  channel: Channel;
  filesystem: Filesystem;
  /** One line for the session's log. */
  log: (message: string) => void;
  /** What the filesystem leaves to be stored when a request has been answered. */
  late?: LateStores | undefined;
  /** What the filesystem goes on with while no request is there. */
  begun?: BegunListing | undefined;
  /** The kernel is to read and write files by itself. */
  passthrough?: Passthrough | undefined;
  /** Knows of what the kernel has not written yet. */
  unwritten?: Unwritten | undefined;
  /** Called between requests, after a wake-up. */
  onWake?: () => void;
  /** Does a little of what can wait, when woken and no request is there. @returns whether it is to be called again. */
  onIdle?: () => boolean;
  /** Makes `receive` return 0 when no request is there. With it, room is looked for before ENOSPC is answered. */
  wake?: () => void;
  /** Told of changes, and who made them. */
  history?: History | undefined;
  /** Called after every so many requests. */
  onInterval?: { requests: number; look: () => void };
  /** A bug is answered EIO and the session tainted, or, in tests, thrown. */
  onBug?: 'answer' | 'rethrow';
}

/** Requests read at most in search of room; each may be as long as a WRITE. */
const RECLAIM_MAX = 32;

/** Bugs that look alike are logged once, and no more than this many in all. */
const BUGS_LOGGED_MAX = 100;

export class Server {
  readonly #channel: Channel;
  readonly #filesystem: Filesystem;
  // Not an object of options, whose shape is the caller's: what V8 compiles for one server is good for the next.
  readonly #log: ServerOptions['log'];
  readonly #late: LateStores | undefined;
  readonly #begun: BegunListing | undefined;
  readonly #passthrough: Passthrough | undefined;
  readonly #onWake: ServerOptions['onWake'];
  readonly #onIdle: ServerOptions['onIdle'];
  readonly #wake: ServerOptions['wake'];
  readonly #history: History | undefined;
  readonly #look: (() => void) | undefined;
  readonly #lookInterval: number;
  readonly #onBug: ServerOptions['onBug'];
  readonly #exchange: Exchange;
  readonly #counts: Float64Array = new Float64Array(abi.OPCODES);
  readonly #bugs: Set<string> = new Set();
  /** Requests read in search of room, or put off and ready by now: yet to be served. */
  readonly #held: Uint8Array[] = [];
  /** Requests whose data is being made ready elsewhere. */
  #waiting: { request: Uint8Array; job: NotYet['job'] }[] = [];
  #taint: string | undefined;
  /** Requests until the next look at the whole. */
  #untilLook: number;

  constructor(options: ServerOptions) {
    this.#channel = options.channel;
    this.#filesystem = options.filesystem;
    this.#log = options.log;
    this.#late = options.late;
    this.#begun = options.begun;
    this.#passthrough = options.passthrough;
    this.#onWake = options.onWake;
    this.#onIdle = options.onIdle;
    this.#wake = options.wake;
    this.#history = options.history;
    this.#look = options.onInterval?.look;
    this.#lookInterval = options.onInterval?.requests ?? Infinity;
    this.#onBug = options.onBug;
    this.#exchange = new Exchange(
      options.channel.request,
      options.channel.reply,
      options.passthrough,
      options.unwritten,
    );
    this.#untilLook = this.#lookInterval;
    options.late?.open(options.channel.request);
  }

  /** What INIT agreed on; minor 0 before it. */
  get connection(): Connection {
    return this.#exchange.connection;
  }

  /** The first bug met, in one line: what this session holds may no longer be trusted. */
  get taint(): string | undefined {
    return this.#taint;
  }

  /** Requests served, by the names of their opcodes; those that never came are left out. */
  get requests(): Record<string, number> {
    const requests: Record<string, number> = {};
    for (const [opcode, count] of this.#counts.entries()) {
      if (count > 0) requests[OPERATIONS[opcode]?.name ?? `OPCODE_${opcode}`] = count;
    }
    return requests;
  }

  /** Requests served, of all kinds. */
  get served(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  /** Requests served that may have changed something; NaN, which equals nothing, while changes are made without any. */
  get mutations(): number {
    if (this.#passthrough?.isWriting === true) return Number.NaN;
    return CHANGING.reduce((sum, opcode) => sum + (this.#counts[opcode] ?? 0), 0);
  }

  /** Serves until the device gives an error. @returns that error, negative: -ENODEV when the mount is gone. */
  run(): number {
    let length = this.#channel.receive();
    // Little is in this loop, for it is entered once: V8 replaces what is called from it, as soon as it has compiled that.
    while (length >= 0) length = length === 0 ? this.#wakeUp() : this.#turn(length);
    return length;
  }

  /** Does what somebody was woken for. @returns the length of the next request, as `receive` does. */
  #wakeUp(): number {
    this.#onWake?.();
    this.#takeUp();
    // Whoever has more to do is woken as soon as no request is there.
    if (this.#held.length === 0 && this.#onIdle?.() === true) this.#wake?.();
    return this.#held.length === 0 ? this.#channel.receive() : this.#answerAndTake(NO_REPLY);
  }

  /** Serves and answers a request. @returns the length of the next, as `receive` does. */
  #turn(length: number): number {
    let result = this.#serve(length);
    // A refusal is no reason to lose what was written before it was met.
    if (result < 0) this.#storeLate();
    if (result === -abi.ENOSPC && this.#reclaim(length)) result = this.#serve(length);
    // One BATCH_FORGET may be all that is heard of tens of thousands of files.
    const isMany = this.#exchange.request.opcode === abi.FUSE_BATCH_FORGET;
    if (--this.#untilLook <= 0 || isMany) this.#lookAtAll();
    if (this.#held.length > 0) return this.#answerAndTake(result);
    return this.#begun?.isPending === true
      ? this.#answerAndProceed(this.#begun, result)
      : this.#answerAndReceive(result);
  }

  #lookAtAll(): void {
    this.#untilLook = this.#lookInterval;
    this.#look?.();
  }

  #answerAndReceive(result: number): number {
    const channel = this.#channel;
    const { segments, reply } = this.#exchange;
    if (result === NO_REPLY) return channel.receive();
    if (result === SEGMENTS) {
      return channel.replySegmentsAndReceive(segments.values, segments.count);
    }
    const size = reply.finish(result);
    if (this.#late?.isPending !== true) return channel.replyAndReceive(size);
    channel.send(size);
    this.#storeLate();
    return channel.receive();
  }

  /** Before another request takes the memory that this one's bytes are in. */
  #storeLate(): void {
    if (this.#late?.isPending !== true) return;
    const error = this.#late.run();
    if (error >= 0) return;
    const { ino, incomplete } = this.#exchange;
    incomplete.add(ino);
    this.#taint ??= `bytes that were written to node ${ino} are lost: errno ${-error}`;
    this.#log(`bytes that were written to node ${ino} could not be stored: errno ${-error}`);
  }

  /** Puts a request off until what it needs is ready; it is then served as if it had just come. */
  #putOff({ job }: NotYet, length: number): number {
    const { request } = this.#exchange;
    this.#waiting.push({ request: request.bytes.slice(0, length), job });
    // Served twice, it is one request all the same.
    if (request.opcode < abi.OPCODES) this.#counts[request.opcode]!--;
    return NO_REPLY;
  }

  /** Holds the requests that were put off and need not wait any more. */
  #takeUp(): void {
    if (this.#waiting.length === 0) return;
    const isOver = this.#waiting.filter(({ job }) => job.isOver);
    this.#waiting = this.#waiting.filter((each) => !isOver.includes(each));
    this.#held.push(...isOver.map(({ request }) => request));
  }

  #answer(result: number): void {
    const { segments, reply } = this.#exchange;
    if (result === SEGMENTS) this.#channel.sendSegments(segments.values, segments.count);
    else if (result !== NO_REPLY) this.#channel.send(reply.finish(result));
    this.#storeLate();
  }

  /** Answers, and lists while the reader looks at what he has. @returns the length of the next request. */
  #answerAndProceed(begun: BegunListing, result: number): number {
    this.#answer(result);
    while (begun.proceed() && !this.#channel.isAsked());
    return this.#channel.receive();
  }

  /** Answers, and goes on with a request that was read already. @returns its length. */
  #answerAndTake(result: number): number {
    const { request } = this.#exchange;
    this.#answer(result);
    const next = this.#held.shift() ?? new Uint8Array();
    request.bytes.set(next);
    return next.length;
  }

  /**
   * Looks for room before ENOSPC is answered: files end when the kernel forgets them, and it may have told us already.
   * Reads what is queued, serves the FORGETs, holds the rest until the request at hand (of `length` bytes) is answered.
   *
   * @returns whether something was forgotten, so that another try makes sense.
   */
  #reclaim(length: number): boolean {
    if (this.#wake === undefined) return false;
    const { request } = this.#exchange;
    const current = request.bytes.slice(0, length);
    const { opcode } = request;
    let hasForgotten = false;
    while (this.#held.length < RECLAIM_MAX) {
      this.#wake();
      const received = this.#channel.receive();
      // An error will be met again.
      if (received < 0) break;
      if (received === 0) {
        this.#onWake?.();
        this.#takeUp();
        break;
      }
      if (request.opcode === abi.FUSE_FORGET || request.opcode === abi.FUSE_BATCH_FORGET) {
        this.#serve(received);
        hasForgotten = true;
      } else {
        this.#held.push(request.bytes.slice(0, received));
      }
    }
    request.bytes.set(current);
    this.#exchange.reply.address(request);
    // Served twice, it was one request all the same.
    if (hasForgotten && opcode < abi.OPCODES) this.#counts[opcode]!--;
    return hasForgotten;
  }

  /** Answers the message received, as an operation does. */
  #serve(length: number): number {
    const exchange = this.#exchange;
    const { request } = exchange;
    exchange.reply.address(request);
    const { opcode } = request;
    if (opcode < abi.OPCODES) this.#counts[opcode]!++;
    const operation = OPERATIONS[opcode];
    if (!request.begin(length)) return this.#malformed(opcode);
    if (operation === undefined) return -abi.ENOSYS;
    if (request.size < operation.size) return this.#malformed(opcode);
    if (opcode === abi.FUSE_INIT) return answerInit(exchange, this.#log);
    const ino = request.nodeid;
    // Nobody was ever given such a node.
    if (Number.isNaN(ino)) return this.#malformed(opcode);
    exchange.ino = ino;
    request.caller(exchange.caller);
    try {
      const result = operation.run(this.#filesystem, exchange);
      if (result >= 0) this.#history?.record(opcode, exchange);
      return result;
    } catch (error) {
      if (error instanceof NotYet) return this.#putOff(error, length);
      return this.#failed(error, opcode, ino);
    }
  }

  #malformed(opcode: number): number {
    return isSilent(opcode) ? NO_REPLY : -abi.EIO;
  }

  /** A refusal is its errno. Anything else is a bug: logged with where it was met, answered EIO. */
  #failed(error: unknown, opcode: number, ino: number): number {
    const errno = errnoOf(error);
    if (errno === undefined) {
      if (this.#onBug === 'rethrow') throw error;
      this.#report(error, opcode, ino);
    }
    if (isSilent(opcode)) return NO_REPLY;
    return errno === undefined || errno <= 0 || errno >= abi.ERRNO_LIMIT ? -abi.EIO : -errno;
  }

  #report(error: unknown, opcode: number, ino: number): void {
    const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    const name = OPERATIONS[opcode]?.name ?? `opcode ${opcode}`;
    this.#taint ??= `${name} met a bug: ${stack.split('\n', 1)[0]}`;
    const kind = `${opcode} ${stack}`;
    if (this.#bugs.size >= BUGS_LOGGED_MAX || this.#bugs.has(kind)) return;
    this.#bugs.add(kind);
    this.#log(`bug in ${name} of node ${ino}, answered EIO: ${stack}`);
  }
}

/** Whether the kernel waits for no reply: one would be refused as nobody's. */
function isSilent(opcode: number): boolean {
  return (
    opcode === abi.FUSE_FORGET ||
    opcode === abi.FUSE_BATCH_FORGET ||
    opcode === abi.FUSE_INTERRUPT ||
    opcode === abi.FUSE_NOTIFY_REPLY
  );
}
