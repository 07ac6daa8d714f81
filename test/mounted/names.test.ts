/** Names: lengths, bytes, depth; symlinks. */
import { word } from '../helpers/hand.ts';
import { posixSuite } from '../helpers/posix.ts';
import { dir, symlink } from '../helpers/trees.ts';

const posix = posixSuite();
const LONGEST = 'n'.repeat(255);
const TOO_LONG = 'n'.repeat(256);

function inOrder(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

posix(
  'a name has up to 255 bytes, in every operation that takes one',
  { f: 'x', d: dir() },
  async (_, trial) => {
    await trial.gives(`
    open 0 ${LONGEST} O_CREAT|O_EXCL|O_RDWR 0644
    stat ${LONGEST}
    rename ${LONGEST} d/${LONGEST}
    link d/${LONGEST} ${LONGEST}
    unlink ${LONGEST}
    mkdir ${LONGEST}
    rmdir ${LONGEST}
    symlink x ${LONGEST}
    readlink ${LONGEST} => ok x
    unlink ${LONGEST}
    stat ${TOO_LONG} => ENAMETOOLONG
    open 0 ${TOO_LONG} O_RDONLY => ENAMETOOLONG
    open 0 ${TOO_LONG} O_CREAT|O_RDWR 0644 => ENAMETOOLONG
    open 0 ${TOO_LONG} O_CREAT|O_EXCL|O_RDWR 0644 => ENAMETOOLONG
    mkdir ${TOO_LONG} => ENAMETOOLONG
    mknod ${TOO_LONG} S_IFIFO|0644 => ENAMETOOLONG
    symlink x ${TOO_LONG} => ENAMETOOLONG
    link f ${TOO_LONG} => ENAMETOOLONG
    rename f ${TOO_LONG} => ENAMETOOLONG
    rename ${TOO_LONG} g => ENAMETOOLONG
    rename f ${TOO_LONG} RENAME_NOREPLACE => ENAMETOOLONG
    rename f ${TOO_LONG} RENAME_EXCHANGE => ENAMETOOLONG
    unlink ${TOO_LONG} => ENAMETOOLONG
    rmdir ${TOO_LONG} => ENAMETOOLONG
    stat ${'n'.repeat(1000)} => ENAMETOOLONG
    mkdir ${'n'.repeat(3000)} => ENAMETOOLONG
    list . => ok d f
  `);
  },
);

posix('a name may hold any byte but NUL and the slash', { plain: '' }, async (t, trial) => {
  const names = Array.from({ length: 255 }, (_, index) => index + 1)
    .filter((byte) => byte !== 0x2f && byte !== 0x2e)
    .map((byte) => String.fromCharCode(byte));
  const odd = [...names, '\xff\xfe', '\xc3', 'a\xc3\x28', '...', ' ', '\n\n'];
  await trial.gives('mkdir d');
  const unique = [...new Set(odd)];
  for (const name of unique)
    t.is(await trial.sys(`open 0 d/${word(name)} O_CREAT|O_EXCL|O_WRONLY 0644`), 'ok');
  const listed = (await trial.sys('list d')).split(' ').slice(1);
  t.deepEqual(
    listed,
    unique.map(word).sort((a, b) => inOrder(decode(a), decode(b))),
  );
  for (const name of unique) t.is(await trial.sys(`unlink d/${word(name)}`), 'ok', word(name));
  await trial.gives('rmdir d');
});

function decode(escaped: string): string {
  return escaped.replaceAll(/%(..)/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

const DEEP = Array.from({ length: 14 }, (_, index) => `${index}`.padEnd(250, 'd')).join('/');

posix('paths may be as long as PATH_MAX', { [`${DEEP}/f`]: 'deep' }, async (t, trial) => {
  await trial.gives(`
    open 0 ${DEEP}/f O_RDWR
    pread 0 0 10 => ok =deep
    pwrite 0 4 =er
    mkdir ${DEEP}/x
    rename ${DEEP}/f ${DEEP}/x/g
    sha256 ${DEEP}/x/g
    stat ${DEEP}/f => ENOENT
    setxattr ${DEEP}/x/g user.deep =1
  `);
  t.is((await trial.stat(`${DEEP}/x/g`)).size, 6);
});

posix('a tree may be deeper than any path can say', { top: dir() }, async (t, trial) => {
  const levels = Array.from({ length: 40 }, () => [`mkdir ${LONGEST}`, `cd ${LONGEST}`]).flat();
  await trial.gives('cd top');
  await trial.gives(levels.join('\n'));
  await trial.gives(`
    open 0 f O_CREAT|O_RDWR 0644
    write 0 =bottom
    rename f g
    link g h
    stat g
    tick
    list . => ok g h
    unlink g
    unlink h
  `);
  for (let level = 0; level < 40; level++) {
    t.is(await trial.sys('cd ..'), 'ok');
    t.is(await trial.sys(`rmdir ${LONGEST}`), 'ok');
  }
  await trial.gives('list . => ok');
});

posix(
  'symlinks',
  {
    f: 'f',
    s: symlink('f'),
    long: symlink('x'.repeat(4095)),
    loop: symlink('loop'),
    dangling: symlink('nowhere'),
  },
  async (t, trial) => {
    await trial.gives(`
    readlink s => ok f
    readlink f => EINVAL
    readlink long => ok ${'x'.repeat(4095)}
    symlink ${'y'.repeat(4095)} long2
    readlink long2 => ok ${'y'.repeat(4095)}
    symlink ${'y'.repeat(4096)} long3 => ENAMETOOLONG
    symlink '' empty => ENOENT
    symlink f s => EEXIST
    open 0 loop O_RDONLY => ELOOP
    open 0 s O_RDONLY|O_NOFOLLOW => ELOOP
    open 0 dangling O_RDONLY => ENOENT
    open 0 s O_RDWR
    pwrite 0 0 =F
    open 1 f O_RDONLY
    pread 1 0 5 => ok =F
    chown s 5 6
    rename s t
    readlink t => ok f
    open 0 dangling O_CREAT|O_EXCL|O_RDWR 0644 => EEXIST
    symlink %ff%01 odd
    readlink odd => ok %ff%01
  `);
    const made = await trial.stat('t');
    t.deepEqual([made.mode, made.size, made.uid, made.gid], [0o120777, 1, 5, 6]);
    t.is((await trial.stat('f')).uid, 0);
  },
);
