import { Command } from 'commander';
import type { Undone } from '../../index.ts';
import { mountPath } from '../bytes.ts';
import type { Context } from '../context.ts';
import { warn } from '../context.ts';
import { displayName, jsonPath } from '../output.ts';

const WORDS: Record<Undone['what'], string> = {
  restored: 'as in the source again',
  removed: 'removed, as the source has none',
  unchanged: 'not changed',
};

interface Options {
  session?: string;
  json?: true;
}

export function undo(context: Context): Command {
  return new Command('undo')
    .summary('take single paths back to what the source has')
    .description(
      'Takes paths of a session back to what its source has, all of them or none; the session goes on. What is new is ' +
        'removed, what is gone comes back, a directory with everything in it. Programs that have such a file open keep what ' +
        'they have.',
    )
    .argument('<PATH...>', 'from the root of the session, as diff prints them')
    .option(
      '--session <SESSION>',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts undo /lib/systemd               of the only session there is
  ostree-ts undo --session=usr bin/a bin/b  both, or none when one cannot be undone`,
    )
    .action(async (paths: string[], { session: name, json }: Options) => {
      const session = await (await context.load()).findSession(name);
      const onWarning = (message: string) => warn(context, message, json);
      for (const { path, what } of await session.undo(paths.map(mountPath), { onWarning })) {
        context.out(
          json
            ? JSON.stringify({ ...jsonPath(path), what })
            : `${displayName(path)}: ${WORDS[what]}`,
        );
      }
    });
}
