/** Makes content objects, as each mode of repository keeps them: content.ts has the table. */
import type { Hash } from 'node:crypto';
import { constants } from 'node:os';
import { Readable } from 'node:stream';
import { createDeflateRaw, deflateRawSync } from 'node:zlib';
import { SessionError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { FreeSpace } from './free-space.ts';
import { newHash } from './hash.ts';
import { unwritable } from './lock.ts';
import { HEADER_PREFIX, type Checksum, type ContentHeader, type Meta } from './objects.ts';
import { contentHeader, encodeArchiveHeader, encodeMeta } from './object-bytes.ts';
import type { Mode } from './settings.ts';
import { objectName, type Staging } from './staging.ts';

const { errno } = constants;
const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;

/** Of what is deflated at a time; what is smaller is done at once. */
const CHUNK = 256 * 1024;

export type Data = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface ContentWriterOptions {
  mode: Mode;
  disableXattrs: boolean;
  /** Of deflate, 1 to 9. */
  level: number;
  space: FreeSpace;
  /** What messages call the repository. */
  label: string;
}

export class ContentWriter {
  readonly #native: Native;
  readonly #staging: Staging;
  readonly #options: ContentWriterOptions;

  constructor(native: Native, staging: Staging, options: ContentWriterOptions) {
    this.#native = native;
    this.#staging = staging;
    this.#options = options;
  }

  kept<M extends Meta>(meta: M): M {
    const { mode, disableXattrs } = this.#options;
    if (mode === 'bare-user-only') {
      const type = meta.mode & S_IFMT;
      const permissions = type === S_IFLNK ? meta.mode & 0o7777 : meta.mode & 0o755;
      return { ...meta, uid: 0, gid: 0, mode: type | permissions, xattrs: [] };
    }
    return disableXattrs && mode === 'bare' ? { ...meta, xattrs: [] } : meta;
  }

  async write(given: ContentHeader, data: Data): Promise<Checksum> {
    const header = this.kept(given);
    const hash = newHash().update(contentHeader(header));
    const isLink = (header.mode & S_IFMT) === S_IFLNK;
    if (isLink) {
      const checksum = hash.digest('hex');
      const object = this.#objectName(checksum);
      if (!this.#staging.has(object)) this.#writeLink(header, object);
      return checksum;
    }
    using file = this.#staging.create();
    const bytes = await this.#writeData(file.fd, header, hash, data);
    const checksum = hash.digest('hex');
    const object = this.#objectName(checksum);
    if (this.#staging.has(object)) {
      this.#options.space.take(-bytes);
      return checksum;
    }
    this.#describe(file.fd, header);
    this.#staging.stage(file, object);
    return checksum;
  }

  #objectName(checksum: Checksum): string {
    return objectName(checksum, this.#options.mode === 'archive' ? 'filez' : 'file');
  }

  #must(result: number): number {
    if (result < 0) throw unwritable(this.#options.label, result);
    return result;
  }

  /** @returns how many bytes the object has. */
  async #writeData(fd: number, header: ContentHeader, hash: Hash, data: Data): Promise<number> {
    const { mode, space } = this.#options;
    let at = 0;
    const put = (bytes: Uint8Array) => {
      space.take(bytes.length);
      this.#must(this.#native.pwrite(fd, bytes, at));
      at += bytes.length;
    };
    if (mode !== 'archive') {
      for await (const chunk of data) {
        hash.update(chunk);
        put(chunk);
      }
      return at;
    }
    put(encodeArchiveHeader({ ...header, size: 0 }));
    const source = new Hashed(hash, data);
    for await (const chunk of this.#deflated(source)) put(chunk);
    const size = Buffer.alloc(8);
    size.writeBigUInt64BE(BigInt(source.size));
    this.#must(this.#native.pwrite(fd, size, HEADER_PREFIX));
    return at;
  }

  async *#deflated(source: Hashed): AsyncGenerator<Uint8Array> {
    const { level } = this.#options;
    const chunks = source.chunks();
    const first = await chunks.next();
    const second = first.done === true ? first : await chunks.next();
    if (second.done === true && (first.value?.length ?? 0) <= CHUNK) {
      yield deflateRawSync(first.value ?? Buffer.alloc(0), { level });
      return;
    }
    const input = Readable.from(rejoined([first, second], chunks));
    const deflate = input.pipe(createDeflateRaw({ level, chunkSize: CHUNK }));
    input.on('error', (error) => deflate.destroy(error));
    try {
      for await (const chunk of deflate) yield chunk as Uint8Array;
    } finally {
      input.destroy();
      deflate.destroy();
    }
  }

  /** Owner, attributes, mode and times of an object that has its data. */
  #describe(fd: number, header: ContentHeader): void {
    const { mode } = this.#options;
    switch (mode) {
      case 'archive':
        this.#must(this.#native.fchmodat(fd, '', 0o644));
        return;
      case 'bare-user':
        this.#setMeta(fd, header);
        this.#must(this.#native.fchmodat(fd, '', (header.mode & 0o775) | 0o400));
        break;
      default:
        if (mode === 'bare') this.#own(fd, '', header);
        this.#must(this.#native.fchmodat(fd, '', header.mode & 0o7777));
    }
    this.#must(this.#native.utimensat(fd, '', 0, 0, 0, 0));
  }

  #setMeta(fd: number, header: ContentHeader): void {
    const result = this.#native.setxattr(fd, '', 'user.ostreemeta', encodeMeta(header), 0);
    if (result !== -errno.EOPNOTSUPP) this.#must(result);
    else {
      throw new SessionError(
        `${this.#options.label} is on a file system without user attributes, which its mode needs`,
      );
    }
  }

  /** Owner first: it takes away capabilities, which are attributes. */
  #own(dirfd: number, path: string, { uid, gid, xattrs }: ContentHeader): void {
    const owned = this.#native.fchownat(dirfd, path, uid, gid);
    if (owned === -errno.EPERM) throw notRoot(this.#options.label, `owner ${uid}:${gid}`);
    this.#must(owned);
    for (const { name, value } of xattrs) {
      const set = this.#native.setxattr(dirfd, path, name, value, 0);
      if (set === -errno.EPERM) throw notRoot(this.#options.label, `attribute ${name}`);
      this.#must(set);
    }
  }

  #writeLink(header: ContentHeader, object: string): void {
    const { mode } = this.#options;
    const { fd: folder } = this.#staging;
    if (mode === 'archive' || mode === 'bare-user') {
      using file = this.#staging.create();
      const { fd } = file;
      const bytes =
        mode === 'archive'
          ? encodeArchiveHeader({ ...header, size: 0 })
          : Buffer.from(`${header.target}\0`, 'latin1');
      this.#must(this.#native.pwrite(fd, bytes, 0));
      if (mode === 'bare-user') this.#setMeta(fd, header);
      this.#must(this.#native.fchmodat(fd, '', 0o644));
      if (mode === 'bare-user') this.#must(this.#native.utimensat(fd, '', 0, 0, 0, 0));
      this.#staging.stage(file, object);
      return;
    }
    const name = this.#staging.newName();
    this.#must(this.#native.symlinkat(header.target, folder, name));
    if (mode === 'bare') this.#own(folder, name, header);
    this.#staging.stageLink(name, object);
  }
}

/** Data that is hashed and measured as it passes. */
class Hashed {
  size = 0;
  readonly #hash: Hash;
  readonly #data: Data;

  constructor(hash: Hash, data: Data) {
    this.#hash = hash;
    this.#data = data;
  }

  async *chunks(): AsyncGenerator<Uint8Array, undefined> {
    for await (const chunk of this.#data) {
      this.#hash.update(chunk);
      this.size += chunk.length;
      yield chunk;
    }
    return undefined;
  }
}

async function* rejoined(
  begun: IteratorResult<Uint8Array, undefined>[],
  rest: AsyncGenerator<Uint8Array, undefined>,
): AsyncGenerator<Uint8Array> {
  for (const { value } of begun) if (value !== undefined) yield value;
  yield* rest;
}

function notRoot(label: string, what: string): SessionError {
  return new SessionError(
    `${label} is of mode bare, and this user may not give a file ${what}`,
    'run this as root, or commit to a repository of mode bare-user or archive',
  );
}
