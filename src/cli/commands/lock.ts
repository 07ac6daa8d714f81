import { Command } from 'commander';
import type { LockResult } from '../../index.ts';
import { warn } from '../context.ts';
import type { Context } from '../context.ts';
import { displayBytes, displayText, plural } from '../output.ts';

interface Options {
  lazy?: true;
  discard?: true;
  json?: true;
}

export function lock(context: Context): Command {
  return new Command('lock')
    .summary('end a session and discard its changes')
    .description(
      'Ends a session: the tree beneath is visible again, as it was, and the changes are gone. Refuses, and lists them, ' +
        'while processes hold files of the session. Cleans up after a session whose daemon has died.',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .option('--lazy', 'do not wait for processes: they keep what they have open until they end')
    .option('--discard', 'changes in a directory (--upper=DIR), which are kept otherwise, go too')
    .option('--json', 'print what was done as one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts lock               the only session there is
  ostree-ts lock usr           by name
  ostree-ts lock /usr --lazy   by mountpoint, at once`,
    )
    .action(async (name: string | undefined, { lazy, discard, json }: Options) => {
      const library = await context.load();
      const session = await library.findSession(name);
      const result = await session.lock({
        ...(lazy === undefined ? {} : { lazy }),
        ...(discard === undefined ? {} : { discard }),
      });
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

function describe({ name, mountpoint, changes, used, draining, kept }: LockResult): string {
  const size = used === null ? '' : ` (${displayBytes(used)})`;
  const what = changes === null ? 'its changes' : `${plural(changes, 'change')}${size}`;
  if (kept !== null) return `${name}: ${mountpoint} is locked again; its changes are in ${kept}`;
  if (draining) {
    return `${name}: ${mountpoint} is locked again; ${what} will be discarded when the last process lets go`;
  }
  return `${name}: ${mountpoint} is locked again, ${what} discarded`;
}
