/** The command's tree of subcommands and options, as shells and man(1) want it. */
import type { Command } from 'commander';

export const FORMS = ['bash', 'zsh', 'fish', 'man'] as const;
export type Form = (typeof FORMS)[number];

export function reference(program: Command, form: Form): string {
  return { bash, zsh, fish, man }[form](program);
}

interface Flag {
  /** `--size`. */
  long: string;
  /** `--size=<size>`, `-h, --help`. */
  shown: string;
  description: string;
}

function flagsOf(command: Command): Flag[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .map(({ long, flags, description, argChoices }) => ({
      long: long ?? flags,
      shown: flags.replace(' <', '=<'),
      description:
        argChoices === undefined ? description : `${description} (${argChoices.join(', ')})`,
    }));
}

function words(command: Command): string {
  return flagsOf(command)
    .map(({ long }) => long)
    .join(' ');
}

function bash(program: Command): string {
  const cases = program.commands.map(
    (command) => `    ${command.name()}) words='${words(command)}' ;;`,
  );
  const names = program.commands.map((command) => command.name()).join(' ');
  return `# ostree-ts completion bash
_ostree_ts() {
  local words
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
    *) words='${words(program)}' ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="${names} help $words"
  elif [[ \${COMP_WORDS[COMP_CWORD]} != -* ]]; then words=; fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _ostree_ts ostree-ts
`;
}

const zshQuote = (text: string) => `'${text.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`;

/** An item of _describe. */
function zshPair(name: string, text: string): string {
  return `'${name}':${zshQuote(text.replaceAll('\n', ' '))}`;
}

function zsh(program: Command): string {
  const cases = program.commands.map((command) => {
    const flags = flagsOf(command).map(({ long, description }) => zshPair(long, description));
    return `    ${command.name()}) items=(${flags.join(' ')}) ;;`;
  });
  const names = program.commands.map((command) => zshPair(command.name(), command.summary()));
  return `#compdef ostree-ts
_ostree_ts() {
  local -a items
  if (( CURRENT == 2 )); then
    items=(${names.join(' ')})
    _describe command items
    return
  fi
  case $words[2] in
${cases.join('\n')}
  esac
  if [[ $words[CURRENT] == -* ]]; then _describe option items; else _files; fi
}
compdef _ostree_ts ostree-ts
`;
}

const fishQuote = (text: string) => `'${text.replaceAll(/[\\']/g, String.raw`\$&`)}'`;

function fish(program: Command): string {
  const lines = program.commands.flatMap((command) => [
    `complete -c ostree-ts -n __fish_use_subcommand -f -a ${command.name()} -d ${fishQuote(command.summary())}`,
    ...flagsOf(command).map(
      ({ long, description }) =>
        `complete -c ostree-ts -n '__fish_seen_subcommand_from ${command.name()}' -l ${long.slice(2)} -d ${fishQuote(description)}`,
    ),
  ]);
  return `${lines.join('\n')}\n`;
}

const roff = (given: string) =>
  given
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(/^(['.])/gm, String.raw`\&$1`)
    .replaceAll(
      /[^\n -~]/gu,
      (char) => `\\[u${char.codePointAt(0)?.toString(16).padStart(4, '0').toUpperCase()}]`,
    );

/** A page of man(7). */
function man(program: Command): string {
  const flags = (command: Command) =>
    flagsOf(command).flatMap(({ shown, description }) => [
      '.TP',
      `.B ${roff(shown)}`,
      roff(description),
    ]);
  const sections = program.commands.flatMap((command) => [
    `.SS ostree\\-ts ${roff(`${command.name()} ${command.usage()}`)}`,
    roff(command.description()),
    ...command.registeredArguments.flatMap((argument) => [
      '.TP',
      `.I ${roff(argument.name())}`,
      roff(argument.description),
    ]),
    ...flags(command),
  ]);
  return [
    `.TH OSTREE\\-TS 1 "" "ostree\\-ts ${roff(program.version() ?? '')}" "User Commands"`,
    '.SH NAME',
    'ostree\\-ts \\- make an immutable OS tree writable for a session',
    '.SH SYNOPSIS',
    '.B ostree\\-ts',
    '.I COMMAND',
    '[options] ...',
    '.SH DESCRIPTION',
    roff(program.description()),
    'SESSION is a name or a mountpoint, and may be left out when there is only one.',
    '.SH OPTIONS',
    ...flags(program),
    '.SH COMMANDS',
    ...sections,
    '.SH EXIT STATUS',
    '0 done, 1 refused or failed, 2 called wrongly.',
    '.B ostree\\-ts diff \\-\\-exit\\-code',
    'says 1 for changes and 2 for trouble,',
    '.B ostree\\-ts doctor',
    '1 when no session can start.',
    '.B ostree\\-ts run',
    'passes on the status of its command; 125 says that ostree\\-ts itself failed, 126 that the command cannot be run,',
    '127 that there is none, 128+N that signal N killed it.',
    '.SH FILES',
    '.TP',
    '.I /run/ostree\\-ts, $XDG_RUNTIME_DIR/ostree\\-ts',
    'What there is of sessions, while there are any.',
    '.SH SEE ALSO',
    '.BR ostree (1),',
    '.BR ostree\\-admin\\-unlock (1)',
    '',
  ].join('\n');
}
