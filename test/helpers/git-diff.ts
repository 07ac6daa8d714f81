/** What git says of two directories. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

/** What git says of two directories, file by file, as if it had been called in each. @param folder  where copies of them may be made. */
export function gitDiff(
  folder: string,
  before: string,
  after: string,
  ...options: string[]
): string[] {
  const { stdout, stderr } = spawnSync(
    'git',
    ['diff', '--no-index', ...options, 'before', 'after'],
    {
      // The mount is bound to a place of its own, since a link would be compared as a link.
      cwd: beside(folder, before, after),
      encoding: 'latin1',
      env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' },
      maxBuffer: 1 << 28,
    },
  );
  if (stderr !== '') throw new Error(stderr);
  return partsOf(
    stdout.replaceAll(/^(?:diff --git|--- |\+\+\+ |rename |Binary files ).*$/gm, (line) =>
      line.replaceAll(/(?<=[ "]|[ab]\/)(?:before|after)\//g, ''),
    ),
  );
}

/** A new folder with copies of both. */
function beside(folder: string, before: string, after: string): string {
  const place = mkdtempSync(join(folder, 'git-'));
  execFileSync('cp', ['-a', before, join(place, 'before')]);
  execFileSync('cp', ['-a', after, join(place, 'after')]);
  return place;
}

/** The parts of a patch, one for each file, in any order. */
export function partsOf(patch: string): string[] {
  return patch
    .split(/^(?=diff --git )/m)
    .filter((part) => part !== '')
    .sort();
}

/** Names, types, contents and whether files can be executed, as far as git knows of them. */
export function described(root: string): string {
  const found = execFileSync('find', [root, '!', '-type', 'd', '-printf', '%P %y %l %m\n'], {
    encoding: 'latin1',
  });
  const sums = execFileSync('sh', ['-c', 'cd "$0" && find . -type f -exec sha256sum {} +', root], {
    encoding: 'latin1',
  });
  const modes = found.replaceAll(/ ([0-7]+)$/gm, (_, mode: string) =>
    (Number.parseInt(mode, 8) & 0o100) === 0 ? '' : ' x',
  );
  return [...modes.split('\n').sort(), ...sums.split('\n').sort()].join('\n');
}
