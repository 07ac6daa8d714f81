/**
 * The entries of an archive of a session, in an order that is the same each time: a directory before what is in it, and a file
 * before names that are linked to it.
 *
 * A changed file comes with the directories that lead to it, since whoever unpacks a layer by itself has to make them. A
 * removed name is an empty file `.wh.NAME`; a directory in which nothing is left of what it was has `.wh..wh..opq`.
 */
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { tarEntry } from '../oci/tar.ts';
import { type TarInput } from '../oci/tar-writer.ts';
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from '../oci/whiteouts.ts';
import { shown } from './checks.ts';
import type { Tally } from './export.ts';
import type { LiveTree } from './live-tree.ts';
import type { Change } from './session.ts';

/** Everything in the tree. */
export async function* wholeTree(tree: LiveTree, tally: Tally): AsyncGenerator<TarInput> {
  const writer = new EntryWriter(tree, tally);
  const walk = function* (path: ByteString): Generator<TarInput> {
    const input = writer.input(path);
    if (input === undefined) return;
    yield input;
    if (input.entry.kind !== 'directory') return;
    for (const name of tree.names(path)) yield* walk(join(path, name));
  };
  yield* walk('/');
}

/**
 * What has changed. Of a million paths none is kept: directories are, and files with several names.
 *
 * @param changes  lists them, sorted by path; asked twice for whiteouts.
 * @param hasWhiteouts  whether removals are told, or just counted.
 */
export async function* changedFiles(
  tree: LiveTree,
  changes: () => AsyncIterable<Change>,
  tally: Tally,
  hasWhiteouts: boolean,
): AsyncGenerator<TarInput> {
  const writer = new EntryWriter(tree, tally);
  const emptied = hasWhiteouts ? await emptiedDirectories(tree, changes()) : new Set();
  const written = new Set<ByteString>();
  const directory = function* (path: ByteString): Generator<TarInput> {
    if (written.has(path)) return;
    if (path !== '/') yield* directory(parentOf(path));
    yield* at(path);
  };
  const at = function* (path: ByteString): Generator<TarInput> {
    const input = writer.input(path);
    if (input === undefined) return;
    yield input;
    if (input.entry.kind !== 'directory') return;
    written.add(path);
    if (emptied.has(path)) yield removal(path, OPAQUE_MARKER);
  };
  for await (const { kind, path } of changes()) {
    if (kind === 'D') tally.deletions++;
    if (kind === 'D' && !hasWhiteouts) continue;
    const parent = parentOf(path);
    if (path !== '/') yield* directory(parent);
    if (kind !== 'D') yield* at(path);
    else if (!emptied.has(parent)) yield removal(parent, WHITEOUT_PREFIX + nameOf(path));
  }
  for (const path of writer.unnamed()) {
    yield* directory(parentOf(path));
    yield* at(path);
  }
}

function removal(folder: ByteString, name: ByteString): TarInput {
  return { entry: tarEntry('file', join(folder, name).slice(1), { mode: 0 }) };
}

/** Those from which names were removed, and in which there are none but new ones. */
async function emptiedDirectories(
  tree: LiveTree,
  changes: AsyncIterable<Change>,
): Promise<Set<ByteString>> {
  const added = new Map<ByteString, number>();
  const emptied = new Set<ByteString>();
  for await (const { kind, path } of changes) {
    const parent = parentOf(path);
    if (kind === 'A') added.set(parent, (added.get(parent) ?? 0) + 1);
    // Not the root, which unpackers may take for something else.
    if (kind === 'D' && parent !== '/') emptied.add(parent);
  }
  for (const path of emptied) {
    if (tree.names(path).length > (added.get(path) ?? 0)) emptied.delete(path);
  }
  return emptied;
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

function nameOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1);
}

function join(folder: ByteString, name: ByteString): ByteString {
  return folder === '/' ? `/${name}` : `${folder}/${name}`;
}

/** Makes entries of files, and links of names that a file had before. */
class EntryWriter {
  readonly #tree: LiveTree;
  readonly #tally: Tally;
  /** Files with several names, and those that were met. */
  readonly #linked: Map<string, { first: ByteString; met: Set<ByteString>; links: number }> =
    new Map();

  constructor(tree: LiveTree, tally: Tally) {
    this.#tree = tree;
    this.#tally = tally;
  }

  /** @throws SessionError a name that would be taken for a whiteout. */
  input(path: ByteString): TarInput | undefined {
    if (nameOf(path).startsWith(WHITEOUT_PREFIX)) {
      throw new SessionError(
        `${shown(path)} would be taken for a removal by whoever reads a layer`,
        `rename it: names in layers cannot begin with ${WHITEOUT_PREFIX}`,
      );
    }
    const { entry, identity, links } = this.#tree.file(path);
    if (entry === undefined) {
      this.#tally.skipped.push(path);
      return undefined;
    }
    this.#tally.entries++;
    entry.path = path === '/' ? '.' : path.slice(1);
    const file = this.#linked.get(identity);
    file?.met.add(path);
    if (file !== undefined) {
      return { entry: { ...entry, kind: 'link', size: 0, target: file.first, xattrs: new Map() } };
    }
    if (identity !== '') {
      this.#linked.set(identity, { first: entry.path, met: new Set([path]), links });
    }
    if (entry.kind !== 'file') return { entry };
    return { entry, data: this.#tree.data(path, entry) };
  }

  /**
   * Names of files that were written, which are no change themselves, such as that of the file which a new name was linked to: a
   * link in a layer needs its file in the same layer. To look for them costs a walk of the tree.
   */
  *unnamed(): Generator<ByteString> {
    const lacking = [...this.#linked.values()].some(({ met, links }) => met.size < links);
    if (lacking) yield* this.#unnamedIn('/');
  }

  *#unnamedIn(folder: ByteString): Generator<ByteString> {
    for (const name of this.#tree.names(folder)) {
      const path = join(folder, name);
      const { identity, isDirectory } = this.#tree.links(path);
      if (isDirectory) yield* this.#unnamedIn(path);
      else if (this.#linked.get(identity)?.met.has(path) === false) yield path;
    }
  }
}
