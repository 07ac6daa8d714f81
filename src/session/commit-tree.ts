/** Builds the tree of a commit out of a snapshot and what the session is over. */
import type { SnapshotEntry } from '../overlay/snapshot.ts';
import { S_IFDIR, S_IFMT, S_IFREG } from '../layers/layer.ts';
import type { Base } from './commit-base.ts';
import { Children, type CommitStore, type DirectoryObjects } from './commit-store.ts';
import type { SnapshotReader } from './snapshot-reader.ts';

export class CommitTree {
  readonly #reader: SnapshotReader;
  readonly #base: Base;
  readonly #store: CommitStore;
  readonly #entries: AsyncGenerator<SnapshotEntry>;
  /** The entry that was looked at, but is not used yet. */
  #ahead: SnapshotEntry | undefined;

  constructor(reader: SnapshotReader, base: Base, store: CommitStore) {
    this.#reader = reader;
    this.#base = base;
    this.#store = store;
    this.#entries = reader.entries();
  }

  async build(): Promise<DirectoryObjects> {
    const root = await this.#next();
    if (root === undefined) throw new Error('the snapshot is empty');
    return this.#directory(root);
  }

  async #next(): Promise<SnapshotEntry | undefined> {
    const ahead = this.#ahead;
    if (ahead !== undefined) {
      this.#ahead = undefined;
      return ahead;
    }
    const next = await this.#entries.next();
    return next.done === true ? undefined : next.value;
  }

  async #directory(entry: SnapshotEntry): Promise<DirectoryObjects> {
    const children =
      entry.base === undefined ? new Children() : this.#base.children(entry.path, entry.base);
    const within = `${entry.path}/`;
    for (;;) {
      const next = await this.#next();
      if (next === undefined) break;
      if (!next.path.startsWith(within)) {
        this.#ahead = next;
        break;
      }
      await this.#child(children, next, next.path.slice(within.length));
    }
    return this.#store.directory(entry, children);
  }

  async #child(children: Children, entry: SnapshotEntry, name: string): Promise<void> {
    children.remove(name);
    if (entry.gone === true) return;
    if (entry.same !== undefined) {
      const child = this.#base.child(entry.path, entry.same);
      if (child !== undefined) children.put(name, child);
      return;
    }
    const isStored = this.#store.checkName(entry.path);
    if ((entry.mode & S_IFMT) === S_IFDIR) {
      // What is in it is read in any case: it follows.
      const made = await this.#directory(entry);
      if (isStored) children.put(name, { kind: 'directory', store: () => made });
      return;
    }
    if (!isStored) return;
    const read =
      entry.content === undefined || (entry.mode & S_IFMT) !== S_IFREG
        ? undefined
        : <T>(use: (data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) => Promise<T>) =>
            this.#reader.read(entry, use);
    const stored = await this.#store.file(entry.path, entry, read);
    if (stored !== undefined) children.put(stored.name, { kind: 'file', store: () => stored });
  }
}
