/**
 * What hard links in a source are, when nobody says: links, or one object of a repository that several names share to
 * save space. Taking the one for the other is either a copy too many or a change that shows up in strange places.
 */
import { lstatSync, readdirSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { isSysroot, Sysroot } from '../ostree/sysroot.ts';

/** A deployment's folder, in ostree/deploy/OS/deploy: CSUM.SERIAL. */
const DEPLOYMENT = /^(.*\/ostree\/deploy\/[^/]+\/deploy\/[0-9a-f]{64}\.\d+)(?:\/|$)/;

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
  return statOf(`${deployment}.origin`)?.isFile() === true;
}

function isBooted(): boolean {
  return isSysroot('/') && new Sysroot('/').booted() !== undefined;
}

/** Whether a file has several links and the modification time that OSTree gives to objects: 0. */
function holdsObjects(source: ByteString): boolean {
  const folders = [source];
  let left = LOOKED_AT_MAX;
  let others = OTHERS_MAX;
  for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
    for (const name of namesIn(folder)) {
      if (left-- <= 0 || others <= 0) return false;
      const path = `${folder}/${name}`;
      const stat = statOf(path);
      if (stat?.isDirectory() === true) folders.push(path);
      if (stat?.isFile() !== true) continue;
      if (stat.nlink > 1 && stat.mtimeMs === 0) return true;
      // Checkouts make no links of empty files.
      if (stat.size > 0) others--;
    }
  }
  return false;
}

function statOf(path: ByteString): Stats | undefined {
  try {
    return lstatSync(bytes(path), { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** Nothing for a directory that cannot be read: programs will meet it themselves. */
function namesIn(folder: ByteString): ByteString[] {
  try {
    return readdirSync(bytes(folder), 'latin1');
  } catch {
    return [];
  }
}

function bytes(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1');
}

function display(path: ByteString): string {
  return bytes(path).toString();
}
