/**
 * Replays a layer or tar on a session: read once to know and refuse, compared with what the session has changed, read again
 * into a folder of its own in the session, and then put in place by renames. What fails before that changes nothing;
 * what fails then is taken back.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { FsError, SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { ByteSource } from '../oci/bytes.ts';
import { decompress } from '../oci/compression.ts';
import { pathParts } from '../oci/paths.ts';
import { type TarEntry, TarError } from '../oci/tar.ts';
import { readTar, type TarItem } from '../oci/tar-reader.ts';
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from '../oci/whiteouts.ts';
import { Placement } from './apply-placement.ts';
import { shown } from './checks.ts';
import { ConflictError } from './conflict.ts';
import type { LiveTree } from './live-tree.ts';
import type { Change } from './session.ts';

export interface ApplyOptions {
  /** A layer or tar, compressed or not. */
  file: string;
  /** Where both sides have changed a path: `ours` keeps the session's, `theirs` takes the file's. Default: nothing is done. */
  prefer?: 'ours' | 'theirs';
  /** Stops it; the session is then as it was. */
  signal?: AbortSignal;
}

export interface ApplyResult {
  /** Paths that were made, changed or removed. */
  applied: number;
  /** Paths that were so already. */
  unchanged: number;
  /** Paths that both sides have changed, and one side has won. */
  conflicts: ByteString[];
}

/** What the file wants of one path. */
export interface Wish {
  /** As in `Change.path`; '/' for the root. */
  path: ByteString;
  /** What is to be there, or `undefined`: nothing. */
  entry: TarEntry | undefined;
  /** Which entry of the file it is, counted from 0. */
  index: number;
  /** Of a regular file: SHA-256 of its data. */
  digest: string;
}

/** @param changes  what the session has changed. */
export async function applyFile(
  tree: LiveTree,
  changes: AsyncIterable<Change>,
  options: ApplyOptions,
): Promise<ApplyResult> {
  const { wishes, opaque } = await readWishes(options);
  const changed = new Set<ByteString>();
  for await (const { path } of changes) changed.add(path);
  const plan = new Plan(tree, wishes, changed);
  for (const path of opaque) plan.empty(path);
  const { conflicts, wanted } = plan.make(options.prefer);
  if (conflicts.length > 0 && options.prefer === undefined) throw new ConflictError(conflicts);
  await place(tree, wanted, timesOf(wishes, wanted), options);
  const unchanged =
    wishes.size - wanted.length - (options.prefer === 'ours' ? conflicts.length : 0);
  return { applied: wanted.length, unchanged: Math.max(0, unchanged), conflicts };
}

async function place(
  tree: LiveTree,
  wanted: Wish[],
  times: Wish[],
  { file, signal }: ApplyOptions,
): Promise<void> {
  if (wanted.length === 0) return;
  const byIndex = new Map(wanted.map((wish) => [wish.index, wish]));
  const placement = new Placement(tree.root);
  try {
    let index = -1;
    for await (const item of itemsOf(file, signal)) {
      const wish = byIndex.get(++index);
      if (wish?.entry !== undefined) await placement.stage(wish, item.data());
    }
    placement.place(wanted, times);
  } catch (error) {
    placement.takeBack();
    if (!(error instanceof FsError)) throw error;
    throw new SessionError(
      `the file cannot be applied, and nothing was done: ${shown(error.message)}`,
      remedyOf(error),
      { cause: error },
    );
  } finally {
    placement.finish();
  }
}

function remedyOf({ code }: FsError): string {
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return 'make room in the session, and apply it again';
  }
  // Root is refused as well what no file of the kind can have.
  if ((code === 'EPERM' || code === 'EACCES') && process.geteuid?.() !== 0) {
    return 'run this as root';
  }
  return 'look at what the file says of that path, and at what the session has there';
}

/** Directories that stay, but in which something changes: their times are the file's. */
function timesOf(wishes: Map<ByteString, Wish>, wanted: Wish[]): Wish[] {
  const isWanted = new Set(wanted);
  const parents = new Set(wanted.map(({ path }) => parentOf(path)));
  return [...parents].flatMap((path) => {
    const wish = wishes.get(path);
    return wish === undefined || isWanted.has(wish) ? [] : [wish];
  });
}

/** The entries of the file. @throws SessionError it cannot be read, their data neither. */
async function* itemsOf(file: string, signal: AbortSignal | undefined): AsyncGenerator<TarItem> {
  const bytes = createReadStream(file, { highWaterMark: 1 << 18 });
  try {
    for await (const item of readable(file, readTar(new ByteSource(decompress(bytes))))) {
      if (signal?.aborted === true) throw new SessionError('interrupted; nothing was done');
      yield { ...item, data: () => readable(file, item.data()) };
    }
  } finally {
    bytes.destroy();
  }
}

/** Passes on what the file has. @throws SessionError it cannot be read. */
async function* readable<T>(file: string, from: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* from;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof TarError || typeof code === 'string') {
      throw new SessionError(
        `${file} cannot be read: ${error instanceof TarError ? error.message : code}`,
        'nothing was done; name what export --format=oci-layer or tar has written',
        { cause: error },
      );
    }
    throw error;
  }
}

/**
 * Reads the file once.
 *
 * @returns also the directories of which nothing is to be left.
 * @throws SessionError it is refused; the message names the entry.
 */
async function readWishes({
  file,
  signal,
}: ApplyOptions): Promise<{ wishes: Map<ByteString, Wish>; opaque: Set<ByteString> }> {
  const wishes = new Map<ByteString, Wish>();
  const opaque = new Set<ByteString>();
  let index = -1;
  for await (const item of itemsOf(file, signal)) {
    index++;
    const { entry } = item;
    const parts = pathParts(entry.path, 'the file');
    const name = parts.at(-1) ?? '';
    const hash = createHash('sha256');
    for await (const chunk of item.data()) hash.update(chunk);
    const digest = entry.kind === 'file' ? hash.digest('hex') : '';
    if (name === OPAQUE_MARKER) {
      opaque.add(`/${parts.slice(0, -1).join('/')}`);
      continue;
    }
    const isWhiteout = name.startsWith(WHITEOUT_PREFIX);
    if (isWhiteout) parts.splice(-1, 1, name.slice(WHITEOUT_PREFIX.length));
    const path = `/${parts.join('/')}`;
    if (
      isWhiteout &&
      (['', '.', '..'].includes(parts.at(-1) ?? '') || name.startsWith(`${WHITEOUT_PREFIX}.wh.`))
    ) {
      throw refusal(entry, 'removes nothing that can be named');
    }
    const before = wishes.get(path);
    // A removal beside what comes in its place says nothing more.
    if (before !== undefined && isWhiteout === (before.entry === undefined)) {
      throw refusal(entry, 'is in the file twice');
    }
    if (before !== undefined && isWhiteout) continue;
    wishes.set(path, { path, entry: isWhiteout ? undefined : entry, index, digest });
  }
  for (const wish of wishes.values()) checkPlace(wishes, wish);
  return { wishes, opaque };
}

/** Refuses what would go through a link or a file, and links to what is not in the file. */
function checkPlace(wishes: Map<ByteString, Wish>, { path, entry }: Wish): void {
  for (let at = parentOf(path); at !== '/'; at = parentOf(at)) {
    const above = wishes.get(at);
    if (above !== undefined && above.entry?.kind !== 'directory') {
      throw new SessionError(
        `${shown(path)} lies below ${shown(at)}, which is no directory in the file`,
        'nothing was done; find out who made it',
      );
    }
  }
  if (entry?.kind !== 'link') return;
  const target = wishes.get(`/${pathParts(entry.target, 'a link of the file').join('/')}`)?.entry;
  if (target === undefined || target.kind === 'directory' || target.kind === 'link') {
    throw refusal(entry, `is a link to ${shown(entry.target)}, which is no file in the file`);
  }
}

function refusal(entry: TarEntry, why: string): SessionError {
  return new SessionError(
    `${shown(entry.path)} ${why}`,
    'nothing was done; find out who made the file',
  );
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** What is to be done, and what must not be done without a word. */
class Plan {
  readonly #tree: LiveTree;
  readonly #wishes: Map<ByteString, Wish>;
  readonly #changed: Set<ByteString>;
  /** Directories in which the session has changed something, however deep. */
  readonly #changedBelow: Set<ByteString> = new Set();

  constructor(tree: LiveTree, wishes: Map<ByteString, Wish>, changed: Set<ByteString>) {
    this.#tree = tree;
    this.#wishes = wishes;
    this.#changed = changed;
    for (const path of changed) {
      for (let at = path; at !== '/';) {
        at = parentOf(at);
        if (this.#changedBelow.has(at)) break;
        this.#changedBelow.add(at);
      }
    }
  }

  /** Nothing is to be left in a directory but what the file has there. */
  empty(path: ByteString): void {
    if (this.#kindOf(path) !== 'directory') return;
    for (const name of this.#tree.names(path)) {
      const here = path === '/' ? `/${name}` : `${path}/${name}`;
      const wish = this.#wishes.get(here);
      if (wish === undefined) {
        this.#wishes.set(here, { path: here, entry: undefined, index: -1, digest: '' });
      } else if (wish.entry?.kind === 'directory') this.empty(here);
    }
  }

  /** Conflicts, and what is wanted when they are solved this way; parents come first. */
  make(prefer: ApplyOptions['prefer']): { conflicts: ByteString[]; wanted: Wish[] } {
    const conflicts: ByteString[] = [];
    const kept = new Set<ByteString>();
    const wanted: Wish[] = [];
    for (const path of [...this.#wishes.keys()].sort()) {
      const wish = this.#wishes.get(path);
      if (wish === undefined) continue;
      if (kept.has(parentOf(path))) {
        kept.add(path);
        continue;
      }
      if (this.#isDone(wish)) continue;
      if (this.#isConflict(wish)) {
        conflicts.push(path);
        if (prefer === 'ours') {
          // A directory that both have goes on with what is in it.
          if (!this.#isDirectoryInBoth(wish)) kept.add(path);
          continue;
        }
      }
      wanted.push(wish);
    }
    return { conflicts, wanted };
  }

  /** Whether the session has changed what the wish is about. */
  #isConflict(wish: Wish): boolean {
    const { path, entry } = wish;
    if (this.#changed.has(path)) return true;
    // What has gone, or become something else, with all that was below it.
    for (let at = parentOf(path); at !== '/'; at = parentOf(at)) {
      if (this.#changed.has(at) && this.#kindOf(at) !== 'directory') return true;
    }
    return entry?.kind !== 'directory' && this.#changedBelow.has(path);
  }

  #isDirectoryInBoth({ path, entry }: Wish): boolean {
    return entry?.kind === 'directory' && this.#kindOf(path) === 'directory';
  }

  #kindOf(path: ByteString): string | undefined {
    return this.#current(path)?.kind;
  }

  #current(path: ByteString): TarEntry | undefined {
    try {
      return this.#tree.file(path).entry;
    } catch (error) {
      if (!(error instanceof FsError) || !['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code)) {
        throw error;
      }
      return undefined;
    }
  }

  /** Whether it is linked to its target, and that stays: what is replaced leaves its other names behind. */
  #isLinked(path: ByteString, { target }: TarEntry): boolean {
    const there = `/${pathParts(target, 'a link').join('/')}`;
    if (this.#current(there) === undefined) return false;
    const { identity } = this.#tree.links(path);
    if (identity === '' || identity !== this.#tree.links(there).identity) return false;
    const wish = this.#wishes.get(there);
    return wish === undefined || this.#isDone(wish);
  }

  /** Whether the session has it like that already. Times are no difference. */
  #isDone({ path, entry, digest }: Wish): boolean {
    const current = this.#current(path);
    if (entry === undefined || current === undefined) return entry === current;
    if (entry.kind === 'link') return this.#isLinked(path, entry);
    const isSame =
      entry.kind === current.kind &&
      (entry.kind === 'symlink' || entry.mode === current.mode) &&
      entry.uid === current.uid &&
      entry.gid === current.gid &&
      entry.size === current.size &&
      entry.rdevMajor === current.rdevMajor &&
      entry.rdevMinor === current.rdevMinor &&
      entry.target === current.target &&
      haveSameXattrs(entry.xattrs, current.xattrs);
    if (!isSame) return false;
    if (entry.kind !== 'file') return true;
    const hash = createHash('sha256');
    for (const chunk of this.#tree.data(path, current)) hash.update(chunk);
    return hash.digest('hex') === digest;
  }
}

function haveSameXattrs(
  a: ReadonlyMap<ByteString, Uint8Array>,
  b: ReadonlyMap<ByteString, Uint8Array>,
): boolean {
  if (a.size !== b.size) return false;
  return [...a].every(([name, value]) => {
    const other = b.get(name);
    return other !== undefined && Buffer.compare(value, other) === 0;
  });
}
