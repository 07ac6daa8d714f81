/** A file or directory of an upper that is a directory tree of the host. */
import { Attr, S_IFDIR, S_IFMT } from './layer.ts';
import type { Name } from './layer.ts';
import type { Names } from './names.ts';
import type { LowerRef } from './upper.ts';

/** Where a name leads to a node. */
export interface Place {
  dir: HostNode;
  name: Name;
}

const NO_ORIGIN: readonly LowerRef[] = [];

/**
 * A node has a place on the host: a name in a directory of the upper, or in the work directory while it has no name. Or it
 * is only *planned*: a copy-up that nobody needed yet, or a directory that was removed; then its attributes are here.
 */
export class HostNode {
  /** The root's is known when there are lowers; all others are constant. */
  ino: number;
  /** S_IFMT bits. */
  readonly type: number;
  /** As programs see it; -1 while it has not been counted. */
  nlink: number;
  dir: HostNode | undefined = undefined;
  name: Name = '';
  /** More places, of a file with several names. */
  others: Place[] | undefined = undefined;
  planned: Attr | undefined = undefined;
  /** A directory's entries, once read. */
  names: Names<HostNode> | undefined = undefined;
  /** Of a directory what the lowers have behind it, `undefined` until asked for; of a file what it was copied from. */
  origin: readonly LowerRef[] | undefined = undefined;
  /** A directory that was moved: where its origin is, from the root of the lowers. */
  redirect: Name | undefined = undefined;
  /** Hides what the lowers have at its place; `undefined` until read. */
  isOpaque: boolean | undefined = undefined;
  /** The lower file's number, when it had several links. */
  link = 0;
  /** Bytes of a regular file; -1 while not known. Nobody else changes it. */
  size = -1;
  /**
   * ctime as programs see it, seconds and nanoseconds, while the host's is only that of a copy-up, which is no change to
   * them.
   */
  ctime: readonly [sec: number, nsec: number] | undefined = undefined;
  /**
   * Others may write to it without our knowing: until ctime and mtime of the host's are no longer these, the ctime that
   * programs see is the one above.
   */
  untouched: readonly number[] | undefined = undefined;
  /** Its data may still be the lower's: the kernel copies it up apart when told so (metacopy). */
  isUnread: boolean;

  constructor(ino: number, mode: number, nlink: number, isUnread: boolean) {
    this.ino = ino;
    this.type = mode & S_IFMT;
    this.nlink = nlink;
    this.isUnread = isUnread;
  }

  get isDirectory(): boolean {
    return this.type === S_IFDIR;
  }

  /** What the contents were copied from. */
  get source(): readonly LowerRef[] {
    return this.origin ?? NO_ORIGIN;
  }

  /** Adds a name that leads here. */
  place(dir: HostNode, name: Name): void {
    if (this.dir === undefined) {
      this.dir = dir;
      this.name = name;
    } else {
      this.others ??= [];
      this.others.push({ dir, name });
    }
  }

  /** Takes a name away; another one, if there is any, becomes where the node is found. */
  displace(dir: HostNode, name: Name): void {
    if (this.dir === dir && this.name === name) {
      const next = this.others?.pop();
      this.dir = next?.dir;
      this.name = next?.name ?? '';
    } else if (this.others !== undefined) {
      this.others = this.others.filter((place) => place.dir !== dir || place.name !== name);
    }
    if (this.others?.length === 0) this.others = undefined;
  }

  /** Keeps attributes here from now on. */
  plan(attr: Attr): void {
    this.planned = Object.assign(new Attr(), attr);
  }
}
