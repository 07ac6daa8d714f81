/** POSIX ACLs as the kernel takes them in `system.posix_acl_*` (linux/posix_acl_xattr.h, version 2). */

const TAGS = { u: 0x01, user: 0x02, g: 0x04, group: 0x08, m: 0x10, o: 0x20 } as const;

/**
 * `acl('u:7 user:1000:5 g:0 m:5 o:0')`: the owner, named users, the group, named groups, the mask, others; each with its
 * permission as an octal digit. @returns a byte string.
 */
export function acl(text: string): string {
  const entries = text.split(' ').map((entry) => {
    const parts = entry.split(':');
    const tag = TAGS[parts[0] as keyof typeof TAGS];
    const id = parts.length > 2 ? Number(parts[1]) : 0xffffffff;
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16LE(tag, 0);
    bytes.writeUInt16LE(Number(parts.at(-1)), 2);
    bytes.writeUInt32LE(id, 4);
    return bytes;
  });
  return Buffer.concat([Buffer.from([2, 0, 0, 0]), ...entries]).toString('latin1');
}
