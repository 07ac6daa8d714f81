/** The user's shell, with a prompt that says that it is in a session. */
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** A command, what it wants in its environment, and files to be made first, by their paths. */
export interface Shell {
  command: string[];
  env: Record<string, string>;
}

const DEFAULT = '/bin/sh';

/** Where the files of a shell are in a root of its own. */
export const INNER_BASHRC = '/run/ostree-ts.bashrc';

/**
 * The shell of the environment.
 *
 * @param folder  Where its start-up files may be made; the session's.
 */
export function ownShell(folder: string, name: string): Shell {
  const shell = process.env['SHELL'] ?? DEFAULT;
  switch (basename(shell)) {
    case 'bash': {
      const path = join(folder, 'bashrc');
      writeFileSync(path, bashrc(name));
      return { command: [shell, '--rcfile', path, '-i'], env: {} };
    }
    case 'zsh':
      writeFileSync(join(folder, '.zshenv'), ZSHENV);
      writeFileSync(join(folder, '.zshrc'), zshrc(name));
      return {
        command: [shell, '-i'],
        env: { ZDOTDIR: folder, OSTREE_TS_ZDOTDIR: process.env['ZDOTDIR'] ?? '' },
      };
    case 'fish':
      return { command: [shell, '-i', '-C', fishPrompt(name)], env: {} };
    default:
      return { command: [shell, '-i'], env: { PS1: `${mark(name)}$ ` } };
  }
}

/** Of a root of its own nobody knows which shells it has. */
export function innerShell(name: string): Shell & { files: [string, string][] } {
  const script = `command -v bash >/dev/null && exec bash --rcfile ${INNER_BASHRC} -i; exec sh -i`;
  return {
    command: [DEFAULT, '-c', script],
    env: { PS1: `${mark(name)}# ` },
    files: [[INNER_BASHRC, bashrc(name)]],
  };
}

function mark(name: string): string {
  return `(unlocked: ${name}) `;
}

function bashrc(name: string): string {
  return `[ -f ~/.bashrc ] && . ~/.bashrc\nPS1="${mark(name)}\${PS1-\\$ }"\n`;
}

// zsh looks for all of its files where ZDOTDIR says, which is put back as soon as ours have been read.
const ZSHENV = `[ -f "\${OSTREE_TS_ZDOTDIR:-$HOME}/.zshenv" ] && . "\${OSTREE_TS_ZDOTDIR:-$HOME}/.zshenv"\n`;

function zshrc(name: string): string {
  return `if [ -n "$OSTREE_TS_ZDOTDIR" ]; then ZDOTDIR=$OSTREE_TS_ZDOTDIR; else unset ZDOTDIR; fi
unset OSTREE_TS_ZDOTDIR
[ -f "\${ZDOTDIR:-$HOME}/.zshrc" ] && . "\${ZDOTDIR:-$HOME}/.zshrc"
PROMPT="${mark(name)}$PROMPT"
`;
}

function fishPrompt(name: string): string {
  return `functions -q fish_prompt; and functions -c fish_prompt ostree_ts_prompt
function fish_prompt; echo -n '${mark(name)}'; functions -q ostree_ts_prompt; and ostree_ts_prompt; or echo -n '> '; end`;
}
