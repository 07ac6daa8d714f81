/**
 * Makes a commit of an image. The layers are read twice: first for their tree and their digests, so that nothing is
 * written of an image that is damaged or refused; then for the contents of those files that are left in the end.
 */
import { isUtf8 } from 'node:buffer';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { stringsVariant, stringVariant, type Variant } from '../ostree/gvariant.ts';
import type { Checksum, Xattr } from '../ostree/objects.ts';
import type { TreeDirectory, TreeFile } from '../ostree/dirtree.ts';
import { readBranch } from '../ostree/refs.ts';
import { checkRef, RepositoryWriter } from '../ostree/writer.ts';
import { parseTimestamp } from '../timestamp.ts';
import type { Bytes } from './bytes.ts';
import { ByteSource, Meter } from './bytes.ts';
import { decompress } from './compression.ts';
import { type ImageDirectory, type ImageFile, type ImageNode, ImageTree } from './flatten.ts';
import { type Descriptor, ociLayerType } from './image.ts';
import { type Image, Layout, parseReference } from './layout.ts';
import { shown, TarError } from './tar.ts';
import { readTar, type TarItem } from './tar-reader.ts';

export interface ImportOptions {
  /** `oci:DIR[:TAG]` or `oci-archive:FILE[:TAG]`. */
  image: string;
  /** The repository's path: text, or bytes where it is no text. */
  repo: string | Uint8Array;
  /** The ref that is to point to the commit. */
  branch: string;
  /** Default: what was imported. */
  subject?: string;
  body?: string;
  /** Of the commit, in seconds since 1970; default: now. */
  timestamp?: number;
  /** Told once, in words, when another process has to be waited for. */
  onWait?: (message: string) => void;
  /** Stops it; the repository is then as it was. */
  signal?: AbortSignal;
}

export interface ImportResult {
  /** SHA-256 of the commit. */
  commit: Checksum;
  branch: string;
  /** Digest of the image's manifest. */
  digest: string;
  /** Regular files and symlinks under all their names, and directories. */
  files: number;
  directories: number;
  /** Devices and fifos, which a commit cannot hold. */
  skipped: { path: ByteString; kind: string }[];
  /** The ref's commit had this tree already, and stays. */
  isUnchanged: boolean;
}

/** @throws SessionError the image is refused, or the repository cannot be written: it is then as it was. */
export async function importImage(options: ImportOptions): Promise<ImportResult> {
  const { branch, signal, timestamp } = options;
  checkRef(branch);
  if (timestamp !== undefined) parseTimestamp(timestamp);
  const { path, tag } = parseReference(options.image);
  const layout = await Layout.open(path);
  const image = await layout.image(tag);
  const work = new Import(layout, image, options);
  try {
    await work.readTree();
    return await work.write();
  } catch (error) {
    if (signal?.aborted === true) {
      throw new SessionError('interrupted; the repository is as it was', 'run it again');
    }
    throw error;
  }
}

class Import {
  readonly #layout: Layout;
  readonly #image: Image;
  readonly #options: ImportOptions;
  readonly #tree: ImageTree = new ImageTree();
  /** Of each layer, which entries are wanted. */
  readonly #wanted: Map<number, Map<number, ImageFile>> = new Map();
  readonly #checksums: Map<ImageFile, Checksum> = new Map();
  readonly #skipped: ImportResult['skipped'] = [];
  #files = 0;
  #directories = 1;

  constructor(layout: Layout, image: Image, options: ImportOptions) {
    this.#layout = layout;
    this.#image = image;
    this.#options = options;
  }

  /** Puts the layers together. */
  async readTree(): Promise<void> {
    const { manifest, config } = this.#image;
    for (const [number, layer] of manifest.layers.entries()) {
      const application = this.#tree.layer(number);
      const plain = new Meter();
      for await (const { entry } of this.#items(layer, plain)) application.apply(entry);
      const wanted = config.rootfs.diff_ids[number];
      if (plain.digest() !== wanted) {
        throw new SessionError(
          `the layer ${layer.digest} does not hold what the image says: ${wanted}`,
          'copy the image again from where it came',
        );
      }
    }
    checkNode('/', this.#tree.root);
    for (const { path, node } of this.#tree.walk()) {
      checkNode(path, node);
      if (node.kind === 'directory') this.#directories++;
      else if (node.kind === 'special') this.#skipped.push({ path, kind: node.what });
      else this.#files++;
      if (node.kind !== 'file') continue;
      let entries = this.#wanted.get(node.layer);
      if (entries === undefined) this.#wanted.set(node.layer, (entries = new Map()));
      entries.set(node.index, node);
    }
  }

  /** The entries of a layer. @throws SessionError it cannot be read. */
  async *#items(layer: Descriptor, plain: Meter): AsyncGenerator<TarItem> {
    if (ociLayerType(layer.mediaType) === undefined) {
      throw new SessionError(
        `the image has a layer of the type ${layer.mediaType}, which is no file system`,
        'name an image of files',
      );
    }
    try {
      const source = new ByteSource(plain.pass(this.#bytesOf(layer)));
      for await (const item of readTar(source, { mayLackEnd: true })) {
        this.#options.signal?.throwIfAborted();
        yield item;
      }
    } catch (error) {
      if (!(error instanceof TarError)) throw error;
      throw new SessionError(
        `the layer ${layer.digest} cannot be read: ${error.message}`,
        'copy the image again from where it came',
        { cause: error },
      );
    }
  }

  #bytesOf(layer: Descriptor): Bytes {
    return decompress(this.#layout.blob(layer));
  }

  /** Stores contents, then directories, then the commit. */
  async write(): Promise<ImportResult> {
    const { repo, branch, onWait, signal } = this.#options;
    await using writer = await RepositoryWriter.open(Buffer.from(repo).toString('latin1'), {
      ...(onWait !== undefined && { onWait }),
      ...(signal !== undefined && { signal }),
    });
    for (const [number, layer] of this.#image.manifest.layers.entries()) {
      const wanted = this.#wanted.get(number);
      if (wanted !== undefined) await this.#storeLayer(writer, layer, wanted);
    }
    const tree = await this.#storeDirectory(writer, this.#tree.root);
    const meta = writer.writeDirMeta(this.#tree.root.meta);
    const parent = readBranch(writer.repository, branch);
    const before = parent === undefined ? undefined : writer.repository.commit(parent);
    const isUnchanged = before?.tree === tree && before.meta === meta;
    let commit = parent ?? '';
    if (!isUnchanged) {
      const { subject, body, timestamp, image } = this.#options;
      commit = writer.writeCommit({
        metadata: this.#metadata(writer),
        parent,
        subject: subject ?? `Import ${image}`,
        body: body ?? '',
        timestamp: timestamp ?? Math.floor(Date.now() / 1000),
        tree,
        meta,
      });
      writer.setRef(branch, commit);
      await writer.finish();
    }
    return {
      commit,
      branch,
      digest: this.#image.descriptor.digest,
      files: this.#files,
      directories: this.#directories,
      skipped: this.#skipped,
      isUnchanged,
    };
  }

  async #storeLayer(
    writer: RepositoryWriter,
    layer: Descriptor,
    wanted: Map<number, ImageFile>,
  ): Promise<void> {
    let index = -1;
    for await (const item of this.#items(layer, new Meter())) {
      index++;
      const file = wanted.get(index);
      if (file === undefined) continue;
      const checksum = await writer.writeContent({ ...file.meta, target: '' }, item.data());
      this.#checksums.set(file, checksum);
    }
  }

  async #storeDirectory(writer: RepositoryWriter, dir: ImageDirectory): Promise<Checksum> {
    const files: TreeFile[] = [];
    const dirs: TreeDirectory[] = [];
    for (const [name, node] of dir.children) {
      if (node.kind === 'directory') {
        const checksum = await this.#storeDirectory(writer, node);
        dirs.push({ name, checksum, meta: writer.writeDirMeta(node.meta) });
      } else if (node.kind === 'symlink') {
        const header = { ...node.meta, target: node.target };
        files.push({ name, checksum: await writer.writeContent(header) });
      } else if (node.kind === 'file') {
        files.push({ name, checksum: this.#checksums.get(node) ?? '' });
      }
    }
    return writer.writeDirTree(files, dirs);
  }

  /** As `ostree commit` binds commits to their refs, and ostree-container tells where they are from. */
  #metadata(writer: RepositoryWriter): Map<string, Variant> {
    const metadata = new Map([['ostree.ref-binding', stringsVariant([this.#options.branch])]]);
    const { collectionId } = writer;
    if (collectionId !== undefined) {
      metadata.set('ostree.collection-binding', stringVariant(collectionId));
    }
    return metadata.set('ostree.manifest-digest', stringVariant(this.#image.descriptor.digest));
  }
}

/** Of a symlink's target, and of an attribute's name and value: what Linux takes. */
const TARGET_MAX = 4095;
const XATTR_NAME_MAX = 255;
const XATTR_VALUE_MAX = 65536;

/** @throws SessionError no commit can hold it, or none that has it can be checked out. */
function checkNode(path: ByteString, node: ImageNode): void {
  const why = isText(path) ? wrongWith(node) : 'a name that is not UTF-8';
  if (why === undefined) return;
  throw new SessionError(
    `${shown(path)} has ${why}, which a commit cannot hold`,
    'change it where the image is made',
  );
}

function wrongWith(node: ImageNode): string | undefined {
  if (node.kind === 'special') return undefined;
  if (node.kind === 'symlink') {
    const { target } = node;
    if (target === '') return 'an empty target';
    if (target.length > TARGET_MAX) return `a target over ${TARGET_MAX} bytes`;
    if (target.includes('\0')) return 'a target with a NUL in it';
    if (!isText(target)) return 'a target that is not UTF-8';
  }
  const isLink = node.kind === 'symlink';
  const wrong = node.meta.xattrs.find((xattr) => !isPossible(xattr) || (isLink && isOfUser(xattr)));
  return wrong && `the attribute '${shown(wrong.name)}'${isLink ? ' on a symlink' : ''}`;
}

/** Whether Linux has attributes with such a name, namespace first, and such a value. */
function isPossible({ name, value }: Xattr): boolean {
  return (
    /^[^.]+\../s.test(name) &&
    !name.includes('\0') &&
    name.length <= XATTR_NAME_MAX &&
    value.length <= XATTR_VALUE_MAX
  );
}

function isOfUser({ name }: Xattr): boolean {
  return name.startsWith('user.');
}

function isText(text: ByteString): boolean {
  return isUtf8(Buffer.from(text, 'latin1'));
}
