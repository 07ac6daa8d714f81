/**
 * What a session has changed, against the lowers. The walk follows the upper, so it costs what changed; only a changed
 * file with several lower names makes it look for the other names.
 *
 * Times alone are no change unless asked for, nor is a file that was written again with what it had.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFMT } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import type { ByFinder, Change, ChangeCount, ChangeOptions } from './change.ts';
import { Comparer, samePlace, timesDiffer, type Base, type Difference } from './difference.ts';
import { Findings, type Finding, type WalkOptions } from './findings.ts';
import type { Inode } from './inode.ts';
import type { Listing } from './listing.ts';
import { narrowed } from './narrow.ts';
import { below, Sources, type Source } from './renames.ts';
import type { Tree } from './tree.ts';

/** Names, or parts of files, compared between two looks at the clock. */
const STEPS = 32;

/** Attributes of what is at a name, and was: of a name that nothing is kept of, used again for the next. */
class Scratch {
  readonly attr: Attr = new Attr();
  readonly base: Attr = new Attr();
}

/** Every change, sorted by path. A new directory is listed with all it holds, a removed one alone. */
export function changes<Node extends object>(
  tree: Tree<Node>,
  listing: Listing<Node>,
  options: ChangeOptions = {},
  finder?: ByFinder,
): Change[] {
  const { renames = false, all = false, paths = [] } = options;
  const keeps = renames || all || paths.length > 0;
  const walk = new ChangeWalk(tree, listing, { options, finder, keeps });
  try {
    return walk.run().map(({ change }) => change);
  } finally {
    walk.release();
  }
}

/** How many changes there are, by looking for no longer than `budgetMs`. */
export function countChanges<Node extends object>(
  tree: Tree<Node>,
  listing: Listing<Node>,
  budgetMs: number,
): ChangeCount {
  const walk = new ChangeWalk(tree, listing, { options: {}, keeps: false });
  try {
    return walk.count(budgetMs);
  } finally {
    walk.release();
  }
}

/** A directory with an origin that is new where it is. */
interface Arrival<Node extends object> {
  path: string;
  inode: Inode<Node>;
  attr: Attr;
}

export class ChangeWalk<Node extends object> {
  readonly #findings: Findings<Node>;
  readonly #tree: Tree<Node>;
  readonly #listing: Listing<Node>;
  readonly #options: ChangeOptions;
  readonly #keeps: boolean;
  /** By depth. */
  readonly #scratch: Scratch[] = [];
  #depth = 0;
  readonly #comparer: Comparer<Node>;
  readonly #sources: Sources | undefined;
  readonly #arrivals: Arrival<Node>[] = [];
  /** What was found to be new, and then to have been elsewhere. */
  readonly #replaced: Set<Finding<Node>> = new Set();
  /** Some changed file may have names that the upper does not know. */
  readonly #everywhere: boolean;
  #deadline = Infinity;
  #isLate = false;
  #steps = 0;

  constructor(tree: Tree<Node>, listing: Listing<Node>, walk: WalkOptions) {
    const { options } = walk;
    this.#keeps = walk.keeps;
    this.#tree = tree;
    this.#listing = listing;
    this.#options = options;
    this.#comparer = new Comparer(tree, () => this.#mustStop());
    this.#findings = new Findings(tree, this.#comparer, walk);
    this.#sources = options.renames === true ? new Sources(tree.stack) : undefined;
    this.#everywhere = this.#hasChangedLinks();
  }

  /** To be called once. */
  run(): Finding<Node>[] {
    const { root } = this.#tree;
    this.#directory('', '', root, root.lowers);
    if (this.#sources !== undefined) {
      this.#pairDirectories(this.#sources);
      this.#pairFiles(this.#sources);
    }
    const moved = new Set(
      this.#findings.all.flatMap(({ change }) => (change.kind === 'R' ? [change.from ?? ''] : [])),
    );
    let found = this.#findings.all.filter(
      (each) =>
        !this.#replaced.has(each) && (each.change.kind !== 'D' || !moved.has(each.change.path)),
    );
    if (this.#options.all === true) {
      found.push(...found.flatMap((each) => this.#removedWith(each, moved)));
    }
    const { paths = [] } = this.#options;
    if (paths.length > 0) found = narrowed(this.#tree, found, paths);
    return found.sort(({ change: a }, { change: b }) =>
      a.path < b.path ? -1 : a.path > b.path ? 1 : 0,
    );
  }

  /** To be called once, instead. */
  count(budgetMs: number): ChangeCount {
    const { root } = this.#tree;
    this.#deadline = performance.now() + budgetMs;
    this.#directory('', '', root, root.lowers);
    return { changes: this.#findings.all.length, moreChanges: this.#isLate };
  }

  /** Lets go of the inodes. */
  release(): void {
    this.#findings.release();
  }

  /**
   * Compares a directory with what the lowers have at the path that it was at.
   *
   * @returns whether anything directly in it has changed.
   */
  #directory(path: string, from: string, dir: Inode<Node>, base: readonly LowerRef[]): boolean {
    let isChanged = false;
    for (const name of this.#namesToCompare(dir, base)) {
      if (this.#mustStop()) break;
      if (this.#name(path, from, dir, base, name)) isChanged = true;
    }
    return isChanged;
  }

  #mustStop(): boolean {
    if (this.#steps++ % STEPS === 0 && performance.now() > this.#deadline) this.#isLate = true;
    return this.#isLate;
  }

  /** None of a directory that may not be listed: nobody in the session sees what is in it. */
  #namesToCompare(dir: Inode<Node>, base: readonly LowerRef[]): Iterable<Name> {
    try {
      return this.#namesIn(dir, base);
    } catch (error) {
      if (error instanceof FsError) return [];
      throw error;
    }
  }

  #namesIn(dir: Inode<Node>, base: readonly LowerRef[]): Iterable<Name> {
    const isInPlace = samePlace(dir.lowers, base);
    if (isInPlace && !this.#everywhere) {
      if (dir.upper === undefined) return [];
      return Array.from(this.#tree.upper.entries(dir.upper), ({ name }) => name);
    }
    const before = base.length === 0 ? [] : this.#tree.stack.entries(base).names;
    return new Set([...this.#listing.names(dir), ...before]);
  }

  #name(
    path: string,
    from: string,
    dir: Inode<Node>,
    base: readonly LowerRef[],
    name: Name,
  ): boolean {
    const { attr, base: baseAttr } = this.#attributes();
    const inode = this.#tree.find(dir, name, attr);
    const refs = base.length === 0 ? undefined : this.#tree.stack.find(base, name, baseAttr);
    if (refs !== undefined) baseAttr.nlink = 1;
    const before = refs === undefined ? undefined : { refs, attr: baseAttr };
    if (inode === undefined) {
      if (before !== undefined) {
        this.#findings.removed(`${from}/${name}`, before, dir, name);
        this.#sources?.add(`${from}/${name}`, before);
      }
      return before !== undefined;
    }
    // The inode must not go while its children are walked.
    inode.refs++;
    this.#depth++;
    try {
      const here = `${path}/${name}`;
      this.#findings.noteBy(path, here, dir, name, inode, attr);
      if (before === undefined) this.#added(here, inode, attr);
      else return this.#compare(here, `${from}/${name}`, inode, attr, before);
      return true;
    } finally {
      if (inode.type !== S_IFDIR) this.#findings.forgetBy(`${path}/${name}`);
      this.#depth--;
      inode.refs--;
      this.#tree.table.settle(inode);
    }
  }

  #attributes(): Scratch {
    if (this.#keeps) return new Scratch();
    return (this.#scratch[this.#depth] ??= new Scratch());
  }

  #added(path: string, inode: Inode<Node>, attr: Attr): void {
    if (this.#sources !== undefined && inode.type === S_IFDIR && inode.lowers.length > 0) {
      // Where it comes from is found when all is known that has gone.
      this.#findings.hold(inode);
      this.#arrivals.push({ path, inode, attr });
      return;
    }
    this.#reportAdded(path, inode, attr);
  }

  #reportAdded(path: string, inode: Inode<Node>, attr: Attr): void {
    this.#findings.added(path, inode, attr);
    if (inode.type === S_IFDIR) this.#directory(path, path, inode, []);
  }

  #compare(path: string, from: string, inode: Inode<Node>, attr: Attr, base: Base): boolean {
    const isDirectory = inode.type === S_IFDIR;
    if (inode.type !== (base.attr.mode & S_IFMT)) {
      this.#findings.changed({ kind: 'M', path, from, inode, attr, base, differences: [] });
      this.#sources?.addBelow(from, base);
      if (isDirectory) this.#directory(path, path, inode, []);
      return true;
    }
    const differences = this.#differences(inode, attr, base);
    const isChanged = isDirectory && this.#directory(path, from, inode, base.refs);
    // When names have come or gone in a directory its times say nothing more.
    if (isDirectory && !isChanged && this.#options.times === true && timesDiffer(attr, base.attr)) {
      differences?.push('times');
    }
    if (differences === undefined || differences.length === 0) return false;
    if (differences.every((each) => each === 'times') && this.#options.times !== true) return false;
    this.#findings.changed({ kind: 'M', path, from, inode, attr, base, differences });
    return true;
  }

  /** Without details, of what kind they are is left open. `undefined`: the file is the lowers'. */
  #differences(inode: Inode<Node>, attr: Attr, base: Base): Difference[] | undefined {
    if (this.#comparer.isSame(inode, base)) return undefined;
    if (this.#options.details === true) return this.#comparer.all(inode, attr, base);
    return this.#comparer.differs(inode, attr, base) ? ['content'] : [];
  }

  /** Finds where directories were that are new where they are; what is in them is compared with what was there. */
  #pairDirectories(sources: Sources): void {
    while (this.#arrivals.length > 0) {
      const waiting = this.#arrivals.splice(0);
      const left = waiting.filter((arrival) => !this.#pairDirectory(sources, arrival));
      if (left.length < waiting.length || sources.expand()) {
        this.#arrivals.push(...left);
        continue;
      }
      // Their origins are where they were.
      for (const { path, inode, attr } of left) this.#reportAdded(path, inode, attr);
    }
  }

  #pairDirectory(sources: Sources, { path, inode, attr }: Arrival<Node>): boolean {
    const source = sources.take(inode.lowers, S_IFDIR);
    if (source === undefined) return false;
    this.#reportRenamed(path, inode, attr, source);
    this.#directory(path, source.path, inode, source.base.refs);
    return true;
  }

  #pairFiles(sources: Sources): void {
    for (const added of this.#findings.all.filter(({ change }) => change.kind === 'A')) {
      const { inode, attr, change } = added;
      if (inode === undefined || inode.type === S_IFDIR) continue;
      const origin =
        inode.upper === undefined ? inode.lowers : this.#tree.upper.origin(inode.upper);
      if (origin.length === 0) continue;
      let source = sources.take(origin, inode.type);
      if (source === undefined && sources.expand()) source = sources.take(origin, inode.type);
      if (source === undefined) continue;
      this.#replaced.add(added);
      this.#reportRenamed(change.path, inode, attr, source);
    }
  }

  #reportRenamed(path: string, inode: Inode<Node>, attr: Attr, source: Source): void {
    const { path: from, base } = source;
    const differences = this.#differences(inode, attr, base) ?? [];
    this.#findings.changed({ kind: 'R', path, from, inode, attr, base, differences });
  }

  /** Everything that was in a directory which is gone, or no directory any more. */
  #removedWith({ change, base }: Finding<Node>, moved: ReadonlySet<string>): Finding<Node>[] {
    const hasGone = change.kind === 'D' || (change.typeBefore ?? change.type) !== change.type;
    if (!hasGone || base === undefined) return [];
    const found: Finding<Node>[] = [];
    below(this.#tree.stack, change.from ?? change.path, base.refs, (path, refs, attr) => {
      if (moved.has(path)) return false;
      found.push(this.#findings.removedBelow(path, { refs, attr }));
      return true;
    });
    return found;
  }

  /** Whether a lower file with several names has changed and still has names: any of them may be anywhere. */
  #hasChangedLinks(): boolean {
    const attr = new Attr();
    const before = new Attr();
    for (const node of this.#tree.linked()) {
      this.#tree.upper.attr(node, attr);
      // One that has lost a name may have a last one that only the lowers know.
      if (attr.nlink === 0) continue;
      const refs = this.#tree.upper.origin(node);
      const [ref] = refs;
      // What it was copied from is not known, after a start on what another left.
      if (ref === undefined) return true;
      ref.layer.attr(ref.node, before);
      const file = { upper: node, lowers: [], type: attr.mode & S_IFMT };
      const base = { refs, attr: before };
      if (this.#comparer.differs(file, attr, base)) return true;
      if (this.#options.times === true && timesDiffer(attr, before)) return true;
    }
    return false;
  }
}
