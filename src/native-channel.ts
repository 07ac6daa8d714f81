/** The addon's channel to /dev/fuse, typed. */

/**
 * `Channel.statistics` as a BigUint64Array: COUNTERS values of which the first seven are named here, then for each
 * opcode below OPCODES a row of ROW values: requests received, nanoseconds from receipt to reply sent, and a
 * histogram of those in BUCKETS powers of two (bucket b counts 2^b to 2^(b+1) ns).
 */
export const STATISTICS = {
  /** Replies that the thread pool had to read for. */
  POOLED: 0,
  /** Replies that should have gone there, but all its buffers were in flight. */
  CROWDED: 1,
  /** Replies the kernel did not accept: a bug of ours; the caller got EIO. */
  REFUSED: 2,
  /** Notifications written, and notifications that failed. */
  NOTIFIED: 3,
  UNNOTIFIED: 4,
  /** Long replies whose bytes never entered this process. */
  RELAYED: 5,
  /** Replies whose reads had to wait for a disk. */
  WAITED: 6,
  COUNTERS: 8,
  OPCODES: 64,
  BUCKETS: 40,
  ROW: 42,
} as const;

/**
 * /dev/fuse, as the worker thread sees it: one request at a time, in `request`; its reply is prepared in `reply`,
 * out_header included (len@0 error@4 unique@8), and sent by the call that fetches the next request.
 *
 * A reply the kernel refuses (EINVAL: a bug of ours) is followed by an EIO for the same request, so that its caller
 * goes on; `send` and `sendSegments` return the error, the others count it in `statistics` and receive.
 */
export interface Channel {
  /** The request last received, header first. Always the same memory, page-aligned; valid until the next receive. */
  readonly request: ArrayBuffer;
  /** The reply under construction. Always the same memory; at least 16 + max(max_write, 1 MiB) bytes. */
  readonly reply: ArrayBuffer;
  /** Counters, as STATISTICS lays them out. Always the same memory. */
  readonly statistics: ArrayBuffer;

  /**
   * Waits for the next request. Retries EINTR, EAGAIN, ENOENT inside.
   *
   * @returns the request's length; 0 when woken through the eventfd (which has been drained) and no request was
   *   taken; -ENODEV when the mount is gone; another -errno when the device fails.
   */
  receive(): number;

  /** Sends `reply[0..length)` and receives. ENOENT of the write (request aborted) is ignored. */
  replyAndReceive(length: number): number;

  /** Sends `reply[0..length)` only. @returns 0 or -errno. */
  send(length: number): number;

  /**
   * Answers the request whose `unique` is in `reply[8..16)` with the bytes of `count` segments, and receives.
   * `segments` holds (fd, offset, length) triples; fd -1 stands for zeros; a read that ends early (EOF) is padded with
   * zeros unless it is the last segment, which shortens the reply. Bytes never enter the JS heap.
   *
   * Long replies (128 KiB) of files whose pages are all in memory, as cachestat(2) says, go to the device through a pipe
   * (splice), so that they are copied once. Of the others:
   * Segments are first tried without blocking (preadv2 RWF_NOWAIT; plain pread where the file system does not know
   * it). What would block is looked at again while other requests come, and after a while goes to the thread pool; its
   * fd is lent until then, so the caller may close fds (by `close` of the addon) and reuse memory file blocks as soon as
   * this returns. The pool
   * writes the reply. When all its buffers are in flight, this reads and waits itself. An I/O error, and a total
   * beyond max(max_write, 1 MiB), answer EIO.
   */
  replySegmentsAndReceive(segments: Float64Array, count: number): number;

  /** As above, without receiving. @returns 0 or -errno. */
  sendSegments(segments: Float64Array, count: number): number;

  /**
   * Queues a notification (out_header with unique 0 and the code in `error`, then the payload) for the notifier
   * thread, which writes it after every reply that was sent before. Never blocks.
   *
   * @param wakes  `receive` returns 0 when it has been written, and counted.
   * @returns 0, or -EAGAIN when 65,536 are waiting.
   */
  notify(message: Uint8Array, wakes?: boolean): number;

  /** Whether `receive` would return at once. */
  isAsked(): boolean;

  /**
   * Waits until no pooled read is in flight. Notifications are not waited for: they can need a lock whose holder
   * waits for our answer.
   */
  drain(): void;

  /** Joins the threads and closes what the channel opened itself (not `fd`, not `wakeFd`). Nothing but `statistics` may be used after. */
  close(): void;
}

export interface ChannelOptions {
  /** /dev/fuse, of a mounted filesystem. Becomes O_NONBLOCK. */
  fd: number;
  /** An eventfd: a write to it from any thread makes a waiting `receive` return 0. Becomes O_NONBLOCK. */
  wakeFd: number;
  /** Bytes of the request buffer: at least max_write + 4096. */
  requestBytes: number;
  /** A file whose reads never block (the arena's memfd): spares its segments a try that only others need. */
  memoryFd?: number;
  /** Threads for reads that can block. */
  threads: number;
}
