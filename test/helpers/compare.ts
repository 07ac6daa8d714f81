/**
 * Compares two trees: structure, types, contents, sizes, modes, owners, mtimes in nanoseconds, xattrs of every
 * namespace, link groups, link counts, symlink targets, device numbers, d_type and d_ino against stat. Left out: atime,
 * ctime, st_blocks, where holes are, sizes of directories.
 */
import type { Hand } from './hand.ts';

interface CompareOptions {
  /** Seconds: mtimes from then on count as equal, since two trees are never changed at one instant. */
  since?: number;
  /** Most differences to tell. */
  limit?: number;
}

/** @returns one line for each difference, `path: field: a != b`; none when the trees are equal. */
export async function compareTrees(
  a: Hand,
  pathA: string,
  b: Hand,
  pathB: string,
  options: CompareOptions = {},
): Promise<string[]> {
  const since = options.since ?? Number.MAX_SAFE_INTEGER;
  const [left, right] = await Promise.all([
    a.do(`tree ${pathA} ${since}`),
    b.do(`tree ${pathB} ${since}`),
  ]);
  return compareListings(left, right, options.limit);
}

/** Compares two answers of the hand's `tree`. */
export function compareListings(left: string, right: string, limit: number = 50): string[] {
  if (left === right) return left.includes(' type=') ? [] : [`not a tree: ${left}`];
  const differences: string[] = [];
  const a = parseListing(left);
  const b = parseListing(right);
  for (const [path, entry] of a) {
    const other = b.get(path);
    if (!other) {
      differences.push(`${path}: only in the first`);
      continue;
    }
    for (const key of new Set([...entry.keys(), ...other.keys()])) {
      const [one, two] = [entry.get(key) ?? 'none', other.get(key) ?? 'none'];
      if (one !== two) differences.push(`${path}: ${key}: ${one} != ${two}`);
    }
  }
  for (const path of b.keys()) if (!a.has(path)) differences.push(`${path}: only in the second`);
  if (differences.length === 0) differences.push('listed in another order');
  if (differences.length <= limit) return differences;
  return [...differences.slice(0, limit), `and ${differences.length - limit} more`];
}

/** Fields by path, of an answer of the hand's `tree`. */
export function parseListing(listing: string): Map<string, Map<string, string>> {
  const entries = new Map<string, Map<string, string>>();
  for (const line of listing.split('\n')) {
    const [path = '', ...words] = line.split(' ');
    const fields = new Map(
      words.map((each) => {
        const at = each.search(/[=#]/);
        return at < 0 ? [each, 'yes'] : [each.slice(0, at), each.slice(at + 1)];
      }),
    );
    const twice = entries.get(path);
    if (twice && !fields.has('listed-twice')) {
      fields.set('listed-twice', twice.get('listed-twice') ?? 'yes');
    }
    entries.set(path, fields);
  }
  return entries;
}
