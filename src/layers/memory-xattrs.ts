/** Extended attributes of the memory upper: a node's own once one was changed, else its origin's. */
import type { ByteString } from '../native.ts';
import type { MemoryNode } from './memory-node.ts';

/** Charged for each, beside its name and value. */
const XATTR_BYTES = 64;

export class Xattrs {
  /** Takes bytes from the limit, or gives them back when negative. @throws FsError ENOSPC, unless it may overdraw. */
  readonly #charge: (bytes: number, mayOverdraw: boolean) => void;

  constructor(charge: (bytes: number, mayOverdraw: boolean) => void) {
    this.#charge = charge;
  }

  get(node: MemoryNode, name: ByteString): Uint8Array | undefined {
    if (node.xattrs !== undefined) return node.xattrs.get(name);
    const [origin] = node.origin;
    return origin?.layer.getxattr(origin.node, name);
  }

  list(node: MemoryNode): ByteString[] {
    if (node.xattrs !== undefined) return [...node.xattrs.keys()];
    const [origin] = node.origin;
    return origin?.layer.listxattr(origin.node) ?? [];
  }

  set(node: MemoryNode, name: ByteString, value: Uint8Array): void {
    const xattrs = this.#ownOf(node, false);
    const before = xattrs.get(name);
    const more = value.length - (before === undefined ? -XATTR_BYTES - name.length : before.length);
    this.#charge(more, false);
    node.xattrBytes += more;
    // A copy: the caller's bytes are the request's.
    xattrs.set(name, value.slice());
  }

  remove(node: MemoryNode, name: ByteString): void {
    const xattrs = this.#ownOf(node, true);
    const before = xattrs.get(name);
    if (before === undefined) return;
    const less = XATTR_BYTES + name.length + before.length;
    xattrs.delete(name);
    node.xattrBytes -= less;
    this.#charge(-less, true);
  }

  /** A node's own extended attributes, taken over from the origin when they are first changed. */
  #ownOf(node: MemoryNode, mayOverdraw: boolean): Map<ByteString, Uint8Array> {
    if (node.xattrs !== undefined) return node.xattrs;
    const xattrs = new Map<ByteString, Uint8Array>();
    let bytes = 0;
    for (const name of this.list(node)) {
      const value = this.get(node, name);
      if (value === undefined) continue;
      xattrs.set(name, value);
      bytes += XATTR_BYTES + name.length + value.length;
    }
    this.#charge(bytes, mayOverdraw);
    node.xattrBytes = bytes;
    node.xattrs = xattrs;
    return xattrs;
  }
}
