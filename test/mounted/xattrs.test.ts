/** Extended attributes: every namespace, every kind of file, every refusal. */
import { posixSuite } from '../helpers/posix.ts';
import { device, dir, fifo, file, symlink } from '../helpers/trees.ts';

const posix = posixSuite();

posix(
  'attributes are set, read, listed and removed in every namespace',
  {
    f: file('f', { xattrs: { 'user.old': 'o', 'trusted.old': 't', 'security.old': 's' } }),
    d: dir({ xattrs: { 'user.d': 'd' } }),
  },
  async (_, trial) => {
    await trial.gives(`
    listxattr f => ok security.old trusted.old user.old
    getxattr f security.old => ok =s
    getxattr f trusted.old => ok =t
    setxattr f user.new =1
    setxattr f trusted.new =2
    setxattr f security.new =3
    setxattr d user.d =dd
    setxattr d trusted.d =t
    setxattr f user.empty =
    getxattr f user.empty => ok =
    getxattr f user.old => ok =o
    removexattr f trusted.old
    removexattr f user.old
    getxattr f user.old => ENODATA
    removexattr f user.old => ENODATA
    drop
    listxattr f => ok security.new security.old trusted.new user.empty user.new
    getxattr f security.new => ok =3
    listxattr d => ok trusted.d user.d
    getxattr d user.d => ok =dd
    setxattr f user.old =again
    getxattr f user.old => ok =again
  `);
  },
);

posix(
  'attributes are carried along by copy-up, rename and link',
  { f: file('f', { xattrs: { 'user.a': '1', 'trusted.b': '2' } }), 'd/x': '' },
  async (_, trial) => {
    await trial.gives(`
    chmod f 0600
    rename f d/f
    link d/f d/g
    truncate d/g 0
    getxattr d/f user.a => ok =1
    listxattr d/g => ok trusted.b user.a
  `);
  },
);

posix('CREATE and REPLACE', { f: file('f', { xattrs: { 'user.a': '1' } }) }, async (_, trial) => {
  await trial.gives(`
    setxattr f user.a =2 XATTR_CREATE => EEXIST
    setxattr f user.b =2 XATTR_REPLACE => ENODATA
    setxattr f user.a =2 XATTR_REPLACE
    setxattr f user.b =2 XATTR_CREATE
    setxattr f user.b =2 0x80 => EINVAL
    getxattr f user.a => ok =2
    removexattr f user.a
    setxattr f user.a =3 XATTR_REPLACE => ENODATA
    setxattr f user.a =3 XATTR_CREATE
  `);
});

posix(
  'sizes: the query, the short buffer, the limits',
  { f: file('f', { xattrs: { 'user.a': '12345' } }) },
  async (_, trial) => {
    // What a disk holds of them is its filesystem's affair: ext4 has a block for all.
    const most = trial.upper === 'disk' ? 1000 : 65536;
    await trial.gives(`
    getxattr f user.a 0 => ok 5
    getxattr f user.a 4 => ERANGE
    getxattr f user.a 5 => ok =12345
    listxattr f 0 => ok 7
    listxattr f 6 => ERANGE
    listxattr f 7 => ok user.a
    setxattr f user.big #1:${most}
    getxattr f user.big 0 => ok ${most}
    setxattr f user.bigger #1:65537 => E2BIG
    setxattr f user.${'n'.repeat(250)} =1
    getxattr f user.${'n'.repeat(250)} => ok =1
    setxattr f user.${'n'.repeat(251)} =1 => ERANGE
  `);
  },
);

posix('names that no file can have are refused', { f: 'f' }, async (_, trial) => {
  await trial.gives(`
    setxattr f foo.bar =1 => EOPNOTSUPP
    setxattr f nodot =1 => EOPNOTSUPP
    setxattr f system.nonsense =1 => EOPNOTSUPP
    getxattr f foo.bar => EOPNOTSUPP
    getxattr f system.nonsense => EOPNOTSUPP
    removexattr f foo.bar => EOPNOTSUPP
    setxattr f user. =1 => EINVAL
    getxattr f user. => EINVAL
    getxattr f user.none => ENODATA
    getxattr f trusted.none => ENODATA
    getxattr f security.none => ENODATA
    getxattr f system.posix_acl_access => ENODATA
    setxattr f user.%ff%01 =odd
    listxattr f => ok user.%ff%01
    getxattr f user.%ff%01 => ok =odd
    setxattr missing user.a =1 => ENOENT
  `);
});

posix(
  'user attributes belong to files and directories, the others to anything',
  {
    s: symlink('f', { xattrs: { 'trusted.old': 'x' } }),
    p: fifo(),
    n: device('S_IFCHR', 1, 3),
    f: 'f',
  },
  async (_, trial) => {
    await trial.gives(`
    setxattr s user.a =1 => EPERM
    setxattr p user.a =1 => EPERM
    setxattr n user.a =1 => EPERM
    getxattr s user.a => ENODATA
    setxattr s trusted.a =1
    setxattr s security.a =2
    setxattr p trusted.a =3
    setxattr n trusted.a =4
    listxattr s => ok security.a trusted.a trusted.old
    getxattr p trusted.a => ok =3
    getxattr n trusted.a => ok =4
    listxattr f => ok
    readlink s => ok f
  `);
  },
);

posix(
  'who may see and set what',
  {
    f: file('f', { mode: 0o644, xattrs: { 'trusted.t': '1', 'security.s': '2', 'user.u': '3' } }),
    t: dir({ mode: 0o1777 }),
    mine: file('', { uid: 1000 }),
  },
  async (_, trial) => {
    await trial.gives(`
    as 1000 1000
    getxattr f trusted.t => ENODATA
    getxattr f user.u => ok =3
    getxattr f security.s => ok =2
    listxattr f => ok security.s user.u
    setxattr f user.u =4 => EACCES
    setxattr mine trusted.t =4 => EPERM
    setxattr mine security.s =4 => EPERM
    setxattr mine user.u =4
    removexattr f user.u => EACCES
    setxattr t user.u =4 => EPERM
    as 0 0
    listxattr f => ok security.s trusted.t user.u
  `);
  },
);

posix('a file has as many attributes as it needs', { f: 'f' }, async (t, trial) => {
  const names = Array.from(
    { length: trial.upper === 'disk' ? 40 : 200 },
    (_, index) => `user.attribute-${String(index).padStart(3, '0')}`,
  );
  for (const name of names) t.is(await trial.sys(`setxattr f ${name} =${name}`), 'ok');
  t.is(await trial.sys('listxattr f'), `ok ${names.join(' ')}`);
  for (const name of names.slice(0, 20)) t.is(await trial.sys(`removexattr f ${name}`), 'ok');
  t.is(await trial.sys('listxattr f'), `ok ${names.slice(20).join(' ')}`);
});

posix(
  "a program's own trusted.overlay.* attributes are attributes like any others",
  { 'd/f': 'f', e: dir() },
  async (_, trial) => {
    // What a program sets is data to us, as for a container store in the tree; it must not change what the tree shows.
    await trial.gives(`
    setxattr d trusted.overlay.opaque =y
    setxattr d/f trusted.overlay.redirect =/e
    getxattr d trusted.overlay.opaque => ok =y
    listxattr d => ok trusted.overlay.opaque
    drop
    list d => ok f
    mkdir d/sub
    list d => ok f sub
    getxattr d/f trusted.overlay.redirect => ok =/e
    removexattr d trusted.overlay.opaque
    getxattr d trusted.overlay.opaque => ENODATA
  `);
  },
);
