/**
 * What overlayfs keeps in extended attributes, by its rules: `PREFIX.opaque` and `PREFIX.redirect` of directories,
 * `PREFIX.metacopy` of files, `PREFIX.nlink`; PREFIX is `trusted.overlay`, or `user.overlay` without privileges. A
 * program's own attributes of such names are kept one level deeper, as `PREFIX.overlay.*`. @see fs/overlayfs/xattrs.c
 */
import { FsError, UpperError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import type { Name } from './layer.ts';
import type { Host } from './overlayfs-host.ts';
import type { HostNode } from './overlayfs-node.ts';

const YES: Uint8Array = Uint8Array.of('y'.charCodeAt(0));

const PATH_MAX = 4096;

export class Marks {
  readonly #host: Host;
  /** `trusted.overlay.` */
  readonly #prefix: ByteString;
  readonly #escaped: ByteString;

  constructor(host: Host, prefix: ByteString) {
    this.#host = host;
    this.#prefix = prefix;
    this.#escaped = `${prefix}overlay.`;
  }

  /** What an attribute of a program is called on the host. */
  outward(name: ByteString): ByteString {
    return name.startsWith(this.#prefix)
      ? `${this.#escaped}${name.slice(this.#prefix.length)}`
      : name;
  }

  /** What a program sees of the host's attributes. */
  inward(names: readonly ByteString[]): ByteString[] {
    return names.flatMap((name) => {
      if (name.startsWith(this.#escaped)) return [this.#prefix + name.slice(this.#escaped.length)];
      return name.startsWith(this.#prefix) ? [] : [name];
    });
  }

  isOpaque(node: HostNode): boolean {
    node.isOpaque ??= this.#host.getxattr(node, `${this.#prefix}opaque`)?.[0] === YES[0];
    return node.isOpaque;
  }

  setOpaque(node: HostNode): void {
    this.#host.setxattr(node, `${this.#prefix}opaque`, YES);
    node.isOpaque = true;
  }

  /** Where a directory or file was moved from: a path from the root of the lowers, or another name in its directory. */
  redirect(node: HostNode): Name | undefined {
    const value = this.#host.getxattr(node, `${this.#prefix}redirect`);
    if (value === undefined) return undefined;
    const path = Buffer.from(value).toString('latin1');
    const why = wrongRedirect(path);
    if (why !== undefined) throw new FsError('EIO', `${node.name}: ${why}`);
    return path;
  }

  setRedirect(node: HostNode, path: Name): void {
    this.#host.setxattr(node, `${this.#prefix}redirect`, Buffer.from(path, 'latin1'));
  }

  /** Whether the file's data is still the lower's. */
  isMetacopy(node: HostNode): boolean {
    return this.#host.getxattr(node, `${this.#prefix}metacopy`) !== undefined;
  }

  /** The file's data stays the lower's, at this path from the root of the lowers. */
  setMetacopy(node: HostNode, path: Name): void {
    this.setRedirect(node, path);
    this.#host.setxattr(node, `${this.#prefix}metacopy`, new Uint8Array());
  }

  /** The file has its own data now. */
  endMetacopy(node: HostNode): void {
    this.#host.removexattr(node, `${this.#prefix}metacopy`);
    this.#host.removexattr(node, `${this.#prefix}redirect`);
  }

  /** Links beyond those on the host of a file in the folder of links, `U+1`; undefined when nothing is noted. @throws UpperError. */
  extraLinks(node: HostNode): number | undefined {
    const value = this.#host.getxattr(node, `${this.#prefix}nlink`);
    if (value === undefined) return undefined;
    const text = Buffer.from(value).toString('latin1');
    const match = /^U([+-]\d{1,9})$/.exec(text);
    if (match !== null) return Number(match[1]);
    throw new UpperError(
      'EIO',
      `work/ostree-ts/links/${node.name}: its ${this.#prefix}nlink is '${text}'`,
    );
  }

  setExtraLinks(node: HostNode, extra: number): void {
    const text = `U${extra < 0 ? '-' : '+'}${Math.abs(extra)}`;
    this.#host.setxattr(node, `${this.#prefix}nlink`, Buffer.from(text, 'latin1'));
  }
}

/** Why overlayfs would not take this value, or `undefined`. */
export function wrongRedirect(path: Name): string | undefined {
  if (path.length === 0 || path.length >= PATH_MAX) return 'its redirect is empty or too long';
  if (path.includes('\0')) return 'its redirect has a NUL in it';
  const parts = path.startsWith('/') ? path.slice(1).split('/') : [path];
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('/'))) {
    return `its redirect '${path}' is no path in the lower`;
  }
  return undefined;
}

/**
 * Why overlayfs would not take this value, or `undefined`: nothing, or version 0, its length, flags and the kind of a digest,
 * a byte each, and the digest.
 */
export function wrongMetacopy(value: Uint8Array): string | undefined {
  const [version, length] = value;
  if (value.length === 0 || (value.length >= 4 && version === 0 && length === value.length)) {
    return undefined;
  }
  return `its metacopy has a value of ${value.length} bytes that no version knows`;
}
