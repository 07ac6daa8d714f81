/** Completions in the real shells, and the manual page. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const MAIN = fileURLToPath(new URL('../bundle/cli/main.js', import.meta.url));
const PAGE = fileURLToPath(new URL('../man/ostree-ts.1', import.meta.url));

function output(program: string, args: string[], input = ''): string {
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8', input });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${status} ${stderr}`);
  return stdout;
}

const print = (form: string) => output(process.execPath, [MAIN, 'completion', form]);

function help(...args: string[]): string {
  return output(process.execPath, [MAIN, ...args, '--help']);
}

test('bash completes commands and options', (t) => {
  const script = `${print('bash')}
    ask() { COMP_WORDS=(ostree-ts "$@"); COMP_CWORD=$#; _ostree_ts; echo "\${COMPREPLY[@]}"; }
    ask un; ask run --pro; ask run x`;
  t.is(output('bash', ['--norc', '-c', script]), 'unlock undo\n--protect-etc-var\n\n');
});

test('zsh takes its completions', (t) => {
  const script = `autoload -U compinit; compinit -u -D; ${print('zsh')}
    _describe() { print -l -- \${(P)2} | sort; }
    words=(ostree-ts run --k); CURRENT=3; _ostree_ts`;
  t.regex(output('zsh', ['-f', '-c', script]), /^--keep:keep the changes/m);
});

test('fish completes commands and options', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'completion-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'script'), print('fish'));
  const ask = (line: string) =>
    output('fish', ['--no-config', '-c', `source ${folder}/script; complete -C '${line}'`]);
  t.regex(ask('ostree-ts unl'), /^unlock\t/m);
  t.regex(ask('ostree-ts run --kee'), /^--keep\t/m);
});

test('the manual page has every command and option of the help', (t) => {
  // Bold letters are printed over themselves.
  const page = output('man', ['-l', '-Tutf8', PAGE]).replaceAll(
    new RegExp(String.raw`.\x08`, 'g'),
    '',
  );
  const source = readFileSync(PAGE, 'utf8').replaceAll('\\-', '-');
  const commands = [...help().matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name);
  t.true(commands.includes('run'));
  t.true(page.includes('EXIT STATUS'));
  for (const command of commands.filter((name) => name !== 'help' && name !== 'ostree')) {
    t.true(source.includes(`.SS ostree-ts ${command} `), command);
    for (const [option] of help(command).matchAll(/(?<=^ {2}(?:-., )?)--[a-z-]+/gm)) {
      t.true(
        source.includes(`.B ${option}`) || source.includes(`, ${option}`),
        `${command} ${option}`,
      );
    }
  }
});
