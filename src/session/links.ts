/**
 * What hard links in a source are, when nobody says: links, or one object of a repository that several names share to
 * save space. Taking the one for the other is either a copy too many or a change that shows up in strange places.
 */
import { constants, existsSync } from 'node:fs';
import { SessionError } from '../errors.ts';
import { type ByteString, native, STAT, STAT_FIELDS } from '../native.ts';
import { isSysroot, Sysroot } from '../ostree/sysroot.ts';

/** A deployment's folder, in ostree/deploy/OS/deploy: CSUM.SERIAL. */
const DEPLOYMENT = /^(.*\/ostree\/deploy\/[^/]+\/deploy\/[0-9a-f]{64}\.\d+)(?:\/|$)/;

const DT_DIR = 4;
const DT_REG = 8;

/** Where the booted deployment is seen. */
const USR = /^\/usr(?:\/|$)/;

/** Entries looked at, and files that may be none of a repository's; a checkout has its links everywhere. */
const LOOKED_AT_MAX = 2000;
const OTHERS_MAX = 200;

/**
 * How the hard links of these directories are to be taken: `separate` inside a deployment, `shared` elsewhere.
 *
 * @throws SessionError when the files of a plain directory look like a repository's objects.
 */
export function linksOf(sources: readonly ByteString[]): 'shared' | 'separate' {
  if (sources.some(isInDeployment)) return 'separate';
  const suspect = sources.find(holdsObjects);
  if (suspect === undefined) return 'shared';
  throw new SessionError(
    `the files of ${display(suspect)} look like objects of an OSTree repository, which names share to save space`,
    'say --links=separate to make every name a file of its own, or --links=shared to change all names at once',
  );
}

function isInDeployment(source: ByteString): boolean {
  const [, deployment] = DEPLOYMENT.exec(source) ?? [];
  if (deployment === undefined) return USR.test(source) && isBooted();
  return existsSync(Buffer.from(`${deployment}.origin`, 'latin1'));
}

function isBooted(): boolean {
  return isSysroot('/') && new Sysroot('/').booted() !== undefined;
}

/** Whether a file has several links and the modification time that OSTree gives to objects: 0. */
function holdsObjects(source: ByteString): boolean {
  const folders = [source];
  let left = LOOKED_AT_MAX;
  let others = OTHERS_MAX;
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const files = filesIn(folder, Math.min(left, others), folders);
    // Folders count as well: a tree may have no files at all.
    left -= files.length + 1;
    for (const file of files) {
      if (file.links > 1 && file.mtimeSec === 0) return true;
      // Checkouts make no links of empty files.
      if (file.size > 0) others--;
    }
    if (left <= 0 || others <= 0) return false;
  }
  return false;
}

/**
 * Looks at no more than `limit` files of a directory, and adds what directories it has to `folders`. Nothing of one that cannot be
 * read: programs will meet it themselves.
 */
function filesIn(
  folder: ByteString,
  limit: number,
  folders: ByteString[],
): { links: number; mtimeSec: number; size: number }[] {
  const fd = native.open(folder, constants.O_RDONLY | constants.O_DIRECTORY, 0);
  if (fd < 0) return [];
  try {
    const listing = native.listDirectory(fd);
    if (typeof listing === 'number') return [];
    const { names, types } = listing;
    for (const [index, name] of names.entries()) {
      if (types[index] === DT_DIR) folders.push(`${folder}/${name}`);
    }
    const files = names.filter((_, index) => types[index] === DT_REG).slice(0, limit);
    const stats = new Float64Array(files.length * STAT_FIELDS);
    native.statMany(fd, files, 0, files.length, stats);
    return files.map((_, index) => {
      const field = (which: number) => stats[index * STAT_FIELDS + which] ?? 0;
      return { links: field(STAT.NLINK), mtimeSec: field(STAT.MTIME_SEC), size: field(STAT.SIZE) };
    });
  } finally {
    native.close(fd);
  }
}

function display(path: ByteString): string {
  return Buffer.from(path, 'latin1').toString();
}
