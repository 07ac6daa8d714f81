/** What has gone from its place in the lowers: what is new elsewhere may be that. */
import { Attr, S_IFDIR, S_IFMT } from '../layers/layer.ts';
import type { LowerStack } from '../layers/stack.ts';
import type { LowerRef } from '../layers/upper.ts';
import { numberOf, type Base } from './difference.ts';

/** Something that is no longer where it was. */
export interface Source {
  path: string;
  base: Base;
}

interface Gone {
  path: string;
  refs: readonly LowerRef[];
  type: number;
  /** The directory that it has gone with. */
  above: Gone | undefined;
  isTaken: boolean;
  /** Another name of the same file. */
  next: Gone | undefined;
}

export class Sources {
  readonly #stack: LowerStack;
  readonly #gone: Map<string, Gone> = new Map();
  /** Directories whose contents have not been looked at, most often in vain. */
  readonly #closed: Gone[] = [];
  #isExpanded = false;

  constructor(stack: LowerStack) {
    this.#stack = stack;
  }

  /** Something has gone, a directory with all it held. */
  add(path: string, base: Base): void {
    const gone = this.#put(path, base.refs, base.attr.mode & S_IFMT, undefined);
    if (gone.type === S_IFDIR) this.#close(gone);
  }

  /** What a directory held has gone, though something has its name. */
  addBelow(path: string, { refs, attr }: Base): void {
    const type = attr.mode & S_IFMT;
    if (type !== S_IFDIR) return;
    this.#close({ path, refs, type, above: undefined, isTaken: false, next: undefined });
  }

  #close(gone: Gone): void {
    this.#closed.push(gone);
    if (this.#isExpanded) this.#open();
  }

  /**
   * Says where something of the lowers was, once, if that place is free now.
   *
   * @param type  S_IFMT bits.
   */
  take(refs: readonly LowerRef[], type: number): Source | undefined {
    let gone = this.#gone.get(this.#keyOf(refs));
    while (gone !== undefined && (!isFree(gone) || gone.type !== type)) gone = gone.next;
    if (gone === undefined) return undefined;
    gone.isTaken = true;
    const attr = new Attr();
    const [top] = gone.refs;
    if (top !== undefined) top.layer.attr(top.node, attr);
    return { path: gone.path, base: { refs: gone.refs, attr } };
  }

  /** Looks into directories that have gone, from now on. @returns whether that is new. */
  expand(): boolean {
    if (this.#isExpanded) return false;
    this.#isExpanded = true;
    return this.#open();
  }

  #open(): boolean {
    const closed = this.#closed.splice(0);
    for (const top of closed) {
      // What was renamed is compared with what is in it now; that has told what has gone from it.
      if (!isFree(top)) continue;
      const parents = new Map([[top.path, top]]);
      below(this.#stack, top.path, top.refs, (path, refs, attr) => {
        const above = parents.get(path.slice(0, path.lastIndexOf('/')));
        const gone = this.#put(path, refs, attr.mode & S_IFMT, above);
        if (gone.type === S_IFDIR) parents.set(path, gone);
        return true;
      });
    }
    return closed.length > 0;
  }

  #put(path: string, refs: readonly LowerRef[], type: number, above: Gone | undefined): Gone {
    const key = this.#keyOf(refs);
    const gone = { path, refs, type, above, isTaken: false, next: this.#gone.get(key) };
    this.#gone.set(key, gone);
    return gone;
  }

  #keyOf([top]: readonly LowerRef[]): string {
    return top === undefined ? '' : `${this.#stack.indexOf(top.layer)}:${numberOf(top)}`;
  }
}

/** Whether neither it nor a directory that it has gone with was renamed. */
function isFree(gone: Gone): boolean {
  for (let at: Gone | undefined = gone; at !== undefined; at = at.above) {
    if (at.isTaken) return false;
  }
  return true;
}

/**
 * Walks what directories of the lowers hold, each before what is in it.
 *
 * @param visit  whether to go into it, if it is a directory.
 */
export function below(
  stack: LowerStack,
  path: string,
  refs: readonly LowerRef[],
  visit: (path: string, refs: readonly LowerRef[], attr: Attr) => boolean,
): void {
  const [top] = refs;
  const own = new Attr();
  top?.layer.attr(top.node, own);
  if ((own.mode & S_IFMT) !== S_IFDIR) return;
  for (const name of stack.entries(refs).names) {
    const attr = new Attr();
    const child = stack.find(refs, name, attr);
    if (child === undefined) continue;
    const here = `${path}/${name}`;
    if (visit(here, child, attr) && (attr.mode & S_IFMT) === S_IFDIR) {
      below(stack, here, child, visit);
    }
  }
}
