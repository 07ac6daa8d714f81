/**
 * The entries of an archive of a session, in an order that is the same each time: a directory before what is in it.
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

/** What has changed. @param hasWhiteouts  whether removals are told, or just counted. */
export async function* changedFiles(
  tree: LiveTree,
  changes: AsyncIterable<Change>,
  tally: Tally,
  hasWhiteouts: boolean,
): AsyncGenerator<TarInput> {
  const changed = new Set<ByteString>();
  const added = new Set<ByteString>();
  const removed = new Map<ByteString, ByteString[]>();
  for await (const { kind, path } of changes) {
    if (kind !== 'D') changed.add(path);
    if (kind === 'A') added.add(path);
    if (kind !== 'D') continue;
    tally.deletions++;
    const parent = parentOf(path);
    const names = removed.get(parent);
    if (names === undefined) removed.set(parent, [nameOf(path)]);
    else names.push(nameOf(path));
  }
  const writer = new EntryWriter(tree, tally);
  if (changed.size === 0 && removed.size === 0) return;
  const wanted = new Set(changed);
  for (const path of [...changed, ...(hasWhiteouts ? removed.keys() : [])])
    addParents(path, wanted);
  addLinks(tree, changed, wanted);
  for (const path of [...wanted].sort()) {
    const input = writer.input(path);
    if (input !== undefined) yield input;
    const names = hasWhiteouts ? removed.get(path) : undefined;
    if (names === undefined) continue;
    // Not of the root, which unpackers may take for something else.
    const isEmptied = path !== '/' && tree.names(path).every((name) => added.has(join(path, name)));
    for (const name of isEmptied ? [OPAQUE_MARKER] : names.map((each) => WHITEOUT_PREFIX + each)) {
      yield { entry: tarEntry('file', join(path, name).slice(1), { mode: 0 }) };
    }
  }
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

function addParents(path: ByteString, into: Set<ByteString>): void {
  into.add(path);
  for (let at = path; at !== '/';) {
    at = parentOf(at);
    if (into.has(at)) return;
    into.add(at);
  }
}

/**
 * A changed file may have names that are no change themselves, such as that of the file which a new name was linked to.
 * A link in a layer needs its file in the same layer, so they come along. Looking for them costs a walk of the tree.
 */
function addLinks(tree: LiveTree, changed: Set<ByteString>, wanted: Set<ByteString>): void {
  const missing = new Map<string, number>();
  for (const path of changed) {
    const { identity, links } = tree.links(path);
    if (identity === '') continue;
    missing.set(identity, (missing.get(identity) ?? links) - 1);
  }
  for (const [identity, count] of missing) if (count <= 0) missing.delete(identity);
  if (missing.size === 0) return;
  const walk = (path: ByteString): void => {
    for (const name of tree.names(path)) {
      const here = join(path, name);
      const { identity, isDirectory } = tree.links(here);
      if (isDirectory) walk(here);
      else if (missing.has(identity)) addParents(here, wanted);
    }
  };
  walk('/');
}

/** Makes entries of files, and links of names that a file had before. */
class EntryWriter {
  readonly #tree: LiveTree;
  readonly #tally: Tally;
  /** The first path of each file with several names. */
  readonly #linked: Map<string, ByteString> = new Map();

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
    const { entry, identity } = this.#tree.file(path);
    if (entry === undefined) {
      this.#tally.skipped.push(path);
      return undefined;
    }
    this.#tally.entries++;
    entry.path = path === '/' ? '.' : path.slice(1);
    const first = this.#linked.get(identity);
    if (identity !== '' && first !== undefined) {
      return { entry: { ...entry, kind: 'link', size: 0, target: first, xattrs: new Map() } };
    }
    if (identity !== '') this.#linked.set(identity, entry.path);
    if (entry.kind !== 'file') return { entry };
    return { entry, data: this.#tree.data(path, entry) };
  }
}
