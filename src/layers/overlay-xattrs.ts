/** Extended attributes that overlayfs keeps its bookkeeping in, and how those of a program that have such names are kept. */
import type { ByteString } from '../native.ts';

/** What overlayfs keeps its bookkeeping under, privileged and not; doubled, a nested overlay's own. */
export const OVERLAY_PREFIXES: readonly string[] = ['trusted.overlay.', 'user.overlay.'];

/** `trusted.overlay.X` as a program knows it is kept as `trusted.overlay.overlay.X`. */
export function escapeXattr(name: ByteString): ByteString {
  const prefix = OVERLAY_PREFIXES.find((candidate) => name.startsWith(candidate));
  return prefix === undefined ? name : `${prefix}overlay.${name.slice(prefix.length)}`;
}

export function unescapeXattrs(names: readonly ByteString[]): ByteString[] {
  return names.flatMap((name) => {
    const prefix = OVERLAY_PREFIXES.find((candidate) => name.startsWith(candidate));
    if (prefix === undefined) return [name];
    const inner = `${prefix}overlay.`;
    return name.startsWith(inner) ? [prefix + name.slice(inner.length)] : [];
  });
}
