/**
 * One request on its way through: what an operation reads, asks and answers with. All records are made once and reused
 * for every request.
 */
import { Attr, Segments } from '../layers/layer.ts';
import { native } from '../native.ts';
import type {
  Caller,
  Entry,
  EntryPlusSink,
  EntrySink,
  Filesystem,
  SetAttr,
  StatFs,
} from '../overlay/filesystem.ts';
import { ENTRY_OUT_SIZE, NAME_MAX } from './abi.ts';
import type { Connection } from './negotiate.ts';
import { UNCONNECTED } from './negotiate.ts';
import type { Passthrough } from './passthrough.ts';
import { direntSize, Reply } from './reply.ts';
import { Request } from './request.ts';
import type { Unwritten } from './unwritten.ts';

/** Where less room is left, what did not fit was a name, and not a part's end. */
const LONGEST_DIRENT = direntSize('x'.repeat(NAME_MAX));

/** The listing under construction. Its sinks are made once; `begin` readies them for a request. */
export class Listing {
  /** Bytes written. */
  size = 0;
  #limit = 0;

  /** Takes names only. */
  readonly sink: EntrySink;
  /** Takes names with what lookup would give; one that does not fit is left without a reference. */
  readonly sinkPlus: EntryPlusSink;

  constructor(reply: Reply) {
    const one: EntrySink = (name, cookie, ino, type) => {
      if (this.size + direntSize(name) > this.#limit) return false;
      this.size += reply.dirent(this.size, name, cookie, ino, type);
      return true;
    };
    const many: EntrySink['many'] = (entries, from, cookie) => {
      for (let index = from; ;) {
        // Without any the reader would think that there are no more.
        const part = entries.packed(index, this.size === 0);
        if (part === undefined) return;
        const { first, names, ends, types, inos } = part;
        this.size = native.encodeDirents(
          reply.body,
          this.size,
          this.#limit,
          names,
          ends,
          types,
          inos,
          index - first,
          cookie + index - from,
        );
        index = first + types.length;
        if (this.#limit - this.size < LONGEST_DIRENT) return;
      }
    };
    this.sink = Object.assign(one, { many });
    this.sinkPlus = (name, cookie, type, entry) => {
      const at = this.size;
      if (at + ENTRY_OUT_SIZE + direntSize(name) > this.#limit) return false;
      reply.entryAt(at, entry);
      const dirent = at + ENTRY_OUT_SIZE;
      this.size = dirent + reply.dirent(dirent, name, cookie, entry.attr.ino, type);
      return true;
    };
  }

  begin(limit: number): void {
    this.size = 0;
    this.#limit = limit;
  }
}

/** The message gets no reply. */
export const NO_REPLY = -1000;
/** The reply is the bytes of `segments`. */
export const SEGMENTS = -1001;

/** One request with its reply, and the records that every request reuses. */
export class Exchange {
  readonly request: Request;
  readonly reply: Reply;
  /** Node id of the request; checked before an operation runs. */
  ino = 0;
  readonly caller: Caller = { uid: 0, gid: 0, pid: 0 };
  readonly attr: Attr = new Attr();
  readonly entry: Entry = { ino: 0, attr: new Attr() };
  readonly segments: Segments = new Segments();
  readonly changes: SetAttr = {
    valid: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    atimeSec: 0,
    atimeNsec: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    ctimeSec: 0,
    ctimeNsec: 0,
  };
  readonly stat: StatFs = {
    blocks: 0,
    bfree: 0,
    bavail: 0,
    files: 0,
    ffree: 0,
    bsize: 4096,
    namelen: NAME_MAX,
  };
  readonly listing: Listing;
  /** Nodes that lack bytes which programs have written: they are read and written no more. */
  readonly incomplete: Set<number> = new Set();
  connection: Connection = UNCONNECTED;
  /** Where the kernel reads and writes files by itself. */
  readonly passthrough: Passthrough | undefined;
  /** Where the kernel has pages that it has not written yet. */
  readonly unwritten: Unwritten | undefined;

  constructor(
    request: ArrayBuffer,
    reply: ArrayBuffer,
    passthrough?: Passthrough,
    unwritten?: Unwritten,
  ) {
    this.passthrough = passthrough;
    this.unwritten = unwritten;
    this.request = new Request(request);
    this.reply = new Reply(reply);
    this.reply.changing = passthrough;
    this.listing = new Listing(this.reply);
  }
}

export interface Operation {
  readonly name: string;
  /** Bytes of the struct that opens the body; a shorter request is answered EIO. */
  readonly size: number;
  /**
   * @returns the size of the reply's body; -errno; NO_REPLY or SEGMENTS.
   * @throws FsError a refusal.
   */
  readonly run: (fs: Filesystem, exchange: Exchange) => number;
}

/** Whether an ordinary user asks for his own file; not so for root. Fills `attr`. */
export function isOwner(fs: Filesystem, { ino, attr, caller }: Exchange): boolean {
  if (caller.uid === 0) return false;
  fs.getattr(ino, attr);
  return attr.uid === caller.uid;
}
