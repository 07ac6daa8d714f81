/** The command: its table of subcommands, and how what goes wrong becomes words and an exit code. Only here and in `failure.ts`. */
import { Command, CommanderError } from 'commander';
import { SessionError } from '../errors.ts';
import { apply } from './commands/apply.ts';
import { cat } from './commands/cat.ts';
import { commit } from './commands/commit.ts';
import { completion } from './commands/completion.ts';
import { diff } from './commands/diff.ts';
import { doctor } from './commands/doctor.ts';
import { exportCommand } from './commands/export.ts';
import { importCommand } from './commands/import.ts';
import { lock } from './commands/lock.ts';
import { ls } from './commands/ls.ts';
import { run as runCommand } from './commands/run.ts';
import { status } from './commands/status.ts';
import { undo } from './commands/undo.ts';
import { unlock } from './commands/unlock.ts';
import type { Context } from './context.ts';
import { EXIT, explainError, type Failure, version } from './failure.ts';
import { displayText } from './output.ts';

const COMMANDS = {
  unlock,
  run: runCommand,
  status,
  diff,
  undo,
  apply,
  commit,
  export: exportCommand,
  import: importCommand,
  lock,
  ls,
  cat,
  doctor,
  completion,
};

/** Of `run`, before its command runs, as of env(1): the codes below are the command's. */
const NOT_RUN = 125;

/** Of `diff --exit-code`, as of diff(1). */
const TROUBLE = 2;

/**
 * Runs one command line.
 *
 * @param args  What was typed after the program's name.
 * @returns the exit code.
 */
export async function run(typed: string[], given: Omit<Context, 'exitWith'>): Promise<number> {
  const { args, command: behind } = split(typed);
  let code: number = EXIT.done;
  const context: Context = {
    ...given,
    ...(behind !== undefined && { command: behind }),
    exitWith: (wanted) => {
      code = wanted;
    },
  };
  const program = new Command('ostree-ts')
    .description('Make an immutable OS tree writable for a session, and take it back.')
    .version(version(), '--version', 'print the version')
    .helpCommand('help [COMMAND]', 'explain a command')
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts unlock /usr     make /usr writable; nothing is written to it
  ostree-ts diff            what changed since
  ostree-ts lock            throw that away

Exit codes: 0 done, 1 refused or failed, 2 called wrongly.`,
    );
  for (const make of makersOf(args)) program.addCommand(make(context));
  for (const command of [program, ...program.commands]) {
    command.helpOption('-h, --help', 'explain this command');
    command.exitOverride();
    command.configureOutput({
      writeOut: (text) => given.out(text.trimEnd()),
      writeErr: (text) => given.err(text.trimEnd()),
      // Errors come as CommanderError, and are printed below like all others.
      outputError: () => {},
    });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    return report(error, args, context);
  }
}

/** To describe them all takes longer than to do what some of them do. */
function makersOf([first = '']: string[]): ((context: Context) => Command)[] {
  const isOne = Object.hasOwn(COMMANDS, first) && first !== 'completion';
  return isOne ? [COMMANDS[first as keyof typeof COMMANDS]] : Object.values(COMMANDS);
}

/** `run` leaves what is behind `--` alone. */
function split(typed: string[]): { args: string[]; command?: string[] } {
  const at = typed[0] === 'run' ? typed.indexOf('--') : -1;
  return at < 0 ? { args: typed } : { args: typed.slice(0, at), command: typed.slice(at + 1) };
}

/** diff(1) and git-diff(1) leave 1 to "there are differences". */
function leavesOneToDifferences(args: readonly string[]): boolean {
  return args[0] === 'diff' && args.includes('--exit-code');
}

/** Of a command whose output cannot be written. */
export function failureCode(args: readonly string[]): number {
  return leavesOneToDifferences(args) ? TROUBLE : EXIT.failed;
}

/** Prints what went wrong: one line of what and why, one of remedy; with --json, one object. */
function report(error: unknown, args: string[], { err }: Context): number {
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done;
  const failure = explain(error, args);
  if (args[0] === 'run') {
    const ofCommand = error instanceof SessionError && 'exitCode' in error;
    failure.code = ofCommand ? (error.exitCode as number) : NOT_RUN;
  }
  if (leavesOneToDifferences(args)) failure.code = TROUBLE;
  if (args.includes('--json')) {
    const { message, ...rest } = failure;
    err(JSON.stringify({ error: message, ...rest }));
    return failure.code;
  }
  if (failure.message !== '') err(`ostree-ts: ${displayText(failure.message)}`);
  if (failure.remedy !== undefined) err(failure.remedy);
  return failure.code;
}

function explain(error: unknown, args: string[]): Failure {
  if (error instanceof CommanderError) return explainUsage(error, args);
  return explainError(error);
}

/** Commander's words are `error: what`, and maybe a suggestion on a second line. */
function explainUsage(error: CommanderError, args: string[]): Failure {
  // No command at all: commander has printed the help.
  if (error.code === 'commander.help') return { message: '', code: EXIT.misused };
  const [what = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const [first = ''] = args;
  const command = Object.hasOwn(COMMANDS, first) ? `ostree-ts ${first}` : 'ostree-ts';
  const remedy = suggestion?.replace(/^\((.*)\)$/, '$1');
  return {
    message: what,
    remedy: remedy === undefined ? `see '${command} --help'` : `${remedy} See '${command} --help'`,
    code: EXIT.misused,
  };
}
