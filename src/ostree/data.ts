/**
 * The data of files, and whether it is what the object's name says.
 *
 * A content checksum covers a header (owner, mode, link target, sorted attributes) and the data, never the deflated form.
 */
import { fileInfo, fileXattrs, openData, type FileData } from './content.ts';
import { FormatError } from './gvariant.ts';
import { ContentCheck, chunksOf, dataOf, inflateAtOnce, type Expected } from './inflate.ts';
import { type Checksum } from './objects.ts';
import { contentHeader } from './object-bytes.ts';
import { ObjectError } from './failures.ts';
import { type Repository } from './repo.ts';

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;

/** What is wrong with the data is wrong with the object. */
function blame(error: unknown, checksum: Checksum, deflated: boolean): unknown {
  if (!(error instanceof FormatError)) return error;
  return new ObjectError(`${checksum}.${deflated ? 'filez' : 'file'}`, error.message);
}

/** What the data of a file must be. */
export function expectedOf(repo: Repository, checksum: Checksum, data: FileData): Expected {
  const xattrs = data.info.xattrs ?? fileXattrs(repo, checksum);
  return { checksum, header: contentHeader({ ...data.info, xattrs }) };
}

/**
 * The data of an archive object, at once and checked. Never makes more than the size in the object's header.
 *
 * @throws ObjectError when it is not what its header and name say.
 */
export function inflateWhole(checksum: Checksum, data: FileData): Buffer {
  const { info } = data;
  const header = contentHeader({ ...info, xattrs: info.xattrs ?? [] });
  try {
    return inflateAtOnce({ ...data, size: info.size }, { checksum, header });
  } catch (error) {
    throw blame(error, checksum, true);
  }
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
    const expected = isChecked ? expectedOf(repo, checksum, data) : undefined;
    yield* dataOf({ ...data, size: data.info.size }, expected);
  } catch (error) {
    throw blame(error, checksum, data.deflated);
  } finally {
    repo.native.close(data.fd);
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
  const header = contentHeader({ ...info, xattrs: info.xattrs ?? fileXattrs(repo, checksum) });
  try {
    new ContentCheck({ checksum, header }, 0).finish();
  } catch (error) {
    throw blame(error, checksum, repo.mode === 'archive');
  }
}

/** Checks the data of a regular file that is open and not deflated. @throws ObjectError. */
export function verifyData(repo: Repository, checksum: Checksum, data: FileData): void {
  const { fd, info } = data;
  try {
    const check = new ContentCheck(expectedOf(repo, checksum, data), info.size);
    for (const chunk of chunksOf(fd, 0, info.size)) check.update(chunk);
    check.finish();
  } catch (error) {
    throw blame(error, checksum, false);
  }
}
