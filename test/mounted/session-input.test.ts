/** Bad input: an error of one line with a remedy, and nothing left behind. */
import test from 'ava';
import { sandboxed, USERS } from '../helpers/sandbox.ts';

test(
  'what cannot be unlocked is refused, and leaves nothing',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'base', file: '' });
    const mnt = `${work}/mnt`;
    mkdirSync(mnt);
    mkdirSync(`${work}/outer/inner`, { recursive: true });
    tools.run('mount', ['-t', 'tmpfs', 'none', `${work}/outer/inner`]);
    const living = await library.unlock({ source: [tree], mountpoint: mnt, name: 'living' });
    type Options = Parameters<typeof library.unlock>[0];
    const source = [tree];
    const cases: [what: string, options: Options, kind: string, message: RegExp][] = [
      ['no source', { source: [] }, 'SessionError', /Not currently booted into an OSTree system/],
      [
        'source missing',
        { source: [`${work}/none`] },
        'SessionError',
        /source .*none does not exist/,
      ],
      ['source a file', { source: [`${tree}/file`] }, 'SessionError', /not a directory/],
      ['source below a file', { source: [`${tree}/file/x`] }, 'SessionError', /not a directory/],
      [
        'mountpoint missing',
        { source, mountpoint: `${work}/none` },
        'SessionError',
        /mountpoint .*none does not exist/,
      ],
      [
        'mountpoint a file',
        { source, mountpoint: `${tree}/file` },
        'SessionError',
        /not a directory/,
      ],
      [
        'mountpoint a session',
        { source, mountpoint: mnt },
        'SessionError',
        /already the session living/,
      ],
      [
        'several sources, no mountpoint',
        { source: [tree, `${tree}/d`] },
        'UsageError',
        /several directories/,
      ],
      [
        'mounts below',
        { source: [`${work}/outer`] },
        'SessionError',
        /mounts below .*outer.*: .*outer\/inner/,
      ],
      ['root', { source: ['/'] }, 'SessionError', /over \//],
      ['name taken', { source, name: 'living' }, 'SessionError', /already a session named living/],
      ['name with a slash', { source, name: 'a/b' }, 'UsageError', /'a\/b' cannot be/],
      ['name ..', { source, name: '..' }, 'UsageError', /cannot be/],
      ['name empty', { source, name: '' }, 'UsageError', /cannot be/],
      ['name too long', { source, name: 'x'.repeat(65) }, 'UsageError', /cannot be/],
      ['size 0', { source, size: '0' }, 'UsageError', /could hold nothing/],
      ['size 0%', { source, size: '0%' }, 'UsageError', /could hold nothing/],
      ['size negative', { source, size: '-1G' }, 'UsageError', /not a size/],
      ['size nonsense', { source, size: 'lots' }, 'UsageError', /not a size/],
      ['size with a wrong unit', { source, size: '5X' }, 'UsageError', /not a size/],
      ['size beyond all bounds', { source, size: '9999999999999T' }, 'UsageError', /too large/],
    ];
    for (const [what, options, kind, message] of cases) {
      const error = await tools.rejection(library.unlock(options));
      tools.equal(error.name, kind, `${what}: ${error.stack}`);
      tools.matches(error.message, message);
      tools.equal(error.message.includes('\n'), false, what);
      tools.equal(
        (error.remedy ?? '') !== '' && !error.remedy?.includes('\n'),
        true,
        `${what}: remedy`,
      );
      tools.same(tools.mountpoints(), [mnt]);
      tools.same(
        (await library.listSessions()).map(({ name }) => name),
        ['living'],
      );
    }
    await living.lock();
    tools.run('umount', [`${work}/outer/inner`]);
    await tools.nothingIsLeft();
  },
);

test('unknown sessions, and none named among two', sandboxed, async ({ library, tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { 'a/x': '', 'b/x': '' });
  tools.matches((await tools.rejection(library.findSession())).message, /there is no session/);
  tools.matches((await tools.rejection(library.findSession('x'))).message, /no session 'x'/);
  const first = await library.unlock({ source: [`${tree}/a`] });
  tools.equal((await library.findSession()).name, 'a');
  const second = await library.unlock({ source: [`${tree}/b`] });
  const ambiguous = await tools.rejection(library.findSession());
  tools.matches(ambiguous.message, /2 sessions, and none is named/);
  tools.matches(ambiguous.remedy ?? '', /a, b/);
  tools.matches((await tools.rejection(library.findSession('c'))).remedy ?? '', /a, b/);
  await first.lock();
  const gone = await tools.rejection(first.lock());
  tools.matches(gone.message, /has ended/);
  tools.equal(
    (await tools.rejection(first.diff()[Symbol.asyncIterator]().next())).name,
    'SessionError',
  );
  await second.lock();
  await tools.nothingIsLeft();
});

test(
  'what deserves a warning gets one, and starts',
  sandboxed,
  async ({ library, tools, work }) => {
    const { totalmem } = await import('node:os');
    const tree = tools.plant(`${work}/tree`, { a: '' });
    const full = tools.plant(`${work}/full`, { hidden: '' });
    const words: string[] = [];
    const onWarning = (message: string) => words.push(message);
    const first = await library.unlock({ source: [tree], mountpoint: full, size: '1M', onWarning });
    tools.equal(words.length, 1);
    tools.matches(words.pop() ?? '', /full is not empty/);
    const second = await library.unlock({
      source: [tree],
      size: String(2 * totalmem()),
      onWarning,
    });
    tools.equal(words.length, 1);
    tools.matches(words.pop() ?? '', /more than the memory there is/);
    await second.lock();
    const third = await library.unlock({ source: [tree], size: '100%', onWarning });
    tools.equal(words.length, 1);
    tools.matches(words.pop() ?? '', /all sessions together/);
    await third.lock();
    await first.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'a mountpoint on a read-only filesystem is fine',
  sandboxed,
  async ({ library, tools, work }) => {
    const { writeFileSync } = await import('node:fs');
    tools.plant(`${work}/disk/tree`, { a: 'base' });
    tools.run('mount', ['--bind', `${work}/disk`, `${work}/disk`]);
    tools.run('mount', ['-o', 'remount,bind,ro', `${work}/disk`]);
    const session = await library.unlock({ source: [`${work}/disk/tree`] });
    writeFileSync(`${work}/disk/tree/a`, 'changed');
    await session.lock();
    tools.run('umount', [`${work}/disk`]);
    await tools.nothingIsLeft();
  },
);

test(
  'of several that are started over one place at once, one is there and the others are told of it',
  sandboxed,
  async ({ library, tools, work }) => {
    const sources = ['a', 'b', 'c', 'd'].map((name) => tools.plant(`${work}/${name}`, { f: name }));
    const mountpoint = tools.plant(`${work}/mnt`, {});
    const begun = sources.map((source) => library.unlock({ source: [source], mountpoint }));
    const settled = await Promise.allSettled(begun);
    const refused = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    tools.equal(refused.length, 3);
    for (const error of refused as Error[]) {
      tools.matches(error.message, /mnt is already the session mnt$/);
    }
    for (const one of settled) if (one.status === 'fulfilled') await one.value.lock();
    await tools.nothingIsLeft();
  },
);

test('without /dev/fuse it says so', sandboxed, async ({ library, tools, work }) => {
  const tree = tools.plant(`${work}/tree`, { a: '' });
  tools.run('umount', ['/dev/fuse']);
  tools.run('mount', ['--bind', '-o', 'nodev', work, work]);
  // A device that does not open: on a nodev mount.
  tools.run('mknod', ['-m', '666', `${work}/forbidden`, 'c', '10', '229']);
  tools.run('mount', ['-o', 'remount,bind,nodev', work]);
  tools.run('mount', ['--bind', `${work}/forbidden`, '/dev/fuse']);
  const forbidden = await tools.rejection(library.unlock({ source: [tree] }));
  tools.matches(forbidden.message, /\/dev\/fuse cannot be opened: EACCES/);
  tools.run('umount', ['/dev/fuse']);
  tools.run('mount', ['-t', 'tmpfs', 'none', '/dev']);
  const missing = await tools.rejection(library.unlock({ source: [tree] }));
  tools.matches(missing.message, /\/dev\/fuse is not there/);
  const { feature, state } = (await library.doctor()).find(({ detail }) =>
    detail.includes('/dev/fuse'),
  )!;
  tools.same([feature, state], ['FUSE device', 'missing']);
  await tools.nothingIsLeft();
});

test(
  'a user is refused what he may not read, and without fusermount3',
  sandboxed,
  async ({ library, tools, work }) => {
    const { chmodSync, copyFileSync, mkdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/mine`, { 'secret/a': '', 'mnt/x': '' });
    chmodSync(`${tree}/secret`, 0);
    const unreadable = await tools.rejection(library.unlock({ source: [`${tree}/secret`] }));
    tools.matches(unreadable.message, /secret is not readable/);
    const recursive = await tools.rejection(
      library.unlock({ source: [tree], mountpoint: `${tree}/mnt` }),
    );
    tools.matches(recursive.message, /inside the source/);
    // The first that is found is the one that is meant.
    mkdirSync(`${work}/bin`);
    copyFileSync('/usr/bin/fusermount3', `${work}/bin/fusermount3`);
    chmodSync(`${work}/bin/fusermount3`, 0o755);
    process.env['PATH'] = `${work}/bin`;
    const weak = await tools.rejection(library.unlock({ source: [tree] }));
    tools.matches(weak.message, /not setuid root/);
    delete process.env['XDG_RUNTIME_DIR'];
    process.env['PATH'] = '/usr/bin';
    const session = await library.unlock({ source: [tree] });
    tools.equal(session.folder.startsWith('/run/user/'), true);
    await session.lock();
    process.env['XDG_RUNTIME_DIR'] = '/root';
    const other = await library.unlock({ source: [tree] });
    tools.equal(other.folder.startsWith('/run/user/'), true);
    await other.lock();
    await tools.nothingIsLeft();
  },
  USERS[0],
);
