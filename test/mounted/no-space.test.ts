/** ENOSPC at every step: what is refused changes nothing, and a full session can be emptied. */
import test from 'ava';
import { compareListings } from '../helpers/compare.ts';
import type { Hand } from '../helpers/hand.ts';
import { mounted, UPPER } from '../helpers/mounted.ts';
import { dir, file, link, symlink, type Tree } from '../helpers/trees.ts';

const PAST = String(Number.MAX_SAFE_INTEGER);

const TREE: Tree = {
  f: file('0123456789'.repeat(2000), { xattrs: { 'user.a': '1' } }),
  g: file('g'.repeat(9000)),
  twin: link('g'),
  'd/e/deep': 'deep',
  'd/x': 'x',
  empty: dir(),
  s: symlink('f'),
  // Each for one step only: where there is room for it, it is done.
  'old name': 'r',
  over: 'o',
  'whole/e': 'e',
  a: 'a',
  b: 'b',
};

/** Fills a session until a new file of one byte is refused. */
async function fill(hand: Hand): Promise<void> {
  let answer = await hand.do('open 50 filler O_CREAT|O_RDWR 0644');
  if (answer !== 'ok') return;
  for (const size of [262_144, 4096]) {
    do answer = await hand.do(`write 50 *7:${size}`);
    while (answer === `ok ${size}`);
  }
  for (let count = 0; count < 10_000; count++) {
    answer = await hand.do(`mknod filler-${count} S_IFREG|0644`);
    if (answer !== 'ok') break;
  }
  // Names are cheaper than files.
  for (let count = 0; count < 200; count++)
    if ((await hand.do(`link filler filler-l${count}`)) !== 'ok') break;
}

/** Each on a full session. All or nothing: `ENOSPC` leaves the tree as it was. */
const STEPS: [string, string[]][] = [
  ['a new file', ['mknod new S_IFREG|0644']],
  ['a new directory', ['mkdir new']],
  ['a new symlink', ['symlink x new']],
  ['a nameless file', ['open 1 . O_TMPFILE|O_RDWR 0644']],
  ['copy-up by chmod', ['chmod f 0600']],
  ['copy-up by chown, deep down', ['chown d/e/deep 5 5']],
  ['copy-up by utimens', ['utimens d/x 1.1 2.2']],
  ['a write to a lower file', ['open 1 f O_RDWR', 'pwrite 1 5000 =xyz']],
  ['a write across blocks', ['open 1 f O_RDWR', 'pwrite 1 4000 #1:9000']],
  ['a write to a linked file', ['open 1 twin O_RDWR', 'pwrite 1 0 =J']],
  ['an append', ['open 1 f O_WRONLY|O_APPEND', 'write 1 =more']],
  ['truncation to within a block', ['truncate f 5001']],
  ['a longer file', ['truncate f 30000']],
  ['fallocate', ['open 1 f O_RDWR', 'fallocate 1 0 0 100000']],
  [
    'a punched hole',
    ['open 1 f O_RDWR', 'fallocate 1 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 100 10000'],
  ],
  ['a zeroed range', ['open 1 f O_RDWR', 'fallocate 1 FALLOC_FL_ZERO_RANGE 100 30000']],
  ['copy_file_range', ['open 1 f O_RDWR', 'open 2 g O_RDONLY', 'copyrange 2 0 1 100 9000']],
  ['an attribute', ['setxattr f user.b #1:3000']],
  ['an attribute removed', ['removexattr f user.a']],
  ['a link', ['link f new']],
  ['a rename', ['rename old%20name new']],
  ['a rename over', ['rename over d/x']],
  ['a directory renamed', ['rename whole moved']],
  ['an exchange', ['rename a b RENAME_EXCHANGE']],
  [
    'a store through a mapping',
    [
      'open 1 f O_RDWR',
      'mmap 0 1 0 4096 PROT_READ|PROT_WRITE MAP_SHARED',
      'mstore 0 0 =x',
      'msync 0 MS_SYNC',
    ],
  ],
];

for (const slack of [0, 700, 1100, 2300, 4200, 5500]) {
  test.serial(
    `in a full session with ${slack} bytes free, what is refused changes nothing`,
    async (t) => {
      t.timeout(120_000);
      await using session = await mounted({ lower: TREE, options: { size: '1M' } });
      const hand = session.hand();
      // Room of a known size: an attribute that is taken away again; on disk those have less room than that.
      const [take, give] =
        UPPER === 'disk'
          ? ['pwrite 49 0', 'truncate @49 0']
          : ['setxattr @49 user.slack', 'removexattr @49 user.slack'];
      await hand.must(['open 49 slack O_CREAT|O_RDWR 0644']);
      if (slack > 0) await hand.must([`${take} #1:${slack}`]);
      await fill(hand);
      if (slack > 0) await hand.must([give]);
      let refused = 0;
      for (const [index, [what, steps]] of STEPS.entries()) {
        const lines = steps.map((line) => line.replace(/\bnew$/, `new-${index}`));
        const before = await hand.do(`tree . ${PAST}`);
        const answers = await hand.script(lines);
        const last = answers.at(-1) ?? '';
        if (last.startsWith('ok')) continue;
        refused++;
        t.regex(last, /^ENOSPC$|^EIO$/, what);
        await hand.must(['drop']);
        await hand.script(['munmap 0', 'close 1', 'close 2']);
        const after = await hand.do(`tree . ${PAST}`);
        const changed = what.includes('mapping') ? [] : differences(before, after);
        t.deepEqual(changed, [], what);
      }
      if (slack === 0) t.true(refused > 10, `${refused} refused`);
      // A full session can be emptied, and then written again; a file system of the host needs room to note a removal.
      const remove = ['unlink twin', 'unlink d/e/deep', 'rmdir d/e'];
      if (UPPER === 'memory') await hand.must(remove);
      const names = (await hand.do('list .'))
        .split(' ')
        .filter((name) => name.startsWith('filler'));
      await hand.must([...names.map((name) => `unlink ${name}`), 'close 50']);
      if (UPPER !== 'memory') await hand.must(remove);
      await hand.must(['open 1 again O_CREAT|O_RDWR 0644', 'write 1 #1:100000', 'fsync 1']);
      const { used, limit } = await session.session.status();
      t.true(used !== null && limit !== null && used < limit);
    },
  );
}

test('copy_file_range into a session that gets full says how far it came', async (t) => {
  const size = 3 << 20;
  await using session = await mounted({
    lower: { big: file('big'.repeat(size / 3)) },
    options: { size: '1M' },
  });
  const hand = session.hand();
  await hand.must(['open 1 big O_RDONLY', 'open 2 new O_CREAT|O_RDWR 0644']);
  const answer = await hand.do(`copyrange 1 0 2 0 ${size}`);
  const copied = Number(answer.slice(3));
  t.true(copied > 0 && copied < size, answer);
  t.is(await hand.do(`copyrange 1 ${copied} 2 ${copied} ${size}`), 'ENOSPC');
  const seen = await hand.do(`stat new`);
  t.regex(seen, new RegExp(`\\bsize=${copied}\\b`));
  await hand.must(['drop']);
  t.regex(await hand.do(`stat new`), new RegExp(`\\bsize=${copied}\\b`));
  t.is(await hand.do(`pread 2 ${copied - 3} 9`), 'ok =big');
});

test('a file that is cut is not copied first', async (t) => {
  const big = file('big'.repeat(1 << 20));
  const lower: Tree = { a: big, b: big };
  await using session = await mounted({ lower, options: { size: '1M' } });
  const hand = session.hand();
  await hand.must([
    'truncate a 5',
    'open 1 b O_WRONLY|O_TRUNC',
    'write 1 =new',
    'open 2 a O_RDONLY',
  ]);
  t.is(await hand.do('pread 2 0 9'), 'ok =bigbi');
  await hand.must(['truncate a 9', 'open 3 b O_RDONLY']);
  t.is(await hand.do('pread 2 0 9'), 'ok =bigbi%00%00%00%00');
  t.is(await hand.do('pread 3 0 9'), 'ok =new');
  t.is((await session.session.status()).changes, 2);
});

function differences(before: string, after: string): string[] {
  return before === after ? [] : compareListings(before, after);
}
