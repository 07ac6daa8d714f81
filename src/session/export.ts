/**
 * A session's changes, or all of its tree, as a tar, an OCI layer or an OCI image. Names of changes come from the daemon,
 * files through the mount; what changes while it is read fails the export, so that it never mixes two moments of a file.
 */
import { existsSync, fstatSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { FsError, SessionError, UsageError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import type { Bytes } from '../oci/bytes.ts';
import { Meter } from '../oci/bytes.ts';
import { compress, type Compression } from '../oci/compression.ts';
import { type Config, layerType, ociLayerType, PLATFORM, TYPES } from '../oci/image.ts';
import { type Image, Layout, parseReference } from '../oci/layout.ts';
import { LayoutWriter, STDOUT, writeWhole } from '../oci/layout-writer.ts';
import { type TarInput, writeTar } from '../oci/tar-writer.ts';
import { parseTimestamp } from '../timestamp.ts';
import { changedFiles, wholeTree } from './export-entries.ts';
import type { LiveTree } from './live-tree.ts';
import type { Change } from './session.ts';

export type ExportFormat = 'tar' | 'oci-layer' | 'oci-image';

export interface ExportOptions {
  /**
   * `tar`: what was added and changed, as a plain tree; removals cannot be said in it. `oci-layer`: with removals, as
   * whiteouts. `oci-image`: a layout with that layer on top of `base`, or with the whole tree.
   */
  format: ExportFormat;
  /** A file, or `-`, standard output; for an image a directory, which is made or gains a tag, or a file that ends in `.tar`. */
  output: string;
  /** Default: none for a tar, gzip for layers. */
  compress?: Compression;
  /** Seconds since 1970: no time in the output is later, so that the same changes give the same bytes. */
  timestamp?: number;
  /** Images only: the image that the session's source is, as `oci:DIR[:TAG]` or `oci-archive:FILE[:TAG]`. */
  base?: string;
  /** Images only: what the image is called in the layout; default `latest`. */
  tag?: string;
  /** Stops it; nothing is left then. */
  signal?: AbortSignal;
}

export interface ExportResult {
  format: ExportFormat;
  output: string;
  /** SHA-256 of a layer's file, or of an image's manifest. */
  digest?: string;
  /** Of the layer, uncompressed. */
  diffId: string;
  /** Bytes of the tar or layer, as it is stored. */
  size: number;
  /** Files and directories in it, those included that only lead to what changed. */
  entries: number;
  /** Names removed; a tar leaves them out. */
  deletions: number;
  /** Paths of sockets, which no archive can hold. */
  skipped: ByteString[];
}

/** What is counted as entries go by. */
export interface Tally {
  entries: number;
  deletions: number;
  skipped: ByteString[];
}

/** @throws UsageError options that do not go together. */
export function checkExport(options: ExportOptions): void {
  const { format, base, tag, timestamp } = options;
  if (!['tar', 'oci-layer', 'oci-image'].includes(format)) {
    throw new UsageError(`there is no format '${format}'`, 'choose tar, oci-layer or oci-image');
  }
  if (format !== 'oci-image' && (base !== undefined || tag !== undefined)) {
    throw new UsageError(
      'only an image has a base and a tag',
      'add --format=oci-image, or leave them out',
    );
  }
  if (format === 'oci-image' && options.output === STDOUT) {
    throw new UsageError('an image is more than one file', 'name a directory, or a file.tar');
  }
  if (options.compress !== undefined && !['none', 'gzip', 'zstd'].includes(options.compress)) {
    throw new UsageError(
      `there is no compression '${options.compress}'`,
      'choose none, gzip or zstd',
    );
  }
  if (timestamp !== undefined) parseTimestamp(timestamp);
  if (tag !== undefined && !/^[\w][\w.:/@+-]{0,254}$/.test(tag)) {
    throw new UsageError(`'${tag}' cannot be a tag`, 'use letters, digits, and . : / @ + - _');
  }
}

/** @param changes  lists what has changed, sorted by path. */
export async function exportTree(
  tree: LiveTree,
  changes: () => AsyncIterable<Change>,
  options: ExportOptions,
): Promise<ExportResult> {
  refuseInside(tree.root, options);
  const tally: Tally = { entries: 0, deletions: 0, skipped: [] };
  const isWhole = options.format === 'oci-image' && options.base === undefined;
  const entries = isWhole
    ? wholeTree(tree, tally)
    : changedFiles(tree, changes, tally, options.format !== 'tar');
  const inputs = limited(entries, options);
  try {
    const stored =
      options.format === 'oci-image'
        ? await exportImage(inputs, options)
        : await exportFile(inputs, options);
    return { format: options.format, output: options.output, ...stored, ...tally };
  } catch (error) {
    if (error instanceof FsError) {
      throw new SessionError(
        `the session cannot be read: ${error.message}`,
        'do it again when nothing writes to it; as root if files are not yours',
      );
    }
    if (options.signal?.aborted === true) throw new SessionError('interrupted; nothing is left');
    throw error;
  }
}

/**
 * @param root  descriptor of the session's root.
 * @throws SessionError the output would be a change of the session itself.
 */
function refuseInside(root: number, options: ExportOptions): void {
  const session = fstatSync(root).dev;
  if (!placesOf(options).some((place) => place?.dev === session)) return;
  throw new SessionError(
    `${options.output === STDOUT ? 'standard output' : options.output} is in the session that is exported`,
    'name a place outside of it',
  );
}

/** Where the output is written, and what it replaces. */
function placesOf({ format, output }: ExportOptions): (Stats | undefined)[] {
  if (format === 'oci-image') {
    const { path } = placeOf(output);
    return [statOf(path), statOf(dirname(path))];
  }
  const there = output === STDOUT ? fstatSync(1) : statOf(output);
  if (there === undefined) return [statOf(dirname(output))];
  // What is no file, such as a fifo, is not in the archive with its bytes.
  return there.isFile() ? [there] : [];
}

/** `undefined` where there is nothing to be seen; whoever writes there says why. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

type Stored = Pick<ExportResult, 'digest' | 'diffId' | 'size'>;

/** Takes the fixed time into account, and stops when asked to. */
async function* limited(
  entries: AsyncIterable<TarInput>,
  { timestamp, signal }: ExportOptions,
): AsyncGenerator<TarInput> {
  for await (const input of entries) {
    signal?.throwIfAborted();
    const { entry } = input;
    // The entry itself is what the data is compared with.
    if (timestamp === undefined || entry.mtimeSec < timestamp) yield input;
    else yield { ...input, entry: { ...entry, mtimeSec: timestamp, mtimeNsec: 0 } };
  }
}

/** The tar, compressed; its meters know all about it afterwards. */
function layerOf(
  entries: AsyncIterable<TarInput>,
  kind: Compression,
): { chunks: Bytes; plain: Meter } {
  const plain = new Meter();
  return { chunks: compress(kind, plain.pass(writeTar(entries))), plain };
}

async function exportFile(
  entries: AsyncIterable<TarInput>,
  options: ExportOptions,
): Promise<Stored> {
  const kind = options.compress ?? (options.format === 'tar' ? 'none' : 'gzip');
  const { chunks, plain } = layerOf(entries, kind);
  const stored = new Meter();
  await writeWhole(options.output, stored.pass(chunks), options.signal);
  const digest = stored.digest();
  // Of a pipe that compresses nothing, both are the same.
  return { digest, diffId: plain.digest(), size: stored.size };
}

async function exportImage(
  entries: AsyncIterable<TarInput>,
  options: ExportOptions,
): Promise<Stored> {
  const kind = options.compress ?? 'gzip';
  const { path, isArchive } = placeOf(options.output);
  const base = options.base === undefined ? undefined : await openBase(options.base);
  await using writer = await LayoutWriter.create({ path, isArchive, signal: options.signal });
  const below = [];
  for (const layer of base?.image.manifest.layers ?? []) {
    const type = ociLayerType(layer.mediaType);
    if (base === undefined || type === undefined) {
      throw new SessionError(
        `the base has a layer of the type ${layer.mediaType}, which is no file system`,
        'name an image of files',
      );
    }
    below.push(await writer.add(type, base.layout.blob(layer)));
  }
  const { chunks, plain } = layerOf(entries, kind);
  const layer = await writer.add(layerType(kind), chunks);
  const diffId = plain.digest();
  const config = configOf(base?.image.config, diffId, options.timestamp);
  const manifest = await writer.addJson(TYPES.manifest, {
    schemaVersion: 2,
    mediaType: TYPES.manifest,
    config: await writer.addJson(TYPES.config, config),
    layers: [...below, layer],
    ...(base?.image.manifest.annotations !== undefined && {
      annotations: base.image.manifest.annotations,
    }),
  });
  await writer.finish(manifest, options.tag ?? 'latest');
  return { digest: manifest.digest, diffId, size: layer.size };
}

/** `oci:` and `oci-archive:` may be said; otherwise the name tells, and what is there. */
function placeOf(output: string): { path: string; isArchive: boolean } {
  const match = /^(oci|oci-archive):(.+)$/s.exec(output);
  if (match?.[2] !== undefined) return { path: match[2], isArchive: match[1] === 'oci-archive' };
  return { path: output, isArchive: output.endsWith('.tar') };
}

async function openBase(reference: string): Promise<{ layout: Layout; image: Image }> {
  const { path, tag } = parseReference(
    /^oci(-archive)?:/.test(reference) || !existsSync(reference) ? reference : `oci:${reference}`,
  );
  const layout = await Layout.open(path);
  return { layout, image: await layout.image(tag) };
}

/** The base's config with one layer more, or one of an image with a single layer. */
function configOf(base: Config | undefined, diffId: string, timestamp: number | undefined): Config {
  const milliseconds = timestamp === undefined ? Date.now() : timestamp * 1000;
  const created = new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    ...(base ?? { ...PLATFORM, config: {} }),
    created,
    rootfs: { type: 'layers', diff_ids: [...(base?.rootfs.diff_ids ?? []), diffId] },
    history: [...(base?.history ?? []), { created, created_by: 'ostree-ts export' }],
  };
}
