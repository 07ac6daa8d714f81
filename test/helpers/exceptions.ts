/**
 * What the README says that some sessions cannot do: by kind of session, what it is, and the titles of the contract's cases
 * that need it. Each of them must fail there, and all others must pass.
 */
type Exceptions = Readonly<Record<string, readonly string[]>>;

/** Uppers in the format of kernel overlayfs. */
const OVERLAYFS: Exceptions = { 'devices 0:0': ['a device 0:0 is one like any other'] };

/** What libfuse 2, or the package fuse-native, cannot say. fuse-native.test.ts has the errnos. */
const FUSE_NATIVE: Exceptions = {
  'only the owner of the session may enter it': [
    'the sticky bit guards the names of others',
    'an access ACL lets in whom it names, and nobody else',
    'mask and mode are kept in step',
    'ACLs that make no sense are refused',
    'an ACL set by one who is not in the group drops setgid',
    'ACLs survive rename, write, link and a cold cache',
    'only root makes device nodes',
    'setuid programs run as their owner',
    'who may see and set what',
    'a refused operation stamps nothing',
    'times may be set by the owner, and to now by any writer',
    'permission is by owner, group and other, in this order',
    'a setgid directory hands down its group',
    'chmod by one who is not in the group drops setgid',
    'chown by the owner reaches his own groups only',
    'setuid and setgid after write by another user',
    'setuid and setgid after truncate by another user',
    'setuid and setgid after ftruncate by another user',
    'setuid and setgid after O_TRUNC by another user',
    'setuid and setgid after fallocate by another user',
    'setuid and setgid after a hole punched by another user',
    'setuid and setgid after copy_file_range by another user',
    'setuid and setgid after a rename by another user',
    'setuid and setgid after a read by another user',
    'setgid without group execute is mandatory locking, not privilege',
  ],
  'flags of rename': [
    'a directory counts its subdirectories',
    'rename refuses what POSIX refuses, and changes nothing then',
    'EXCHANGE swaps files, directories and one of each',
    'RENAME_WHITEOUT leaves a whiteout, which rm removes',
  ],
  fallocate: [
    'fallocate in each of its modes',
    'a mapping past the end of the file raises SIGBUS',
    'each operation stamps the times that POSIX names',
    'security.capability is dropped by fallocate',
  ],
  lseek: [
    'SEEK_DATA and SEEK_HOLE tell where data is',
    'holes cost nothing and read as zeros',
    'what is stored into a hole and not written yet is no hole',
  ],
  O_TMPFILE: [
    'O_TMPFILE gives a file without a name, which link may give one',
    'umask applies to what is made',
    'a default ACL is inherited, and the umask is ignored then',
  ],
  'names that are not UTF-8': [
    'a name may hold any byte but NUL and the slash',
    'symlinks',
    'names that no file can have are refused',
  ],
  'paths beyond PATH_MAX': ['a tree may be deeper than any path can say'],
  'files that are unlinked while open': [
    'link counts follow link, rename and unlink',
    'a removed directory that is still open is dead',
  ],
  'one page cache for all links': ['a shared mapping made before a write sees the write'],
  'times finer than a millisecond, or before 1970': [
    'times are kept to the nanosecond, before 1970 and after 2038',
  ],
  'file handles without a cached file': [
    'file handles are valid when the cache has gone, or refused',
  ],
};

/** Files of the lower: who has one open when it is first written to goes on with what it was. */
const PASSTHROUGH: Exceptions = {
  'readers that were there before the first write': [
    'a shared mapping made before a write sees the write',
    'what is written through one link is read through the others',
    'programs run, and are not written while they do',
  ],
};

const EXCEPTIONS: Readonly<Record<string, Exceptions>> = {
  tmpfs: OVERLAYFS,
  disk: OVERLAYFS,
  passthrough: OVERLAYFS,
  'passthrough:lower': PASSTHROUGH,
  'passthrough-disk': OVERLAYFS,
  'passthrough-disk:lower': PASSTHROUGH,
  'fuse-native': FUSE_NATIVE,
};

/**
 * What a case needs that sessions of this kind do not have; `undefined`: nothing, it passes.
 *
 * @param subject  a kind, or one of its parts: `KIND:lower`.
 */
export function exceptionOf(title: string, subject: string): string | undefined {
  const [kind = ''] = subject.split(':');
  const exceptions = { ...EXCEPTIONS[kind], ...EXCEPTIONS[subject] };
  return Object.keys(exceptions).find((what) => exceptions[what]?.includes(title));
}
