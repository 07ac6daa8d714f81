/** `diff --stat`. */
import type { Change, ChangeOptions } from '../index.ts';
import type { Context } from './context.ts';
import { displayBytes, isDirectory, isFile, table } from './output.ts';

const KINDS = { A: 'added', M: 'modified', D: 'deleted', R: 'renamed' } as const;

type Kind = (typeof KINDS)[Change['kind']] | 'metadata';

interface Total {
  change: Kind;
  paths: number;
  files: number;
  directories: number;
  /** Of regular files, as long as they are now (deleted ones: as they were). */
  bytes: number;
}

/** @returns how many changes there were. */
export async function printTotals(
  { out }: Context,
  changes: AsyncIterable<Change>,
  { details = false, renames = false }: ChangeOptions,
  json: boolean,
): Promise<number> {
  const kinds: Kind[] = ['added', 'modified'];
  if (details) kinds.push('metadata');
  kinds.push('deleted');
  if (renames) kinds.push('renamed');
  const totals = new Map(
    kinds.map((change) => [change, { change, paths: 0, files: 0, directories: 0, bytes: 0 }]),
  );
  let count = 0;
  for await (const change of changes) {
    count++;
    const total = totals.get(kindOf(change));
    if (total !== undefined) add(total, change);
  }
  const all = [...totals.values()];
  if (json) for (const total of all) out(JSON.stringify(total));
  else {
    const rows = all.map(({ change, paths, files, directories, bytes }) => [
      change,
      ...[paths, files, directories].map(String),
      displayBytes(bytes),
    ]);
    for (const line of table([['', 'PATHS', 'FILES', 'DIRECTORIES', 'SIZE'], ...rows])) out(line);
  }
  return count;
}

/** What has the contents that it had is counted apart, when it is known. */
function kindOf({ kind, changed }: Change): Kind {
  const isMetadata =
    kind === 'M' && changed?.every((each) => each !== 'content' && each !== 'type') === true;
  return isMetadata ? 'metadata' : KINDS[kind];
}

function add(total: Total, change: Change): void {
  total.paths++;
  if (isDirectory(change)) total.directories++;
  if (!isFile(change)) return;
  total.files++;
  total.bytes += change.size;
}
