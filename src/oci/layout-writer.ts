/**
 * Making an image layout. Everything is written beside its place and moved there at the end, the index last, so that a
 * failure leaves what was there before and nothing else; what a killed process leaves goes when the next writes there.
 */
import { createReadStream, createWriteStream, existsSync, type WriteStream } from 'node:fs';
import { mkdir, open, readdir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SessionError } from '../errors.ts';
import type { Bytes } from './bytes.ts';
import { Meter } from './bytes.ts';
import { type Draft, draftFile, draftFolder, finishFolder } from './draft.ts';
import type { Descriptor } from './image.ts';
import { existingIndex, withTag } from './layout.ts';
import { tarEntry } from './tar.ts';
import { type TarInput, writeTar } from './tar-writer.ts';

const LAYOUT = '{"imageLayoutVersion":"1.0.0"}';

export interface LayoutOutput {
  path: string;
  /** One file, a tar of the layout, instead of a directory. */
  isArchive: boolean;
  signal?: AbortSignal | undefined;
}

/** The output that is standard output. */
export const STDOUT = '-';

/**
 * Writes a file beside its place and gives it its name at the end; nothing stays when that fails. What is there and is no file
 * (a fifo, a device, standard output) is written to as it is.
 */
export async function writeWhole(
  output: string,
  chunks: Bytes,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stops = signal === undefined ? [] : [{ signal }];
  let draft: Draft | undefined;
  try {
    const stream = await streamTo(output);
    if (stream !== undefined) {
      await pipeline(chunks, stream, ...stops);
      return;
    }
    const path = existsSync(output) ? await realpath(output) : output;
    draft = draftFile(path);
    const file = createWriteStream(draft.path, { flags: 'r+', flush: true });
    await pipeline(chunks, file, ...stops);
    await rename(draft.path, path);
  } catch (error) {
    if (draft !== undefined) await rm(draft.path, { force: true });
    throw unwritable(output === STDOUT ? 'standard output' : output, error);
  } finally {
    draft?.close();
  }
}

/** Where an output is no file that could be replaced. */
async function streamTo(output: string): Promise<WriteStream | undefined> {
  if (output === STDOUT) return createWriteStream('', { fd: 1, autoClose: false });
  if (!existsSync(output) || (await stat(output)).isFile()) return undefined;
  return createWriteStream(output);
}

/** What the host refuses, in words; everything else as it is. */
function unwritable(path: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  return new SessionError(
    `${path} cannot be written: ${code}`,
    code === 'ENOSPC' ? 'make room, or name another place' : 'name a place that you may write to',
    { cause: error },
  );
}

export class LayoutWriter implements AsyncDisposable {
  readonly #output: LayoutOutput;
  readonly #draft: Draft;

  private constructor(output: LayoutOutput, draft: Draft) {
    this.#output = output;
    this.#draft = draft;
  }

  /** @throws SessionError something else is at the path, or nothing can be written there. */
  static async create(given: LayoutOutput): Promise<LayoutWriter> {
    const output = { ...given, path: resolve(given.path) };
    if (!output.isArchive) await existingIndex(output.path);
    try {
      const draft = draftFolder(output.path);
      await mkdir(join(draft.path, 'blobs/sha256'), { recursive: true });
      return new LayoutWriter(output, draft);
    } catch (error) {
      throw unwritable(output.path, error);
    }
  }

  /** Stores a blob. */
  async add(mediaType: string, chunks: Bytes): Promise<Descriptor> {
    const folder = join(this.#draft.path, 'blobs/sha256');
    const meter = new Meter();
    const path = join(folder, 'incoming');
    await writeWhole(path, meter.pass(chunks), this.#output.signal);
    const digest = meter.digest();
    await rename(path, join(folder, digest.slice('sha256:'.length)));
    return { mediaType, digest, size: meter.size };
  }

  addJson(mediaType: string, value: unknown): Promise<Descriptor> {
    return this.add(mediaType, [Buffer.from(JSON.stringify(value))]);
  }

  /** Publishes the layout: the tag means the manifest from now on. */
  async finish(manifest: Descriptor, tag: string): Promise<void> {
    const { path, isArchive } = this.#output;
    try {
      const before = isArchive ? undefined : await existingIndex(path);
      const index = JSON.stringify(withTag(before, manifest, tag));
      if (before !== undefined) {
        await this.#addTo(path, index);
        return;
      }
      await writeFile(join(this.#draft.path, 'oci-layout'), LAYOUT);
      await writeFile(join(this.#draft.path, 'index.json'), index);
      if (isArchive) {
        await writeWhole(path, writeTar(this.#archive()), this.#output.signal);
        return;
      }
      await rename(this.#draft.path, path);
      finishFolder(path);
      await syncFolder(dirname(path));
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  /** Blobs first; another writer's index that came in between is not seen. */
  async #addTo(path: string, index: string): Promise<void> {
    const into = join(path, 'blobs/sha256');
    await mkdir(into, { recursive: true });
    for (const name of await readdir(join(this.#draft.path, 'blobs/sha256'))) {
      if (existsSync(join(into, name))) continue;
      await rename(join(this.#draft.path, 'blobs/sha256', name), join(into, name));
    }
    await syncFolder(into);
    await writeWhole(join(path, 'index.json'), [Buffer.from(index)], undefined);
    await syncFolder(path);
  }

  async *#archive(): AsyncGenerator<TarInput> {
    const folder = this.#draft.path;
    const blobs = (await readdir(join(folder, 'blobs/sha256'))).sort();
    for (const path of ['blobs', 'blobs/sha256']) yield { entry: tarEntry('directory', path) };
    for (const path of [
      'oci-layout',
      'index.json',
      ...blobs.map((name) => `blobs/sha256/${name}`),
    ]) {
      const { size } = await stat(join(folder, path));
      yield {
        entry: tarEntry('file', path, { size }),
        data: createReadStream(join(folder, path)),
      };
    }
  }

  /** Takes away what was not published. */
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#draft.path, { recursive: true, force: true });
    this.#draft.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
