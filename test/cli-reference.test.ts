/** Completions in the real shells, and the manual page. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { PROGRAM } from './helpers/program.ts';

const PAGE = fileURLToPath(new URL('../man/ostree-ts.1', import.meta.url));

/** fish leaves something in /tmp otherwise. */
const RUNTIME = mkdtempSync(join(tmpdir(), 'completion-runtime-'));
test.after.always(() => rmSync(RUNTIME, { recursive: true }));

function output(program: string, args: string[], input = ''): string {
  const env = { ...process.env, XDG_RUNTIME_DIR: RUNTIME };
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8', input, env });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${status} ${stderr}`);
  return stdout;
}

const print = (form: string) => output(process.execPath, [PROGRAM, 'completion', form]);

function help(...args: string[]): string {
  return output(process.execPath, [PROGRAM, ...args, '--help']);
}

/** Commands of the help, and the long options of each. */
function everything(): Map<string, string[]> {
  const commands = [...help().matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name);
  const known = commands.filter((name) => name !== 'help' && name !== 'ostree');
  return new Map(
    known.map((command) => {
      const options = help(command).matchAll(/(?<=^ {2}(?:-., )?)--[a-z-]+/gm);
      return [command, [...options].map(([option]) => option)];
    }),
  );
}

const EVERYTHING = everything();

test('every command and option of the help is offered by every shell', (t) => {
  const all = EVERYTHING;
  t.true((all.get('unlock') ?? []).includes('--upper'));
  const folder = mkdtempSync(join(tmpdir(), 'completion-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'fish'), print('fish'));
  const names = [...all.keys()].join(' ');
  const shells: Record<string, string> = {
    bash: output('bash', [
      '--norc',
      '-c',
      `${print('bash')}
      ask() { COMP_WORDS=(ostree-ts "$@"); COMP_CWORD=$#; _ostree_ts; echo "\${COMPREPLY[@]}"; }
      ask ''; for each in ${names}; do echo "$each: $(ask $each --)"; done`,
    ]),
    zsh: output('zsh', [
      '-f',
      '-c',
      `autoload -U compinit; compinit -u -D; ${print('zsh')}
      _describe() { print -- \${\${(P)2}%%:*}; }
      words=(ostree-ts ''); CURRENT=2; _ostree_ts
      for each in ${names}; do words=(ostree-ts $each --); CURRENT=3; echo "$each: $(_ostree_ts)"; done`,
    ]),
    fish: output('fish', [
      '--no-config',
      '-c',
      `source ${folder}/fish; complete -C 'ostree-ts ' | cut -f1 | tr '\\n' ' '; echo
      for each in ${names}; echo "$each:" (complete -C "ostree-ts $each --" | cut -f1); end`,
    ]),
  };
  for (const [shell, said] of Object.entries(shells)) {
    const [first = '', ...lines] = said.replaceAll(/['"]/g, '').trim().split('\n');
    t.deepEqual(
      [...all.keys()].filter((command) => !first.split(/\s+/).includes(command)),
      [],
      shell,
    );
    for (const [command, options] of all) {
      const line = lines.find((one) => one.startsWith(`${command}:`)) ?? '';
      t.deepEqual(
        options.filter((option) => !line.split(/\s+/).includes(option)),
        [],
        `${shell}: ${command}`,
      );
    }
  }
});

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
  t.regex(output('zsh', ['-f', '-c', script]), /^--keep:for root: keep the changes/m);
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
  const all = EVERYTHING;
  t.true(all.has('run'));
  t.true(page.includes('EXIT STATUS'));
  for (const [command, options] of all) {
    t.true(source.includes(`.SS ostree-ts ${command} `), command);
    for (const option of options) {
      t.true(
        source.includes(`.B ${option}`) || source.includes(`, ${option}`),
        `${command} ${option}`,
      );
    }
  }
});

test('nothing is wrong with how the manual page is written', (t) => {
  const { stderr, status } = spawnSync('man', ['--warnings', '-l', '-Tutf8', PAGE], {
    encoding: 'utf8',
    env: { ...process.env, MANPAGER: 'cat' },
  });
  t.deepEqual([stderr, status], ['', 0]);
});
