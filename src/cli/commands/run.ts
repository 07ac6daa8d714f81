import { Command } from 'commander';
import { UsageError } from '../../errors.ts';
import { hostPath } from '../bytes.ts';
import { warn } from '../context.ts';
import type { Context } from '../context.ts';
import { addSourceOptions, libraryOptions, type SourceOptions } from './unlock.ts';

interface Options extends SourceOptions {
  at?: string;
  chroot?: true;
  protectEtcVar?: true;
  keep?: string;
}

export function run(context: Context): Command {
  const command = new Command('run')
    .summary('run a command in a session that only it can see, and that ends with it')
    .usage('[options] [SOURCE] [-- COMMAND...]')
    .description(
      'Runs COMMAND, or your shell, where SOURCE is writable; nobody else sees that. When COMMAND ends, so does all that ' +
        'it has started, and the changes are discarded. Its exit status is passed on: 125 says that ostree-ts itself ' +
        'failed before it ran, 126 that COMMAND cannot be run, 127 that there is none, 128+N that signal N killed it. ' +
        'For an ordinary user COMMAND is root in the session, and nowhere else; installing packages needs ' +
        'subordinate ids (/etc/subuid).',
    )
    .argument(
      '[SOURCE]',
      'a directory, or several, topmost first: A:B:C (a colon in a name is \\:); with --repo, a ref or commit ' +
        '(default: /usr of the booted deployment of an OSTree host)',
    );
  return addSourceOptions(command)
    .option(
      '--at <dir>',
      "where COMMAND sees the session (default: over SOURCE; of a commit, in the session's folder)",
    )
    .option('--chroot', 'enter SOURCE as root, with /proc, /dev, /sys and /run as in a container')
    .option('--protect-etc-var', '/etc and /var are writable and thrown away, too')
    .option(
      '--keep <name>',
      "for root: keep the changes on a tmpfs, as session NAME, for 'diff' and 'unlock'",
    )
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts run /usr -- make install            try an installation; nothing of it is left
  ostree-ts run /usr                            the same, by hand, in a shell
  ostree-ts run --chroot tree -- apt-get install hello
  ostree-ts run --repo=repo --chroot main       a shell in a commit`,
    )
    .action(async (source: string | undefined, options: Options) => {
      await start(context, source, options);
    });
}

async function start(
  context: Context,
  source: string | undefined,
  { at, chroot, protectEtcVar, keep, ...given }: Options,
): Promise<void> {
  const options = libraryOptions(source, given);
  if (source === undefined && given.repo !== undefined) {
    throw new UsageError(
      'no commit is named',
      'name one: ostree-ts run --repo=REPO REF -- COMMAND',
    );
  }
  const library = await context.load();
  const code = await library.run({
    ...options,
    onWarning: (message) => warn(context, message, undefined),
    ...(context.command !== undefined && { command: context.command.map(hostPath) }),
    ...(at !== undefined && { at: hostPath(at) }),
    ...(chroot !== undefined && { chroot }),
    ...(protectEtcVar !== undefined && { protectEtcVar }),
    ...(keep !== undefined && { keep }),
  });
  context.exitWith(code);
}
