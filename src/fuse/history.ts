/**
 * Who changed what: a ring of the last changes, recorded by file and, for names that come or go, by directory and name.
 * Nothing is allocated for a request; names are kept as hashes. The kernel tells thread and user with each request;
 * when it writes mapped pages by itself it tells nothing, and nothing is claimed.
 */
import { errnoOf, NotYet } from '../errors.ts';
import type { By } from '../overlay/change.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import type { Name } from '../layers/layer.ts';
import * as abi from './abi.ts';
import type { Exchange } from './exchange.ts';
import type { Programs } from './programs.ts';
import { PROGRAM_WORDS } from './programs.ts';

/** Changes remembered unless told otherwise: 68 bytes each, taken as they are used, so 1.1 MB at most. */
export const HISTORY_DEFAULT = 16_384;

/** The last changes among which one of the same file by the same process is looked for, to be made newer. */
const WINDOW = 8;

/** Seeds of the two halves of a name's hash (FNV-1a). */
const SEED_A = 0x811c9dc5;
const SEED_B = 0x9747b28c;
const PRIME = 0x01000193;

export class History {
  readonly #size: number;
  readonly #filesystem: Filesystem;
  readonly #programs: Programs;
  /** Entries recorded since the start. */
  #count = 0;
  #sequence = 0;
  readonly #order: Float64Array;
  readonly #timeMs: Float64Array;
  /** What stat(2) shows as the number of the file, or of the directory that the name is in. */
  readonly #number: Float64Array;
  /** The kernel's handle of the file; 0 where a name is meant. */
  readonly #node: Float64Array;
  readonly #hashA: Uint32Array;
  readonly #hashB: Uint32Array;
  readonly #pid: Uint32Array;
  readonly #uid: Uint32Array;
  readonly #gid: Uint32Array;
  readonly #program: Uint32Array;
  /** The directory asked about last, and its number. */
  #dirNode = 0;
  #dirNumber = 0;

  /** @param size  changes to remember, at least 1. */
  constructor(programs: Programs, filesystem: Filesystem, size: number) {
    this.#size = size;
    this.#filesystem = filesystem;
    this.#programs = programs;
    this.#order = new Float64Array(size);
    this.#timeMs = new Float64Array(size);
    this.#number = new Float64Array(size);
    this.#node = new Float64Array(size);
    this.#hashA = new Uint32Array(size);
    this.#hashB = new Uint32Array(size);
    this.#pid = new Uint32Array(size);
    this.#uid = new Uint32Array(size);
    this.#gid = new Uint32Array(size);
    this.#program = new Uint32Array(PROGRAM_WORDS * size);
  }

  /** Takes down a request that has been done: it does not fail for want of a record. */
  record(opcode: number, exchange: Exchange): void {
    try {
      this.#take(opcode, exchange);
    } catch (error) {
      if (errnoOf(error) === undefined && !(error instanceof NotYet)) throw error;
    }
  }

  #take(opcode: number, exchange: Exchange): void {
    const { ino, request, entry, attr } = exchange;
    switch (opcode) {
      case abi.FUSE_CREATE:
      case abi.FUSE_MKDIR:
      case abi.FUSE_MKNOD:
      case abi.FUSE_SYMLINK:
      case abi.FUSE_TMPFILE:
        return this.#file(exchange, entry.ino, entry.attr.ino);
      case abi.FUSE_OPEN:
        // What is written then we are not asked.
        if ((request.u32(0) & abi.O_ACCMODE) !== 0) this.#file(exchange, ino, 0);
        return;
      case abi.FUSE_SETATTR:
        return this.#file(exchange, ino, attr.ino);
      case abi.FUSE_WRITE:
      case abi.FUSE_FALLOCATE:
      case abi.FUSE_SETXATTR:
      case abi.FUSE_REMOVEXATTR:
        return this.#file(exchange, ino, 0);
      case abi.FUSE_COPY_FILE_RANGE:
      case abi.FUSE_COPY_FILE_RANGE_64:
        return this.#file(exchange, request.u64(16), 0);
      case abi.FUSE_UNLINK:
      case abi.FUSE_RMDIR:
        this.#name(exchange, ino, 0);
        return;
      case abi.FUSE_LINK:
        this.#name(exchange, ino, 8);
        return;
      case abi.FUSE_RENAME:
        this.#name(exchange, request.u64(0), this.#name(exchange, ino, 8));
        return;
      case abi.FUSE_RENAME2:
        this.#name(exchange, request.u64(0), this.#name(exchange, ino, 16));
        return;
    }
  }

  /** @param number  the file's, if it is known; 0 otherwise. */
  #file(exchange: Exchange, node: number, number: number): void {
    const { pid, uid, gid } = exchange.caller;
    const slot = this.#programs.slot(pid);
    const newest = this.#count - 1;
    for (let at = newest; at > newest - Math.min(WINDOW, this.#count, this.#size); at--) {
      const i = at % this.#size;
      if (this.#node[i] !== node || this.#uid[i] !== uid || this.#gid[i] !== gid) continue;
      if (this.#pid[i] !== this.#programs.pid(slot)) continue;
      this.#stamp(i, slot);
      return;
    }
    let known = number;
    if (known === 0) {
      this.#filesystem.getattr(node, exchange.attr);
      known = exchange.attr.ino;
    }
    this.#add(exchange, slot, known, node, 0, 0);
  }

  /** @returns where in the request's body the name has ended. */
  #name(exchange: Exchange, dir: number, at: number): number {
    const { bytes } = exchange.request;
    let a = SEED_A;
    let b = SEED_B;
    let end = abi.IN_HEADER_SIZE + at;
    for (let byte = bytes[end]; byte !== undefined && byte !== 0; byte = bytes[++end]) {
      a = Math.imul(a ^ byte, PRIME);
      b = Math.imul(b ^ byte, PRIME);
    }
    if (dir !== this.#dirNode) {
      this.#filesystem.getattr(dir, exchange.attr);
      this.#dirNode = dir;
      this.#dirNumber = exchange.attr.ino;
    }
    const slot = this.#programs.slot(exchange.caller.pid);
    this.#add(exchange, slot, this.#dirNumber, 0, a >>> 0, b >>> 0);
    return end + 1 - abi.IN_HEADER_SIZE;
  }

  #add(
    { caller }: Exchange,
    slot: number,
    number: number,
    node: number,
    a: number,
    b: number,
  ): void {
    const i = this.#count++ % this.#size;
    this.#number[i] = number;
    this.#node[i] = node;
    this.#hashA[i] = a;
    this.#hashB[i] = b;
    this.#pid[i] = this.#programs.pid(slot);
    this.#uid[i] = caller.uid;
    this.#gid[i] = caller.gid;
    this.#stamp(i, slot);
  }

  #stamp(i: number, slot: number): void {
    this.#order[i] = ++this.#sequence;
    this.#timeMs[i] = this.#programs.nowMs;
    this.#programs.copy(slot, this.#program, PROGRAM_WORDS * i);
  }

  /**
   * What is remembered now.
   *
   * @returns who last changed the file of that number (0: none) or that name in the directory of that number.
   */
  finder(): (number: number, dir: number, name: Name) => By | undefined {
    const files = new Map<number, number>();
    const names = new Map<string, number>();
    for (let i = 0; i < Math.min(this.#count, this.#size); i++) {
      const number = this.#number[i]!;
      if (this.#node[i] !== 0) this.#keepNewer(files, number, i);
      else this.#keepNewer(names, `${number} ${this.#hashA[i]} ${this.#hashB[i]}`, i);
    }
    return (number, dir, name) => {
      const file = number === 0 ? undefined : files.get(number);
      const named = names.get(`${dir} ${hash(name, SEED_A)} ${hash(name, SEED_B)}`);
      if (file === undefined || named === undefined) return this.#told(file ?? named);
      return this.#told(this.#order[file]! > this.#order[named]! ? file : named);
    };
  }

  #keepNewer<Key>(map: Map<Key, number>, key: Key, i: number): void {
    const other = map.get(key);
    if (other === undefined || this.#order[other]! < this.#order[i]!) map.set(key, i);
  }

  #told(i: number | undefined): By | undefined {
    if (i === undefined) return undefined;
    const timeMs = this.#timeMs[i]!;
    const pid = this.#pid[i]!;
    // The kernel itself, or a process that cannot be seen from here.
    if (pid === 0 && this.#uid[i] === 0) return { timeMs };
    const bytes = Buffer.from(this.#program.buffer, 4 * PROGRAM_WORDS * i, 4 * PROGRAM_WORDS);
    const program = bytes.toString('latin1').split('\0', 1)[0]!.replace(/\n$/, '');
    return {
      timeMs,
      uid: this.#uid[i]!,
      gid: this.#gid[i]!,
      ...(pid !== 0 && { pid }),
      ...(program !== '' && { program }),
    };
  }
}

function hash(name: Name, seed: number): number {
  let value = seed;
  for (let i = 0; i < name.length; i++) value = Math.imul(value ^ name.charCodeAt(i), PRIME);
  return value >>> 0;
}
