/**
 * The data of files: read or inflated, and checked against the name of the object.
 *
 * A content checksum covers a header (owner, mode, link target, sorted attributes) and the data, never the deflated form.
 */
import { createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createInflateRaw, inflateRawSync } from 'node:zlib';
import type { Native } from '../native.ts';
import { fileInfo, fileXattrs, openData, type FileData } from './content.ts';
import { FormatError } from './gvariant.ts';
import { contentHeader, type Checksum, type ContentHeader, type Xattr } from './objects.ts';
import { ObjectError, readExactly, type Repository } from './repo.ts';

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;

/** Of data that is read to be hashed, inflated or printed. */
const CHUNK = 256 * 1024;
/** Of one piece of inflated data. */
const MAX_INFLATE_CHUNK = 1024 * 1024;

/** The bytes [offset, end) of a file, in chunks. @throws FormatError. */
function* chunksOf(native: Native, fd: number, offset: number, end: number): Generator<Buffer> {
  for (let at = offset; at < end; at += CHUNK) {
    yield readExactly(native, fd, at, Math.min(CHUNK, end - at));
  }
}

/** Follows the data of a file as it comes by, and knows whether it is what the object's name says. */
export class ContentCheck {
  readonly #hash: Hash = createHash('sha256');
  readonly #size: number;
  readonly #checksum: Checksum;
  #seen = 0;

  /** @param size  bytes that should come: 0 for a symlink. */
  constructor(checksum: Checksum, size: number, header: ContentHeader) {
    this.#checksum = checksum;
    this.#size = size;
    this.#hash.update(contentHeader(header));
  }

  /** @throws FormatError when there is more data than there should be. */
  update(chunk: Uint8Array): void {
    this.#seen += chunk.length;
    if (this.#seen > this.#size) throw new FormatError('more data than its header says');
    this.#hash.update(chunk);
  }

  /** @throws FormatError when there was less, or other data. */
  finish(): void {
    if (this.#seen < this.#size) throw new FormatError('less data than its header says');
    if (this.#hash.digest('hex') !== this.#checksum) {
      throw new FormatError('does not match its checksum');
    }
  }
}

/** The name of the object a file's data came from. */
function objectName(checksum: Checksum, deflated: boolean): string {
  return `${checksum}.${deflated ? 'filez' : 'file'}`;
}

/** Runs `use`; what is wrong with the data is wrong with the object. */
function blaming<T>(object: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw error instanceof FormatError ? new ObjectError(object, error.message) : error;
  }
}

/**
 * The data of an archive object, at once and checked. Never makes more than the size in the object's header.
 *
 * @throws ObjectError when it is not what its header and name say.
 */
export function inflateWhole(native: Native, checksum: Checksum, data: FileData): Buffer {
  const { info, fd, offset, fileSize } = data;
  return blaming(objectName(checksum, true), () => {
    const deflated = readExactly(native, fd, offset, Math.min(fileSize - offset, bound(info.size)));
    const check = new ContentCheck(checksum, info.size, { ...info, xattrs: info.xattrs ?? [] });
    const bytes = inflated(deflated, info.size);
    check.update(bytes);
    check.finish();
    return bytes;
  });
}

/** More than any deflated form of `size` bytes takes: stored blocks cost five bytes in thousands. */
function bound(size: number): number {
  return size + Math.ceil(size / 64) + 1024;
}

function inflated(deflated: Buffer, size: number): Buffer {
  try {
    return inflateRawSync(deflated, {
      maxOutputLength: Math.max(size, 1),
      chunkSize: Math.min(Math.max(size, 64), MAX_INFLATE_CHUNK),
    });
  } catch (error) {
    throw new FormatError(inflateProblem(error));
  }
}

function inflateProblem(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') {
    return 'more data than its header says';
  }
  return `its data does not inflate: ${error.message}`;
}

/**
 * The data of a file of any size, in chunks. Archive objects are checked as they inflate, so the last chunk may be
 * followed by an error.
 *
 * @param verify  check other objects as well.
 * @throws ObjectError when it is missing, a symlink, or not what its name says.
 */
export async function* contents(
  repo: Repository,
  checksum: Checksum,
  { verify = false }: { verify?: boolean } = {},
): AsyncGenerator<Uint8Array> {
  const data = openData(repo, checksum);
  try {
    const isChecked = data.deflated || verify;
    const xattrs = isChecked ? (data.info.xattrs ?? fileXattrs(repo, checksum)) : undefined;
    yield* chunksOfData(repo.native, checksum, data, xattrs);
  } finally {
    repo.native.close(data.fd);
  }
}

/**
 * The data of a file that is open, in chunks.
 *
 * @param xattrs  with them it is checked: they are part of what is hashed.
 * @throws ObjectError.
 */
export async function* chunksOfData(
  native: Native,
  checksum: Checksum,
  { fd, deflated, offset, fileSize, info }: FileData,
  xattrs: Xattr[] | undefined,
): AsyncGenerator<Uint8Array> {
  const check =
    xattrs === undefined ? undefined : new ContentCheck(checksum, info.size, { ...info, xattrs });
  try {
    const chunks = chunksOf(native, fd, offset, fileSize);
    for await (const chunk of deflated ? inflating(chunks) : chunks) {
      check?.update(chunk);
      yield chunk;
    }
    check?.finish();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new ObjectError(objectName(checksum, deflated), error.message);
  }
}

async function* inflating(chunks: Iterable<Buffer>): AsyncGenerator<Uint8Array> {
  const source = Readable.from(chunks);
  const inflate = source.pipe(createInflateRaw({ chunkSize: CHUNK }));
  source.on('error', (error) => inflate.destroy(error));
  try {
    for await (const chunk of inflate) yield chunk as Uint8Array;
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError(inflateProblem(error));
  } finally {
    source.destroy();
    inflate.destroy();
  }
}

/**
 * Checks that a file or symlink, in any mode, is what its name says.
 *
 * @throws ObjectError.
 */
export async function verifyFile(repo: Repository, checksum: Checksum): Promise<void> {
  const info = fileInfo(repo, checksum);
  if ((info.mode & S_IFMT) === S_IFLNK) {
    verifySymlink(repo, checksum);
    return;
  }
  const stream = contents(repo, checksum, { verify: true });
  while (!(await stream.next()).done);
}

/** Checks a symlink of any mode. @throws ObjectError. */
export function verifySymlink(repo: Repository, checksum: Checksum): void {
  const info = fileInfo(repo, checksum);
  const xattrs = info.xattrs ?? fileXattrs(repo, checksum);
  blaming(objectName(checksum, repo.mode === 'archive'), () => {
    new ContentCheck(checksum, 0, { ...info, xattrs }).finish();
  });
}

/** Checks the data of a regular file that is open and not deflated. @throws ObjectError. */
export function verifyData(repo: Repository, checksum: Checksum, data: FileData): void {
  const { fd, info } = data;
  const xattrs = info.xattrs ?? fileXattrs(repo, checksum);
  blaming(objectName(checksum, false), () => {
    const check = new ContentCheck(checksum, info.size, { ...info, xattrs });
    for (const chunk of chunksOf(repo.native, fd, 0, info.size)) check.update(chunk);
    check.finish();
  });
}
