import { Argument, Command } from 'commander';
import type { Context } from '../context.ts';
import { type Form, FORMS, reference } from '../reference.ts';

export function completion(context: Context): Command {
  return new Command('completion')
    .summary('print completions for a shell, or the manual page')
    .description(
      'Prints what makes a shell complete the words of this command, or, for man(1), what they mean.',
    )
    .addArgument(new Argument('<FORM>', 'for whom').choices(FORMS))
    .addHelpText(
      'after',
      `
Examples:
  . <(ostree-ts completion bash)               in ~/.bashrc
  . <(ostree-ts completion zsh)                in ~/.zshrc, after compinit
  ostree-ts completion fish | source           in config.fish
  ostree-ts completion man | man -l -          the manual page`,
    )
    .action((form: Form, _: unknown, command: Command) => {
      if (command.parent !== null) context.out(reference(command.parent, form).trimEnd());
    });
}
