/** --io=passthrough: who sees what when files are read and written by the kernel itself, and where that cannot be. */
import test from 'ava';
import type { UnlockOptions } from '../../src/index.ts';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'bytes go past the daemon; who reads a file goes on with the lower’s, all others see what is written',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base', 'd/b': 'x'.repeat(1_000_000), c: 'c' });
    const mnt = tools.plant(`${work}/mnt`, {});
    // Attributes of everything but access times, and contents.
    const script =
      'find . -printf "%p %m %U %G %s %T@ %C@ %n\\n" | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum';
    const checksum = () => tools.run('sh', ['-c', script], { cwd: tree });
    const before = checksum();
    for (const upper of ['tmpfs', tools.plant(`${work}/changes`, {})]) {
      const session = await library.unlock({
        source: [tree],
        mountpoint: mnt,
        upper,
        io: 'passthrough',
      });
      tools.equal((await session.status()).io, 'passthrough');
      const read = (fd: number) => {
        const buffer = Buffer.alloc(100);
        return buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, 100, 0));
      };
      const readers = [fs.openSync(`${mnt}/a`, 'r'), fs.openSync(`${mnt}/a`, 'r')];
      const { ino } = fs.statSync(`${mnt}/a`);
      const writers = [fs.openSync(`${mnt}/a`, 'a'), fs.openSync(`${mnt}/a`, 'r+')];
      fs.writeSync(writers[0] ?? -1, ' and more');
      fs.writeSync(writers[1] ?? -1, 'B', 0);
      const later = fs.openSync(`${mnt}/a`, 'r');
      tools.same(readers.map(read), ['base', 'base']);
      tools.same(
        [read(later), fs.readFileSync(`${mnt}/a`, 'utf8')],
        Array(2).fill('Base and more'),
      );
      for (const fd of [...readers, later]) tools.equal(fs.fstatSync(fd).ino, ino);
      tools.equal(fs.statSync(`${mnt}/a`).ino, ino);
      tools.equal(fs.statSync(`${mnt}/a`).size, 13);
      // Known while it is open, and not synced.
      const changed: string[] = [];
      for await (const { kind, path } of session.diff()) changed.push(kind + path);
      tools.same(changed, ['M/a']);
      for (const fd of [...readers, ...writers, later]) fs.closeSync(fd);
      fs.truncateSync(`${mnt}/c`, 0);
      fs.writeFileSync(`${mnt}/d/new`, 'n'.repeat(3_000_000));
      tools.equal(fs.readFileSync(`${mnt}/d/new`, 'utf8').length, 3_000_000);
      tools.equal(fs.readFileSync(`${mnt}/d/b`, 'utf8').length, 1_000_000);
      const { operations } = await session.statistics();
      tools.same([operations['READ']?.requests ?? 0, operations['WRITE']?.requests ?? 0], [0, 0]);
      await session.lock();
      tools.equal(checksum(), before);
      await tools.nothingIsLeft();
    }
  },
);

test(
  'a session whose daemon was killed comes back as it was',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const options: UnlockOptions = {
      source: [tree],
      name: 'kept',
      upper: 'tmpfs',
      io: 'passthrough',
    };
    const session = await library.unlock(options);
    fs.appendFileSync(`${tree}/a`, ' and more');
    const { daemon, keeper } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'base');
    const again = await library.unlock({ source: [tree], name: 'kept' });
    tools.equal((await again.status()).io, 'passthrough');
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'base and more');
    await again.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'files on a stacked filesystem go through the daemon, and that is told',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const parts = ['low', 'up', 'work'].map((name) => tools.plant(`${work}/parts/${name}`, {}));
    fs.writeFileSync(`${parts[0]}/a`, 'base');
    const stacked = tools.plant(`${work}/stacked`, {});
    const mnt = tools.plant(`${work}/mnt`, {});
    const layers = `lowerdir=${parts[0]},upperdir=${parts[1]},workdir=${parts[2]}`;
    tools.run('mount', ['-t', 'overlay', '-o', layers, 'none', stacked]);
    const options: UnlockOptions = {
      source: [stacked],
      mountpoint: mnt,
      upper: 'tmpfs',
      io: 'passthrough',
    };
    const session = await library.unlock(options);
    const reader = fs.openSync(`${mnt}/a`, 'r');
    fs.appendFileSync(`${mnt}/a`, ' and more');
    // Through the cache of the kernel, as with --io=cached.
    const seen = Buffer.alloc(20);
    tools.equal(seen.toString('utf8', 0, fs.readSync(reader, seen, 0, 20, 0)), 'base and more');
    fs.closeSync(reader);
    tools.equal(fs.readFileSync(`${mnt}/a`, 'utf8'), 'base and more');
    const { problems } = await session.status();
    tools.matches(problems.join('\n'), /files of the source go through ostree-ts.*stacked/);
    await session.lock();
    tools.equal(fs.readFileSync(`${stacked}/a`, 'utf8'), 'base');
    tools.run('umount', [stacked]);
    await tools.nothingIsLeft();
  },
);

test('what cannot have it is refused', sandboxed, async ({ library, tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: 'a' });
  const io = 'passthrough';
  const cases: [UnlockOptions, RegExp][] = [
    [{ source: [tree], io }, /changes in memory are in none/],
    [{ source: ['main'], repo: tree, mountpoint: work, upper: 'tmpfs', io }, /is for directories/],
    [{ source: [tree], upper: 'tmpfs', transport: 'fuse-native', io }, /nothing that fuse-native/],
  ];
  for (const [options, message] of cases) {
    const error = await tools.rejection(library.unlock(options));
    tools.matches(error.message, message);
    tools.equal((error.remedy ?? '').length > 0, true);
    await tools.nothingIsLeft();
  }
});

test(
  'a program keeps its capabilities when its data comes, and loses them when it is written to',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { program: 'data' });
    const mnt = tools.plant(`${work}/mnt`, {});
    // cap_net_raw+ep.
    const value = '0x0100000200200000000000000000000000000000';
    tools.run('setfattr', ['-n', 'security.capability', '-v', value, `${tree}/program`]);
    const session = await library.unlock({
      source: [tree],
      mountpoint: mnt,
      upper: 'tmpfs',
      io: 'passthrough',
      metacopy: true,
    });
    const seen = () =>
      tools.run('getfattr', [
        '--absolute-names',
        '-d',
        '-e',
        'hex',
        '-m',
        'capab',
        `${mnt}/program`,
      ]);
    const before = seen();
    tools.matches(before, new RegExp(value));
    fs.chmodSync(`${mnt}/program`, 0o700);
    const fd = fs.openSync(`${mnt}/program`, 'r+');
    tools.equal(seen(), before);
    fs.writeSync(fd, 'D');
    fs.closeSync(fd);
    tools.equal(seen(), '');
    tools.equal(fs.readFileSync(`${mnt}/program`, 'utf8'), 'Data');
    await session.lock();
    await tools.nothingIsLeft();
  },
);
