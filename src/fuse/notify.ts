/**
 * Notifications: telling the kernel that what it remembers is no longer so. Needed for changes that it did not ask for
 * only. They are queued and written by a thread of the channel's, after every reply sent before: INVAL_ENTRY and DELETE
 * take the lock of the directory, which whoever waits for a reply may hold. Each method gives 0, or -EAGAIN when the queue
 * is full.
 */
import { STATISTICS, type Channel } from '../native-channel.ts';
import type { Name } from '../layers/layer.ts';
import * as abi from './abi.ts';

export class Notifier {
  readonly #channel: Channel;
  readonly #statistics: BigUint64Array;
  /** Notifications queued so far. */
  #queued = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.#statistics = new BigUint64Array(channel.statistics);
  }

  /** The attributes and ACLs of `ino`, and its pages or listing unless `attributesOnly`. */
  inode(ino: number, attributesOnly: boolean): number {
    const { message, view } = notification(abi.FUSE_NOTIFY_INVAL_INODE, 24);
    view.setBigUint64(16, BigInt(ino), true);
    view.setBigInt64(24, attributesOnly ? -1n : 0n, true);
    return this.#notify(message);
  }

  /**
   * The attributes of `ino`, and its pages of `length` bytes from `offset` on, those that programs have stored into being
   * written first. The server is woken when that is done.
   *
   * @returns what `isWritten` is asked with, or -EAGAIN.
   */
  range(ino: number, offset: number, length: number): number {
    const { message, view } = notification(abi.FUSE_NOTIFY_INVAL_INODE, 24);
    view.setBigUint64(16, BigInt(ino), true);
    view.setBigInt64(24, BigInt(offset), true);
    view.setBigInt64(32, BigInt(length), true);
    const status = this.#notify(message, true);
    return status < 0 ? status : this.#queued;
  }

  /** Whether the kernel has been told, or refused to be; of everything so far, when nothing is named. */
  isWritten(ticket: number = this.#queued): boolean {
    const written = this.#statistics[STATISTICS.NOTIFIED] ?? 0n;
    const refused = this.#statistics[STATISTICS.UNNOTIFIED] ?? 0n;
    return Number(written + refused) >= ticket;
  }

  /** What `name` in `parent` stands for, be it absent. */
  entry(parent: number, name: Name): number {
    const { message, view } = notification(abi.FUSE_NOTIFY_INVAL_ENTRY, 16 + name.length + 1);
    view.setBigUint64(16, BigInt(parent), true);
    view.setUint32(24, name.length, true);
    Buffer.from(message.buffer).write(name, 32, 'latin1');
    return this.#notify(message);
  }

  /** As `entry`, when the name is gone: who watches the directory is told, and `child` is cut off even if it is busy. */
  deleted(parent: number, child: number, name: Name): number {
    const { message, view } = notification(abi.FUSE_NOTIFY_DELETE, 24 + name.length + 1);
    view.setBigUint64(16, BigInt(parent), true);
    view.setBigUint64(24, BigInt(child), true);
    view.setUint32(32, name.length, true);
    Buffer.from(message.buffer).write(name, 40, 'latin1');
    return this.#notify(message);
  }

  #notify(message: Uint8Array, wakes: boolean = false): number {
    const status = this.#channel.notify(message, wakes);
    if (status >= 0) this.#queued++;
    return status;
  }
}

/** A message with its header: the code where a reply has its error, unique 0, `size` bytes of payload to be filled in. */
function notification(
  code: number,
  size: number,
): { message: Uint8Array<ArrayBuffer>; view: DataView } {
  const message = new Uint8Array(abi.OUT_HEADER_SIZE + size);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setInt32(4, code, true);
  return { message, view };
}
