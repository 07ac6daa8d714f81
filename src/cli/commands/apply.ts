import { Command, Option } from 'commander';
import type { ApplyResult } from '../../index.ts';
import type { Context } from '../context.ts';
import { warn } from '../context.ts';
import { displayName, jsonPath, plural } from '../output.ts';

interface Options {
  session?: string;
  ours?: true;
  theirs?: true;
  json?: true;
}

export function apply(context: Context): Command {
  return new Command('apply')
    .summary('replay an exported layer or tar on a session')
    .description(
      'Makes, changes and removes in a session what a layer or tar says, all of it or nothing. Where the session has ' +
        'changed the same path to something else, nothing is done, unless one side is to win. A layer does not say what it ' +
        'was made from: over a newer source, what that source has changed is not seen as a conflict. ' +
        'If it is killed by force half-way, apply --theirs of the same file completes it; what was replaced is then in a folder ' +
        '.ostree-ts-apply-* at the root of the session.',
    )
    .argument('<FILE>', 'what export --format=oci-layer or tar has written, compressed or not')
    .option(
      '--session <SESSION>',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .addOption(
      new Option('--ours', 'where both have changed a path, keep the session’s').conflicts(
        'theirs',
      ),
    )
    .option('--theirs', 'where both have changed a path, take the file’s')
    .option('--json', 'one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts export old --format=oci-layer --output=work.tar.gz
  ostree-ts apply work.tar.gz --session=new`,
    )
    .action(async (file: string, { session: name, ours, theirs, json }: Options) => {
      const session = await (await context.load()).findSession(name);
      const prefer = ours ? 'ours' : theirs ? 'theirs' : undefined;
      const result = await session.apply({
        file,
        ...(prefer !== undefined && { prefer }),
        signal: context.interrupted(),
      });
      if (json) {
        context.out(resultJson(result));
        return;
      }
      for (const path of result.conflicts) {
        warn(context, `${displayName(path)} is changed on both sides: ${prefer} wins`, json);
      }
      context.out(`${plural(result.applied, 'path')} applied, ${result.unchanged} so already`);
    });
}

function resultJson({ conflicts, ...rest }: ApplyResult): string {
  return JSON.stringify({ ...rest, conflicts: conflicts.map((path) => jsonPath(path)) });
}
