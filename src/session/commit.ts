/** Keeps a session as a commit. */
import { SessionError, UsageError } from '../errors.ts';
import { DirectoryLayer } from '../layers/directory.ts';
import type { Place } from '../layers/layer.ts';
import { native, type ByteString } from '../native.ts';
import { stringsVariant, stringVariant, type Variant } from '../ostree/gvariant.ts';
import type { Checksum, Commit } from '../ostree/objects.ts';
import { readBranch, resolveRevision } from '../ostree/refs.ts';
import { ObjectError, unusable } from '../ostree/failures.ts';
import { Repository } from '../ostree/repo.ts';
import { checkRef, RepositoryWriter } from '../ostree/writer.ts';
import { parseTimestamp } from '../timestamp.ts';
import { bytes, type HostPath, shown } from './checks.ts';
import { CommitBase, DeploymentBase, DirectoryBase, placeIn, type Base } from './commit-base.ts';
import { CommitStore, type DirectoryObjects } from './commit-store.ts';
import { CommitTree } from './commit-tree.ts';
import type { Control } from './control.ts';
import type { SessionRecord } from './record.ts';
import { SnapshotReader } from './snapshot-reader.ts';

/** How many of the names that are refused a message lists. */
const LISTED_MAX = 5;

export interface CommitOptions {
  /** The ref that is to point to the commit. */
  branch: string;
  /** Default: the repository that the session's commit or deployment is from. */
  repo?: HostPath;
  subject?: string;
  body?: string;
  /** Values of the commit's metadata, all of them strings. */
  metadata?: Record<string, string>;
  /**
   * A revision, or `none`. Default: the commit that the session is over; of other directories, what `branch` has pointed
   * to.
   */
  parent?: string;
  /** Make a commit even of a session that has changed nothing. */
  allowEmpty?: boolean;
  /** Leave out devices, fifos, sockets and names that are not UTF-8, which are refused otherwise. */
  skipSpecial?: boolean;
  /** Take names that begin with `.ostree-wh.`, which become devices in a deployment. */
  allowWhiteouts?: boolean;
  /** Seconds since 1970; now, when left out. */
  timestamp?: number;
  /** Told once, in words, when another process has the repository locked. */
  onWait?: (message: string) => void;
  onProgress?: (progress: CommitProgress) => void;
  /** Leaves the repository as it was. */
  signal?: AbortSignal;
}

/** How far it is. Files of a directory that is committed whole come on top of those that were counted. */
export interface CommitProgress {
  files: number;
  bytes: number;
  totalFiles: number;
  totalBytes: number;
}

export interface CommitResult {
  /** `null`: nothing had changed, so none was made. */
  commit: Checksum | null;
  parent: Checksum | null;
  branch: string;
  /** The repository's path. */
  repo: string;
  /** Files that were read, and the bytes that they had. */
  files: number;
  bytes: number;
  /** What was left out; byte strings. */
  skipped: ByteString[];
}

/** A session that goes on. */
interface Live {
  control: Control;
  /** Of its daemon. */
  pid: number;
  /** That what programs have stored into mapped pages is in it. */
  written: Promise<void>;
}

/** What a session is over, as far as commits are concerned. */
interface Origin {
  /** A byte string. */
  repo: ByteString;
  commit: Checksum;
  /** Where the session's root is in the commit; '' for the whole. */
  prefix: ByteString;
}

const DEPLOYMENT = /^(.*)\/ostree\/deploy\/[^/]+\/deploy\/([0-9a-f]{64})\.\d+(?:\/(.*))?$/;

/** The commit behind a session; `undefined` when it is over other directories. */
export function originOf(record: SessionRecord): Origin | undefined {
  const { mode, repo, commit, source, deployment } = record;
  if (deployment !== undefined) {
    const path = bytes(`${deployment.sysroot}/ostree/repo`);
    return { repo: path, commit: deployment.checksum, prefix: 'usr' };
  }
  if (mode === 'commit' && repo !== undefined && commit !== undefined) {
    return { repo, commit, prefix: '' };
  }
  const [only, ...others] = source;
  const found = others.length === 0 ? DEPLOYMENT.exec(only ?? '') : null;
  if (found === null) return undefined;
  const [, sysroot = '', checksum = '', prefix = ''] = found;
  return { repo: `${sysroot}/ostree/repo`, commit: checksum, prefix };
}

/**
 * Says what is wrong with options before anything is done.
 *
 * @throws UsageError.
 */
export function checkCommit(record: SessionRecord, options: CommitOptions): void {
  checkRef(options.branch);
  if (options.timestamp !== undefined) parseTimestamp(options.timestamp);
  if (options.repo === undefined && originOf(record) === undefined) {
    throw new UsageError(
      'this session is over a directory that is from no repository',
      'name the one to commit to: --repo=REPO',
    );
  }
  for (const key of Object.keys(options.metadata ?? {})) {
    if (key === '') throw new UsageError('a key of the metadata is empty', 'write KEY=VALUE');
  }
}

/**
 * Writes the commit.
 *
 * @param live  the session's daemon; a snapshot is taken when everything else is known to be right.
 * @throws SessionError it cannot be written, or something in the session cannot be stored; the repository is as it was.
 */
export async function commitSession(
  record: SessionRecord,
  { control, pid, written }: Live,
  options: CommitOptions,
): Promise<CommitResult> {
  const origin = originOf(record);
  const path = options.repo === undefined ? (origin?.repo ?? '') : bytes(options.repo);
  await using writer = await RepositoryWriter.open(path, {
    ...(options.onWait !== undefined && { onWait: options.onWait }),
    ...(options.signal !== undefined && { signal: options.signal }),
  });
  writer.checkRef(options.branch);
  const source = origin === undefined ? undefined : openOrigin(origin);
  try {
    const parent = parentOf(writer.repository, source, options);
    await written;
    await using reader = await SnapshotReader.take(control, pid, record.upper !== 'memory');
    const job = new CommitJob(record, writer, source, reader, options);
    const { made, isChanged } = await job.build();
    // The daemon answers while the rest is written.
    void reader.end();
    const commit = isChanged || options.allowEmpty === true ? job.write(made, parent) : null;
    if (commit !== null) {
      writer.setRef(options.branch, commit);
      await writer.finish();
    }
    return {
      commit,
      parent: parent ?? null,
      branch: options.branch,
      repo: shown(path),
      files: job.progress.files,
      bytes: job.progress.bytes,
      skipped: job.skipped,
    };
  } catch (error) {
    if (options.signal?.aborted === true) {
      throw new SessionError('interrupted; the repository is as it was');
    }
    throw error instanceof ObjectError ? unusable(writer.label, error) : error;
  } finally {
    source?.repository.close();
  }
}

/** The commit behind a session, open. */
interface Source extends Origin {
  repository: Repository;
  base: Commit;
}

function openOrigin(origin: Origin): Source {
  const repository = Repository.open(native, origin.repo);
  try {
    const base = repository.commitToRead(origin.commit, { allowPartial: false });
    return { ...origin, repository, base };
  } catch (error) {
    repository.close();
    throw error;
  }
}

/** @throws SessionError there is no such revision. */
function parentOf(
  target: Repository,
  source: Source | undefined,
  { parent, branch }: CommitOptions,
): Checksum | undefined {
  if (parent === 'none') return undefined;
  if (parent !== undefined) return resolveRevision(target, bytes(parent));
  return source?.commit ?? readBranch(target, branch);
}

/** One commit in the making. */
class CommitJob {
  readonly progress: CommitProgress;
  readonly #record: SessionRecord;
  readonly #writer: RepositoryWriter;
  readonly #source: Source | undefined;
  readonly #reader: SnapshotReader;
  readonly #options: CommitOptions;
  readonly #store: CommitStore;

  constructor(
    record: SessionRecord,
    writer: RepositoryWriter,
    source: Source | undefined,
    reader: SnapshotReader,
    options: CommitOptions,
  ) {
    this.#record = record;
    this.#writer = writer;
    this.#source = source;
    this.#reader = reader;
    this.#options = options;
    this.progress = { files: 0, bytes: 0, totalFiles: reader.files, totalBytes: reader.bytes };
    this.#store = new CommitStore(writer, {
      skipSpecial: options.skipSpecial ?? false,
      allowWhiteouts: options.allowWhiteouts ?? false,
      signal: options.signal,
      onFile: () => this.progress.files++,
      onBytes: (count) => {
        this.progress.bytes += count;
        options.onProgress?.(this.progress);
      },
    });
  }

  get skipped(): ByteString[] {
    return this.#store.skipped;
  }

  /** @throws SessionError something cannot be stored. */
  async build(): Promise<{ made: DirectoryObjects; isChanged: boolean }> {
    const layers = new Map<number, DirectoryLayer>();
    const layer = (index: number) => {
      const known = layers.get(index) ?? this.#openLayer(index);
      layers.set(index, known);
      return known;
    };
    try {
      const made = await new CommitTree(this.#reader, this.#base(layer), this.#store).build();
      refuse(this.#store.refused);
      const source = this.#source;
      if (source === undefined) return { made, isChanged: true };
      const root = await this.#within(source, made);
      const isChanged = root.tree !== source.base.tree || root.meta !== source.base.meta;
      return { made: root, isChanged };
    } finally {
      for (const each of layers.values()) each.close();
    }
  }

  #openLayer(index: number): DirectoryLayer {
    const above = index < this.#record.source.length - 1;
    return new DirectoryLayer(native, this.#reader.openLower(index), { links: 'separate', above });
  }

  #base(layer: (index: number) => DirectoryLayer): Base {
    const directories = new DirectoryBase(layer, this.#store);
    const source = this.#source;
    if (source === undefined) return directories;
    const commit = new CommitBase(
      source.repository,
      this.#store,
      this.#writer.repository.hasWhole(source.commit),
    );
    if (this.#record.mode === 'commit') return commit;
    return new DeploymentBase(source, commit, directories);
  }

  /** The root of the whole commit, of which the session showed a part. */
  async #within(source: Source, made: DirectoryObjects): Promise<DirectoryObjects> {
    const base = new CommitBase(
      source.repository,
      this.#store,
      this.#writer.repository.hasWhole(source.commit),
    );
    const names = source.prefix.split('/').filter((name) => name !== '');
    const replaced = async (place: Required<Place>, depth: number): Promise<DirectoryObjects> => {
      const name = names[depth];
      if (name === undefined) return made;
      const children = base.children('', place);
      const below = placeIn(source.repository, place.checksum, name);
      if (below?.meta === undefined) {
        throw new SessionError(`'/${shown(source.prefix)}' is not a directory of the commit`);
      }
      const child = await replaced(
        { path: '', checksum: below.checksum, meta: below.meta },
        depth + 1,
      );
      children.put(name, { kind: 'directory', store: () => child });
      const from = { ...source.repository.dirMeta(place.meta), rdevMajor: 0, rdevMinor: 0 };
      return this.#store.directory(from, children, place.meta);
    };
    const { tree, meta } = source.base;
    return replaced({ path: '', checksum: tree, meta }, 0);
  }

  write(made: DirectoryObjects, parent: Checksum | undefined): Checksum {
    const { subject, body, branch, metadata, timestamp } = this.#options;
    const values = new Map<ByteString, Variant>();
    for (const [key, value] of Object.entries(metadata ?? {})) {
      values.set(bytes(key), stringVariant(value));
    }
    values.set('ostree.ref-binding', stringsVariant([branch]));
    const { collectionId } = this.#writer;
    if (collectionId !== undefined) {
      values.set('ostree.collection-binding', stringVariant(collectionId));
    }
    return this.#writer.writeCommit({
      metadata: values,
      parent,
      subject: subject ?? '',
      body: body ?? '',
      timestamp: timestamp ?? Math.floor(Date.now() / 1000),
      ...made,
    });
  }
}

/** @throws SessionError naming what cannot be stored, if there is anything. */
function refuse(refused: readonly { path: ByteString; why: string }[]): void {
  if (refused.length === 0) return;
  const named = refused.slice(0, LISTED_MAX).map(({ path, why }) => `${shown(path)} (${why})`);
  const more = refused.length - named.length;
  const isSpecial = refused.some(({ why }) => !why.includes('whiteout'));
  throw new SessionError(
    `a commit cannot hold ${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    isSpecial
      ? 'remove it, or leave out what cannot be held: --skip-special'
      : 'rename it, or say that it is meant: --allow-whiteouts',
  );
}
