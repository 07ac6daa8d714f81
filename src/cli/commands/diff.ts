import { Command } from 'commander';
import { SessionError } from '../../errors.ts';
import type { Change } from '../../index.ts';
import { mountPath } from '../bytes.ts';
import type { AnySession, Context, Library } from '../context.ts';
import type { Colour } from '../output.ts';
import { changeJson, displayBytes, displayName, isDirectory, isFile, table } from '../output.ts';

const COLOURS: Record<Change['kind'], Colour> = { A: 'green', M: 'yellow', D: 'red' };

interface Options {
  json?: true;
  stat?: true;
  exitCode?: true;
}

export function diff(context: Context): Command {
  return new Command('diff')
    .summary('list what a session has changed')
    .description(
      'Lists what a session has changed, sorted, one line a path: A (added), M (modified) or D (deleted), a tab, and the ' +
        'path from the root of the session. A new directory comes with everything in it, a removed one alone.',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .argument('[PATH...]', 'only what is at or below these, from the root of the session')
    .option('--stat', 'only totals: how many paths and bytes')
    .option(
      '--exit-code',
      'exit with 1 when there are changes, 0 when there are none, 2 for trouble',
    )
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts diff                       of the only session there is
  ostree-ts diff usr /lib /share/man   below /usr/lib and /usr/share/man of the session usr
  ostree-ts diff usr --json            with type, size and mode; bytes that are no UTF-8 in pathBase64
  ostree-ts diff usr --exit-code --stat >/dev/null || echo changed`,
    )
    .action(async (first: string | undefined, rest: string[], options: Options) => {
      const { session, paths } = await choose(await context.load(), first, rest);
      const changes = session.diff(paths.length === 0 ? {} : { paths: paths.map(mountPath) });
      const count = options.stat
        ? await printTotals(context, changes, options.json === true)
        : await printChanges(context, changes, options.json === true);
      if (options.exitCode && count > 0) context.exitWith(1);
    });
}

/**
 * Which session, and which paths: the first argument names a session, unless it has a slash in it, no session is there,
 * and there is only one it can be about.
 */
async function choose(
  library: Library,
  first: string | undefined,
  rest: string[],
): Promise<{ session: AnySession; paths: string[] }> {
  try {
    return { session: await library.findSession(first), paths: rest };
  } catch (error) {
    if (!(error instanceof SessionError) || !first?.includes('/')) throw error;
    const [only, ...others] = await library.listSessions();
    if (only === undefined || others.length > 0) throw error;
    return { session: only, paths: [first, ...rest] };
  }
}

/** @returns how many there were. */
async function printChanges(
  { out, paint }: Context,
  changes: AsyncIterable<Change>,
  json: boolean,
): Promise<number> {
  let count = 0;
  for await (const change of changes) {
    count++;
    const { kind, path } = change;
    out(json ? changeJson(change) : `${paint(COLOURS[kind], kind)}\t${displayName(path)}`);
  }
  return count;
}

const KINDS = { A: 'added', M: 'modified', D: 'deleted' } as const;

interface Total {
  change: 'added' | 'modified' | 'deleted';
  paths: number;
  files: number;
  directories: number;
  /** Of regular files, as long as they are now (deleted ones: as they were). */
  bytes: number;
}

/** @returns how many changes there were. */
async function printTotals(
  { out }: Context,
  changes: AsyncIterable<Change>,
  json: boolean,
): Promise<number> {
  const totals = new Map<Change['kind'], Total>();
  for (const kind of ['A', 'M', 'D'] as const) {
    totals.set(kind, { change: KINDS[kind], paths: 0, files: 0, directories: 0, bytes: 0 });
  }
  let count = 0;
  for await (const change of changes) {
    count++;
    const total = totals.get(change.kind);
    if (total === undefined) continue;
    total.paths++;
    if (isDirectory(change)) total.directories++;
    if (isFile(change)) {
      total.files++;
      total.bytes += change.size;
    }
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
