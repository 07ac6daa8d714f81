/** A tree, every kind of change to it, and what is to be said of that. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { file, symlink, type Tree } from './trees.ts';

/** Numbered lines. */
const lines = (from: number, to: number, prefix: string = 'line'): string =>
  Array.from({ length: to - from + 1 }, (_, i) => `${prefix} ${from + i}\n`).join('');

export const BASE: Tree = {
  'etc/app.conf': lines(1, 40, 'setting'),
  'etc/same': 'same\n',
  'etc/mode': '#!/bin/sh\n',
  'etc/owner': 'owner\n',
  'etc/attr': file('attr\n', { xattrs: { 'user.note': 'before', 'user.gone': 'x' } }),
  'etc/times': 'times\n',
  'etc/over-a': 'a\n',
  'etc/over-b': 'b\n',
  'etc/was-file': 'file\n',
  'etc/was-dir/inside/deep': 'deep\n',
  'etc/was-link': symlink('same'),
  'etc/link': symlink('same'),
  'etc/deleted': 'gone\n',
  'etc/no newline': 'last line has none',
  'usr/bin/tool': file('#!/bin/sh\nexit 0\n', { mode: 0o755 }),
  'usr/lib/edited': lines(1, 60),
  'usr/lib/binary': 'ELF\0one',
  'usr/share/doc/a': lines(1, 30, 'a'),
  'usr/share/doc/b': 'b\n',
  'usr/share/doc/c': 'c\n',
  'usr/share/doc/sub/d': 'd\n',
  'usr/share/gone/deep/x': lines(1, 5, 'x'),
  'usr/share/gone/y': 'y\n',
  'usr/share/old/\xc3\xa4 "quoted"': 'odd\n',
};

/** Changes of every kind. */
export function change(root: string): void {
  const at = (path: string) => join(root, path);
  writeFileSync(at('etc/app.conf'), lines(1, 19, 'setting') + 'new\n' + lines(21, 40, 'setting'));
  writeFileSync(at('etc/same'), 'same\n');
  chmodSync(at('etc/mode'), 0o755);
  chownSync(at('etc/owner'), 7, 8);
  execFileSync('setfattr', ['-n', 'user.note', '-v', 'after', at('etc/attr')]);
  execFileSync('setfattr', ['-x', 'user.gone', at('etc/attr')]);
  utimesSync(at('etc/times'), 5, 5);
  renameSync(at('etc/over-a'), at('etc/over-b'));
  rmSync(at('etc/was-file'));
  mkdirSync(at('etc/was-file'));
  writeFileSync(at('etc/was-file/inside'), 'new\n');
  rmSync(at('etc/was-dir'), { recursive: true });
  writeFileSync(at('etc/was-dir'), 'a file\n');
  rmSync(at('etc/was-link'));
  writeFileSync(at('etc/was-link'), 'a file\n');
  rmSync(at('etc/link'));
  symlinkSync('elsewhere', at('etc/link'));
  rmSync(at('etc/deleted'));
  appendFileSync(at('etc/no newline'), '\nand one more');
  writeFileSync(at('etc/empty'), '');
  renameSync(at('usr/bin/tool'), at('usr/bin/tool-2'));
  mkdirSync(at('usr/lib64'));
  renameSync(at('usr/lib/edited'), at('usr/lib64/edited'));
  appendFileSync(at('usr/lib64/edited'), 'appended\n');
  renameSync(at('usr/share/doc'), at('usr/share/docs'));
  appendFileSync(at('usr/share/docs/a'), 'more\n');
  rmSync(at('usr/share/docs/b'));
  writeFileSync(at('usr/share/docs/new'), 'new\n');
  renameSync(at('usr/share/docs/c'), at('usr/c-moved'));
  renameSync(at('usr/share/gone/deep/x'), at('usr/share/saved'));
  rmSync(at('usr/share/gone'), { recursive: true });
  renameSync(at('usr/share/old'), at('usr/share/newer'));
}

/** As `ostree diff` has it. */
export const CHANGES: readonly string[] = [
  'M /etc/app.conf',
  'M /etc/attr',
  'D /etc/deleted',
  'A /etc/empty',
  'M /etc/link',
  'M /etc/mode',
  'M /etc/no newline',
  'D /etc/over-a',
  'M /etc/over-b',
  'M /etc/owner',
  'M /etc/was-dir',
  'M /etc/was-file',
  'A /etc/was-file/inside',
  'M /etc/was-link',
  'D /usr/bin/tool',
  'A /usr/bin/tool-2',
  'A /usr/c-moved',
  'D /usr/lib/edited',
  'A /usr/lib64',
  'A /usr/lib64/edited',
  'D /usr/share/doc',
  'A /usr/share/docs',
  'A /usr/share/docs/a',
  'A /usr/share/docs/new',
  'A /usr/share/docs/sub',
  'A /usr/share/docs/sub/d',
  'D /usr/share/gone',
  'A /usr/share/newer',
  'A /usr/share/newer/\xc3\xa4 "quoted"',
  'D /usr/share/old',
  'A /usr/share/saved',
];

/** The same, with renames. */
export const RENAMED: readonly string[] = [
  ...CHANGES.slice(0, 14),
  'R /usr/bin/tool -> /usr/bin/tool-2',
  'R /usr/share/doc/c -> /usr/c-moved',
  'A /usr/lib64',
  'R /usr/lib/edited -> /usr/lib64/edited',
  'D /usr/share/doc/b',
  'R /usr/share/doc -> /usr/share/docs',
  'M /usr/share/docs/a',
  'A /usr/share/docs/new',
  'D /usr/share/gone',
  'R /usr/share/old -> /usr/share/newer',
  'R /usr/share/gone/deep/x -> /usr/share/saved',
];
