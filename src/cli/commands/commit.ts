import { Command } from 'commander';
import { UsageError } from '../../errors.ts';
import type { CommitOptions, CommitResult } from '../../index.ts';
import type { Context } from '../context.ts';
import { seconds, warn } from '../context.ts';
import { displayBytes, displayName, jsonPath, plural } from '../output.ts';
import { Progress } from '../progress.ts';

interface Options {
  branch: string;
  repo?: string;
  subject?: string;
  body?: string;
  addMetadataString?: string[];
  parent?: string;
  timestamp?: string;
  allowEmpty?: true;
  skipSpecial?: true;
  allowWhiteouts?: true;
  json?: true;
}

const collected = (value: string, before: string[] = []) => [...before, value];

export function commit(context: Context): Command {
  return new Command('commit')
    .summary('keep a session as an OSTree commit')
    .description(
      'Writes the session as a commit of an OSTree repository and has a ref point to it. Only files that changed are read ' +
        'and stored; all else keeps its checksums. The session goes on: the commit is what it was at one moment.\n\n' +
        'A session over a commit or a deployment becomes a child of that commit; one over any other directory is ' +
        'committed whole. Without a change there is no commit.',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .requiredOption('--branch <REF>', 'the ref to set, such as debian/hotfix')
    .option('--repo <REPO>', 'the repository (default: the one that the session is from)')
    .option('--subject <TEXT>', 'one line about the commit')
    .option('--body <TEXT>', 'more about it')
    .option(
      '--add-metadata-string <KEY=VALUE>',
      'a value for the metadata of the commit; may be given several times',
      collected,
    )
    .option(
      '--parent <REVISION>',
      'the parent, or none (default: the commit that the session is over, else the last of the ref)',
    )
    .option(
      '--timestamp <SECONDS>',
      'the time of the commit, in seconds since 1970; SOURCE_DATE_EPOCH says the same',
    )
    .option('--allow-empty', 'commit a session that has changed nothing, too')
    .option('--skip-special', 'leave out devices, fifos, sockets and names that are not UTF-8')
    .option('--allow-whiteouts', 'take names that begin with .ostree-wh.')
    .option('--json', 'one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts commit --branch=debian/hotfix --subject='a newer openssl'
  ostree-ts commit usr --branch=debian/hotfix --add-metadata-string=version=12.1
  ostree-ts commit tree --repo=/srv/repo --branch=tree    of a session over a plain directory`,
    )
    .action(async (name: string | undefined, options: Options) => {
      const session = await (await context.load()).findSession(name);
      using progress = new Progress(context);
      const result = await session.commit({
        ...commitOptions(options),
        onWait: (message) => warn(context, message, options.json),
        onProgress: ({ bytes, totalBytes }) => progress.show(bytes, totalBytes),
        signal: context.interrupted(),
      });
      progress.end();
      for (const path of result.skipped) {
        warn(context, `left out: ${displayName(path)}`, options.json);
      }
      context.out(options.json ? resultJson(result) : describe(result));
    });
}

function commitOptions(options: Options): CommitOptions {
  const { branch, repo, subject, body, parent, allowEmpty, skipSpecial, allowWhiteouts } = options;
  const timestamp = seconds(options.timestamp);
  const metadata = (options.addMetadataString ?? []).map((text): [string, string] => {
    const at = text.indexOf('=');
    if (at < 1)
      throw new UsageError(`'${text}' is no KEY=VALUE`, 'write --add-metadata-string=KEY=VALUE');
    return [text.slice(0, at), text.slice(at + 1)];
  });
  return {
    branch,
    metadata: Object.fromEntries(metadata),
    ...(repo !== undefined && { repo }),
    ...(subject !== undefined && { subject }),
    ...(body !== undefined && { body }),
    ...(parent !== undefined && { parent }),
    ...(timestamp !== undefined && { timestamp }),
    ...(allowEmpty !== undefined && { allowEmpty }),
    ...(skipSpecial !== undefined && { skipSpecial }),
    ...(allowWhiteouts !== undefined && { allowWhiteouts }),
  };
}

function describe({ commit: checksum, branch, files, bytes }: CommitResult): string {
  if (checksum === null) return 'nothing has changed: no commit (--allow-empty makes one)';
  return `${branch}: ${checksum}, ${plural(files, 'file')} read (${displayBytes(bytes)})`;
}

function resultJson({ skipped, ...rest }: CommitResult): string {
  return JSON.stringify({ ...rest, skipped: skipped.map((path) => jsonPath(path)) });
}
