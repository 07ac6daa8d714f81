/**
 * OCI image layouts, as directories and as archives of one (`oci-archive`): what images there are, and their blobs, each
 * checked against its digest as it is read.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SessionError, UsageError } from '../errors.ts';
import type { Bytes } from './bytes.ts';
import { ByteSource } from './bytes.ts';
import type { Config, Descriptor, Index, Manifest } from './image.ts';
import { asConfig, asIndex, asManifest, isIndexType, isManifestType, PLATFORM } from './image.ts';
import { TarError } from './tar.ts';
import { readTar } from './tar-reader.ts';

/** Manifests, indexes and configs are small; what is larger is something else. */
const JSON_MAX = 8 * 1024 * 1024;
const REF_NAME = 'org.opencontainers.image.ref.name';

/** Where an image is, as it was typed. */
export interface ImageReference {
  path: string;
  tag: string | undefined;
  /** `oci-archive:`; of `oci:`, what is there tells. */
  isArchive: boolean;
}

/**
 * Reads `oci:DIR[:TAG]` or `oci-archive:FILE[:TAG]`. A path with colons is known by its being there.
 *
 * @throws UsageError it is neither.
 */
export function parseReference(text: string): ImageReference {
  const match = /^(oci|oci-archive):(.+)$/s.exec(text);
  const rest = match?.[2];
  if (rest === undefined) {
    throw new UsageError(
      `'${text}' names no image`,
      'name one: oci:DIR[:TAG], or oci-archive:FILE[:TAG]',
    );
  }
  const isArchive = match?.[1] === 'oci-archive';
  for (let end = rest.length; end > 0; end = rest.lastIndexOf(':', end - 1)) {
    const path = rest.slice(0, end);
    if (existsSync(path)) return { path, tag: rest.slice(end + 1) || undefined, isArchive };
  }
  const colon = rest.indexOf(':');
  return colon < 0
    ? { path: rest, tag: undefined, isArchive }
    : { path: rest.slice(0, colon), tag: rest.slice(colon + 1) || undefined, isArchive };
}

/** Files of a layout by their names, `blobs/sha256/...`. */
interface Files {
  /** `undefined` when there is none. */
  open(name: string): Bytes | undefined;
}

/** An image, all of it but its layers. */
export interface Image {
  descriptor: Descriptor;
  manifest: Manifest;
  config: Config;
}

export class Layout {
  readonly path: string;
  readonly #files: Files;
  readonly index: Index;

  private constructor(path: string, files: Files, index: Index) {
    this.path = path;
    this.#files = files;
    this.index = index;
  }

  /** @throws SessionError there is none, or it is damaged. */
  static async open(path: string): Promise<Layout> {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) {
      throw new SessionError(`${path} does not exist`, 'name a layout: oci:DIR[:TAG]');
    }
    const files = stat.isDirectory() ? directoryFiles(path) : await archiveFiles(path);
    const text = await small(files, 'index.json');
    if (text === undefined || (await small(files, 'oci-layout')) === undefined) {
      throw new SessionError(
        `${path} is no OCI image layout: it has no oci-layout or no index.json`,
        'make one with: skopeo copy SOURCE oci:DIR:TAG',
      );
    }
    return new Layout(path, files, asIndex(parsed(text, 'index.json'), 'index.json'));
  }

  /**
   * The image of a tag; without a tag the only one there is.
   *
   * @throws SessionError there is none, or several; or it is damaged.
   */
  async image(tag: string | undefined): Promise<Image> {
    const named = this.index.manifests.filter(
      ({ annotations }) => tag === undefined || annotations?.[REF_NAME] === tag,
    );
    const [first] = named;
    if (first === undefined || (tag === undefined && named.length > 1)) {
      const tags = this.index.manifests.map(({ annotations }) => annotations?.[REF_NAME] ?? '?');
      throw new SessionError(
        tag === undefined
          ? `${this.path} holds ${named.length === 0 ? 'no image' : 'several images'}`
          : `${this.path} holds no image with the tag ${tag}`,
        tags.length === 0 ? 'name another layout' : `name one of: ${tags.join(', ')}`,
      );
    }
    const descriptor = await this.#ofPlatform(first);
    const manifest = asManifest(await this.json(descriptor), descriptor.digest);
    const config = asConfig(await this.json(manifest.config), manifest.config.digest);
    if (config.rootfs.diff_ids.length !== manifest.layers.length) {
      throw damaged(
        `the image has ${manifest.layers.length} layers, but its config says
        ${config.rootfs.diff_ids.length}`.replaceAll(/\s+/g, ' '),
      );
    }
    return { descriptor, manifest, config };
  }

  /** Follows indexes to the manifest of this machine's architecture. */
  async #ofPlatform(start: Descriptor): Promise<Descriptor> {
    let descriptor = start;
    // An index in an index in an index is nobody's image.
    for (let depth = 0; depth < 4; depth++) {
      if (isManifestType(descriptor.mediaType)) return descriptor;
      if (!isIndexType(descriptor.mediaType)) break;
      const { manifests } = asIndex(await this.json(descriptor), descriptor.digest);
      const fitting = manifests.find(
        ({ platform }) =>
          platform?.os === PLATFORM.os && platform.architecture === PLATFORM.architecture,
      );
      const next = fitting ?? (manifests.length === 1 ? manifests[0] : undefined);
      if (next === undefined) {
        throw new SessionError(
          `the image is none for ${PLATFORM.os}/${PLATFORM.architecture}`,
          'copy the one that is wanted: skopeo copy --override-arch=ARCH SOURCE oci:DIR:TAG',
        );
      }
      descriptor = next;
    }
    throw damaged(`${descriptor.mediaType} is no image`);
  }

  /** A JSON blob. @throws SessionError it is missing, damaged, or not small. */
  async json(descriptor: Descriptor): Promise<unknown> {
    if (descriptor.size > JSON_MAX) throw damaged(`${descriptor.digest} is too large for JSON`);
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.blob(descriptor)) chunks.push(chunk);
    return parsed(Buffer.concat(chunks), descriptor.digest);
  }

  /** A blob. @throws SessionError, at its end, it is not what its descriptor says. */
  async *blob({ digest, size }: Descriptor): AsyncGenerator<Uint8Array> {
    const match = /^(sha256|sha512):([\da-f]+)$/.exec(digest);
    const [, algorithm = '', hex = ''] = match ?? [];
    if (hex.length !== (algorithm === 'sha256' ? 64 : 128)) {
      throw damaged(`'${digest}' is no digest`);
    }
    const chunks = this.#files.open(`blobs/${algorithm}/${hex}`);
    if (chunks === undefined) throw damaged(`the blob ${digest} is missing`);
    const hash = createHash(algorithm);
    let length = 0;
    for await (const chunk of chunks) {
      length += chunk.length;
      if (length > size) break;
      hash.update(chunk);
      yield chunk;
    }
    if (length !== size || hash.digest('hex') !== hex) {
      throw damaged(`the blob ${digest} is not what its digest says`);
    }
  }
}

function damaged(what: string): SessionError {
  return new SessionError(`the image cannot be used: ${what}`, 'copy it again from where it came');
}

function parsed(text: Buffer, name: string): unknown {
  try {
    return JSON.parse(text.toString());
  } catch (error) {
    throw new SessionError(
      `the image cannot be used: ${name} is no JSON`,
      'copy it again from where it came',
      { cause: error },
    );
  }
}

async function small(files: Files, name: string): Promise<Buffer | undefined> {
  const chunks = files.open(name);
  if (chunks === undefined) return undefined;
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    length += chunk.length;
    if (length > JSON_MAX) throw damaged(`${name} is too large for JSON`);
  }
  return Buffer.concat(parts);
}

function directoryFiles(folder: string): Files {
  return {
    open(name) {
      const path = join(folder, name);
      return statSync(path, { throwIfNoEntry: false })?.isFile() === true
        ? createReadStream(path, { highWaterMark: 1 << 18 })
        : undefined;
    },
  };
}

/** Looks once where each file of the archive lies. */
async function archiveFiles(path: string): Promise<Files> {
  const places = new Map<string, { offset: number; size: number }>();
  try {
    const source = new ByteSource(createReadStream(path, { highWaterMark: 1 << 20 }));
    for await (const { entry, offset } of readTar(source)) {
      if (entry.kind !== 'file') continue;
      places.set(entry.path.replace(/^\.\//, ''), { offset, size: entry.size });
    }
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    throw new SessionError(
      `${path} is no OCI archive: ${error.message}`,
      'name a layout directory, or what skopeo copy SOURCE oci-archive:FILE made',
    );
  }
  return {
    open(name) {
      const place = places.get(name);
      if (place === undefined) return undefined;
      const { offset, size } = place;
      if (size === 0) return [];
      return createReadStream(path, {
        start: offset,
        end: offset + size - 1,
        highWaterMark: 1 << 18,
      });
    },
  };
}

/** The index of a layout that is to be added to; `undefined` when there is nothing at the path. */
export async function existingIndex(path: string): Promise<Index | undefined> {
  if (!existsSync(path)) return undefined;
  let text: Buffer;
  try {
    await readFile(join(path, 'oci-layout'));
    text = await readFile(join(path, 'index.json'));
  } catch (error) {
    throw new SessionError(`${path} is there, and is no OCI image layout`, 'name another place', {
      cause: error,
    });
  }
  return asIndex(parsed(text, 'index.json'), 'index.json');
}

/** An index in which the tag means the manifest, and nothing else. */
export function withTag(index: Index | undefined, manifest: Descriptor, tag: string): Index {
  const others = (index?.manifests ?? []).filter(
    ({ annotations }) => annotations?.[REF_NAME] !== tag,
  );
  const named: Descriptor = { ...manifest, annotations: { [REF_NAME]: tag } };
  return { ...index, schemaVersion: 2, manifests: [...others, named] };
}
