/** What may be found after an end in the middle of an operation: what was before, or what is after. */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareListings, parseListing } from './compare.ts';

/** One step makes these true: nothing in between may be seen. */
const INDIVISIBLE = new Set(['rename', 'link', 'unlink', 'mkdir', 'rmdir', 'symlink', 'mknod']);

export interface States {
  /** What the hand's `tree` said, and where the contents are. */
  before: { listing: string; folder: string };
  after: { listing: string; folder: string };
  found: { listing: string; folder: string };
  /** Of an operation that was told to have been done in part: the bytes of the file that are as after it. */
  promised?: { start: number; end: number } | undefined;
}

/**
 * Names are as before or as after. An operation on a name is done or not; one on data and attributes is several calls on the
 * host, of which each is done or not: each byte and each attribute is as before or as after. The time of a directory in
 * which something was made ready may be that of the try.
 *
 * @returns what is neither, one line each.
 */
export function neither(operation: string, states: States): string[] {
  const { before, after, found, promised } = states;
  const [old, done, now] = [before, after, found].map(({ listing }) => withoutTimes(listing));
  if (old === undefined || done === undefined || now === undefined) return [];
  if ((now === old && promised === undefined) || now === done) return [];
  const [a, b, c] = [parseListing(old), parseListing(done), parseListing(now)];
  const isWhole = INDIVISIBLE.has(operation) || ![namesIn(a), namesIn(b)].includes(namesIn(c));
  if (isWhole) {
    return [
      ...compareListings(old, now, 10).map((line) => `before, found: ${line}`),
      ...compareListings(done, now, 10).map((line) => `after, found: ${line}`),
    ];
  }
  const problems: string[] = [];
  for (const [path, entry] of c) {
    for (const key of new Set([
      ...entry.keys(),
      ...(a.get(path) ?? new Map<string, string>()).keys(),
    ])) {
      const [one, two, it] = [a, b, c].map((entries) => entries.get(path)?.get(key) ?? 'none');
      const isTold = promised !== undefined && isContent(key) && one !== two;
      if (it === two || (it === one && !isTold)) continue;
      if (isContent(key)) {
        problems.push(...mixture(path, states));
      } else problems.push(`${path}: ${key}: ${it}, neither ${one} nor ${two}`);
    }
  }
  return problems;
}

function namesIn(entries: Map<string, unknown>): string {
  return [...entries.keys()].join('\n');
}

function isContent(key: string): boolean {
  return key === 'sha256' || key === 'size' || key === 'empty';
}

function withoutTimes(listing: string): string {
  return listing
    .split('\n')
    .map((line) => (line.includes(' type=d') ? line.replace(/ mtime=\S+/, '') : line))
    .join('\n');
}

/** Whether each byte is that of one or the other; behind the end of either there are zeros. */
function mixture(path: string, { before, after, found, promised }: States): string[] {
  const [a, b, c] = [before, after, found].map(({ folder }) => contentOf(folder, path));
  if (a === undefined || b === undefined || c === undefined) return [`${path}: is no file`];
  if (c.length < Math.min(a.length, b.length) || c.length > Math.max(a.length, b.length)) {
    return [`${path}: ${c.length} bytes, ${a.length} before and ${b.length} after`];
  }
  const { start, end } = promised ?? { start: 0, end: 0 };
  const at = c.findIndex(
    (byte, index) =>
      byte !== (b[index] ?? 0) &&
      (byte !== (a[index] ?? 0) || (index >= start && index < Math.min(end, b.length))),
  );
  if (c.length < Math.min(end, b.length)) return [`${path}: ${c.length} bytes, ${end} were told`];
  return at < 0 ? [] : [`${path}: byte ${at} is of neither`];
}

function contentOf(folder: string, path: string): Buffer | undefined {
  // As the hand tells it: %XX for bytes of another kind.
  const bytes = path.replaceAll(/%([\da-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const name = Buffer.concat([Buffer.from(join(folder, '/')), Buffer.from(bytes, 'latin1')]);
  try {
    const fd = openSync(name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
