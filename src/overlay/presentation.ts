/**
 * A filesystem that is shown otherwise than it is kept, as fuse-overlayfs can: owners under other numbers or all the same,
 * link counts of directories that are no counts, no ACLs. Owners and modes in an attribute are `override-stat.ts`.
 */
import { FsError } from '../errors.ts';
import { S_IFDIR, S_IFMT } from '../layers/layer.ts';
import type { Attr, Name } from '../layers/layer.ts';
import { ACL_ACCESS, ACL_DEFAULT, encodeAcl, mapAcl, parseAcl } from './acl.ts';
import { Delegate } from './delegate.ts';
import { FATTR_GID, FATTR_UID } from './filesystem.ts';
import type { Caller, Entry, Filesystem, SetAttr } from './filesystem.ts';
import { OverrideStat } from './override-stat.ts';

/** `count` ids from `stored` on, as they are in the layers, are shown as those from `shown` on. */
export interface IdRange {
  stored: number;
  shown: number;
  count: number;
}

export interface Presentation {
  /** Ids that are in no range are shown as 65534, and refused when a file is to get them. Default: as they are. */
  uids?: readonly IdRange[];
  gids?: readonly IdRange[];
  /** Every file belongs to this user or group, and cannot be given away. Goes before `uids` and `gids`. */
  squashUid?: number;
  squashGid?: number;
  /** Directories are shown with one link. */
  hasStaticNlink?: boolean;
  /** There are no ACLs, to be seen or to be set. Default: true. */
  hasAcl?: boolean;
  /** Owner and mode are kept in this extended attribute. */
  overrideXattr?: Name;
}

/** As the kernel shows ids that a namespace has no number for. */
const OVERFLOW_ID = 65534;

/** The filesystem as it is to be shown. */
export function present(inner: Filesystem, presentation: Presentation): Filesystem {
  const { overrideXattr } = presentation;
  const kept = overrideXattr === undefined ? inner : new OverrideStat(inner, overrideXattr);
  return new Presented(kept, presentation);
}

class Presented extends Delegate {
  readonly #uids: Ids;
  readonly #gids: Ids;
  readonly #hasStaticNlink: boolean;
  readonly #hasAcl: boolean;
  /** Reused. */
  readonly #caller: Caller = { uid: 0, gid: 0, pid: 0 };

  constructor(inner: Filesystem, presentation: Presentation) {
    super(inner);
    const { uids, gids, squashUid, squashGid } = presentation;
    this.#uids = new Ids(uids, squashUid);
    this.#gids = new Ids(gids, squashGid);
    this.#hasStaticNlink = presentation.hasStaticNlink ?? false;
    this.#hasAcl = presentation.hasAcl ?? true;
  }

  protected override show(_ino: number, attr: Attr): void {
    attr.uid = this.#uids.toShown(attr.uid);
    attr.gid = this.#gids.toShown(attr.gid);
    if (this.#hasStaticNlink && (attr.mode & S_IFMT) === S_IFDIR) attr.nlink = 1;
  }

  override setattr(ino: number, changes: SetAttr, caller: Caller, attr: Attr): void {
    const kept = { ...changes };
    if ((kept.valid & FATTR_UID) !== 0) kept.uid = this.#uids.toStored(changes.uid);
    if ((kept.valid & FATTR_GID) !== 0) kept.gid = this.#gids.toStored(changes.gid);
    super.setattr(ino, kept, caller, attr);
  }

  /** Who a new file will belong to. */
  #owner(caller: Caller): Caller {
    this.#caller.uid = this.#uids.toStored(caller.uid);
    this.#caller.gid = this.#gids.toStored(caller.gid);
    this.#caller.pid = caller.pid;
    return this.#caller;
  }

  override symlink(parent: number, name: Name, target: Name, caller: Caller, entry: Entry): void {
    super.symlink(parent, name, target, this.#owner(caller), entry);
  }

  override mknod(
    parent: number,
    name: Name,
    mode: number,
    rdevMajor: number,
    rdevMinor: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    const owner = this.#owner(caller);
    super.mknod(parent, name, mode, rdevMajor, rdevMinor, umask, owner, entry);
  }

  override mkdir(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    super.mkdir(parent, name, mode, umask, this.#owner(caller), entry);
  }

  override create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    super.create(parent, name, mode, umask, this.#owner(caller), entry);
  }

  override tmpfile(
    parent: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    super.tmpfile(parent, mode, umask, this.#owner(caller), entry);
  }

  override getxattr(ino: number, name: Name): Uint8Array | undefined {
    if (!isAcl(name)) return super.getxattr(ino, name);
    if (!this.#hasAcl) throw new FsError('EOPNOTSUPP');
    const value = super.getxattr(ino, name);
    return value && this.#acl(value, 'toShown');
  }

  override listxattr(ino: number, caller: Caller): Name[] {
    const names = super.listxattr(ino, caller);
    return this.#hasAcl ? names : names.filter((name) => !isAcl(name));
  }

  override setxattr(
    ino: number,
    name: Name,
    value: Uint8Array,
    flags: number,
    clearSetgid: boolean,
    caller: Caller,
  ): void {
    if (isAcl(name) && !this.#hasAcl) throw new FsError('EOPNOTSUPP');
    const kept = isAcl(name) ? this.#acl(value, 'toStored') : value;
    super.setxattr(ino, name, kept, flags, clearSetgid, caller);
  }

  override removexattr(ino: number, name: Name, caller: Caller): void {
    if (isAcl(name) && !this.#hasAcl) throw new FsError('EOPNOTSUPP');
    super.removexattr(ino, name, caller);
  }

  #acl(value: Uint8Array, direction: 'toShown' | 'toStored'): Uint8Array {
    const entries = parseAcl(value);
    if (entries.length === 0) return value;
    return encodeAcl(
      mapAcl(
        entries,
        (uid) => this.#uids[direction](uid),
        (gid) => this.#gids[direction](gid),
      ),
    );
  }
}

function isAcl(name: Name): boolean {
  return name === ACL_ACCESS || name === ACL_DEFAULT;
}

/** Numbers of users, or of groups. */
class Ids {
  readonly #ranges: readonly IdRange[] | undefined;
  readonly #all: number | undefined;

  constructor(ranges: readonly IdRange[] | undefined, all: number | undefined) {
    this.#ranges = ranges;
    this.#all = all;
  }

  toShown(id: number): number {
    if (this.#all !== undefined) return this.#all;
    if (this.#ranges === undefined) return id;
    const range = this.#ranges.find(({ stored, count }) => id >= stored && id < stored + count);
    return range === undefined ? OVERFLOW_ID : id - range.stored + range.shown;
  }

  /** @throws FsError EOVERFLOW there is no number for it, as in mounts with mapped ids. */
  toStored(id: number): number {
    if (this.#all !== undefined) return this.#all;
    if (this.#ranges === undefined) return id;
    const range = this.#ranges.find(({ shown, count }) => id >= shown && id < shown + count);
    if (range === undefined) throw new FsError('EOVERFLOW');
    return id - range.shown + range.stored;
  }
}
