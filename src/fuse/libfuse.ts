/**
 * A filesystem as the npm package `fuse-native` wants one: a function for each operation of libfuse 2, which says paths
 * where the filesystem knows files. What that interface cannot say is not served: flags of rename, fallocate, lseek,
 * copy_file_range, O_TMPFILE, names that are not UTF-8, and who asks.
 */
import { LRUCache } from 'lru-cache';
import { FsError } from '../errors.ts';
import { Attr, Segments } from '../layers/layer.ts';
import type { Name } from '../layers/layer.ts';
import type { Native } from '../native.ts';
import {
  FATTR_ATIME,
  FATTR_GID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_SIZE,
  FATTR_UID,
  ROOT_INO,
} from '../overlay/filesystem.ts';
import type { Caller, Entry, Filesystem, SetAttr } from '../overlay/filesystem.ts';
import { deviceMajor, deviceMinor } from './device-number.ts';
import { Calls } from './libfuse-calls.ts';
import type { Operation } from './libfuse-calls.ts';
import { bytesOf, statfs, statOf, statOfEntry, textOf, timeOf } from './libfuse-values.ts';
import type { Stat } from './libfuse-values.ts';

/** Files kept at hand by the names they were found by; each costs what the filesystem keeps of a referenced file. */
const NAMES_MAX = 10_000;

/** Handles are of 31 bits, and never 0. */
const HANDLE_MAX = 0x7fff_ffff;

/** uid or gid of chown(2) that stays as it is. */
const UNCHANGED = 0xffff_ffff;

export interface PathsOptions {
  filesystem: Filesystem;
  native: Pick<Native, 'pread'>;
  /** Whose mount it is: all that asks, since nobody else may enter it. */
  caller: Caller;
  /** One line for the session's log. */
  log: (message: string) => void;
}

export class Paths {
  readonly calls: Calls;
  readonly #options: PathsOptions;
  readonly #fs: Filesystem;
  readonly #names: LRUCache<string, number>;
  /** The file of each open descriptor, with a reference of its own. */
  readonly #handles: Map<number, number> = new Map();
  readonly #numbers: Map<number, number> = new Map();
  readonly #attr: Attr = new Attr();
  readonly #entry: Entry = { ino: 0, attr: new Attr() };
  readonly #segments: Segments = new Segments();
  #nextHandle = 1;

  constructor(options: PathsOptions) {
    this.#options = options;
    this.calls = new Calls(options.log);
    this.#fs = options.filesystem;
    this.#names = new LRUCache({
      max: NAMES_MAX,
      dispose: (ino) => this.#fs.forget(ino, 1),
    });
  }

  /** The operations that the package calls, each with a callback as its last argument. */
  operations(): Record<string, (...args: unknown[]) => void> {
    return this.calls.answered(this.#table());
  }

  #table(): Record<string, Operation> {
    const fs = this.#fs;
    const { caller } = this.#options;
    const entry = this.#entry;
    return {
      getattr: (path: string) => {
        fs.getattr(this.#find(path), this.#attr);
        return statOf(this.#attr, this.#number(this.#attr.ino));
      },
      readdir: (path: string) => this.#readdir(this.#find(path)),
      readlink: (path: string) => textOf(fs.readlink(this.#find(path))) ?? refuse('EILSEQ'),
      statfs: () => statfs(fs),
      chmod: (path: string, mode: number) => this.#set(path, { valid: FATTR_MODE, mode }),
      chown: (path: string, uid: number, gid: number) => {
        const valid = (uid === UNCHANGED ? 0 : FATTR_UID) | (gid === UNCHANGED ? 0 : FATTR_GID);
        this.#set(path, { valid, uid, gid });
      },
      truncate: (path: string, size: number) => this.#set(path, { valid: FATTR_SIZE, size }),
      ftruncate: (path: string, handle: number, size: number) =>
        this.#set(path, { valid: FATTR_SIZE, size }, this.#handles.get(handle)),
      // Milliseconds.
      utimens: (path: string, atimeMs: number, mtimeMs: number) => {
        const atime = timeOf(atimeMs);
        const mtime = timeOf(mtimeMs);
        this.#set(path, {
          valid: FATTR_ATIME | FATTR_MTIME,
          atimeSec: atime.sec,
          atimeNsec: atime.nsec,
          mtimeSec: mtime.sec,
          mtimeNsec: mtime.nsec,
        });
      },
      // The kernel has taken the umask away already.
      mknod: (path: string, mode: number, device: number) =>
        this.#make(path, (dir, name) =>
          fs.mknod(dir, name, mode, deviceMajor(device), deviceMinor(device), 0, caller, entry),
        ),
      mkdir: (path: string, mode: number) =>
        this.#make(path, (dir, name) => fs.mkdir(dir, name, mode, 0, caller, entry)),
      symlink: (target: string, path: string) =>
        this.#make(path, (dir, name) => fs.symlink(dir, name, bytesOf(target), caller, entry)),
      link: (path: string, newPath: string) => {
        const ino = this.#find(path);
        this.#make(newPath, (dir, name) => fs.link(ino, dir, name, caller, entry));
      },
      create: (path: string, mode: number) => {
        this.#make(path, (dir, name) => fs.create(dir, name, mode, 0, caller, entry));
        return this.#open(path);
      },
      unlink: (path: string) => this.#remove(path, (dir, name) => fs.unlink(dir, name, caller)),
      rmdir: (path: string) => this.#remove(path, (dir, name) => fs.rmdir(dir, name, caller)),
      rename: (from: string, to: string) =>
        this.#remove(from, (dir, name) =>
          this.#remove(to, (newDir, newName) => fs.rename(dir, name, newDir, newName, 0, caller)),
        ),
      open: (path: string) => this.#open(path),
      release: (_path: string, handle: number) => {
        const ino = this.#handles.get(handle);
        this.#handles.delete(handle);
        if (ino !== undefined) fs.forget(ino, 1);
      },
      read: (_path: string, handle: number, into: Uint8Array, length: number, offset: number) =>
        this.#read(this.#opened(handle), into.subarray(0, length), offset),
      write: (_path: string, handle: number, data: Uint8Array, length: number, offset: number) => {
        // Before it writes, the kernel takes setuid, setgid and capabilities away by itself.
        fs.write(this.#opened(handle), offset, data, 0, length, false, caller);
        return length;
      },
      fsync: (_path: string, dataOnly: number, handle: number) =>
        fs.fsync(this.#opened(handle), dataOnly !== 0),
      fsyncdir: (path: string, dataOnly: number) => fs.fsync(this.#find(path), dataOnly !== 0),
      // The package's own answers to these run beyond the caller's buffer: see libfuse-mount.ts.
      getxattr: (path: string, name: string) => this.getxattr(path, name),
      listxattr: (path: string) => this.listxattr(path),
      setxattr: (path: string, name: string, value: Uint8Array, _at: number, flags: number) =>
        // The package takes its memory back, and what is empty has none.
        fs.setxattr(this.#find(path), bytesOf(name), Buffer.from(value), flags, false, caller),
      removexattr: (path: string, name: string) =>
        fs.removexattr(this.#find(path), bytesOf(name), caller),
    };
  }

  getxattr(path: string, name: string): Uint8Array {
    return this.#fs.getxattr(this.#find(path), bytesOf(name)) ?? refuse('ENODATA');
  }

  /** Names that end with NUL, one after the other. */
  listxattr(path: string): Uint8Array {
    const names = this.#fs.listxattr(this.#find(path), this.#options.caller);
    return Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
  }

  /** The file at a path. @throws ENOENT, ENOTDIR. */
  #find(path: string): number {
    let ino = ROOT_INO;
    for (const part of path.split('/')) {
      if (part !== '') ino = this.#child(ino, bytesOf(part));
    }
    return ino;
  }

  #child(parent: number, name: Name): number {
    const key = `${parent}/${name}`;
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    this.#fs.lookup(parent, name, this.#entry);
    if (this.#entry.ino === 0) return refuse('ENOENT');
    this.#names.set(key, this.#entry.ino);
    return this.#entry.ino;
  }

  /** Splits a path into the directory, found, and the last name. */
  #place(path: string): { dir: number; name: Name } {
    const slash = path.lastIndexOf('/');
    return { dir: this.#find(path.slice(0, slash)), name: bytesOf(path.slice(slash + 1)) };
  }

  /** Makes a name by a call that leaves the file in `#entry`. */
  #make(path: string, make: (dir: number, name: Name) => void): void {
    const { dir, name } = this.#place(path);
    make(dir, name);
    this.#names.delete(`${dir}/${name}`);
    this.#names.set(`${dir}/${name}`, this.#entry.ino);
  }

  /** Changes what stands behind a name. */
  #remove(path: string, remove: (dir: number, name: Name) => void): void {
    const { dir, name } = this.#place(path);
    remove(dir, name);
    this.#names.delete(`${dir}/${name}`);
  }

  /** @returns a handle, which has a reference of its own. */
  #open(path: string): number {
    const { dir, name } = this.#place(path);
    this.#fs.lookup(dir, name, this.#entry);
    if (this.#entry.ino === 0) return refuse('ENOENT');
    while (this.#handles.has(this.#nextHandle)) {
      this.#nextHandle = (this.#nextHandle % HANDLE_MAX) + 1;
    }
    this.#handles.set(this.#nextHandle, this.#entry.ino);
    return this.#nextHandle;
  }

  #opened(handle: number): number {
    return this.#handles.get(handle) ?? refuse('EBADF');
  }

  #set(path: string, wanted: Partial<SetAttr>, ino: number = this.#find(path)): void {
    this.#fs.setattr(ino, { ...UNCHANGED_ATTR, ...wanted }, this.#options.caller, this.#attr);
  }

  #read(ino: number, into: Uint8Array, offset: number): number {
    this.#segments.clear();
    this.#fs.read(ino, offset, into.length, this.#segments);
    const { values, count } = this.#segments;
    let at = 0;
    for (let index = 0; index < 3 * count; index += 3) {
      const [fd = -1, start = 0, length = 0] = values.subarray(index, index + 3);
      const part = into.subarray(at, at + length);
      const got = fd < 0 ? 0 : this.#pread(fd, part, start);
      part.fill(0, got);
      // The file may end early: then its last run is as long as what is there.
      at += fd >= 0 && index === 3 * (count - 1) ? got : length;
    }
    return at;
  }

  #pread(fd: number, into: Uint8Array, offset: number): number {
    let got = 0;
    while (got < into.length) {
      const more = this.#options.native.pread(fd, into.subarray(got), offset + got);
      if (more < 0) throw new FsError('EIO');
      if (more === 0) break;
      got += more;
    }
    return got;
  }

  /** Names that no text can hold are not shown. */
  #readdir(ino: number): [string[], Partial<Stat>[]] {
    const names: string[] = [];
    const stats: Partial<Stat>[] = [];
    this.#fs.readdir(ino, 0, (name, _cookie, shown, type) => {
      const text = textOf(name);
      if (text !== undefined) {
        names.push(text);
        stats.push(statOfEntry(type, this.#number(shown)));
      }
      return true;
    });
    return [names, stats];
  }

  /** st_ino: the package has 32 bits for it, so each file gets a number when it is first shown, and keeps it. */
  #number(ino: number): number {
    const known = this.#numbers.get(ino);
    if (known !== undefined) return known;
    const number = this.#numbers.size + 1;
    this.#numbers.set(ino, number);
    return number;
  }
}

const UNCHANGED_ATTR: SetAttr = {
  valid: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  atimeSec: 0,
  atimeNsec: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  ctimeSec: 0,
  ctimeNsec: 0,
};

function refuse(code: 'ENOENT' | 'EILSEQ' | 'EBADF' | 'ENODATA'): never {
  throw new FsError(code);
}
