/**
 * The programs that building, testing and measuring need, by the Debian package that brings them. The package itself
 * (what `npm pack` makes) needs none of these but fusermount3, and that for ordinary users only.
 */

/** @typedef {'build' | 'demo' | 'test' | 'bench' | 'prebuilds'} Purpose */

/**
 * @typedef {object} SystemPackage
 * @property {string} name  Debian's name of it.
 * @property {string | string[]} probe  A program looked for in PATH and in sbin; or a command that succeeds when it is there.
 * @property {string} why
 * @property {Purpose[]} purposes
 */

/** @type {SystemPackage[]} */
export const SYSTEM_PACKAGES = [
  {
    name: 'g++',
    probe: 'g++',
    why: 'compiles the addon, the keeper and the runner; a C and C++ project is built in a session',
    purposes: ['build', 'demo', 'test', 'bench', 'prebuilds'],
  },
  {
    name: 'make',
    probe: 'make',
    why: 'node-gyp drives the build with it',
    purposes: ['build', 'demo', 'test', 'bench', 'prebuilds'],
  },
  {
    name: 'python3',
    probe: 'python3',
    why: 'node-gyp is written in it',
    purposes: ['build', 'demo', 'test', 'bench', 'prebuilds'],
  },
  {
    name: 'fuse3',
    probe: 'fusermount3',
    why: 'lets ordinary users mount',
    purposes: ['demo', 'test', 'bench'],
  },
  {
    name: 'libfuse2',
    probe: ['sh', '-c', '/sbin/ldconfig -p | grep -q libfuse.so.2'],
    why: 'the package fuse-native is linked to it',
    purposes: ['test'],
  },
  {
    name: 'systemd',
    probe: 'systemd-analyze',
    why: 'checks the unit of sessions from boot on',
    purposes: ['test'],
  },
  {
    name: 'binutils',
    probe: 'objdump',
    why: 'reads the glibc version a binary asks for',
    purposes: ['test', 'prebuilds'],
  },
  {
    name: 'g++-aarch64-linux-gnu',
    probe: 'aarch64-linux-gnu-g++',
    why: 'builds the addon for linux-arm64',
    purposes: ['test', 'prebuilds'],
  },
  {
    name: 'debootstrap',
    probe: 'debootstrap',
    why: 'makes the Debian tree that sessions run over',
    purposes: ['test', 'bench'],
  },
  {
    name: 'ostree',
    probe: 'ostree',
    why: 'makes and checks repositories',
    purposes: ['test', 'bench'],
  },
  {
    name: 'skopeo',
    probe: 'skopeo',
    why: 'reads the images that are exported',
    purposes: ['test'],
  },
  {
    name: 'umoci',
    probe: 'umoci',
    why: 'makes images, and unpacks those that are exported',
    purposes: ['test'],
  },
  {
    name: 'podman',
    probe: 'podman',
    why: 'builds images on mounts of the mount program',
    purposes: ['test'],
  },
  { name: 'crun', probe: 'crun', why: 'podman asks for a runtime', purposes: ['test'] },
  { name: 'zstd', probe: 'zstd', why: 'checks layers compressed with it', purposes: ['test'] },
  { name: 'git', probe: 'git', why: 'a real program in a session', purposes: ['test', 'bench'] },
  {
    name: 'rsync',
    probe: 'rsync',
    why: 'a real program in a session',
    purposes: ['test', 'bench'],
  },
  { name: 'sqlite3', probe: 'sqlite3', why: 'a real program in a session', purposes: ['test'] },
  {
    name: 'python3-venv',
    probe: ['python3', '-c', 'import ensurepip'],
    why: 'a real program in a session',
    purposes: ['test'],
  },
  { name: 'man-db', probe: 'man', why: 'shows the manual page', purposes: ['test'] },
  { name: 'zsh', probe: 'zsh', why: 'completions, and a shell in a session', purposes: ['test'] },
  { name: 'fish', probe: 'fish', why: 'completions, and a shell in a session', purposes: ['test'] },
  { name: 'tmux', probe: 'tmux', why: 'a screen for a full-screen program', purposes: ['test'] },
  { name: 'less', probe: 'less', why: 'a full-screen program in a session', purposes: ['test'] },
  {
    name: 'uidmap',
    probe: 'newuidmap',
    why: 'subordinate ids of ordinary users',
    purposes: ['test'],
  },
  { name: 'bsdutils', probe: 'script', why: 'a terminal for a test', purposes: ['test'] },
  { name: 'attr', probe: 'setfattr', why: 'extended attributes in tests', purposes: ['test'] },
  { name: 'acl', probe: 'setfacl', why: 'POSIX ACLs in tests', purposes: ['test'] },
  { name: 'libcap2-bin', probe: 'setcap', why: 'file capabilities in tests', purposes: ['test'] },
  {
    name: 'e2fsprogs',
    probe: 'mkfs.ext4',
    why: 'ext4 to compare with',
    purposes: ['test', 'bench'],
  },
  {
    name: 'util-linux',
    probe: 'unshare',
    why: 'private mount namespaces',
    purposes: ['test', 'bench'],
  },
  {
    name: 'rpm',
    probe: 'rpmbuild',
    why: 'packages of another kind, built and installed in a session',
    purposes: ['test'],
  },
  {
    name: 'btrfs-progs',
    probe: 'mkfs.btrfs',
    why: 'a filesystem whose files share data, and that has them copied up so',
    purposes: ['test'],
  },
  { name: 'strace', probe: 'strace', why: 'counts system calls', purposes: ['test', 'bench'] },
  {
    name: 'fuse-overlayfs',
    probe: 'fuse-overlayfs',
    why: 'a peer to measure against',
    purposes: ['bench'],
  },
  { name: 'unionfs-fuse', probe: 'unionfs', why: 'a peer to measure against', purposes: ['bench'] },
];
