import { Command, Option } from 'commander';
import type { ExportFormat, ExportOptions, ExportResult } from '../../index.ts';
import type { Context } from '../context.ts';
import { seconds, warn } from '../context.ts';
import { displayBytes, jsonPath, plural } from '../output.ts';

interface Options {
  format: ExportFormat;
  output: string;
  compress?: 'none' | 'gzip' | 'zstd';
  timestamp?: string;
  base?: string;
  tag?: string;
  json?: true;
}

export function exportCommand(context: Context): Command {
  return new Command('export')
    .summary('write what a session has changed to a tar, an OCI layer or an OCI image')
    .description(
      'Writes what a session has changed, with the directories that lead there, so that other tools can use it. The ' +
        'session goes on. A change of times alone is no change, as in diff.\n\n' +
        '  tar        a plain tree of what was added and changed; removals cannot be said in it\n' +
        '  oci-layer  a layer with removals as whiteouts (.wh.NAME, .wh..wh..opq)\n' +
        '  oci-image  an image layout: that layer on top of --base, or, without, the whole tree as one layer',
    )
    .argument(
      '[SESSION]',
      'a name or a mountpoint (may be left out when there is just one session)',
    )
    .addOption(
      new Option('--format <FORMAT>', 'what to write')
        .choices(['tar', 'oci-layer', 'oci-image'])
        .makeOptionMandatory(),
    )
    .requiredOption(
      '--output <FILE>',
      'where to, - for stdout; of an image a directory, a layout that gains a tag, or a file that ends in .tar',
    )
    .addOption(
      new Option('--compress <HOW>', 'default: gzip, none for a tar').choices([
        'none',
        'gzip',
        'zstd',
      ]),
    )
    .option(
      '--timestamp <SECONDS>',
      'no time in the output is later, in seconds since 1970; SOURCE_DATE_EPOCH says the same',
    )
    .option('--base <oci:DIR[:TAG]>', 'the image that the source is; oci-archive:FILE[:TAG] too')
    .option('--tag <TAG>', 'what the image is called in its layout (default: latest)')
    .option('--json', 'one JSON object, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts export --format=oci-layer --output=hotfix.tar.gz
  ostree-ts export usr --format=oci-image --base=oci:base:1 --output=fixed --tag=2
  ostree-ts export usr --format=oci-image --output=whole.tar   then: skopeo copy oci-archive:whole.tar ...
  SOURCE_DATE_EPOCH=0 ostree-ts export --format=tar --output=changes.tar`,
    )
    .action(async (name: string | undefined, options: Options) => {
      const library = await context.load();
      const session = await library.findSession(name);
      const result = await session.export({
        ...exportOptions(options),
        signal: context.interrupted(),
      });
      for (const line of library.exportWarnings(result)) warn(context, line, options.json);
      const words = options.json ? resultJson(result) : describe(result);
      if (options.output === '-') context.err(words);
      else context.out(words);
    });
}

function exportOptions({ format, output, compress, timestamp, base, tag }: Options): ExportOptions {
  const fixed = seconds(timestamp);
  return {
    format,
    output,
    ...(compress !== undefined && { compress }),
    ...(fixed !== undefined && { timestamp: fixed }),
    ...(base !== undefined && { base }),
    ...(tag !== undefined && { tag }),
  };
}

function describe({ output, entries, deletions, size, digest, format }: ExportResult): string {
  const gone = deletions > 0 && format !== 'tar' ? `, ${plural(deletions, 'removal')}` : '';
  return `${output}: ${entries} files and directories${gone}, ${displayBytes(size)}, ${digest}`;
}

function resultJson({ skipped, ...rest }: ExportResult): string {
  return JSON.stringify({ ...rest, skipped: skipped.map((path) => jsonPath(path)) });
}
