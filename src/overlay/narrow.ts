/**
 * Changes at and below some paths. What lies below a directory that has gone, or was renamed, is not listed by itself;
 * when it is asked for it must be.
 */
import { Attr, S_IFDIR, S_IFMT } from '../layers/layer.ts';
import type { LowerRef } from '../layers/upper.ts';
import type { Change } from './change.ts';
import type { Finding } from './findings.ts';
import type { Inode } from './inode.ts';
import type { Tree } from './tree.ts';

/** @param paths  byte strings from the root. */
export function narrowed<Node extends object>(
  tree: Tree<Node>,
  found: readonly Finding<Node>[],
  paths: readonly string[],
): Finding<Node>[] {
  const within = found.filter(({ change: { path, from } }) =>
    paths.some((wanted) => isAtOrBelow(path, wanted) || isAtOrBelow(from, wanted)),
  );
  const known = new Set(within.flatMap(({ change: { path, from } }) => [path, from]));
  for (const each of found) {
    for (const wanted of paths) {
      if (known.has(wanted)) continue;
      const part = partOf(tree, each, wanted);
      if (part === undefined) continue;
      known.add(part.change.path);
      known.add(part.change.from);
      within.push(part);
    }
  }
  return within;
}

export function isAtOrBelow(path: string | undefined, wanted: string): boolean {
  if (path === undefined) return false;
  return wanted === '/' || path === wanted || path.startsWith(`${wanted}/`);
}

/** What a change says of a path below it. */
function partOf<Node extends object>(
  tree: Tree<Node>,
  { change, base }: Finding<Node>,
  wanted: string,
): Finding<Node> | undefined {
  const { kind, path, from = path, type, typeBefore = type } = change;
  if (base === undefined) return undefined;
  const isGone = kind === 'D' || type !== typeBefore;
  const place = [path, from].find((each) => wanted.startsWith(`${each}/`));
  if (place === undefined || (!isGone && kind !== 'R')) return undefined;
  const rest = wanted.slice(place.length);
  const before = new Attr();
  const refs = lowerAt(tree, base.refs, rest, before);
  if (refs === undefined || (!isGone && !exists(tree, `${path}${rest}`))) return undefined;
  const then = { type: before.mode & S_IFMT, size: before.size, mode: before.mode };
  const part: Change = isGone
    ? { kind: 'D', path: `${from}${rest}`, ...then }
    : {
        kind: 'R',
        path: `${path}${rest}`,
        from: `${from}${rest}`,
        ...then,
        typeBefore: then.type,
        sizeBefore: then.size,
        modeBefore: then.mode,
      };
  if (change.owner !== undefined) {
    part.owner = [before.uid, before.gid];
    part.mtime = [before.mtimeSec, before.mtimeNsec];
    if (!isGone) {
      part.changed = [];
      part.ownerBefore = part.owner;
      part.mtimeBefore = part.mtime;
    }
  }
  return { change: part, inode: undefined, attr: before, base: { refs, attr: before } };
}

function lowerAt<Node extends object>(
  tree: Tree<Node>,
  refs: readonly LowerRef[],
  path: string,
  attr: Attr,
): readonly LowerRef[] | undefined {
  let at: readonly LowerRef[] | undefined = refs;
  for (const name of path.split('/').filter((each) => each !== '')) {
    at = at === undefined ? undefined : tree.stack.find(at, name, attr);
  }
  return at;
}

/** Whether a session has something at a path. */
function exists<Node extends object>(tree: Tree<Node>, path: string): boolean {
  const attr = new Attr();
  const met: Inode<Node>[] = [];
  let at: Inode<Node> | undefined = tree.root;
  for (const name of path.split('/').filter((each) => each !== '')) {
    at = at.type === S_IFDIR ? tree.find(at, name, attr) : undefined;
    if (at === undefined) break;
    met.push(at);
  }
  for (const inode of met.toReversed()) tree.table.settle(inode);
  return at !== undefined;
}
