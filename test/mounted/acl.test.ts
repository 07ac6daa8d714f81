/** POSIX ACLs: enforced, inherited, in step with the mode. */
import { acl } from '../helpers/acl.ts';
import { dataWord, word } from '../helpers/hand.ts';
import { posixSuite } from '../helpers/posix.ts';
import { dir, file } from '../helpers/trees.ts';

const posix = posixSuite();
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const FOR_1000 = acl('u:6 user:1000:4 g:0 m:4 o:0');

posix(
  'an access ACL lets in whom it names, and nobody else',
  { f: file('f', { mode: 0o600, xattrs: { [ACCESS]: FOR_1000 } }), g: file('g', { mode: 0o600 }) },
  async (t, trial) => {
    await trial.gives(`
      setxattr g ${ACCESS} ${dataWord(FOR_1000)}
      listxattr f => ok ${ACCESS}
      listxattr g => ok ${ACCESS}
      getxattr f ${ACCESS} => ok =${word(FOR_1000)}
      as 1000 1000
      open 0 f O_RDONLY
      open 0 g O_RDONLY
      open 0 f O_WRONLY => EACCES
      open 0 g O_WRONLY => EACCES
      as 2000 2000
      open 0 f O_RDONLY => EACCES
      open 0 g O_RDONLY => EACCES
      as 0 0
    `);
    // The group bits show the mask.
    t.is((await trial.stat('f')).mode & 0o777, 0o640);
    t.is((await trial.stat('g')).mode & 0o777, 0o640);
  },
);

posix(
  'mask and mode are kept in step',
  { f: file('f', { mode: 0o600, xattrs: { [ACCESS]: FOR_1000 } }) },
  async (t, trial) => {
    await trial.gives(`
      chmod f 0600
      getxattr f ${ACCESS} => ok =${word(acl('u:6 user:1000:4 g:0 m:0 o:0'))}
      as 1000 1000
      open 0 f O_RDONLY => EACCES
      as 0 0
      chmod f 0670
      getxattr f ${ACCESS} => ok =${word(acl('u:6 user:1000:4 g:0 m:7 o:0'))}
      as 1000 1000
      open 0 f O_RDONLY
      as 0 0
      removexattr f ${ACCESS}
      listxattr f => ok
      as 1000 1000
      open 0 f O_RDONLY => EACCES
      as 0 0
    `);
    t.is((await trial.stat('f')).mode & 0o777, 0o670);
  },
);

posix(
  'an ACL that says no more than a mode becomes the mode',
  { f: file('f', { mode: 0o600 }) },
  async (t, trial) => {
    await trial.gives(`
    setxattr f ${ACCESS} ${dataWord(acl('u:7 g:5 o:4'))}
    getxattr f ${ACCESS} => ENODATA
    listxattr f => ok
  `);
    t.is((await trial.stat('f')).mode & 0o777, 0o754);
  },
);

posix(
  'a default ACL is inherited, and the umask is ignored then',
  { d: dir({ mode: 0o777, xattrs: { [DEFAULT]: acl('u:7 user:1000:7 g:5 m:7 o:0') } }) },
  async (t, trial) => {
    await trial.gives(`
      umask 077
      open 0 d/f O_CREAT|O_RDWR 0666
      mkdir d/sub 0777
      mknod d/p S_IFIFO|0666
      open 1 d O_TMPFILE|O_RDWR 0666
      symlink x d/s
      listxattr d/s => ok
      getxattr d/f ${ACCESS} => ok =${word(acl('u:6 user:1000:7 g:5 m:6 o:0'))}
      getxattr @1 ${ACCESS} => ok =${word(acl('u:6 user:1000:7 g:5 m:6 o:0'))}
      getxattr d/f ${DEFAULT} => ENODATA
      getxattr d/sub ${DEFAULT} => ok =${word(acl('u:7 user:1000:7 g:5 m:7 o:0'))}
      getxattr d/sub ${ACCESS} => ok =${word(acl('u:7 user:1000:7 g:5 m:7 o:0'))}
      as 1000 1000
      open 0 d/f O_RDWR
      as 0 0
      mkdir d/sub/deeper 0700
      getxattr d/sub/deeper ${DEFAULT}
      removexattr d ${DEFAULT}
      open 0 d/plain O_CREAT|O_RDWR 0666
    `);
    const mode = async (path: string) => (await trial.stat(path)).mode & 0o777;
    t.deepEqual(
      [
        await mode('d/f'),
        await mode('d/sub'),
        await mode('d/p'),
        await mode('@1'),
        await mode('d/plain'),
      ],
      [0o660, 0o770, 0o660, 0o660, 0o600],
    );
  },
);

posix(
  'a minimal default ACL sets the mode without an access ACL',
  { d: dir({ xattrs: { [DEFAULT]: acl('u:7 g:5 o:0') } }) },
  async (t, trial) => {
    await trial.gives(`
      umask 0
      open 0 d/f O_CREAT|O_RDWR 0666
      listxattr d/f => ok
    `);
    t.is((await trial.stat('d/f')).mode & 0o777, 0o640);
  },
);

posix(
  'ACLs that make no sense are refused',
  { f: 'f', d: dir(), mine: file('', { uid: 1000 }) },
  async (_, trial) => {
    await trial.gives(`
    setxattr f ${ACCESS} =nonsense => EOPNOTSUPP
    setxattr f ${ACCESS} :0200000001 => EINVAL
    setxattr f ${ACCESS} ${dataWord(acl('u:7 user:1000:7 g:5 o:0'))} => EINVAL
    setxattr f ${DEFAULT} ${dataWord(acl('u:7 g:5 o:0'))} => EACCES
    as 1000 1000
    setxattr f ${ACCESS} ${dataWord(FOR_1000)} => EPERM
    setxattr d ${DEFAULT} ${dataWord(acl('u:7 g:5 o:0'))} => EPERM
    setxattr mine ${ACCESS} ${dataWord(FOR_1000)}
    as 0 0
    listxattr f => ok
    listxattr d => ok
  `);
  },
);

posix(
  'an ACL set by one who is not in the group drops setgid',
  {
    f: file('', { uid: 1000, gid: 77, mode: 0o2755 }),
    g: file('', { uid: 1000, gid: 77, mode: 0o2755 }),
  },
  async (t, trial) => {
    await trial.gives(`
      as 1000 1000
      setxattr f ${ACCESS} ${dataWord(acl('u:7 user:5:7 g:5 m:7 o:5'))}
      as 1000 1000 77
      setxattr g ${ACCESS} ${dataWord(acl('u:7 user:5:7 g:5 m:7 o:5'))}
      as 0 0
    `);
    t.is((await trial.stat('f')).mode & 0o7777, 0o775);
    t.is((await trial.stat('g')).mode & 0o7777, 0o2775);
  },
);

posix(
  'ACLs survive rename, write, link and a cold cache',
  { f: file('hello', { mode: 0o600, xattrs: { [ACCESS]: FOR_1000 } }), 'd/x': '' },
  async (_, trial) => {
    await trial.gives(`
      open 0 f O_RDWR
      pwrite 0 0 =J
      rename f d/g
      link d/g h
      close 0
      drop
      getxattr h ${ACCESS} => ok =${word(FOR_1000)}
      as 1000 1000
      open 0 d/g O_RDONLY
      pread 0 0 9 => ok =Jello
      open 0 h O_RDWR => EACCES
      as 0 0
    `);
  },
);
