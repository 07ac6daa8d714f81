/** What a session does with its lower, as the kernel sees it: it reads. */
import test from 'ava';
import { inSandbox } from '../helpers/sandbox.ts';

test('the lower is never opened for writing, nor changed in any other way, on any upper', async (t) => {
  const seen = await inSandbox(async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const lines: Record<string, string[]> = {};
    for (const kind of ['memory', 'tmpfs', 'disk', 'passthrough']) {
      // Its paths are traced as from its root: by their names they are known from those of the upper.
      const tree = tools.plant(`${work}/${kind}`, {
        'low-a': 'base',
        'low-d/b': 'x',
        'low-d/e/c': 'c',
        'low-linked': 'l',
        'low-large': 'x'.repeat(300_000),
      });
      fs.linkSync(`${tree}/low-linked`, `${tree}/low-twin`);
      const mnt = tools.plant(`${work}/mnt-${kind}`, {});
      const options =
        kind === 'passthrough'
          ? ({ upper: 'tmpfs', io: kind } as const)
          : { upper: kind === 'disk' ? tools.plant(`${work}/changes`, {}) : kind };
      const session = await library.unlock({ source: [tree], mountpoint: mnt, ...options });
      const { daemon } = await tools.pids(session);
      const end = await tools.traced(daemon, `${work}/trace`, ['-y', '-e', 'trace=%file,%desc']);
      fs.appendFileSync(`${mnt}/low-a`, ' and more');
      fs.writeFileSync(`${mnt}/low-d/new`, 'new');
      fs.truncateSync(`${mnt}/low-large`, 100_000);
      fs.appendFileSync(`${mnt}/low-linked`, ' and more');
      fs.chmodSync(`${mnt}/low-d/b`, 0o600);
      fs.utimesSync(`${mnt}/low-d/e/c`, 1, 1);
      fs.renameSync(`${mnt}/low-d`, `${mnt}/moved`);
      fs.rmSync(`${mnt}/moved/e`, { recursive: true });
      fs.symlinkSync('low-a', `${mnt}/symlink`);
      tools.equal(fs.readFileSync(`${mnt}/low-a`, 'utf8'), 'base and more');
      lines[kind] = (await end()).filter((line) => /<\/low-|<\/>, "low-/.test(line));
      await session.lock();
      await tools.nothingIsLeft();
    }
    return lines;
  });
  const flags = String.raw`(?:\|O_(?:CLOEXEC|DIRECTORY|NOFOLLOW|NOATIME|NONBLOCK|PATH|LARGEFILE))*`;
  const looks = [
    new RegExp(
      String.raw`\bopenat2?\(\d+<[^>]*>, "[^"]*", (?:\{flags=)?O_(?:RDONLY|PATH)${flags}[,)}]`,
    ),
    /\b(?:close|statx|newfstatat|fstat|fstatfs|readlinkat|getdents64|lseek|pread64|preadv|read|dup|listxattrat|getxattrat)\(\d+</,
    /\bfcntl\(\d+<[^>]*>, F_DUPFD_CLOEXEC/,
    // Out of the lower, into a file that is none of its.
    /\bcopy_file_range\(\d+<[^>]*>, \[\d+\], \d+<(?!\/low-)/,
    /\bsplice\(\d+<[^>]*>, \[\d+\], \d+<(?!\/low-)/,
    // Its first descriptor is the one that is written to.
    /\bsendfile\(\d+<(?!\/low-)[^>]*>, \d+</,
  ];
  for (const [kind, calls] of Object.entries(seen)) {
    t.true(
      calls.some((line) => /\bopenat2?\(/.test(line)),
      kind,
    );
    t.deepEqual(
      calls.filter((line) => !looks.some((pattern) => pattern.test(line))),
      [],
      kind,
    );
  }
});
