/**
 * The folder that a directory upper is kept in; in a deployment the first two have names of OSTree:
 *
 *   upper/                   what the session has changed, in overlayfs format
 *   work/work                what is being made, or has lost its name; emptied at each start
 *   work/ostree-ts/links/    what is known of lower files with several links, by number: see overlayfs-links.ts
 *
 * Upper and work directory may also be given each, as to kernel overlayfs; they are then the caller's, and there already.
 */
import { constants } from 'node:fs';
import { check, FsError, UpperError } from '../errors.ts';
import type { ByteString, Native } from '../native.ts';
import { S_IFDIR } from './layer.ts';
import type { Name } from './layer.ts';
import { Inspection, openDirectory } from './overlayfs-inspect.ts';
import { HostNode } from './overlayfs-node.ts';

/** Names in the folder. */
export interface StoreNames {
  upper: Name;
  work: Name;
}

export const SESSION_NAMES: StoreNames = { upper: 'upper', work: 'work' };

const EEXIST = 17;
const ENOENT = 2;
const AT_REMOVEDIR = 0x200;
const RENAME_WHITEOUT = 4;
const DT_DIR = 4;
/** What says nothing of what a filesystem can do. */
const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);
/** What an upper is called until its root is complete, after its name. */
const NEW = '.new';
/** Of the directories that keep the upper apart from everybody else. */
const PRIVATE = 0o700;

export interface Store {
  root: HostNode;
  work: HostNode;
  links: HostNode;
  fds: Map<HostNode, number>;
  /** Paths from the root of what refers to the lowers, which has to be there. */
  references: readonly Name[];
  /** There was no upper: to be called when its root has been given the attributes of the lowers' root. */
  publish: (() => void) | undefined;
}

/**
 * @param storeFd  of the folder; with `workFd`, of the upper itself. Both are closed, or kept in `fds`.
 * @param prefix  of the names of extended attributes.
 * @throws UpperError, and nothing is open then but what was given.
 */
export function openStore(
  native: Native,
  storeFd: number,
  names: StoreNames,
  prefix: ByteString,
  workFd?: number,
): Store {
  const opened: number[] = [];
  try {
    return openFolder(native, { storeFd, names, prefix, workFd, opened });
  } catch (error) {
    for (const fd of opened) native.close(fd);
    if (!(error instanceof FsError) || error instanceof UpperError) throw error;
    throw new UpperError(error.code, error.message);
  }
}

interface Folder {
  storeFd: number;
  names: StoreNames;
  prefix: ByteString;
  workFd: number | undefined;
  /** What is opened. */
  opened: number[];
}

function openFolder(native: Native, { storeFd, names, prefix, workFd, opened }: Folder): Store {
  const open = (dir: number, name: Name): number => {
    const fd = check(native.openBeneath(dir, name, constants.O_DIRECTORY, 0), name);
    opened.push(fd);
    return fd;
  };
  const enter = (dir: number, name: Name): number => {
    const made = native.mkdirat(dir, name, PRIVATE);
    if (made !== -EEXIST) check(made, name);
    return open(dir, name);
  };
  const work = workFd ?? enter(storeFd, names.work);
  const inner = enter(work, 'work');
  const links = enter(enter(work, 'ostree-ts'), 'links');
  empty(native, inner);
  removeDefaultAcl(native, inner);
  probe(native, inner, prefix);
  const place = workFd === undefined ? names.upper : '.';
  const found = native.openBeneath(storeFd, place, constants.O_DIRECTORY, 0);
  if (found >= 0) opened.push(found);
  const inspection = new Inspection(native, names.upper, prefix);
  if (found !== -ENOENT) inspection.tree(check(found, names.upper));
  const upper = found >= 0 ? found : enter(storeFd, names.upper + NEW);
  const store: Store = {
    root: directory(),
    work: directory(),
    links: directory(),
    fds: new Map(),
    references: inspection.references,
    publish: undefined,
  };
  if (found < 0) {
    store.publish = () => {
      check(native.renameat2(storeFd, names.upper + NEW, storeFd, names.upper, 0));
      native.close(storeFd);
    };
  }
  store.fds.set(store.root, upper).set(store.work, inner).set(store.links, links);
  for (const fd of [storeFd, ...(workFd === undefined ? [] : [workFd]), ...opened]) {
    const isKept = [upper, inner, links].includes(fd) || (fd === storeFd && found < 0);
    if (!isKept) native.close(fd);
  }
  return store;
}

function directory(): HostNode {
  return new HostNode(0, S_IFDIR, -1, false);
}

/** Removes whatever is in a directory. */
function empty(native: Native, fd: number): void {
  const listing = native.listDirectory(fd);
  if (typeof listing === 'number') {
    check(listing);
    return;
  }
  for (const [i, name] of listing.names.entries()) {
    if (listing.types[i] !== DT_DIR) {
      check(native.unlinkat(fd, name, 0), name);
      continue;
    }
    const inner = openDirectory(native, fd, name, name);
    try {
      empty(native, inner);
    } finally {
      native.close(inner);
    }
    check(native.unlinkat(fd, name, AT_REMOVEDIR), name);
  }
}

/** What is made in the work directory must not inherit anything from it. */
function removeDefaultAcl(native: Native, fd: number): void {
  native.removexattr(fd, '.', 'system.posix_acl_default');
}

/** Tries what the format needs, as far as there is room. @throws FsError naming what the filesystem cannot do. */
function probe(native: Native, work: number, prefix: ByteString): void {
  const value = Uint8Array.of(1);
  try {
    check(
      native.setxattr(work, '.', `${prefix}probe`, value, 0),
      `its filesystem has no extended attributes of the kind ${prefix.split('.')[0]}`,
    );
    native.removexattr(work, '.', `${prefix}probe`);
    check(
      native.mknodat(work, '#probe', constants.S_IFCHR, 0, 0),
      'its filesystem has no 0:0 devices, which whiteouts are',
    );
    check(
      native.renameat2(work, '#probe', work, '#probed', RENAME_WHITEOUT),
      'its filesystem has no RENAME_WHITEOUT',
    );
  } catch (error) {
    // What is there already can be shown, and emptied.
    if (!(error instanceof FsError) || !FULL.has(error.code)) throw error;
  } finally {
    empty(native, work);
  }
}
