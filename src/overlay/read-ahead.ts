/**
 * Which lower files are likely to be read next. The kernel reads ahead within a file; who reads many small ones would wait for
 * the disk at each. Nothing is seen of it but the time that reads take.
 */
import { makeRoom } from '../bounded.ts';
import { FsError } from '../errors.ts';
import type { Name } from '../layers/layer.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

const DT_REG = 8;

/** Reads that are looked at after one that had to wait. */
const ATTENTION = 64;
/** Files that a reader has to take one after another before the next are read ahead, and how many of those at most. */
const RUN_MIN = 3;
const AHEAD_MAX = 16;
/** Files that a reader may leave out. */
const SKIP_MAX = 4;
/** Directories that are followed at once; in those with more names nothing is read ahead. */
const DIRECTORIES_MAX = 16;
const NAMES_MAX = 10_000;

/** How far a reader has come in one order of a directory's files. */
class Course {
  readonly #names: readonly Name[];
  /** Of the file that was read last: who begins with the first has taken a step. */
  #at = -1;
  /** Files taken one after another. */
  #run = 0;
  /** Where what has been read ahead ends. */
  #until = 0;

  constructor(names: readonly Name[]) {
    this.#names = names;
  }

  get isFollowed(): boolean {
    return this.#run >= RUN_MIN;
  }

  follow(name: Name): void {
    for (let at = this.#at + 1; at <= this.#at + SKIP_MAX; at++) {
      if (this.#names[at] !== name) continue;
      this.#at = at;
      this.#run++;
      return;
    }
    this.#at = this.#names.indexOf(name);
    this.#run = 0;
    this.#until = 0;
  }

  /** What is to be read ahead now: little at first, more as the run goes on, and not for each file anew. */
  next(): Name[] {
    const wanted = Math.min(AHEAD_MAX, 2 * this.#run);
    const from = Math.max(this.#at + 1, this.#until);
    if (from - this.#at > wanted / 2) return [];
    this.#until = this.#at + 1 + wanted;
    return this.#names.slice(from, this.#until);
  }
}

/** A directory's files as they are listed, and sorted. */
interface Courses {
  listed: Course;
  sorted: Course;
}

export class ReadAhead<Node extends object> {
  /** How many reads have had to wait for a disk, of all up to now; whoever does them counts. */
  waited: Uint32Array = new Uint32Array(1);
  readonly #tree: Tree<Node>;
  readonly #courses: Map<Inode<Node>, Courses> = new Map();
  #waitedBefore = 0;
  #missingBefore = 0;
  /** Reads that are still to be looked at. */
  #attention = 0;

  constructor(tree: Tree<Node>) {
    this.#tree = tree;
  }

  /** Told of each read of a lower file from its start. */
  observe({ parent, name }: Inode<Node>): void {
    const waited = this.waited[0] ?? 0;
    if (waited !== this.#waitedBefore) {
      this.#waitedBefore = waited;
      this.#attention = ATTENTION;
    }
    if (this.#attention === 0 || parent === undefined) return;
    this.#attention--;
    try {
      this.#follow(parent, name);
    } catch (error) {
      // No read fails of this.
      if (!(error instanceof FsError)) throw error;
    }
  }

  #follow(dir: Inode<Node>, name: Name): void {
    const [ref, ...below] = dir.lowers;
    // Of several it would have to be asked which has the file.
    if (ref?.layer.readAhead === undefined || below.length > 0) return;
    const courses = this.#coursesOf(dir);
    if (courses === undefined) return;
    const { listed, sorted } = courses;
    // Where one is followed, the file need not be looked for in the other.
    if (!sorted.isFollowed) listed.follow(name);
    if (!listed.isFollowed) sorted.follow(name);
    const followed = [listed, sorted].find(({ isFollowed }) => isFollowed);
    const names = followed?.next() ?? [];
    if (names.length === 0) return;
    const missing = ref.layer.readAhead(ref.node, names);
    if (missing !== this.#missingBefore) this.#attention = ATTENTION;
    this.#missingBefore = missing;
  }

  /** Of a directory that somebody has listed: who reads all of one does that first. */
  #coursesOf(dir: Inode<Node>): Courses | undefined {
    const known = this.#courses.get(dir);
    if (known !== undefined) return known;
    const entries = this.#tree.knownEntries(dir);
    if (entries === undefined || entries.length > NAMES_MAX) return undefined;
    const names = entries.names.filter((_, index) => entries.types[index] === DT_REG);
    const courses = { listed: new Course(names), sorted: new Course(names.toSorted()) };
    makeRoom(this.#courses, DIRECTORIES_MAX);
    this.#courses.set(dir, courses);
    return courses;
  }
}
