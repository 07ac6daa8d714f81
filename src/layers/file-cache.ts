/**
 * Open data of files of a repository: object files themselves, or memfds with what archive objects held. Bounded by number
 * and bytes, the least recently used go first.
 */
import { totalmem } from 'node:os';
import { LRUCache } from 'lru-cache';
import { check, NotYet } from '../errors.ts';
import type { Native } from '../native.ts';
import { openData, type FileData } from '../ostree/content.ts';
import { expectedOf, inflateWhole, verifyData } from '../ostree/data.ts';
import type { Checksum } from '../ostree/objects.ts';
import { ObjectError } from '../ostree/failures.ts';
import { type Repository } from '../ostree/repo.ts';
import { Inflater, type Job } from './inflater.ts';
import { openLimits } from './open-files.ts';

const OPEN_FILES_MAX = 1024;
/** Inflated data of archive objects. The kernel keeps what has been read, so this serves files that are being read. */
const INFLATED_MAX_BYTES = 128 * 1024 * 1024;
/** Files larger than that cache which may be there at once: with fewer, two readers would inflate in turns for ever. */
const HUGE_MAX = 4;
/** Up to here a file is inflated or checked at once, in a millisecond; a larger one on a thread of its own. */
const AT_ONCE_MAX_BYTES = 256 * 1024;
/** Part of the machine's memory that one inflated file may take. */
const LARGEST_PART = 0.5;

const BLOCK = 4096;

export interface FileCacheOptions {
  /** Check the data of files in bare modes too, when they are opened. Archive objects are checked anyway. */
  verify?: boolean;
  /** Of inflated data. */
  cacheBytes?: number;
  /** An eventfd to write to when a file has become ready. Without it, whoever asks for a large file waits. */
  wakeFd?: number;
  /** Takes a file that was checked and does not match its name. Without it, that is an error. */
  onMismatch?: (error: ObjectError) => void;
}

/** The data of a file. The fd stays the cache's. */
export interface OpenFile {
  fd: number;
  /** Bytes of memory. */
  cost: number;
  isInflated: boolean;
}

export class FileCache {
  readonly #native: Native;
  readonly #repo: Repository;
  readonly #verify: boolean;
  readonly #cacheBytes: number;
  readonly #mayDefer: boolean;
  readonly #onMismatch: ((error: ObjectError) => void) | undefined;
  readonly #files: LRUCache<Checksum, OpenFile>;
  readonly #jobs: Map<Checksum, Job> = new Map();
  readonly #inflater: Inflater | undefined;
  /** Files that are larger than the whole cache. */
  readonly #huge: LRUCache<Checksum, OpenFile>;

  constructor(native: Native, repo: Repository, options: FileCacheOptions) {
    this.#native = native;
    this.#repo = repo;
    this.#verify = options.verify ?? false;
    this.#cacheBytes = options.cacheBytes ?? INFLATED_MAX_BYTES;
    this.#mayDefer = options.wakeFd !== undefined;
    this.#onMismatch = options.onMismatch;
    const dispose = ({ fd }: OpenFile): void => void native.close(fd);
    const max = Math.min(OPEN_FILES_MAX, openLimits(native).files);
    this.#files = new LRUCache({
      max,
      maxSize: this.#cacheBytes + max,
      sizeCalculation: ({ cost }) => cost + 1,
      dispose,
    });
    this.#huge = new LRUCache({ max: HUGE_MAX, dispose });
    const needsThread = this.#verify || [...repo.chain()].some(({ mode }) => mode === 'archive');
    this.#inflater = needsThread ? new Inflater(options.wakeFd ?? -1) : undefined;
    this.#inflater?.settle();
  }

  /**
   * The open data of a regular file.
   *
   * @throws ObjectError when it is missing or corrupt. NotYet when it is being inflated or checked.
   */
  get(checksum: Checksum): OpenFile {
    const known = this.#files.get(checksum) ?? this.#huge.get(checksum);
    if (known !== undefined) return known;
    const job = this.#jobs.get(checksum);
    const file = job === undefined ? this.#open(checksum) : this.#finished(job);
    const cache = file.cost <= this.#cacheBytes ? this.#files : this.#huge;
    cache.set(checksum, file);
    return file;
  }

  close(): void {
    for (const job of this.#jobs.values()) {
      job.wait();
      this.#release(job);
    }
    this.#jobs.clear();
    this.#inflater?.close();
    this.#files.clear();
    this.#huge.clear();
  }

  #open(checksum: Checksum): OpenFile {
    const data = openData(this.#repo, checksum);
    const { fd, deflated, info } = data;
    if (!deflated && !this.#verify) return plain(fd);
    let isKept = false;
    try {
      if (info.size > AT_ONCE_MAX_BYTES) {
        const job = this.#start(checksum, data);
        isKept = true;
        return this.#finished(job);
      }
      if (deflated) return this.#inMemory(inflateWhole(checksum, data));
      try {
        verifyData(this.#repo, checksum, data);
      } catch (error) {
        this.#mismatch(error);
      }
      isKept = true;
      return plain(fd);
    } finally {
      if (!isKept) this.#native.close(fd);
    }
  }

  /** Hands a large file over; from then on its fd is the job's. */
  #start(checksum: Checksum, data: FileData): Job {
    const { fd, deflated, offset, fileSize, info } = data;
    if (deflated && info.size > LARGEST_PART * totalmem()) {
      throw new ObjectError(`${checksum}.filez`, `${info.size} bytes are too many to inflate`);
    }
    const expected = expectedOf(this.#repo, checksum, data);
    const source = { fd, deflated, offset, fileSize, size: info.size };
    const into = deflated ? check(this.#native.memfd('object')) : -1;
    if (this.#inflater === undefined) throw new Error('there is no thread to inflate');
    const job = this.#inflater.start(source, expected, into);
    this.#jobs.set(checksum, job);
    return job;
  }

  #finished(job: Job): OpenFile {
    if (!job.isOver) {
      if (this.#mayDefer) throw new NotYet(job);
      job.wait();
    }
    const { source, expected, into } = job.task;
    const { checksum } = expected;
    this.#jobs.delete(checksum);
    if (job.problem !== undefined) {
      const error = new ObjectError(
        `${checksum}.${source.deflated ? 'filez' : 'file'}`,
        job.problem,
      );
      if (into < 0 && this.#onMismatch !== undefined) {
        this.#onMismatch(error);
        return plain(source.fd);
      }
      this.#release(job);
      throw error;
    }
    if (into < 0) return plain(source.fd);
    this.#native.close(source.fd);
    return { fd: into, cost: blocks(source.size), isInflated: true };
  }

  #mismatch(error: unknown): void {
    if (!(error instanceof ObjectError) || this.#onMismatch === undefined) throw error;
    this.#onMismatch(error);
  }

  #release({ task: { source, into } }: Job): void {
    this.#native.close(source.fd);
    if (into >= 0) this.#native.close(into);
  }

  #inMemory(bytes: Buffer): OpenFile {
    const fd = check(this.#native.memfd('object'));
    const written = this.#native.pwriteRange(fd, bytes, 0, bytes.length, 0);
    if (written < 0) {
      this.#native.close(fd);
      check(written);
    }
    return { fd, cost: blocks(bytes.length), isInflated: true };
  }
}

function plain(fd: number): OpenFile {
  return { fd, cost: 0, isInflated: false };
}

function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}
