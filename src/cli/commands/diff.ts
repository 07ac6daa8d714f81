import { Command, InvalidArgumentError, Option } from 'commander';
import { SessionError } from '../../errors.ts';
import type { Change, DiffOptions, PatchOptions } from '../../index.ts';
import { mountPath } from '../bytes.ts';
import type { AnySession, Context, Library } from '../context.ts';
import { warn } from '../context.ts';
import { printTotals } from '../diff-totals.ts';
import type { Colour } from '../output.ts';
import { changeBy, changeDetails, changeJson, displayName } from '../output.ts';

const COLOURS: Record<Change['kind'], Colour> = {
  A: 'green',
  M: 'yellow',
  D: 'red',
  R: 'yellow',
};

interface Options {
  json?: true;
  stat?: true;
  patch?: true;
  unified?: number;
  metadata?: true;
  by?: true;
  renames?: boolean;
  exitCode?: true;
}

export function diff(context: Context): Command {
  return new Command('diff')
    .summary('list what a session has changed')
    .description(
      'Lists what a session has changed, sorted, one line a path: A (added), M (modified) or D (deleted), a tab, and the ' +
        'path from the root of the session. A new directory comes with everything in it, a removed one alone. It is what ' +
        "'ostree diff' would say of a commit of the session.\n\n" +
        'Times alone are no change here, as OSTree does not keep them, nor is a file that was written again with what it ' +
        'had; --metadata lists times as well.\n\n' +
        'Renames are known from the rename itself, not guessed from contents. A renamed directory is one line, and what has ' +
        'changed in it follows under its new name. Files that were renamed in an upper on a tmpfs or on disk are told as ' +
        'deleted and added once another daemon has taken that upper up.',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .argument('[PATH...]', 'only what is at or below these, from the root of the session')
    .option('-M, --renames', "tell of renames as 'R', a tab, 'OLD -> NEW'; --patch does without")
    .option('--no-renames', 'with --patch: tell of renamed files as deleted and added')
    .option(
      '--metadata',
      'after another tab, name what of a path has changed: content, mode, owner, xattrs, times',
    )
    .addOption(
      new Option(
        '--by',
        'after more tabs, who last changed it: program, process, user, and when (see unlock --history)',
      ).conflicts(['patch', 'stat']),
    )
    .addOption(new Option('--stat', 'only totals: how many paths, files, bytes').conflicts('patch'))
    .addOption(
      new Option(
        '-p, --patch',
        "a patch of regular files and symlinks, as 'git diff --no-index' prints it; files over 16 MiB are told like binary ones",
      ).conflicts(['json', 'metadata']),
    )
    .option('-U, --unified <lines>', 'with --patch: unchanged lines around changes (3)', lineCount)
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
  ostree-ts diff usr -M --metadata     with renames, and what has changed: mode 0644 -> 0755, owner 0:0 -> 7:7
  ostree-ts diff usr --patch >usr.patch    for 'git apply' or 'patch -p1' in a copy of the source
  ostree-ts diff usr --json            with type, size, mode, owner and time, before and after
  ostree-ts diff usr --exit-code --stat >/dev/null || echo changed`,
    )
    .action(async (first: string | undefined, rest: string[], options: Options) => {
      const { session, paths } = await choose(await context.load(), first, rest);
      const wanted = paths.length === 0 ? {} : { paths: paths.map(mountPath) };
      const count = await print(context, session, wanted, options);
      if (options.exitCode && count > 0) context.exitWith(1);
    });
}

/** @returns how many changes there were. */
async function print(
  context: Context,
  session: AnySession,
  wanted: { paths?: string[] },
  options: Options,
): Promise<number> {
  const { by, json, metadata, patch, renames, stat } = options;
  if (patch) return await printPatch(context, session, { ...wanted, ...patchOptions(options) });
  const asked: DiffOptions = {
    ...wanted,
    ...(renames === true && { renames }),
    ...((metadata || (json && !stat)) && { details: true }),
    ...(metadata && { times: true }),
    ...(by && { by }),
    ...(stat && { all: true }),
    onWarning: (message) => warn(context, message, json),
  };
  const changes = session.diff(asked);
  if (stat) return await printTotals(context, changes, asked, json === true);
  return await printChanges(context, changes, options);
}

function patchOptions({ renames, unified }: Options): PatchOptions {
  return {
    ...(renames !== undefined && { renames }),
    ...(unified !== undefined && { context: unified }),
  };
}

function lineCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is no number of lines.');
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
  { by, json, metadata }: Options,
): Promise<number> {
  let count = 0;
  for await (const change of changes) {
    count++;
    if (json) {
      out(changeJson(change));
      continue;
    }
    const { kind, path, from = path } = change;
    const name = kind === 'R' ? `${displayName(from)} -> ${displayName(path)}` : displayName(path);
    const details = metadata ? changeDetails(change) : '';
    out(
      `${paint(COLOURS[kind], kind)}\t${name}${details === '' ? '' : `\t${details}`}${by ? `\t${changeBy(change)}` : ''}`,
    );
  }
  return count;
}

/** @returns how many changes there are, those of which a patch says nothing as well. */
async function printPatch(
  { write }: Context,
  session: AnySession,
  options: PatchOptions,
): Promise<number> {
  const parts = session.patch(options);
  for (;;) {
    const { value, done } = await parts.next();
    if (done === true) return value;
    await write(value);
  }
}
