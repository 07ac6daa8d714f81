/** An overlay over real directories in this process, without a mount: what a session is made of, asked by path. */
import { constants, openSync, readSync } from 'node:fs';
import { DirectoryLayer } from '../../src/layers/directory.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Segments } from '../../src/layers/layer.ts';
import { DirectoryUpper } from '../../src/layers/overlayfs-dir.ts';
import type { DirectoryUpperOptions } from '../../src/layers/overlayfs-dir.ts';
import type { HostNode } from '../../src/layers/overlayfs-node.ts';
import { native } from '../../src/native.ts';
import type { Native } from '../../src/native.ts';
import type { Entry, SetAttr } from '../../src/overlay/filesystem.ts';
import { Overlay } from '../../src/overlay/overlay.ts';

export const ROOT: { uid: number; gid: number; pid: number } = { uid: 0, gid: 0, pid: 1 };

function open(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

export class InProcess implements Disposable {
  readonly overlay: Overlay<HostNode>;
  readonly #entry: Entry = { ino: 0, attr: new Attr() };

  constructor(lower: string, changes: string, host: Native, options: DirectoryUpperOptions) {
    const layer = new DirectoryLayer(native, open(lower), { links: 'shared' });
    this.overlay = new Overlay([layer], new DirectoryUpper(host, open(changes), options));
  }

  [Symbol.dispose](): void {
    this.overlay.close();
  }

  /** The handle of a path, which keeps its reference. @throws Error there is none. */
  ino(path: string): number {
    let ino = 1;
    for (const name of path.split('/').filter((part) => part !== '')) {
      this.overlay.lookup(ino, name, this.#entry);
      if (this.#entry.ino === 0) throw new Error(`no ${path}`);
      ({ ino } = this.#entry);
    }
    return ino;
  }

  create(dir: string, name: string): number {
    this.overlay.create(this.ino(dir), name, 0o644, 0, ROOT, this.#entry);
    return this.#entry.ino;
  }

  mkdir(dir: string, name: string): void {
    this.overlay.mkdir(this.ino(dir), name, 0o755, 0, ROOT, this.#entry);
  }

  symlink(dir: string, name: string, target: string): void {
    this.overlay.symlink(this.ino(dir), name, target, ROOT, this.#entry);
  }

  link(path: string, dir: string, name: string): void {
    this.overlay.link(this.ino(path), this.ino(dir), name, ROOT, this.#entry);
  }

  rename(dir: string, name: string, toDir: string, toName: string, flags: number = 0): void {
    this.overlay.rename(this.ino(dir), name, this.ino(toDir), toName, flags, ROOT);
  }

  write(ino: number, offset: number, text: string): void {
    const data = Buffer.from(text);
    this.overlay.write(ino, offset, data, 0, data.length, false, ROOT);
  }

  setattr(path: string, changes: Partial<SetAttr>): void {
    const none = { valid: 0, mode: 0, uid: 0, gid: 0, size: 0, ctimeSec: 0, ctimeNsec: 0 };
    const times = { atimeSec: 0, atimeNsec: 0, mtimeSec: 0, mtimeNsec: 0 };
    this.overlay.setattr(this.ino(path), { ...none, ...times, ...changes }, ROOT, this.#entry.attr);
  }

  read(path: string): string {
    const ino = this.ino(path);
    const attr = new Attr();
    this.overlay.getattr(ino, attr);
    const segments = new Segments();
    this.overlay.read(ino, 0, attr.size, segments);
    const parts: Buffer[] = [];
    for (let i = 0; i < segments.count; i++) {
      const [fd = -1, at = 0, length = 0] = segments.values.slice(3 * i, 3 * i + 3);
      const part = Buffer.alloc(length);
      if (fd !== -1) readSync(fd, part, 0, length, at);
      parts.push(part);
    }
    return Buffer.concat(parts).toString('latin1');
  }

  /** Everything that programs see but times of change, a line each, sorted. */
  list(path: string = ''): string[] {
    const ino = this.ino(path);
    const attr = new Attr();
    this.overlay.getattr(ino, attr);
    const type = attr.mode & S_IFMT;
    const xattrs = this.overlay
      .listxattr(ino, ROOT)
      .toSorted()
      .map(
        (name) => `${name}=${Buffer.from(this.overlay.getxattr(ino, name) ?? []).toString('hex')}`,
      );
    const words = [
      path === '' ? '/' : path,
      attr.mode.toString(8),
      attr.uid,
      attr.gid,
      attr.nlink,
      ...(type === S_IFREG ? [attr.size, JSON.stringify(this.read(path))] : []),
      ...(type === S_IFLNK ? [this.overlay.readlink(ino)] : []),
      ...xattrs,
    ];
    const names: string[] = [];
    if (type === S_IFDIR) {
      this.overlay.readdir(ino, 2, (name) => names.push(name) > 0);
    }
    return [words.join(' '), ...names.toSorted().flatMap((name) => this.list(`${path}/${name}`))];
  }
}
