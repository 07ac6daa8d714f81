import { Command } from 'commander';
import type { ImportResult } from '../../index.ts';
import { hostPath } from '../bytes.ts';
import type { Context } from '../context.ts';
import { seconds, warn } from '../context.ts';
import { displayName, jsonPath } from '../output.ts';

interface Options {
  repo: string;
  branch: string;
  subject?: string;
  body?: string;
  timestamp?: string;
  json?: true;
}

export function importCommand(context: Context): Command {
  return new Command('import')
    .summary('make a commit of an OCI image')
    .description(
      'Makes a commit of an OCI image, so that it can be unlocked like any other. Its layers (tar, gzip, zstd) are put ' +
        'together with their whiteouts, and checked against their digests before anything is written. The tree stays as it ' +
        'is in the image; devices and fifos, which a commit cannot hold, are left out, a line each.',
    )
    .argument('<IMAGE>', 'oci:DIR[:TAG], or oci-archive:FILE[:TAG]')
    .requiredOption('--repo <REPO>', 'the repository that the commit goes to')
    .requiredOption('--branch <REF>', 'the ref that is to point to it')
    .option('--subject <TEXT>', 'of the commit (default: what was imported)')
    .option('--body <TEXT>', 'of the commit')
    .option('--timestamp <SECONDS>', 'of the commit, since 1970; SOURCE_DATE_EPOCH says the same')
    .option('--json', 'one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  skopeo copy docker://debian:bookworm oci:debian:12
  ostree-ts import oci:debian:12 --repo=/srv/repo --branch=debian/12
  ostree-ts unlock --repo=/srv/repo debian/12 /mnt`,
    )
    .action(async (image: string, options: Options) => {
      const { repo, branch, subject, body, json } = options;
      const library = await context.load();
      const timestamp = seconds(options.timestamp);
      const result = await library.importImage({
        image,
        repo: hostPath(repo),
        branch,
        ...(subject !== undefined && { subject }),
        ...(body !== undefined && { body }),
        ...(timestamp !== undefined && { timestamp }),
        onWait: (message) => warn(context, message, json),
        signal: context.interrupted(),
      });
      for (const { path, kind } of result.skipped) {
        warn(context, `${displayName(path)} is a ${kind}: left out`, json);
      }
      context.out(json ? resultJson(result) : describe(result));
    });
}

function describe({ commit, branch, files, directories, isUnchanged }: ImportResult): string {
  return isUnchanged
    ? `${branch} holds this image already: ${commit}`
    : `${branch}: ${commit}, ${files} files in ${directories} directories`;
}

function resultJson({ skipped, ...rest }: ImportResult): string {
  return JSON.stringify({
    ...rest,
    skipped: skipped.map(({ path, kind }) => ({ ...jsonPath(path), kind })),
  });
}
