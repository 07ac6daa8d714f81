/** Patches beside those of the real `git diff`. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { patch, type Version } from '../src/patch/patch.ts';
import { Random } from './helpers/random.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);

/** A file as it is to be; a string is its content. */
interface Given {
  data: string;
  mode?: number;
}
type Side = string | Given | undefined;
/** By name: before and after. */
type Cases = Record<string, [before: Side, after: Side]>;

function versionOf(path: string, side: Side): Version | undefined {
  if (side === undefined) return undefined;
  const { data: text, mode = 0o100644 } = typeof side === 'string' ? { data: side } : side;
  const data = Buffer.from(text, 'latin1');
  const hash = createHash('sha1').update(`blob ${data.length}\0`).update(data);
  return { path, mode, id: hash.digest('hex'), data };
}

function write(at: Buffer, side: Side): void {
  if (side === undefined) return;
  const { data, mode = 0o100644 } = typeof side === 'string' ? { data: side } : side;
  if ((mode & 0o170000) === 0o120000) symlinkSync(Buffer.from(data, 'latin1'), at);
  else {
    writeFileSync(at, Buffer.from(data, 'latin1'));
    chmodSync(at, mode & 0o7777);
  }
}

/** What git says of each of the files, by name. */
function gitDiff(cases: Cases): Map<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'patch-'));
  try {
    for (const side of ['a', 'b']) mkdirSync(join(folder, side));
    for (const [name, [before, after]] of Object.entries(cases)) {
      write(Buffer.from(join(folder, 'a', name), 'latin1'), before);
      write(Buffer.from(join(folder, 'b', name), 'latin1'), after);
    }
    const args = ['diff', '--no-index', '--no-renames', '--no-prefix', 'a', 'b'];
    const { stdout } = spawnSync('git', args, {
      cwd: folder,
      encoding: 'latin1',
      env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' },
      maxBuffer: 1 << 28,
    });
    const found = new Map<string, string>();
    for (const part of stdout.split(/^(?=diff --git )/m)) {
      // Where there is only one side, git calls both by its name.
      const [, name = ''] = /^diff --git "?[ab]\/(.*?)"? "?[ab]\//.exec(part) ?? [];
      const header = part.replace(
        /^diff --git ("?)[ab]\/(.*) ("?)[ab]\//,
        'diff --git $1a/$2 $3b/',
      );
      found.set(name, (found.get(name) ?? '') + header);
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function ours(name: string, [before, after]: [Side, Side]): string {
  return [...patch(versionOf(name, before), versionOf(name, after))].join('');
}

/** Lines of a file. */
const of = (...lines: string[]) => lines.map((line) => `${line}\n`).join('');
const count = (from: number, to: number) =>
  of(...Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}`));
const link = (target: string): Given => ({ data: target, mode: 0o120777 });

const CASES: Cases = {
  same: ['x\n', 'x\n'],
  'one line': ['a\n', 'b\n'],
  'with space': [count(1, 30), count(1, 14) + 'changed\n' + count(16, 30)],
  added: [undefined, 'new\nfile\n'],
  'added and empty': [undefined, ''],
  'added without a newline': [undefined, 'new'],
  deleted: ['old\nfile\n', undefined],
  'deleted and empty': ['', undefined],
  emptied: ['a\nb\n', ''],
  filled: ['', 'a\nb\n'],
  'newline lost': ['a\nb\n', 'a\nb'],
  'newline gained': ['a\nb', 'a\nb\n'],
  'newline never': ['a\nb', 'c\nb'],
  'newline never, changed': ['a\nb', 'a\nc'],
  binary: ['a\0b', 'a\0c'],
  'became binary': ['text\n', 'bin\0ary\n'],
  'binary and new': [undefined, '\0'],
  'binary and gone': ['\0', undefined],
  'NUL in the last byte looked at': ['x'.repeat(7999) + '\0', 'y'],
  'NUL behind what is looked at': ['x'.repeat(8000) + '\0\n', 'y\n'],
  mode: ['#!\n', { data: '#!\n', mode: 0o100755 }],
  'mode and content': [{ data: '#!\n', mode: 0o100755 }, 'x\n'],
  'mode that git does not know': ['x\n', { data: 'x\n', mode: 0o100600 }],
  link: [link('there'), link('elsewhere')],
  'link added': [undefined, link('there')],
  'link gone': [link('there'), undefined],
  'file to link': ['x\n', link('there')],
  'link to file': [link('there'), { data: 'x\n', mode: 0o100755 }],
  'two hunks': [count(1, 40), 'zero\n' + count(1, 39)],
  'gap of six': [count(1, 20), count(1, 4) + 'x\n' + count(6, 11) + 'y\n' + count(13, 20)],
  'gap of seven': [count(1, 20), count(1, 4) + 'x\n' + count(6, 12) + 'y\n' + count(14, 20)],
  heading: [
    `int main(void)   \n{\n${'\tbody;\n'.repeat(9)}}\n`,
    `int main(void)   \n{\n${'\tbody;\n'.repeat(9)}\tmore;\n}\n`,
  ],
  'long heading': [
    `${'word '.repeat(40)}\n${' 1\n'.repeat(9)}`,
    `${'word '.repeat(40)}\n${' 1\n'.repeat(9)} 2\n`,
  ],
  'stanza appended': [
    of('[one]', 'a = 1', '', '[two]', 'a = 1', ''),
    of('[one]', 'a = 1', '', '[two]', 'a = 1', '', '[three]', 'a = 1', ''),
  ],
  'function added': [
    of('def a():', '    x()', '    return 1', '', 'def c():', '    x()', '    return 1', ''),
    of(
      'def a():',
      '    x()',
      '    return 1',
      '',
      'def b():',
      '    y()',
      '    return 1',
      '',
      'def c():',
      '    x()',
      '    return 1',
      '',
    ),
  ],
  'block removed': [
    of('if a', '  b', 'end', '', 'if c', '  d', 'end', '', 'last'),
    of('if a', '  b', 'end', '', 'last'),
  ],
  'caf\u00c3\u00a9 "quoted" \\ \t\u0001': ['a\n', 'b\n'],
  'carriage returns': ['a\r\nb\r\n', 'a\nb\r\n'],
  'lone \u00ff': ['\u00ff\n', '\u00fe\n'],
};

test('every kind of file is told as git tells it', (t) => {
  const theirs = gitDiff(CASES);
  for (const [name, pair] of Object.entries(CASES)) {
    const [, quoted = name] = /^diff --git "?a\/(.*?)"? "?b\//.exec(ours(name, pair)) ?? [];
    t.is(ours(name, pair), theirs.get(quoted) ?? '', name);
  }
});

/** Texts in which lines come again, edited here and there. */
function randomCases(seed: number, size: number): Cases {
  const generator = new Random(seed);
  const random = (below: number) => generator.below(below);
  const words = ['', '}', '{', '  }', '    return;', 'if (x)', '  call();', '\tx', '# note', 'end'];
  const line = () =>
    random(3) === 0 ? `unique ${random(1000)}` : (words[random(words.length)] ?? '');
  const cases: Cases = {};
  for (let i = 0; i < size; i++) {
    const before = Array.from({ length: random(60) }, line);
    const after = [...before];
    for (let left = random(5); left > 0; left--) {
      const at = random(after.length + 1);
      const added = Array.from({ length: random(4) }, line);
      // A copy of what is near is what leaves a choice.
      if (random(2) === 0) added.push(...after.slice(at, at + random(6)));
      after.splice(at, random(3), ...added);
    }
    const [a, b] = [before, after].map((lines) => lines.join('\n') + (random(5) === 0 ? '' : '\n'));
    cases[`case ${i}`] = [a, b];
  }
  return cases;
}

/** Lines removed and added. */
function edits(text: string): number {
  return (
    text
      .split(/^(?=@@ )/m)
      .slice(1)
      .join('')
      .match(/^[-+]/gm)?.length ?? 0
  );
}

test('edits of repetitive texts are told as git tells them, and git applies them', (t) => {
  const seed = 20_261;
  const cases = randomCases(seed, 400 * SCALE);
  const theirs = gitDiff(cases);
  let equal = 0;
  for (const [name, pair] of Object.entries(cases)) {
    const our = ours(name, pair);
    const their = theirs.get(name) ?? '';
    if (our === their) equal++;
    // Of several shortest ways git may take another.
    else t.true(edits(our) <= edits(their), `${name}\n${our}\n${their}`);
  }
  t.log(`seed ${seed}: ${equal} of ${Object.keys(cases).length} are equal`);
  t.true(equal >= 0.95 * Object.keys(cases).length);
  const applied = mkdtempSync(join(tmpdir(), 'apply-'));
  t.teardown(() => rmSync(applied, { recursive: true }));
  for (const [name, [before]] of Object.entries(cases))
    write(Buffer.from(join(applied, name)), before);
  const input = Object.entries(cases)
    .map(([name, pair]) => ours(name, pair))
    .join('');
  const { status, stderr } = spawnSync('git', ['apply', '-'], {
    cwd: applied,
    input,
    encoding: 'utf8',
  });
  t.is(status, 0, stderr);
  for (const [name, [, after]] of Object.entries(cases)) {
    t.is(readFileSync(join(applied, name), 'latin1'), after as string, name);
  }
});

test('texts that have next to nothing in common are told in bounded time', (t) => {
  const random = new Random(7);
  const text = () => of(...Array.from({ length: 60_000 }, () => `${random.below(3000)}`));
  const started = performance.now();
  const told = ours('x', [text(), text()]);
  t.true(told.startsWith('diff --git'));
  t.log(`${Math.round(performance.now() - started)} ms`);
  t.true(performance.now() - started < 20_000);
});
