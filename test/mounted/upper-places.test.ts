/** What the filesystem of a directory of changes can do: what is used of it, and what is missed by name. */
import test from 'ava';
import { sandboxed } from '../helpers/sandbox.ts';

test(
  'where files can share data, a file is copied up without copying any',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const { randomBytes } = await import('node:crypto');
    const disk = tools.plant(`${work}/disk`, {});
    tools.run('truncate', ['-s', '256M', `${work}/image`]);
    tools.run('mkfs.btrfs', ['-q', `${work}/image`]);
    tools.run('mount', ['-o', 'loop', `${work}/image`, disk]);
    try {
      const tree = tools.plant(`${disk}/tree`, { small: 'small' });
      const content = randomBytes(32 << 20);
      fs.writeFileSync(`${tree}/big`, content);
      const upper = tools.plant(`${disk}/changes`, {});
      const session = await library.unlock({ source: [tree], upper });
      fs.appendFileSync(`${tree}/big`, 'more');
      fs.appendFileSync(`${tree}/small`, ' and more');
      tools.equal((await session.statistics(0)).bytesCopied < 4096, true);
      tools.equal(
        fs.readFileSync(`${tree}/big`).equals(Buffer.concat([content, Buffer.from('more')])),
        true,
      );
      tools.equal(fs.readFileSync(`${tree}/small`, 'utf8'), 'small and more');
      await session.lock();
      tools.run('sync', ['-f', upper]);
      tools.matches(tools.run('filefrag', ['-v', `${upper}/upper/big`]), /shared/);
      tools.equal(fs.readFileSync(`${tree}/big`).equals(content), true);
      await tools.nothingIsLeft();
    } finally {
      tools.run('umount', [disk]);
    }
  },
);

test(
  'a filesystem that cannot hold changes is refused, by what it lacks',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const places = ['plain', 'stacked', 'sealed'].map((name) => tools.plant(`${work}/${name}`, {}));
    const [plain = '', stacked = '', sealed = ''] = places;
    const parts = ['low', 'up', 'work'].map((name) => tools.plant(`${work}/parts/${name}`, {}));
    tools.run('mount', ['-t', 'ramfs', 'none', plain]);
    const layers = `lowerdir=${parts[0]},upperdir=${parts[1]},workdir=${parts[2]}`;
    tools.run('mount', ['-t', 'overlay', '-o', layers, 'none', stacked]);
    tools.run('mount', ['-t', 'tmpfs', '-o', 'ro', 'none', sealed]);
    const mountpoint = tools.plant(`${work}/mnt`, {});
    try {
      for (const [upper, message] of [
        [plain, /plain for changes cannot be used: .*no extended attributes of the kind trusted/],
        [stacked, /stacked for changes cannot be used: .*no 0:0 devices, which whiteouts are/],
        [sealed, /sealed cannot be used: its filesystem is read-only/],
      ] as const) {
        const error = await tools.rejection(library.unlock({ source: [tree], mountpoint, upper }));
        tools.matches(error.message, message);
        tools.equal((error.remedy ?? '').length > 0, true);
        tools.same(fs.readdirSync(upper), []);
        await tools.nothingIsLeft();
      }
    } finally {
      for (const place of places) tools.run('umount', [place]);
    }
  },
);

test(
  'a damaged upper is refused, and what is damaged is named',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a', 'there/b': 'b' });
    const mountpoint = tools.plant(`${work}/mnt`, {});
    const cases: [mark: string, of: string, value: string, message: RegExp][] = [
      ['opaque', 'd', 'maybe', /upper\/d: its trusted\.overlay\.opaque is 'maybe'/],
      ['redirect', 'd', '/../etc', /upper\/d: its redirect '\/\.\.\/etc' is no path/],
      ['redirect', 'd', '', /upper\/d: its redirect is empty/],
      ['redirect', 'd', '/gone', /upper\/d: what its redirect leads to is not in the lower/],
      ['redirect', 'd', '/a', /upper\/d: what its redirect leads to is not in the lower/],
      ['redirect', 'd/e', '/there/none', /upper\/d\/e: what its redirect leads to/],
      ['metacopy', 'd/x', 'abc', /upper\/d\/x: its metacopy has a value of 3 bytes/],
      ['metacopy', 'd/x', '', /upper\/d\/x: what its redirect leads to is not in the lower/],
    ];
    for (const [at, [mark, of, value, message]] of cases.entries()) {
      const upper = tools.plant(`${work}/upper-${at}`, {
        'upper/d/x': 'x',
        'upper/d/e/y': 'y',
        'work/left/x': '',
      });
      tools.run('setfattr', ['-n', `trusted.overlay.${mark}`, '-v', value, `${upper}/upper/${of}`]);
      const error = await tools.rejection(library.unlock({ source: [tree], mountpoint, upper }));
      tools.matches(error.message, message);
      tools.equal(fs.readFileSync(`${upper}/upper/d/x`, 'utf8'), 'x');
      await tools.nothingIsLeft();
    }
    const linked = 'work/ostree-ts/links/5';
    const links = tools.plant(`${work}/upper-links`, { [linked]: 'x' });
    tools.run('setfattr', ['-n', 'trusted.overlay.nlink', '-v', 'U+many', `${links}/${linked}`]);
    const damaged = { source: [tree], mountpoint, upper: links };
    const error = await tools.rejection(library.unlock(damaged));
    tools.matches(
      error.message,
      /directory .*upper-links for changes cannot be used: .*links\/5: its/,
    );
    // What leads somewhere is followed.
    const upper = tools.plant(`${work}/upper`, { 'upper/d/x': 'x' });
    tools.run('setfattr', ['-n', 'trusted.overlay.redirect', '-v', '/there', `${upper}/upper/d`]);
    const session = await library.unlock({ source: [tree], mountpoint, upper });
    tools.same(fs.readdirSync(`${mountpoint}/d`).toSorted(), ['b', 'x']);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'changes over another lower are taken with force, and belong to it from then on',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const [tree, other] = ['tree', 'other'].map((name) =>
      tools.plant(`${work}/${name}`, { a: name, b: 'b' }),
    ) as [string, string];
    const upper = tools.plant(`${work}/upper`, {});
    const first = await library.unlock({ source: [tree], upper });
    fs.writeFileSync(`${tree}/b`, 'changed');
    await first.lock();
    const mountpoint = tools.plant(`${work}/mnt`, {});
    const options = { source: [other], mountpoint, upper };
    tools.matches((await tools.rejection(library.unlock(options))).remedy ?? '', /--force/);
    const second = await library.unlock({ ...options, force: true });
    tools.equal(fs.readFileSync(`${mountpoint}/a`, 'utf8'), 'other');
    tools.equal(fs.readFileSync(`${mountpoint}/b`, 'utf8'), 'changed');
    await second.lock();
    const refused = await tools.rejection(library.unlock({ source: [tree], upper }));
    tools.matches(refused.message, /belong to another source/);
    const third = await library.unlock(options);
    await third.lock();
    await tools.nothingIsLeft();
  },
);
