import { sep } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { UsageError } from '../../errors.ts';
import type { HostPath, SessionStatus, UnlockOptions, UpperOption } from '../../index.ts';
import { hostPath, splitSource } from '../bytes.ts';
import { warn } from '../context.ts';
import type { Context } from '../context.ts';
import { displayBytes, displayText } from '../output.ts';
import { statusJson } from './status.ts';

/** What says what a session shows, and how. */
export interface SourceOptions {
  size?: string;
  name?: string;
  links?: 'shared' | 'separate';
  repo?: string;
  verify?: true;
  allowPartial?: true;
  upper?: string;
  metacopy?: true;
  history?: number;
  io?: 'cached' | 'passthrough';
  transport?: 'kernel' | 'fuse-native';
  force?: true;
}

interface Options extends SourceOptions {
  foreground?: true;
  json?: true;
  hotfix?: true;
  transient?: true;
  sysroot?: string;
  context?: string;
}

export function unlock(context: Context): Command {
  const command = new Command('unlock')
    .summary('start a session: make a read-only tree writable, changes kept in memory')
    .description(
      'Starts a session: mounts SOURCE with a private writable layer on top. Nothing is ever written to SOURCE. ' +
        "Unlike 'ostree admin unlock', it takes any directory, needs no reboot to go back ('ostree-ts lock' does it), " +
        "keeps its changes in memory, and can list them ('ostree-ts diff').",
    )
    .argument(
      '[SOURCE]',
      'a directory, or several, topmost first: A:B:C (a colon in a name is \\:); with --repo, a ref or commit',
    )
    .argument('[MOUNTPOINT]', 'where to mount (default: SOURCE itself, in place)');
  return addSourceOptions(command)
    .option('--hotfix', 'booted deployment: changes survive reboots; a rollback deployment is made')
    .option('--transient', 'booted deployment: read-only but for who remounts /usr privately')
    .option('--sysroot <path>', 'where the booted deployment is (default: /)')
    .option('--context <label>', 'SELinux label of all files, as system_u:object_r:usr_t:s0')
    .option('--foreground', 'stay, and end the session with this command')
    .option('--json', 'print the session as one JSON object, errors too')
    .addHelpText(
      'after',
      `
Without SOURCE it is the booted deployment of an OSTree host: /usr becomes writable, and 'ostree admin status' says so.

Examples:
  ostree-ts unlock                            the booted deployment, until a reboot or 'ostree-ts lock'
  ostree-ts unlock --hotfix                   the same, for all boots to come, until 'ostree-ts lock --hotfix'
  ostree-ts unlock /usr                       make /usr writable until 'ostree-ts lock usr'
  ostree-ts unlock tree /mnt --size=2G        show tree, writable, at /mnt
  ostree-ts unlock patches:base /mnt          show base with patches on top of it
  ostree-ts unlock --repo=repo main /mnt      show the commit of a ref`,
    )
    .action(
      async (source: string | undefined, mountpoint: string | undefined, options: Options) => {
        await start(context, source, mountpoint, options);
      },
    );
}

/** The options of SourceOptions. */
export function addSourceOptions(command: Command): Command {
  return command
    .option('--repo <repo>', 'an OSTree repository: show a commit of it, without a checkout')
    .option('--verify', 'with --repo: check the contents of bare repositories, too, when opened')
    .option('--allow-partial', 'with --repo: take a commit of which objects are missing')
    .option('--size <size>', 'most the session may hold: 50% (of memory, the default), 512M, 2G')
    .option('--name <name>', "the session's name (default: the last component of its path)")
    .addOption(
      new Option(
        '--links <mode>',
        'hard links in SOURCE: stay links, or one file for each name',
      ).choices(['shared', 'separate']),
    )
    .option(
      '--upper <kind>',
      'where changes are kept: memory (the default), tmpfs, or a directory, which outlives the session',
    )
    .option(
      '--metacopy',
      'with tmpfs or a directory, for root: changes of attributes alone copy no data',
    )
    .option(
      '--history <count>',
      "changes of which 'diff --by' knows who made them: 0 to 1000000, 68 bytes each (16384)",
      historyCount,
    )
    .option('--force', 'with a directory: take the changes in it though they are of another SOURCE')
    .addOption(
      new Option(
        '--io <mode>',
        'who moves the bytes of files: ostree-ts, for the kernel to keep (cached, the default), or the kernel by itself ' +
          '(passthrough; for root, with tmpfs or a directory: large files are faster, many small ones slower, and who ' +
          'has a file open for reading when it is first written to does not see that)',
      ).choices(['cached', 'passthrough']),
    )
    .addOption(
      new Option(
        '--transport <kind>',
        'who speaks with the kernel: ostree-ts itself (the default), or the package fuse-native',
      ).choices(['kernel', 'fuse-native']),
    );
}

function historyCount(text: string): number {
  if (/^\d{1,7}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is no number of changes.');
}

async function start(
  context: Context,
  source: string | undefined,
  mountpoint: string | undefined,
  { foreground, json, hotfix, transient, sysroot, context: label, ...given }: Options,
): Promise<void> {
  const { repo } = given;
  const options = libraryOptions(source, given);
  if (source === undefined && repo !== undefined) {
    throw new UsageError(
      'no commit is named',
      'name one, and where to show it: ostree-ts unlock --repo=REPO REF MOUNTPOINT',
    );
  }
  const library = await context.load();
  const session = await library.unlock({
    ...options,
    onWarning: (message) => warn(context, message, json),
    ...(mountpoint === undefined ? {} : { mountpoint: hostPath(mountpoint) }),
    ...(foreground === undefined ? {} : { foreground }),
    ...(hotfix === undefined ? {} : { hotfix }),
    ...(transient === undefined ? {} : { transient }),
    ...(sysroot === undefined ? {} : { sysroot: hostPath(sysroot) }),
    ...(label === undefined ? {} : { context: label }),
  });
  const status = await session.status();
  if (json === true) context.out(statusJson(status, false));
  else describe(context, status);
  if (foreground !== true) return;
  const words = { READY: '1', STATUS: `${status.mountpoint} is writable` };
  if (!library.notifyManager(words)) {
    warn(context, 'the service manager could not be told that the session is ready', json);
  }
  context.interrupted().addEventListener('abort', () => library.notifyManager({ STOPPING: '1' }));
  await session.ended();
}

/** What the library is told. @throws UsageError options that make no sense together. */
export function libraryOptions(
  source: string | undefined,
  {
    repo,
    verify,
    allowPartial,
    size,
    name,
    links,
    upper,
    metacopy,
    history,
    io,
    transport,
    force,
  }: SourceOptions,
): UnlockOptions {
  if (repo === undefined && (verify === true || allowPartial === true)) {
    throw new UsageError(
      '--verify and --allow-partial are for commits',
      'name a repository: --repo=REPO',
    );
  }
  return {
    source: sourceOf(source, repo),
    ...(repo === undefined ? {} : { repo: hostPath(repo) }),
    ...(verify === undefined ? {} : { verify }),
    ...(allowPartial === undefined ? {} : { allowPartial }),
    ...(size === undefined ? {} : { size }),
    ...(name === undefined ? {} : { name }),
    ...(links === undefined ? {} : { links }),
    ...(upper === undefined ? {} : { upper: upperOf(upper) }),
    ...(metacopy === undefined ? {} : { metacopy }),
    ...(history === undefined ? {} : { history }),
    ...(io === undefined ? {} : { io }),
    ...(transport === undefined ? {} : { transport }),
    ...(force === undefined ? {} : { force }),
  };
}

/** Nothing when a session is to be brought back by its name. */
function sourceOf(source: string | undefined, repo: string | undefined): HostPath[] {
  if (source === undefined) return [];
  return repo === undefined ? splitSource(source).map(hostPath) : [hostPath(source)];
}

function upperOf(upper: string): UpperOption {
  return upper === 'memory' || upper === 'tmpfs' ? upper : hostPath(upper);
}

function describe(
  { out, err, cwd }: Context,
  { name, mountpoint, limit, upper, unlocked }: SessionStatus,
): void {
  const isBounded = upper === 'memory' || upper === 'tmpfs';
  const size = limit === null || !isBounded ? '' : ` (up to ${displayBytes(limit)})`;
  const end = isBounded
    ? `'ostree-ts lock ${name}' discards them`
    : `'ostree-ts lock ${name}' ends the session`;
  const where = upper === 'tmpfs' ? 'on a tmpfs' : `in ${upper}`;
  if (unlocked === 'hotfix') {
    out(`${mountpoint} is writable, and stays changed at all boots to come`);
    out('A deployment without the changes has been made as the non-default rollback target.');
    out("'ostree-ts lock --hotfix' throws the changes away.");
  } else if (unlocked === 'transient') {
    out(
      `${mountpoint} is prepared to be written, but mounted read-only; changes are kept ${where}${size}`,
    );
    out(`To write: unshare --mount sh -c 'mount -i -o remount,rw ${mountpoint} && COMMAND'`);
    out(`All changes are discarded at a reboot, or by 'ostree-ts lock ${name}'.`);
  } else {
    const reboot = unlocked === undefined ? '' : ', and so does a reboot';
    out(
      displayText(`${mountpoint} is writable; changes are kept ${where}${size}: ${end}${reboot}`),
    );
  }
  if (`${cwd}${sep}`.startsWith(`${mountpoint}${sep}`)) {
    // A working folder is a directory, not a path: a mount over it is not seen from it.
    err("ostree-ts: this shell still stands in the tree beneath: 'cd .' enters the session");
  }
}
