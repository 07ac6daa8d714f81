/**
 * POSIX ACLs as the kernel passes them: `system.posix_acl_access` and `system.posix_acl_default`, a version and entries
 * of tag, permissions and id. Only what a filesystem must do with them: keep mode and ACL in step, and inherit. Who may
 * do what is checked by the kernel. @see acl(5), fs/posix_acl.c
 */
import { FsError } from '../errors.ts';

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_DEFAULT = 'system.posix_acl_default';

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;

const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;

export interface AclEntry {
  tag: number;
  perm: number;
  /** Of USER and GROUP; 0xffffffff for the others. */
  id: number;
}

/** @throws FsError EINVAL for anything that is no list of entries. An empty list is no ACL. */
export function parseAcl(value: Uint8Array): AclEntry[] {
  if (value.length === 0) return [];
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const entries: AclEntry[] = [];
  if (value.length < HEADER_BYTES || (value.length - HEADER_BYTES) % ENTRY_BYTES !== 0) {
    throw new FsError('EINVAL');
  }
  if (view.getUint32(0, true) !== VERSION) throw new FsError('EOPNOTSUPP');
  for (let at = HEADER_BYTES; at < value.length; at += ENTRY_BYTES) {
    entries.push({
      tag: view.getUint16(at, true),
      perm: view.getUint16(at + 2, true) & 7,
      id: view.getUint32(at + 4, true),
    });
  }
  return entries;
}

/** The same entries for other numbers of users and groups. */
export function mapAcl(
  entries: readonly AclEntry[],
  user: (id: number) => number,
  group: (id: number) => number,
): AclEntry[] {
  return entries.map((entry) => {
    if (entry.tag === USER) return { ...entry, id: user(entry.id) };
    return entry.tag === GROUP ? { ...entry, id: group(entry.id) } : entry;
  });
}

export function encodeAcl(entries: readonly AclEntry[]): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + entries.length * ENTRY_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, VERSION, true);
  for (const [i, entry] of entries.entries()) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    view.setUint16(at, entry.tag, true);
    view.setUint16(at + 2, entry.perm, true);
    view.setUint32(at + 4, entry.id, true);
  }
  return value;
}

/**
 * The permission bits that an access ACL stands for.
 *
 * @returns `minimal`: the bits say all that the ACL does, so it need not be kept.
 */
export function modeOfAcl(entries: readonly AclEntry[]): { bits: number; minimal: boolean } {
  let bits = 0;
  let minimal = true;
  for (const { tag, perm } of entries) {
    if (tag === USER_OBJ) bits |= perm << 6;
    else if (tag === GROUP_OBJ) bits |= perm << 3;
    else if (tag === OTHER) bits |= perm;
    else minimal = false;
  }
  const mask = entries.find(({ tag }) => tag === MASK);
  if (mask !== undefined) bits = (bits & ~0o070) | (mask.perm << 3);
  return { bits, minimal };
}

/** The access ACL after chmod(2): owner, mask (or owning group) and others take the new bits. */
export function chmodAcl(entries: readonly AclEntry[], mode: number): AclEntry[] {
  const group = entries.some(({ tag }) => tag === MASK) ? MASK : GROUP_OBJ;
  return entries.map((entry) => {
    if (entry.tag === USER_OBJ) return { ...entry, perm: (mode >> 6) & 7 };
    if (entry.tag === group) return { ...entry, perm: (mode >> 3) & 7 };
    if (entry.tag === OTHER) return { ...entry, perm: mode & 7 };
    return entry;
  });
}

/**
 * What a new file gets from its directory's default ACL.
 *
 * @param mode  as asked for; the umask plays no part when there is a default ACL.
 * @returns the file's permission bits, and its access ACL unless the bits say it all.
 */
export function inheritAcl(
  defaults: readonly AclEntry[],
  mode: number,
): { mode: number; access: AclEntry[] | undefined } {
  const hasMask = defaults.some(({ tag }) => tag === MASK);
  const group = hasMask ? MASK : GROUP_OBJ;
  let allowed = mode & 0o777;
  const entries = defaults.map((entry) => {
    const shift = entry.tag === USER_OBJ ? 6 : entry.tag === group ? 3 : 0;
    if (entry.tag !== USER_OBJ && entry.tag !== group && entry.tag !== OTHER) return entry;
    const perm = entry.perm & (mode >> shift) & 7;
    allowed = (allowed & ~(7 << shift)) | (perm << shift);
    return { ...entry, perm };
  });
  const extended = defaults.some(({ tag }) => tag === USER || tag === GROUP || tag === MASK);
  return { mode: (mode & ~0o777) | allowed, access: extended ? entries : undefined };
}
