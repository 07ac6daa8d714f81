import { Command } from 'commander';
import { byteString, hostPath } from '../bytes.ts';
import type { Context } from '../context.ts';

export function cat(context: Context): Command {
  return new Command('cat')
    .summary('print files of a commit, without mounting it')
    .description(
      "Prints files of a commit in an OSTree repository, one after the other, as 'ostree cat' does. Symlinks are " +
        'followed within the commit.',
    )
    .argument('<REF>', 'a ref, a commit or the beginning of one; REF^ is its parent')
    .argument('<PATH...>', 'what to print')
    .option(
      '--repo <repo>',
      'the repository (default: the current folder, or /sysroot/ostree/repo)',
    )
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts cat --repo=repo main /usr/lib/os-release`,
    )
    .action(async (ref: string, paths: string[], { repo }: { repo?: string }) => {
      const library = await context.load();
      const repository = await library.openRepository(
        repo === undefined ? undefined : hostPath(repo),
      );
      try {
        for (const path of paths) {
          for await (const chunk of repository.contents(ref, byteString(path))) {
            await context.write(chunk);
          }
        }
      } finally {
        repository.close();
      }
    });
}
