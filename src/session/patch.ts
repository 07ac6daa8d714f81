/** A session's changes as a patch: what `git diff` prints of two directories. */
import { createHash, type Hash } from 'node:crypto';
import type { ByteString } from '../native.ts';
import type { Side } from '../overlay/comparison.ts';
import { patch, type Version } from '../patch/patch.ts';
import type { SnapshotReader } from './snapshot-reader.ts';

/** Files that are larger are told like binary ones: neither they nor their lines are in memory as a whole. */
const TEXT_MAX = 16 * 1024 * 1024;
/** A file that goes on growing. */
const TRIES = 3;

export interface PatchOptions {
  /** Only files at or below one of these, as in `Change.path`. */
  paths?: ByteString[];
  /** Tell of what was renamed as that, instead of as removed and added. Default: true. */
  renames?: boolean;
  /** Unchanged lines around changes. Default: 3. */
  context?: number;
}

/** @returns how many changes there are, those of which git does not tell as well. */
export async function* patchOf(
  reader: SnapshotReader,
  { context }: PatchOptions,
): AsyncGenerator<Uint8Array, number> {
  for await (const { before, after, isSame = false } of reader.compared()) {
    const from = before && (await versionOf(reader, before, isSame));
    const to = after && (await versionOf(reader, after, isSame));
    const parts = patch(from, to, context === undefined ? {} : { context });
    for (const part of parts) yield Buffer.from(part, 'latin1');
  }
  return reader.changes;
}

/** @param isSame  both sides have the same contents, so that these need not be read. */
async function versionOf(reader: SnapshotReader, side: Side, isSame: boolean): Promise<Version> {
  const { mode, target, content } = side;
  const path = side.path.slice(1);
  if (isSame) return { path, mode, id: '', data: undefined };
  if (content === undefined) {
    const data = Buffer.from(target ?? '', 'latin1');
    return { path, mode, id: blob(data.length).update(data).digest('hex'), data };
  }
  let { size } = side;
  for (let tries = 1; ; tries++) {
    const read = await reader.read({ content }, (data) => load(data, size));
    if (read.size === size || tries === TRIES) return { path, mode, ...read };
    ({ size } = read);
  }
}

/** The beginning of what git hashes. */
function blob(size: number): Hash {
  return createHash('sha1').update(`blob ${size}\0`);
}

/** @param size  that the file is thought to have. @returns also the size that it has. */
async function load(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  size: number,
): Promise<{ id: string; data: Uint8Array | undefined; size: number }> {
  const hash = blob(size);
  const kept: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    total += chunk.length;
    if (total <= TEXT_MAX) kept.push(chunk);
    else kept.length = 0;
  }
  const data = total <= TEXT_MAX ? Buffer.concat(kept) : undefined;
  return { id: hash.digest('hex'), data, size: total };
}
