/** A filesystem that hands every call on, for those that change a few of them. */
import type { Attr, Name, Segments } from '../layers/layer.ts';
import type {
  Caller,
  Entry,
  EntryPlusSink,
  EntrySink,
  Filesystem,
  SetAttr,
  StatFs,
} from './filesystem.ts';

/** A subclass says in `show` how attributes are shown; they go through it wherever they come from. */
export class Delegate implements Filesystem {
  protected readonly inner: Filesystem;

  constructor(inner: Filesystem) {
    this.inner = inner;
  }

  /** Changes attributes on their way out. */
  protected show(_ino: number, _attr: Attr): void {}

  /** The same, of a name that may not be there. */
  protected showEntry(entry: Entry): void {
    if (entry.ino !== 0) this.show(entry.ino, entry.attr);
  }

  lookup(parent: number, name: Name, entry: Entry): void {
    this.inner.lookup(parent, name, entry);
    this.showEntry(entry);
  }

  forget(ino: number, count: number): void {
    this.inner.forget(ino, count);
  }

  getattr(ino: number, attr: Attr): void {
    this.inner.getattr(ino, attr);
    this.show(ino, attr);
  }

  setattr(ino: number, changes: SetAttr, caller: Caller, attr: Attr): void {
    this.inner.setattr(ino, changes, caller, attr);
    this.show(ino, attr);
  }

  readlink(ino: number): Name {
    return this.inner.readlink(ino);
  }

  symlink(parent: number, name: Name, target: Name, caller: Caller, entry: Entry): void {
    this.inner.symlink(parent, name, target, caller, entry);
    this.showEntry(entry);
  }

  mknod(
    parent: number,
    name: Name,
    mode: number,
    rdevMajor: number,
    rdevMinor: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.mknod(parent, name, mode, rdevMajor, rdevMinor, umask, caller, entry);
    this.showEntry(entry);
  }

  mkdir(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.mkdir(parent, name, mode, umask, caller, entry);
    this.showEntry(entry);
  }

  create(
    parent: number,
    name: Name,
    mode: number,
    umask: number,
    caller: Caller,
    entry: Entry,
  ): void {
    this.inner.create(parent, name, mode, umask, caller, entry);
    this.showEntry(entry);
  }

  tmpfile(parent: number, mode: number, umask: number, caller: Caller, entry: Entry): void {
    this.inner.tmpfile(parent, mode, umask, caller, entry);
    this.showEntry(entry);
  }

  unlink(parent: number, name: Name, caller: Caller): void {
    this.inner.unlink(parent, name, caller);
  }

  rmdir(parent: number, name: Name, caller: Caller): void {
    this.inner.rmdir(parent, name, caller);
  }

  rename(
    parent: number,
    name: Name,
    newParent: number,
    newName: Name,
    flags: number,
    caller: Caller,
  ): void {
    this.inner.rename(parent, name, newParent, newName, flags, caller);
  }

  link(ino: number, newParent: number, newName: Name, caller: Caller, entry: Entry): void {
    this.inner.link(ino, newParent, newName, caller, entry);
    this.showEntry(entry);
  }

  read(ino: number, offset: number, length: number, into: Segments): void {
    this.inner.read(ino, offset, length, into);
  }

  write(
    ino: number,
    offset: number,
    data: Uint8Array,
    start: number,
    length: number,
    clearPrivileges: boolean,
    caller: Caller,
  ): void {
    this.inner.write(ino, offset, data, start, length, clearPrivileges, caller);
  }

  fallocate(ino: number, mode: number, offset: number, length: number, caller: Caller): void {
    this.inner.fallocate(ino, mode, offset, length, caller);
  }

  lseek(ino: number, offset: number, whence: number): number {
    return this.inner.lseek(ino, offset, whence);
  }

  copyFileRange(
    inoIn: number,
    offsetIn: number,
    inoOut: number,
    offsetOut: number,
    length: number,
    caller: Caller,
  ): number {
    return this.inner.copyFileRange(inoIn, offsetIn, inoOut, offsetOut, length, caller);
  }

  fsync(ino: number, dataOnly: boolean): void {
    this.inner.fsync(ino, dataOnly);
  }

  statfs(stat: StatFs): void {
    this.inner.statfs(stat);
  }

  readdir(ino: number, cookie: number, sink: EntrySink): void {
    this.inner.readdir(ino, cookie, sink);
  }

  readdirplus(ino: number, cookie: number, sink: EntryPlusSink): void {
    this.inner.readdirplus(ino, cookie, (name, at, type, entry) => {
      this.showEntry(entry);
      return sink(name, at, type, entry);
    });
  }

  getxattr(ino: number, name: Name): Uint8Array | undefined {
    return this.inner.getxattr(ino, name);
  }

  listxattr(ino: number, caller: Caller): Name[] {
    return this.inner.listxattr(ino, caller);
  }

  setxattr(
    ino: number,
    name: Name,
    value: Uint8Array,
    flags: number,
    clearSetgid: boolean,
    caller: Caller,
  ): void {
    this.inner.setxattr(ino, name, value, flags, clearSetgid, caller);
  }

  removexattr(ino: number, name: Name, caller: Caller): void {
    this.inner.removexattr(ino, name, caller);
  }

  close(): void {
    this.inner.close();
  }
}
