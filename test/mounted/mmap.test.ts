/** Mappings, and whether they agree with everything else. */
import { posixSuite } from '../helpers/posix.ts';
import { file, link } from '../helpers/trees.ts';

const posix = posixSuite(['passthrough']);

posix(
  'a shared mapping made before a write sees the write',
  { f: file('0123456789'.repeat(1000)), twin: link('f') },
  async (_, trial) => {
    await trial.gives(`
    open 0 f O_RDONLY
    mmap 0 0 0 10000 PROT_READ MAP_SHARED
    mload 0 0 5 => ok =01234
    mload 0 8000 5 => ok =01234
    open 1 f O_RDWR
    pwrite 1 0 =new
    mload 0 0 5 => ok =new34
    mload 0 8000 5 => ok =01234
    mmap 1 1 0 10000 PROT_READ|PROT_WRITE MAP_SHARED
    mstore 1 8000 =mapped
    mload 0 8000 6 => ok =mapped
    pread 0 8000 6 => ok =mapped
    open 2 twin O_RDONLY
    pread 2 8000 6 => ok =mapped
    pread 2 0 5 => ok =new34
  `);
  },
);

posix(
  'what is stored and synced is there when the cache is gone',
  { f: file('0123456789'.repeat(1000)) },
  async (t, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    mmap 0 0 0 10000 PROT_READ|PROT_WRITE MAP_SHARED
    mstore 0 4094 =across
    msync 0 MS_SYNC
    munmap 0
    close 0
    drop
    open 0 f O_RDONLY
    pread 0 4090 14 => ok =0123across0123
  `);
    t.is((await trial.stat('f')).size, 10_000);
  },
);

posix(
  'what is stored and not synced is there when the mapping is gone',
  { f: file('0123456789'.repeat(1000)) },
  async (_, trial) => {
    const other = await trial.other();
    await trial.gives(`
    open 0 f O_RDWR
    mmap 0 0 0 10000 PROT_READ|PROT_WRITE MAP_SHARED
    close 0
    mstore 0 100 =stored
    munmap 0
    drop
    sha256 f
    open 1 f O_RDONLY
    pread 1 98 10 => ok =89stored67
  `);
    await other.must(['open 0 f O_RDONLY']);
  },
);

posix(
  'what is stored into a hole and not written yet is no hole',
  { sparse: file('data', { size: 1 << 20 }) },
  async (t, trial) => {
    for (const name of ['new', 'sparse']) {
      await trial.gives(`
        open 0 ${name} O_RDWR|O_CREAT 0644
        truncate @0 1048576
        mmap 0 0 0 1048576 PROT_READ|PROT_WRITE MAP_SHARED
        mstore 0 500000 =stored
        mstore 0 900000 =again
      `);
      const ask = async (line: string) => Number((await trial.sys(line)).slice(3));
      const data = await ask('lseek 0 100000 SEEK_DATA');
      t.true(data <= 500_000 && data > 100_000, `${data}`);
      const hole = await ask('lseek 0 500000 SEEK_HOLE');
      t.true(hole > 500_000 && hole <= 900_000, `${hole}`);
      const next = await ask(`lseek 0 ${hole} SEEK_DATA`);
      t.true(next <= 900_000 && next >= hole, `${next}`);
      await trial.gives(`
        lseek 0 1000000 SEEK_DATA => ENXIO
        mload 0 500000 6 => ok =stored
        munmap 0
        close 0
      `);
    }
  },
);

posix(
  'a private mapping keeps its stores to itself',
  { f: file('0123456789') },
  async (_, trial) => {
    await trial.gives(`
    open 0 f O_RDONLY
    mmap 0 0 0 10 PROT_READ|PROT_WRITE MAP_PRIVATE
    mstore 0 0 =private
    mload 0 0 10 => ok =private789
    pread 0 0 10 => ok =0123456789
    mmap 1 0 0 10 PROT_READ|PROT_WRITE MAP_SHARED => EACCES
  `);
  },
);

posix(
  'a mapping past the end of the file raises SIGBUS',
  { f: file('0123456789'.repeat(1000)) },
  async (_, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    mmap 0 0 0 20000 PROT_READ|PROT_WRITE MAP_SHARED
    mload 0 9999 3 => ok =9%00%00
    mload 0 12288 1 => ok SIGBUS
    truncate f 100
    mload 0 4096 1 => ok SIGBUS
    mload 0 98 4 => ok =89%00%00
    truncate f 20000
    mload 0 4096 3 => ok =%00%00%00
    mstore 0 15000 =far
    pread 0 15000 3 => ok =far
    fallocate 0 FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 12288 4096
    mload 0 15000 3 => ok =%00%00%00
  `);
  },
);

posix(
  'a mapping outlives the name and the descriptor',
  { f: file('0123456789'), g: 'other' },
  async (_, trial) => {
    await trial.gives(`
    open 0 f O_RDWR
    mmap 0 0 0 10 PROT_READ|PROT_WRITE MAP_SHARED
    close 0
    rename g f
    drop
    mload 0 0 10 => ok =0123456789
    mstore 0 0 =X
    msync 0 MS_SYNC
    drop
    mload 0 0 3 => ok =X12
    munmap 0
    open 0 f O_RDONLY
    pread 0 0 9 => ok =other
  `);
  },
);

posix(
  'a mapping and write(2) of two processes agree',
  { f: file('0123456789'.repeat(500)) },
  async (t, trial) => {
    const other = await trial.other();
    await other.must(['open 0 f O_RDWR', 'mmap 0 0 0 5000 PROT_READ|PROT_WRITE MAP_SHARED']);
    await trial.gives('open 0 f O_RDWR');
    for (let round = 0; round < 50; round++) {
      const at = (round * 97) % 4990;
      t.is(await trial.sys(`pwrite 0 ${at} =w${round % 10}`), 'ok 2');
      t.is(await other.do(`mload 0 ${at} 2`), `ok =w${round % 10}`);
      t.is(await other.do(`mstore 0 ${at + 2} =m${round % 10}`), 'ok');
      t.is(await trial.sys(`pread 0 ${at} 4`), `ok =w${round % 10}m${round % 10}`);
    }
  },
);
