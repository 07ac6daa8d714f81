/**
 * Owner and mode kept in an extended attribute, `UID:GID:MODE` (mode in octal, without the type; what follows another
 * colon is not ours), as fuse-overlayfs and containers/storage do where the layers' own cannot be had: on NFS, or without
 * privileges. Files without the attribute are what they are. What is made belongs to who serves it, and says in the
 * attribute whose it is.
 */
import { FsError } from '../errors.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import { ACL_ACCESS } from './acl.ts';
import { Delegate } from './delegate.ts';
import { FATTR_GID, FATTR_KILL_SUIDGID, FATTR_MODE, FATTR_UID } from './filesystem.ts';
import type { Caller, Entry, Filesystem, SetAttr } from './filesystem.ts';

const S_IXGRP = 0o010;
const PERMISSIONS = 0o7777;
/** What a file's own mode may have: with setuid it would run as who serves it. */
const HARMLESS = 0o1777;
const OWNER_AND_MODE = FATTR_UID | FATTR_GID | FATTR_MODE;

export class OverrideStat extends Delegate {
  readonly #xattr: Name;
  readonly #server: Caller;
  /** Reused. */
  readonly #attr: Attr = new Attr();

  /** @param xattr  Its name: `security.*`, which all files may have, or `user.*`, which files and directories may. */
  constructor(inner: Filesystem, xattr: Name) {
    super(inner);
    this.#xattr = xattr;
    this.#server = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: 0 };
  }

  protected override show(ino: number, attr: Attr): void {
    if (!this.#mayHave(attr.mode)) return;
    const value = this.inner.getxattr(ino, this.#xattr);
    const match =
      value &&
      /^(\d{1,10}):(\d{1,10}):([0-7]{1,6})(?::|\0?$)/.exec(Buffer.from(value).toString('latin1'));
    if (!match) return;
    attr.uid = Number(match[1]);
    attr.gid = Number(match[2]);
    attr.mode = (attr.mode & S_IFMT) | (Number.parseInt(match[3] ?? '0', 8) & PERMISSIONS);
  }

  #mayHave(mode: number): boolean {
    const type = mode & S_IFMT;
    return type === S_IFREG || type === S_IFDIR || !this.#xattr.startsWith('user.');
  }

  #keep(ino: number, { uid, gid, mode }: Attr): void {
    const text = `${uid}:${gid}:${(mode & PERMISSIONS).toString(8).padStart(4, '0')}`;
    const value = Buffer.from(text, 'latin1');
    this.inner.setxattr(ino, this.#xattr, value, 0, false, this.#server);
  }

  override setattr(ino: number, changes: SetAttr, caller: Caller, attr: Attr): void {
    this.getattr(ino, attr);
    if (!this.#mayHave(attr.mode)) {
      super.setattr(ino, changes, caller, attr);
      return;
    }
    const { valid } = changes;
    const wanted = Object.assign(this.#attr, attr);
    const isGiven = (valid & (FATTR_UID | FATTR_GID)) !== 0;
    if (isGiven || (valid & FATTR_KILL_SUIDGID) !== 0) dropPrivileges(wanted);
    if ((valid & FATTR_UID) !== 0) wanted.uid = changes.uid;
    if ((valid & FATTR_GID) !== 0) wanted.gid = changes.gid;
    if ((valid & FATTR_MODE) !== 0) {
      wanted.mode = (wanted.mode & S_IFMT) | (changes.mode & PERMISSIONS);
    }
    const differs = wanted.mode !== attr.mode || (valid & OWNER_AND_MODE) !== 0;
    const rest = { ...changes, valid: valid & ~(FATTR_UID | FATTR_GID) };
    rest.mode &= HARMLESS;
    this.inner.setattr(ino, rest, caller, attr);
    if (differs) this.#keep(ino, wanted);
    this.getattr(ino, attr);
  }

  override write(
    ino: number,
    offset: number,
    data: Uint8Array,
    start: number,
    length: number,
    clearPrivileges: boolean,
    caller: Caller,
  ): void {
    super.write(ino, offset, data, start, length, clearPrivileges, caller);
    if (!clearPrivileges) return;
    this.getattr(ino, this.#attr);
    const before = this.#attr.mode;
    dropPrivileges(this.#attr);
    if (this.#attr.mode !== before) this.#keep(ino, this.#attr);
  }

  override symlink(parent: number, name: Name, target: Name, caller: Caller, entry: Entry): void {
    const own = this.#mayHave(S_IFLNK);
    this.inner.symlink(parent, name, target, own ? this.#server : caller, entry);
    if (own) this.#made(parent, name, 0, caller, entry);
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
    const own = this.#mayHave(mode);
    const owner = own ? this.#server : caller;
    const harmless = mode & (S_IFMT | HARMLESS);
    this.inner.mknod(parent, name, harmless, rdevMajor, rdevMinor, umask, owner, entry);
    if (own) this.#made(parent, name, mode, caller, entry);
  }

  override mkdir(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.mkdir(parent, name, mode, umask, this.#server, entry);
    this.#made(parent, name, mode, caller, entry);
  }

  override create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.create(parent, name, mode & (S_IFMT | HARMLESS), umask, this.#server, entry);
    this.#made(parent, name, mode, caller, entry);
  }

  override tmpfile(
    parent: number,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.tmpfile(parent, mode & (S_IFMT | HARMLESS), umask, this.#server, entry);
    this.#made(parent, undefined, mode, caller, entry);
  }

  /** Says whose a new file is, and what its mode was to be; without that it goes again. */
  #made(
    parent: number,
    name: Name | undefined,
    mode: number,
    caller: Caller,
    { ino, attr }: Entry,
  ): void {
    const isDirectory = (attr.mode & S_IFMT) === S_IFDIR;
    this.getattr(parent, this.#attr);
    const inherits = (this.#attr.mode & S_ISGID) !== 0;
    attr.uid = caller.uid;
    attr.gid = inherits ? this.#attr.gid : caller.gid;
    // The inner one has masked the rest, by the umask or a default ACL.
    attr.mode |= mode & (S_ISUID | S_ISGID);
    if (inherits && isDirectory) attr.mode |= S_ISGID;
    try {
      this.#keep(ino, attr);
      this.inner.getattr(ino, attr);
      this.show(ino, attr);
    } catch (error) {
      if (name !== undefined && isDirectory) this.inner.rmdir(parent, name, this.#server);
      else if (name !== undefined) this.inner.unlink(parent, name, this.#server);
      this.inner.forget(ino, 1);
      throw error;
    }
  }

  override getxattr(ino: number, name: Name): Uint8Array | undefined {
    return name === this.#xattr ? undefined : super.getxattr(ino, name);
  }

  override listxattr(ino: number, caller: Caller): Name[] {
    return super.listxattr(ino, caller).filter((name) => name !== this.#xattr);
  }

  override setxattr(
    ino: number,
    name: Name,
    value: Uint8Array,
    flags: number,
    clearSetgid: boolean,
    caller: Caller,
  ): void {
    if (name === this.#xattr) throw new FsError('EPERM');
    super.setxattr(ino, name, value, flags, clearSetgid, caller);
    if (name !== ACL_ACCESS) return;
    // An ACL says what the mode is.
    const wanted = this.#attr;
    this.inner.getattr(ino, wanted);
    const bits = wanted.mode & 0o777;
    this.show(ino, wanted);
    wanted.mode = (wanted.mode & ~0o777) | bits;
    if (clearSetgid) wanted.mode &= ~S_ISGID;
    this.#keep(ino, wanted);
  }

  override removexattr(ino: number, name: Name, caller: Caller): void {
    if (name === this.#xattr) throw new FsError('EPERM');
    super.removexattr(ino, name, caller);
  }
}

/** As chown(2) and write(2) do for who may not keep them. */
function dropPrivileges(attr: Attr): void {
  if ((attr.mode & S_IFMT) !== S_IFREG) return;
  attr.mode &= (attr.mode & S_IXGRP) === 0 ? ~S_ISUID : ~(S_ISUID | S_ISGID);
}
