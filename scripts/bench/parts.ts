/** What the work is done on, by parts: those that nobody asks for are not made. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Scale } from './inputs.ts';
import { run, WORK_ENV } from './process.ts';

/**
 * In the lower tree/, small/, flat-N/, big, small.tar with small.deb, repo/, npm/; beside it the C files, and small/ on the
 * disk.
 */
export type Part =
  'disk' | 'tree' | 'small' | 'flat' | 'big' | 'archives' | 'repo' | 'npm' | 'sources';

export interface Making {
  readonly scale: Scale;
  /** A folder for what is not kept. */
  readonly folder: string;
  readonly lower: string;
  readonly disk: string;
  readonly sources: string;
  /** Runs `work`. */
  readonly grow: (...words: (string | number)[]) => Promise<string>;
}

interface Recipe {
  readonly part: Part;
  /** What it is made from. */
  readonly from?: Part;
  make(making: Making): Promise<unknown> | void;
}

/** Each after what it is made from. */
const RECIPES: readonly Recipe[] = [
  {
    part: 'disk',
    async make({ grow, disk, scale }) {
      mkdirSync(disk, { recursive: true });
      await grow('grow-small', join(disk, 'small'), scale.smallDirs, scale.smallFiles);
    },
  },
  {
    part: 'tree',
    make: ({ grow, lower, scale }) =>
      grow('grow-tree', join(lower, 'tree'), scale.treeWidth, scale.treeFiles),
  },
  {
    part: 'small',
    make: ({ grow, lower, scale }) =>
      grow('grow-small', join(lower, 'small'), scale.smallDirs, scale.smallFiles),
  },
  {
    part: 'flat',
    async make({ grow, lower, scale }) {
      for (let i = 0; i < scale.flatFolders; i++) {
        await grow('grow-flat', join(lower, `flat-${i}`), scale.flatFiles);
      }
    },
  },
  {
    part: 'big',
    make: ({ grow, lower, scale }) => grow('grow-big', join(lower, 'big'), scale.bigBytes),
  },
  { part: 'archives', from: 'small', make: makeArchives },
  { part: 'repo', from: 'small', make: makeRepository },
  { part: 'npm', make: makeProject },
  { part: 'sources', make: makeSources },
];

/** Makes these parts, and what they are made from. */
export async function makeParts(parts: readonly Part[], making: Making): Promise<void> {
  const wanted = new Set(parts);
  for (const { part, from } of RECIPES)
    if (from !== undefined && wanted.has(part)) wanted.add(from);
  for (const recipe of RECIPES) if (wanted.has(recipe.part)) await recipe.make(making);
}

/** A tar of the small files, and a package of some of them. */
async function makeArchives({ folder, lower, scale, grow }: Making): Promise<void> {
  await run('tar', ['cf', join(lower, 'small.tar'), '-C', lower, 'small']);
  const content = join(folder, 'package');
  mkdirSync(join(content, 'DEBIAN'), { recursive: true });
  mkdirSync(join(content, 'usr/share'), { recursive: true });
  await grow('grow-small', join(content, 'usr/share/bench'), scale.packageFiles / 100, 100);
  writeFileSync(
    join(content, 'DEBIAN/control'),
    'Package: bench\nVersion: 1\nArchitecture: all\nMaintainer: bench <bench@localhost>\nDescription: many small files\n',
  );
  await run('dpkg-deb', ['--build', '-Zgzip', '-z1', content, join(lower, 'small.deb')]);
  await run('rm', ['-r', content]);
}

async function makeRepository({ lower }: Making): Promise<void> {
  const repo = join(lower, 'repo');
  await run('cp', ['-r', join(lower, 'small'), repo]);
  const git = (...words: string[]) => run('git', words, { cwd: repo, env: WORK_ENV });
  await git('init', '-q', '-b', 'main');
  await git('-c', 'core.looseCompression=0', 'add', '.');
  await git('commit', '-q', '-m', 'everything');
  await git('-c', 'pack.window=0', '-c', 'pack.compression=1', 'repack', '-adq');
  // Files that are as old as the index are read again each time.
  await git('update-index', '--refresh');
}

/** Files of each package for npm, beside its package.json. */
export const NPM_FILES = 25;

export function npmPackages({ packageFiles }: Scale): number {
  return packageFiles / NPM_FILES;
}

/**
 * npm/: a project of packages that were never published, and a cache that has them all. npm looks for contents by their
 * checksum, so it does not ask where they came from.
 */
async function makeProject({ folder, lower, scale, grow }: Making): Promise<void> {
  const trees = join(folder, 'packages');
  const project = join(lower, 'npm');
  mkdirSync(project);
  const count = npmPackages(scale);
  await grow('grow-small', trees, count, NPM_FILES);
  const version = '1.0.0';
  const packages: Record<string, object> = {};
  const dependencies: Record<string, string> = {};
  const archives: string[] = [];
  for (let i = 0; i < count; i++) {
    const name = `d${String(i).padStart(3, '0')}`;
    const archive = join(trees, `${name}.tgz`);
    writeFileSync(join(trees, name, 'package.json'), JSON.stringify({ name, version }));
    await run('tar', ['czf', archive, '-C', trees, `--transform=s,^${name},package,`, name]);
    const digest = createHash('sha512').update(readFileSync(archive)).digest('base64');
    const resolved = `https://registry.npmjs.org/${name}/-/${name}-${version}.tgz`;
    packages[`node_modules/${name}`] = { version, resolved, integrity: `sha512-${digest}` };
    dependencies[name] = version;
    archives.push(archive);
  }
  const root = { name: 'bench', version, dependencies };
  const lock = { ...root, lockfileVersion: 3, packages: { '': root, ...packages } };
  writeFileSync(join(project, 'package.json'), JSON.stringify(root));
  writeFileSync(join(project, 'package-lock.json'), JSON.stringify(lock));
  const words = ['cache', 'add', ...archives, ...npmOptions(join(project, 'cache'))];
  await run('npm', words, { env: WORK_ENV });
  await run('rm', ['-r', trees]);
}

/** How npm is told to use nothing but this cache, to write nothing about itself, and to have no settings. */
export function npmOptions(cache: string): string[] {
  const said = ['--offline', '--no-update-notifier', '--logs-max=0', '--loglevel=error'];
  return [...said, `--cache=${cache}`, `--globalconfig=${WORK_ENV['HOME']}/npmrc`];
}

/** C files that include what most do, and have something to optimise. */
function makeSources({ sources, scale }: Making): void {
  mkdirSync(sources);
  for (let unit = 0; unit < scale.units; unit++) {
    const functions = Array.from(
      { length: 12 },
      (_, i) => `
static int step_${i}(const char *text, double *sums, size_t count) {
  int total = ${unit + i};
  for (size_t at = 0; at < count; at++) {
    sums[at % 8] += sqrt((double)text[at]) * ${i + 1};
    total = total * 31 + (isalpha((unsigned char)text[at]) ? tolower(text[at]) : ${i});
  }
  return total + (int)strlen(text);
}`,
    );
    const calls = functions.map((_, i) => `  total += step_${i}(text, sums, count);`);
    const headers = ['ctype', 'errno', 'fcntl', 'math', 'pthread', 'signal', 'stdio', 'stdlib'];
    const includes = [...headers, 'string', 'sys/socket', 'sys/stat', 'time', 'unistd'];
    writeFileSync(
      join(sources, `unit-${unit}.c`),
      `${includes.map((name) => `#include <${name}.h>\n`).join('')}${functions.join('\n')}

int unit_${unit}(const char *text, double *sums, size_t count) {
  int total = 0;
${calls.join('\n')}
  return total;
}
`,
    );
  }
}
