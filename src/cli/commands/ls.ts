import { Command } from 'commander';
import type { TreeEntry } from '../../index.ts';
import { byteString, hostPath } from '../bytes.ts';
import type { Context } from '../context.ts';
import { entryJson } from '../output.ts';

interface Options {
  repo?: string;
  recursive?: true;
  dironly?: true;
  checksum?: true;
  xattrs?: true;
  json?: true;
}

/** Lines that are written at once. */
const BATCH = 512;

export function ls(context: Context): Command {
  return new Command('ls')
    .summary('list what is in a commit, without mounting it')
    .description(
      "Lists files of a commit in an OSTree repository, exactly as 'ostree ls' prints them: a directory with what is in " +
        'it, files first.',
    )
    .argument('<REF>', 'a ref, a commit or the beginning of one; REF^ is its parent')
    .argument('[PATH...]', 'what to list (default: /)')
    .option(
      '--repo <repo>',
      'the repository (default: the current folder, or /sysroot/ostree/repo)',
    )
    .option('-R, --recursive', 'everything below, too')
    .option('-d, --dironly', 'directories as themselves, without what is in them')
    .option('-C, --checksum', 'the checksums of the objects, too')
    .option('-X, --xattrs', 'extended attributes, too')
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts ls --repo=repo main /usr/bin
  ostree-ts ls --repo=repo -RCX main        everything there is to know`,
    )
    .action(async (ref: string, paths: string[], options: Options) => {
      const library = await context.load();
      const repository = await library.openRepository(
        options.repo === undefined ? undefined : hostPath(options.repo),
      );
      const show = (entry: TreeEntry) =>
        options.json === true
          ? Buffer.from(`${entryJson(entry)}\n`)
          : Buffer.from(`${library.formatEntry(entry, options)}\n`, 'latin1');
      const depth = options.recursive === true ? Infinity : options.dironly === true ? 0 : 1;
      let lines: Buffer[] = [];
      try {
        for (const path of paths.length === 0 ? ['/'] : paths) {
          const xattrs = options.xattrs === true || options.json === true;
          for (const entry of repository.list(ref, byteString(path), { depth, xattrs })) {
            if (lines.push(show(entry)) < BATCH) continue;
            await context.write(Buffer.concat(lines));
            lines = [];
          }
        }
      } finally {
        if (lines.length > 0) await context.write(Buffer.concat(lines));
        repository.close();
      }
    });
}
