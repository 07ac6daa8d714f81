/** Where the host has the bytes of files, for a kernel that reads and writes them by itself. */
import { FsError } from '../errors.ts';
import { S_IFREG } from '../layers/layer.ts';
import type { Tree } from './tree.ts';

/** A regular file of the host that holds the bytes of one of a filesystem's. */
export interface Backing {
  /** Good until the next call. */
  fd: number;
  /** Of a lower, which must never be written to: that layer, so that two can be told apart. `undefined`: of the upper. */
  lower: object | undefined;
}

/** A filesystem whose files the kernel may read and write by itself. */
export interface Backed {
  /**
   * Where the bytes of a file are.
   *
   * @param isForWriting  it is copied up before; then they are in the upper, and others may write to them from now on.
   * @returns `undefined` when no file of the host holds them.
   */
  backing(ino: number, isForWriting: boolean): Backing | undefined;

  /**
   * Has the names of a file that was copied up lead to another handle from now on. Who has the old one goes on with the
   * lower's bytes; attributes stay those of one file.
   */
  retire(ino: number): void;
  isRetired(ino: number): boolean;
  /** Whether there are references to a node. */
  isKnown(ino: number): boolean;
}

/** Of an overlay. */
export class TreeBacking<Node extends object> implements Backed {
  readonly #tree: Tree<Node>;

  constructor(tree: Tree<Node>) {
    this.#tree = tree;
  }

  backing(ino: number, isForWriting: boolean): Backing | undefined {
    const inode = this.#tree.inode(ino);
    if (inode.type !== S_IFREG) throw new FsError('EINVAL');
    const { upper } = this.#tree;
    if (upper.file === undefined) return undefined;
    const node = isForWriting ? this.#tree.copyUp(inode) : inode.upper;
    const found = node === undefined ? inode.lowers[0] : upper.file(node, isForWriting);
    if (typeof found === 'number') return { fd: found, lower: undefined };
    const fd = found?.layer.file?.(found.node);
    return fd === undefined ? undefined : { fd, lower: found?.layer };
  }

  retire(ino: number): void {
    this.#tree.table.retire(this.#tree.inode(ino));
  }

  isRetired(ino: number): boolean {
    const { table } = this.#tree;
    const inode = table.hasRetired ? table.get(ino) : undefined;
    return inode !== undefined && table.isRetired(inode);
  }

  isKnown(ino: number): boolean {
    return (this.#tree.table.get(ino)?.refs ?? 0) > 0;
  }
}
