/**
 * The folder that a directory upper is kept in; in a deployment the first two have names of OSTree:
 *
 *   upper/                   what the session has changed, in overlayfs format
 *   work/work/               what is being made, or has lost its name; emptied at each start
 *   work/ostree-ts/links/    what is known of lower files with several links, by number: see overlayfs-links.ts
 *
 * Upper and work directory may also be given each, as to kernel overlayfs; they are then the caller's, and there already.
 */
import { constants } from 'node:fs';
import { check, FsError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import type { ByteString, Native } from '../native.ts';
import { S_IFDIR } from './layer.ts';
import type { Name } from './layer.ts';
import { wrongRedirect } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';

/** Names in the folder. */
export interface StoreNames {
  upper: Name;
  work: Name;
}

export const SESSION_NAMES: StoreNames = { upper: 'upper', work: 'work' };

const EACCES = 13;
const EEXIST = 17;
const ENOENT = 2;
const ENODATA = 61;
const AT_REMOVEDIR = 0x200;
const RENAME_WHITEOUT = 4;
const DT_DIR = 4;
/** What an upper is called until its root is complete, after its name. */
const NEW = '.new';
/** Of the directories that keep the upper apart from everybody else. */
const PRIVATE = 0o700;

export interface Store {
  root: HostNode;
  work: HostNode;
  links: HostNode;
  fds: Map<HostNode, number>;
  /** There was no upper: to be called when its root has been given the attributes of the lowers' root. */
  publish: (() => void) | undefined;
}

/**
 * @param storeFd  of the folder; with `workFd`, of the upper itself. Both are closed, or kept in `fds`.
 * @param prefix  of the names of extended attributes.
 * @throws FsError with a detail that says what is wrong.
 */
export function openStore(
  native: Native,
  storeFd: number,
  names: StoreNames,
  prefix: ByteString,
  workFd?: number,
): Store {
  const opened: number[] = workFd === undefined ? [storeFd] : [storeFd, workFd];
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
  if (found !== -ENOENT) inspect(native, check(found, names.upper), names.upper, prefix);
  const upper = found >= 0 ? found : enter(storeFd, names.upper + NEW);
  const store: Store = {
    root: directory(),
    work: directory(),
    links: directory(),
    fds: new Map(),
    publish: undefined,
  };
  if (found < 0) {
    store.publish = () => {
      check(native.renameat2(storeFd, names.upper + NEW, storeFd, names.upper, 0));
      native.close(storeFd);
    };
  }
  store.fds.set(store.root, upper).set(store.work, inner).set(store.links, links);
  for (const fd of opened) {
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

/** Tries what the format needs. @throws FsError naming what the filesystem cannot do. */
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
  } finally {
    empty(native, work);
  }
}

/** Looks at every directory for what nobody could follow. @throws FsError naming it. */
function inspect(native: Native, fd: number, path: Name, prefix: ByteString): void {
  const listing = native.listDirectory(fd);
  if (typeof listing === 'number') {
    check(listing, path);
    return;
  }
  const opaque = mark(native, fd, path, `${prefix}opaque`);
  if (opaque !== undefined && opaque !== 'y' && opaque !== 'x' && opaque !== 'n') {
    throw new FsError('EIO', `${path}: ${prefix}opaque is '${opaque}'`);
  }
  const redirect = mark(native, fd, path, `${prefix}redirect`);
  const why = redirect === undefined ? undefined : wrongRedirect(redirect);
  if (why !== undefined) throw new FsError('EIO', `${path}: ${why}`);
  for (const [i, name] of listing.names.entries()) {
    if (listing.types[i] !== DT_DIR) continue;
    const inner = openDirectory(native, fd, name, `${path}/${name}`);
    try {
      inspect(native, inner, `${path}/${name}`, prefix);
    } finally {
      native.close(inner);
    }
  }
}

/** Opens a directory, also one that its owner, who we may be, has made unreadable. */
function openDirectory(native: Native, fd: number, name: Name, path: Name): number {
  const open = () => native.openBeneath(fd, name, constants.O_DIRECTORY, 0);
  const opened = open();
  if (opened !== -EACCES) return check(opened, path);
  const stat = new Float64Array(STAT_FIELDS);
  check(native.statx(fd, name, 0, stat), path);
  const mode = (stat[STAT.MODE] ?? 0) & 0o7777;
  check(native.fchmodat(fd, name, mode | PRIVATE), path);
  const again = open();
  check(native.fchmodat(fd, name, mode), path);
  return check(again, path);
}

function mark(native: Native, fd: number, path: Name, name: ByteString): string | undefined {
  const value = native.getxattr(fd, '.', name);
  if (typeof value !== 'number') return Buffer.from(value).toString('latin1');
  if (value !== -ENODATA) check(value, path);
  return undefined;
}
