/** Changes on a tmpfs and in a directory: what is kept, what is refused, and a session brought back after its daemon's death. */
import test from 'ava';
import { inSandbox, sandboxed, sandboxedAs, USERS } from '../helpers/sandbox.ts';

test(
  'the root and what leads to it have the number of the source’s root, on every upper',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'a' });
    const mnt = tools.plant(`${work}/mnt`, {});
    const { ino } = fs.statSync(tree);
    for (const upper of ['memory', 'tmpfs', tools.plant(`${work}/changes`, {})]) {
      const session = await library.unlock({ source: [tree], mountpoint: mnt, upper });
      fs.mkdirSync(`${mnt}/new`);
      tools.equal(fs.statSync(mnt).ino, ino);
      for (const folder of ['d', 'new']) {
        // As the directory itself has them: what has the number 0 is left out by readdir(3).
        const lines = tools.run('ls', ['-fai', `${mnt}/${folder}`]).split('\n');
        const dots = lines.filter((line) => line.endsWith('.')).map((line) => line.trim());
        tools.same(dots, [`${fs.statSync(`${mnt}/${folder}`).ino} .`, `${ino} ..`]);
      }
      await session.lock();
    }
    await tools.nothingIsLeft();
  },
);

test(
  'a session on a tmpfs whose daemon was killed is brought back by its name, with all it held',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a', 'd/b': 'b', 'gone/c': 'c', linked: 'l' });
    fs.linkSync(`${tree}/linked`, `${tree}/twin`);
    const mnt = tools.plant(`${work}/mnt`, {});
    const before = tools.run('find', [tree, '-type', 'f', '-printf', '%p %s %T@\\n']);
    const session = await library.unlock({
      source: [tree],
      mountpoint: mnt,
      name: 'kept',
      upper: 'tmpfs',
      size: '32M',
    });
    tools.equal((await session.status()).upper, 'tmpfs');
    fs.writeFileSync(`${mnt}/new`, 'new');
    fs.appendFileSync(`${mnt}/a`, '+');
    fs.appendFileSync(`${mnt}/linked`, '+');
    fs.renameSync(`${mnt}/d`, `${mnt}/moved`);
    fs.rmSync(`${mnt}/gone`, { recursive: true });
    fs.mkdirSync(`${mnt}/gone`);
    const look = () => [
      tools
        .run('find', [mnt, '-mindepth', '1', '-printf', '%P %y %s %m %n %T@\\n'])
        .split('\n')
        .sort(),
      fs.readFileSync(`${mnt}/a`, 'utf8'),
      fs.readFileSync(`${mnt}/twin`, 'utf8'),
      fs.readFileSync(`${mnt}/moved/b`, 'utf8'),
    ];
    const seen = look();
    for (let round = 0; round < 3; round++) {
      const { daemon, keeper } = await tools.pids(session);
      // The last time the keeper dies too, so that a dead mount is left.
      if (round === 2) process.kill(keeper, 'SIGKILL');
      process.kill(daemon, 'SIGKILL');
      const exists = (pid: number) => fs.existsSync(`/proc/${pid}`);
      await tools.until(() => !exists(keeper) && !exists(daemon), 5000);
      const dead = await session.status();
      tools.equal(dead.health, 'dead');
      tools.matches(dead.problems.join('\n'), /unlock --name=kept brings it back/);
      const error = await tools.rejection(
        library.unlock({ source: [work], mountpoint: mnt, name: 'kept' }),
      );
      tools.matches(error.message, /over another source/);
      await library.unlock({ source: [], name: 'kept' });
      tools.same(look(), seen);
    }
    const changes: string[] = [];
    for await (const { kind, path } of session.diff()) changes.push(`${kind} ${path}`);
    tools.same(changes, [
      'M /a',
      'D /d',
      'D /gone/c',
      'M /linked',
      'A /moved',
      'A /moved/b',
      'A /new',
      'M /twin',
    ]);
    await session.lock();
    tools.equal(tools.run('find', [tree, '-type', 'f', '-printf', '%p %s %T@\\n']), before);
    await tools.nothingIsLeft();
    tools.equal(fs.readFileSync('/proc/mounts', 'utf8').includes('/run/ostree-ts/'), false);
  },
);

test(
  'a session that is brought back has the options that it had',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const mnt = tools.plant(`${work}/mnt`, {});
    const session = await library.unlock({
      source: [tools.plant(`${work}/tree`, { a: 'a' })],
      mountpoint: mnt,
      name: 'same',
      upper: 'tmpfs',
      size: '8M',
      history: 20,
      suid: false,
      mountOptions: ['noexec'],
    });
    /** How many of so many new files it is known of who made them. */
    const known = async (name: string, count: number) => {
      for (let i = 0; i < count; i++) fs.writeFileSync(`${mnt}/${name}${i}`, 'x');
      let recorded = 0;
      for await (const { by } of session.diff({ by: true })) if (by != null) recorded++;
      return recorded;
    };
    const flags = () => tools.run('findmnt', ['-no', 'OPTIONS', mnt]).trim().split(',');
    const before = flags();
    tools.equal(
      ['nosuid', 'noexec'].every((flag) => before.includes(flag)),
      true,
    );
    tools.equal(await known('f', 30), 20);
    // oxlint-disable-next-line unicorn/consistent-function-scoping -- the body runs in another process
    const exists = (pid: number) => fs.existsSync(`/proc/${pid}`);
    const die = async () => {
      const { daemon, keeper } = await tools.pids(session);
      process.kill(daemon, 'SIGKILL');
      await tools.until(() => !exists(keeper) && !exists(daemon), 5000);
    };
    for (let round = 0; round < 2; round++) {
      await die();
      await library.unlock({ source: [], name: 'same' });
      tools.same(flags(), before);
      tools.equal(await known(`g${round}-`, 30), 20);
    }
    await die();
    const elsewhere = tools.plant(`${work}/elsewhere`, {});
    for (const [other, words] of [
      [{ mountpoint: elsewhere }, /the session same, .*, was mounted at .*mnt/],
      [{ size: '1M' }, /the session same, .*, has a size of 8/],
    ] as const) {
      const error = await tools.rejection(library.unlock({ source: [], name: 'same', ...other }));
      tools.matches(error.message, words);
      tools.matches(error.remedy ?? '', /unlock --name=same; or discard it/);
    }
    await library.unlock({ source: [], name: 'same', history: 25, mountpoint: mnt, size: '8M' });
    tools.equal(await known('h', 30), 25);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'a dead session on a tmpfs is discarded by lock',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const session = await library.unlock({
      source: [tree],
      name: 'dead',
      upper: 'tmpfs',
      size: '8M',
    });
    const { daemon, keeper } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
    await session.lock();
    await tools.nothingIsLeft();
    tools.equal(fs.readFileSync('/proc/mounts', 'utf8').includes('/run/ostree-ts/'), false);
  },
);

test(
  'a full tmpfs refuses, keeps what was there, and can be emptied',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { big: 'x'.repeat(3_000_000), small: 's' });
    const session = await library.unlock({
      source: [tree],
      upper: 'tmpfs',
      size: '2M',
      name: 'full',
    });
    // oxlint-disable-next-line unicorn/consistent-function-scoping -- the body runs in another process
    const code = (run: () => void) => {
      try {
        run();
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
      return 'done';
    };
    // The copy does not fit: the old file is whole, and nothing of the try takes space.
    tools.equal(
      code(() => fs.appendFileSync(`${tree}/big`, 'y')),
      'ENOSPC',
    );
    tools.equal(fs.statSync(`${tree}/big`).size, 3_000_000);
    fs.writeFileSync(`${tree}/fill`, 'z'.repeat(1_500_000));
    tools.equal(
      code(() => fs.writeFileSync(`${tree}/more`, 'z'.repeat(1_500_000))),
      'ENOSPC',
    );
    fs.rmSync(`${tree}/fill`);
    fs.rmSync(`${tree}/more`);
    fs.rmSync(`${tree}/big`);
    fs.writeFileSync(`${tree}/fill`, 'z'.repeat(1_500_000));
    tools.same(fs.readdirSync(tree).sort(), ['fill', 'small']);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'changes in a directory outlive the session, belong to its source, and go when told so',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const other = tools.plant(`${work}/other`, { a: 'other' });
    const upper = tools.plant(`${work}/changes`, {});
    const first = await library.unlock({ source: [tree], upper });
    tools.equal((await first.status()).upper, upper);
    fs.writeFileSync(`${tree}/a`, 'changed');
    const busy = await tools.rejection(
      library.unlock({ source: [tree], mountpoint: other, upper }),
    );
    tools.matches(busy.message, /in use|already the session/);
    tools.equal((await first.lock()).kept, upper);
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'a');
    const wrong = await tools.rejection(library.unlock({ source: [other], upper }));
    tools.matches(wrong.message, /belong to another source/);
    tools.matches(wrong.remedy ?? '', /--force/);
    const again = await library.unlock({ source: [tree], upper });
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'changed');
    // Killed, it is found by its directory as well.
    const { daemon, keeper } = await tools.pids(again);
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
    const back = await library.unlock({ source: [tree], upper });
    tools.equal(back.name, again.name);
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'changed');
    tools.equal((await back.lock({ discard: true })).kept, null);
    tools.same(fs.readdirSync(upper), []);
    await tools.nothingIsLeft();
  },
);

test(
  'a directory that cannot hold changes is refused, and says why; nothing is left',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'a' });
    const mountpoint = tools.plant(`${work}/mnt`, { 'in/a': '' });
    const foreign = tools.plant(`${work}/foreign`, { mine: 'x' });
    const damaged = tools.plant(`${work}/damaged`, { 'upper/d/x': '', 'work/left/x': '' });
    tools.run('setfattr', [
      '-n',
      'trusted.overlay.redirect',
      '-v',
      '/../etc',
      `${damaged}/upper/d`,
    ]);
    const label = tools.plant(`${work}/label`, { 'ostree-ts.json': 'nonsense' });
    const before = { version: 1, source: [tree], links: 'shared' };
    const [users, early] = [{ ...before, marks: 'user' }, before].map((said, index) =>
      tools.plant(`${work}/users${index}`, { 'ostree-ts.json': JSON.stringify(said) }),
    );
    fs.chownSync(`${early}/ostree-ts.json`, 1000, 1000);
    const cases: [upper: string, message: RegExp][] = [
      [users ?? '', /users0 are an ordinary user's, .* unlock with it as that user/],
      [early ?? '', /users1 are an ordinary user's/],
      [`${tree}/d`, /inside .*tree, which the session shows/],
      [`${mountpoint}/in`, /inside .*mnt, which the session shows/],
      [foreign, /holds mine, which is nothing of a session/],
      [damaged, /upper\/d: its redirect/],
      [label, /ostree-ts\.json is damaged/],
      [`${work}/none`, /cannot be used: ENOENT/],
      [`${tree}/d/a`, /is not a directory/],
      ['/proc', /holds|cannot/],
    ];
    for (const [upper, message] of cases) {
      const error = await tools.rejection(library.unlock({ source: [tree], mountpoint, upper }));
      tools.matches(`${error.message} ${error.remedy}`, message);
    }
    tools.same(fs.readdirSync(foreign), ['mine']);
    await tools.nothingIsLeft();
  },
);

test(
  'an ordinary user keeps changes on a tmpfs and in a directory, without redirects, and gets them back',
  sandboxedAs,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const path = await import('node:path');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'a', 'd/sub/b': 'b', 'd/gone': 'x', f: 'f' });
    fs.chmodSync(`${tree}/d/sub/b`, 0o444);
    fs.chmodSync(`${tree}/d/sub`, 0o555);
    const mountpoint = tools.plant(`${work}/mnt`, {});
    const changes = tools.plant(`${work}/changes`, {});
    for (const upper of ['tmpfs', changes]) {
      const session = await library.unlock({ source: [tree], mountpoint, upper, name: 'mine' });
      const kept =
        upper === 'tmpfs'
          ? path.join(process.env['XDG_RUNTIME_DIR'] ?? '', 'ostree-ts/mine/upper')
          : changes;
      if (upper === changes) {
        tools.matches(fs.readFileSync(`${changes}/ostree-ts.json`, 'utf8'), /"marks":"user"/);
      }
      fs.rmSync(`${mountpoint}/d/gone`);
      fs.writeFileSync(`${mountpoint}/f`, 'changed');
      fs.chmodSync(`${mountpoint}/d/sub/b`, 0o400);
      fs.renameSync(`${mountpoint}/d`, `${mountpoint}/moved`);
      const { daemon, keeper } = await tools.pids(session);
      process.kill(daemon, 'SIGKILL');
      await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
      tools.equal(fs.statSync(`${kept}/upper/d`).isCharacterDevice(), true);
      const marks = tools.run('getfattr', ['-R', '-d', '-m', '.', `${kept}/upper`]);
      tools.matches(marks, /user\.overlay\.opaque="y"/);
      tools.equal(/redirect/.test(marks), false);
      const back = await library.unlock({ source: [tree], mountpoint, upper, name: 'mine' });
      tools.same(fs.readdirSync(mountpoint).sort(), ['f', 'moved']);
      tools.same(fs.readdirSync(`${mountpoint}/moved`).sort(), ['a', 'sub']);
      tools.equal(fs.readFileSync(`${mountpoint}/f`, 'utf8'), 'changed');
      tools.equal(fs.statSync(`${mountpoint}/moved/sub/b`).mode & 0o7777, 0o400);
      tools.equal(fs.statSync(`${mountpoint}/moved/sub`).mode & 0o7777, 0o555);
      await back.lock({ discard: true });
      tools.same(fs.readdirSync(tree).sort(), ['d', 'f']);
    }
    const sized = await tools.rejection(
      library.unlock({ source: [tree], mountpoint, upper: 'tmpfs', size: '1M' }),
    );
    tools.matches(sized.message, /runtime directory/);
    await tools.nothingIsLeft();
  },
);

test(
  'changes in a directory on a full disk are brought back, and make room when they are removed',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const disk = tools.plant(`${work}/disk`, {});
    tools.run('mount', ['-t', 'tmpfs', '-o', 'size=1M,nr_inodes=40', 'tmpfs', disk]);
    const upper = tools.plant(`${disk}/changes`, {});
    const session = await library.unlock({ source: [tree], name: 'full', upper });
    const fill = () => {
      for (let i = 0; ; i++) fs.writeFileSync(`${tree}/f${i}`, Buffer.alloc(60_000));
    };
    tools.throws(fill, /ENOSPC/);
    const touch = () => {
      for (let i = 0; ; i++) fs.writeFileSync(`${tree}/empty${i}`, '');
    };
    tools.throws(touch, /ENOSPC/);
    for (let i = 0; i < 1000 && fs.statfsSync(disk).ffree > 0; i++) {
      fs.writeFileSync(`${disk}/other${i}`, '');
    }
    const { daemon, keeper } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    await tools.until(() => !fs.existsSync(`/proc/${keeper}`), 5000);
    await library.unlock({ source: [], name: 'full' });
    tools.equal(fs.statSync(`${tree}/f0`).size, 60_000);
    fs.rmSync(`${tree}/f0`);
    fs.rmSync(`${tree}/f1`);
    fs.writeFileSync(`${tree}/new`, 'new');
    await session.lock();
    // Another source's cannot be said here, and nothing is left of the try.
    const other = tools.plant(`${work}/other`, {});
    fs.writeFileSync(`${disk}/rest`, '');
    tools.throws(() => fs.writeFileSync(`${disk}/rest`, Buffer.alloc(2_000_000)), /ENOSPC/);
    const before = fs.readFileSync(`${upper}/ostree-ts.json`, 'utf8');
    const error = await tools.rejection(library.unlock({ source: [other], upper, force: true }));
    tools.matches(error.message, /cannot write .*ostree-ts\.json: ENOSPC/);
    tools.equal(error.name, 'SessionError');
    tools.same(fs.readdirSync(upper).sort(), ['ostree-ts.json', 'upper', 'work']);
    tools.equal(fs.readFileSync(`${upper}/ostree-ts.json`, 'utf8'), before);
    await tools.nothingIsLeft();
  },
);

test(
  'a directory of changes still belongs to its source when it could not be taken for another',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const other = tools.plant(`${work}/other`, {});
    const upper = tools.plant(`${work}/changes`, {});
    const session = await library.unlock({ source: [tree], upper });
    fs.writeFileSync(`${tree}/a`, 'changed');
    const busy = await tools.rejection(library.unlock({ source: [other], upper, force: true }));
    tools.matches(busy.message, /in use by another session/);
    await session.lock();
    // Found when the session starts only.
    fs.mkdirSync(`${upper}/upper/d`);
    tools.run('setfattr', ['-n', 'trusted.overlay.redirect', '-v', '/../x', `${upper}/upper/d`]);
    const damaged = await tools.rejection(library.unlock({ source: [other], upper, force: true }));
    tools.matches(damaged.message, /its redirect/);
    fs.rmdirSync(`${upper}/upper/d`);
    const again = await library.unlock({ source: [tree], upper });
    tools.equal(fs.readFileSync(`${tree}/a`, 'utf8'), 'changed');
    await again.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'of two that unlock with one empty directory at once, one gets it, and the other touches nothing',
  sandboxed,
  async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const { spawn } = await import('node:child_process');
    const tree = tools.plant(`${work}/tree`, { a: 'a' });
    const other = tools.plant(`${work}/other`, { a: 'a' });
    const upper = tools.plant(`${work}/changes`, {});
    // What each would write first waits, so that both have looked before.
    const slow = ['-qq', '-o', `${work}/trace`, '-P', `${upper}/ostree-ts.json.new`];
    const delay = ['-e', 'inject=openat:delay_enter=1500000'];
    const begin = (source: string) => {
      const command = [...tools.PROGRAM, 'unlock', source, `--upper=${upper}`];
      return spawn('strace', [...slow, ...delay, ...command], { stdio: 'ignore' });
    };
    const codes = await Promise.all([tree, other].map((source) => tools.exitCode(begin(source))));
    tools.equal(codes.filter((code) => code === 0).length, 1);
    const [session, another] = await library.listSessions();
    tools.equal(another, undefined);
    tools.equal((await session!.status()).health, 'ok');
    tools.same(fs.readdirSync(upper).sort(), ['ostree-ts.json', 'upper', 'work']);
    const { source } = JSON.parse(fs.readFileSync(`${upper}/ostree-ts.json`, 'utf8'));
    tools.same(source, [session!.mountpoint]);
    fs.writeFileSync(`${session!.mountpoint}/a`, 'changed');
    await session!.lock();
    tools.equal(fs.readFileSync(`${upper}/upper/a`, 'utf8'), 'changed');
    await tools.nothingIsLeft();
  },
);

test('an ordinary user’s changes over a tree whose root is somebody else’s have a root of his own', async (t) => {
  const seen = await inSandbox(
    async ({ library, tools }) => {
      const fs = await import('node:fs');
      const work = '/run/user/64001/work';
      const mountpoint = tools.plant(`${work}/mnt`, {});
      const changes = tools.plant(`${work}/changes`, {});
      const owners: unknown[] = [];
      const wanted = fs.statSync('/usr/share');
      for (const upper of ['tmpfs', changes]) {
        const session = await library.unlock({ source: ['/usr/share'], mountpoint, upper });
        const { uid, gid, mode, mtimeMs } = fs.statSync(mountpoint);
        owners.push([uid, gid, mode === wanted.mode, mtimeMs === wanted.mtimeMs]);
        fs.writeFileSync(`${mountpoint}/new`, 'new');
        const paths: string[] = [];
        for await (const { kind, path } of session.diff()) paths.push(kind + path);
        tools.equal(paths.includes('A/new'), true);
        await session.lock();
      }
      await tools.nothingIsLeft();
      return owners;
    },
    { uid: USERS[0] },
  );
  const own = [USERS[0], USERS[0], true, true];
  t.deepEqual(seen, [own, own]);
});
