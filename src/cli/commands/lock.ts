import { Command } from 'commander';
import type { LockResult } from '../../index.ts';
import { warn } from '../context.ts';
import type { AnySession, Context, Library } from '../context.ts';
import { displayBytes, displayText, plural } from '../output.ts';

interface Options {
  lazy?: true;
  discard?: true;
  hotfix?: true;
  sysroot?: string;
  json?: true;
}

export function lock(context: Context): Command {
  return new Command('lock')
    .summary('end a session and discard its changes')
    .description(
      'Ends a session: the tree beneath is visible again, as it was, and the changes are gone. Refuses, and lists them, ' +
        'while processes hold files of the session. Cleans up after a session whose daemon has died, and after whatever has ' +
        'unlocked the booted deployment of an OSTree host.',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .option('--lazy', 'do not wait for processes: they keep what they have open until they end')
    .option('--discard', 'changes in a directory (--upper=DIR), which are kept otherwise, go too')
    .option('--hotfix', 'booted deployment: a hotfix, too, is thrown away; the rollback stays')
    .option('--sysroot <path>', 'where the booted deployment is (default: /)')
    .option('--json', 'print what was done as one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts lock               the only session there is
  ostree-ts lock --hotfix      end a hotfix: the next boot is clean, too
  ostree-ts lock usr           by name
  ostree-ts lock /usr --lazy   by mountpoint, at once`,
    )
    .action(async (name: string | undefined, { json, ...options }: Options) => {
      const result = await end(await context.load(), name, options);
      if (json === true) {
        context.out(JSON.stringify(result));
        return;
      }
      for (const found of result.found) warn(context, displayText(found), json);
      context.out(displayText(describe(result)));
      for (const { pid, name: program, by } of result.holders) {
        context.err(displayText(`ostree-ts: still held by ${pid} ${program} (${by.join(', ')})`));
      }
    });
}

/** A session; or the booted deployment, when it is asked for, or unlocked by something that is no session. */
async function end(
  library: Library,
  name: string | undefined,
  { lazy, discard, hotfix, sysroot }: Omit<Options, 'json'>,
): Promise<LockResult> {
  const given = {
    ...(lazy === undefined ? {} : { lazy }),
    ...(hotfix === undefined ? {} : { hotfix }),
  };
  const isBooted = hotfix === true || sysroot !== undefined;
  if (isBooted && name === undefined) {
    return library.lockBooted({ ...given, ...(sysroot === undefined ? {} : { sysroot }) });
  }
  const sessions = await library.listSessions();
  const isSession = (one: AnySession) => one.name === name || one.mountpoint === name;
  const isUsr = name === undefined ? sessions.length === 0 : name === '/usr' || name === 'usr';
  if (isUsr && !sessions.some(isSession)) {
    const deployments = await library.listDeployments();
    if (deployments.some(({ booted }) => booted)) return library.lockBooted(given);
  }
  const session = await library.findSession(name);
  return session.lock({ ...given, ...(discard === undefined ? {} : { discard }) });
}

function describe({
  name,
  mountpoint,
  changes,
  moreChanges,
  used,
  draining,
  kept,
}: LockResult): string {
  const size = used === null ? '' : ` (${displayBytes(used)})`;
  const what =
    changes === null
      ? 'its changes'
      : `${moreChanges ? 'over ' : ''}${plural(changes, 'change')}${size}`;
  if (kept !== null) return `${name}: ${mountpoint} is locked again; its changes are in ${kept}`;
  if (draining) {
    return `${name}: ${mountpoint} is locked again; ${what} will be discarded when the last process lets go`;
  }
  return `${name}: ${mountpoint} is locked again, ${what} discarded`;
}
