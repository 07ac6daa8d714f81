/** How far a session reaches: over the tree that runs it, not into other filesystems, and not into other users'. */
import test from 'ava';
import { inSandbox, type Inside, USERS } from '../helpers/sandbox.ts';

const sandboxed = test.macro(async (t, body: (inside: Inside) => Promise<void>, uid?: number) => {
  await inSandbox(body, { timeoutMs: 240_000, ...(uid !== undefined && { uid }) });
  t.pass();
});

test(
  'in place over /usr everything runs from the session, caches dropped or not',
  sandboxed,
  async ({ library, tools, work }) => {
    const { existsSync, writeFileSync } = await import('node:fs');
    const session = await library.unlock({ source: ['/usr'] });
    const dropCaches = () => writeFileSync('/proc/sys/vm/drop_caches', '3');
    const useTools = () => {
      writeFileSync(`${work}/a.c`, 'int main(void) { return 42; }');
      tools.run('gcc', ['-o', '/usr/local/bin/answer', `${work}/a.c`]);
      tools.run('sh', ['-c', 'answer; test $? = 42']);
      tools.equal(tools.run(process.execPath, ['-e', 'console.log(6 * 7)']), '42\n');
      tools.run('sh', [
        '-ec',
        `rm -rf ${work}/repo; git init -q ${work}/repo; cd ${work}/repo; echo x > x; git add x; git -c user.name=x -c user.email=x@x commit -qm x; git fsck`,
      ]);
    };
    useTools();
    dropCaches();
    useTools();
    tools.run('sh', ['-c', 'find /usr -xdev | wc -l']);
    dropCaches();
    tools.run('true', []);
    tools.equal((await session.status()).health, 'ok');
    const changes = [];
    for await (const { kind, path } of session.diff()) changes.push(`${kind} ${path}`);
    tools.same(changes, ['A /local/bin/answer']);
    // From a program that runs from the session itself.
    writeFileSync(
      `${work}/lock.mjs`,
      `
    const { findSession } = await import('/run/package/build/src/index.js');
    const result = await (await findSession('usr')).lock();
    console.log(result.draining);
  `,
    );
    tools.equal(tools.run(process.execPath, [`${work}/lock.mjs`]), 'false\n');
    tools.equal(existsSync('/usr/local/bin/answer'), false);
    tools.run('true', []);
    await session.ended();
    await tools.nothingIsLeft();
  },
);

test(
  'a package is installed into /usr in place, and is gone after lock',
  sandboxed,
  async ({ library, tools, work }) => {
    const { existsSync } = await import('node:fs');
    const folder = tools.plant(`${work}/package`, {
      'DEBIAN/control':
        'Package: session-test\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n',
      'usr/share/session-test/file': 'installed\n',
    });
    tools.run('dpkg-deb', ['--root-owner-group', '-b', folder, `${work}/test.deb`]);
    // dpkg's own state is outside /usr: it gets a copy, so that the machine's stays as it is.
    tools.run('cp', ['-a', '/var/lib/dpkg', `${work}/dpkg`]);
    tools.run('mount', ['--bind', `${work}/dpkg`, '/var/lib/dpkg']);
    const session = await library.unlock({ source: ['/usr'] });
    tools.run('dpkg', ['--log=/dev/null', '-i', `${work}/test.deb`]);
    tools.equal(tools.run('cat', ['/usr/share/session-test/file']), 'installed\n');
    await session.lock({ lazy: true });
    tools.equal(existsSync('/usr/share/session-test'), false);
    await session.ended();
    tools.run('umount', ['/var/lib/dpkg']);
    await tools.nothingIsLeft();
  },
);

test('the package itself may lie inside the tree', sandboxed, async ({ tools, work }) => {
  const { existsSync } = await import('node:fs');
  // The package, with the modules it needs, in a tree of its own.
  const app = `${work}/tree/app`;
  tools.run('mkdir', ['-p', `${app}/native/build`, `${app}/node_modules`]);
  for (const part of [
    'build',
    'native/build/Release',
    'node_modules/commander',
    'node_modules/lru-cache',
  ]) {
    tools.run('cp', ['-r', `/run/package/${part}`, `${app}/${part}`]);
  }
  tools.run('cp', ['/run/package/package.json', app]);
  tools.run('cp', [process.execPath, `${work}/tree/node`]);
  const script = (body: string) =>
    `const { unlock, findSession } = await import('${work}/tree/app/build/src/index.js'); ${body}`;
  const node = (body: string) =>
    tools.run(`${work}/tree/node`, ['--input-type=module', '-e', script(body)]);
  node(`await unlock({ source: ['${work}/tree'] });`);
  tools.run('sh', [
    '-c',
    `echo 3 > /proc/sys/vm/drop_caches; echo new > ${work}/tree/new; rm ${work}/tree/app/build/src/fuse/server.js`,
  ]);
  tools.equal(node(`console.log((await (await findSession()).status()).health);`), 'ok\n');
  node(`await (await findSession()).lock();`);
  tools.equal(existsSync(`${work}/tree/app/build/src/fuse/server.js`), true);
  tools.equal(existsSync(`${work}/tree/new`), false);
  await tools.nothingIsLeft();
});

test(
  'a filesystem mounted before can be unmounted while sessions run, and its device reused',
  sandboxed,
  async ({ library, tools, work }) => {
    const { writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    tools.run('sh', [
      '-c',
      `truncate -s 16M ${work}/disk.img && mkfs.ext4 -q ${work}/disk.img && mkdir ${work}/disk`,
    ]);
    const device = tools.run('losetup', ['-f', '--show', `${work}/disk.img`]).trim();
    try {
      tools.run('mount', [device, `${work}/disk`]);
      const session = await library.unlock({ source: [tree] });
      writeFileSync(`${tree}/a`, 'changed');
      tools.run('umount', [`${work}/disk`]);
      // A filesystem that is still mounted somewhere keeps its device busy, for fsck and for the loop driver.
      tools.run('fsck.ext4', ['-n', device]);
      tools.run('mkfs.ext4', ['-q', device]);
      tools.run('losetup', ['-d', device]);
      tools.equal(tools.run('losetup', ['-j', `${work}/disk.img`]), '');
      await session.lock();
    } finally {
      tools.run('sh', [
        '-c',
        `umount -l ${work}/disk 2>/dev/null; losetup -d ${device} 2>/dev/null; true`,
      ]);
    }
    await tools.nothingIsLeft();
  },
);

test(
  'a mount below the source that comes later is not part of the session',
  sandboxed,
  async ({ library, tools, work }) => {
    const { mkdirSync, readdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { 'd/a': 'base' });
    mkdirSync(`${work}/mnt`);
    const session = await library.unlock({ source: [tree], mountpoint: `${work}/mnt` });
    tools.run('mount', ['-t', 'tmpfs', 'none', `${tree}/d`]);
    tools.same(readdirSync(`${work}/mnt/d`), ['a']);
    tools.run('umount', [`${tree}/d`]);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test('the mountpoint may lie inside the source', sandboxed, async ({ library, tools, work }) => {
  const { readdirSync, writeFileSync } = await import('node:fs');
  const tree = tools.plant(`${work}/tree`, { 'mnt/inner': 'base', a: '' });
  const session = await library.unlock({ source: [tree], mountpoint: `${tree}/mnt` });
  tools.same(readdirSync(`${tree}/mnt/mnt`), ['inner']);
  writeFileSync(`${tree}/mnt/mnt/inner`, 'changed');
  tools.equal(tools.run('find', [tree, '-name', 'inner']), `${tree}/mnt/mnt/inner\n`);
  await session.lock();
  tools.same(readdirSync(`${tree}/mnt`), ['inner']);
  await tools.nothingIsLeft();
});

test(
  'the daemon of root keeps no path, no mount and no tree',
  sandboxed,
  async ({ library, tools, work }) => {
    const { readdirSync, readFileSync, readlinkSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base' });
    const session = await library.unlock({ source: [tree] });
    const { daemon, keeper } = await tools.pids(session);
    tools.same(readdirSync(`/proc/${daemon}/root`), []);
    const mounts = readFileSync(`/proc/${daemon}/mountinfo`, 'utf8').trimEnd().split('\n');
    tools.equal(mounts.length, 1, mounts.join('\n'));
    tools.matches(mounts[0]!, / \/ \/ ro,.* - tmpfs /);
    tools.equal(readlinkSync(`/proc/${keeper}/ns/mnt`), readlinkSync('/proc/self/ns/mnt'));
    // As much as we may: containers often take CAP_SYS_RESOURCE away.
    const may = tools.run('sh', [
      '-c',
      '(echo -1000 > /proc/$$/oom_score_adj) 2> /dev/null; cat /proc/$$/oom_score_adj',
    ]);
    tools.equal(readFileSync(`/proc/${keeper}/oom_score_adj`, 'utf8'), may);
    tools.matches(readFileSync(`/proc/${daemon}/limits`, 'utf8'), /Max open files +(\d+) +\1 /);
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'after it is ready the daemon opens no path and loads nothing',
  sandboxed,
  async ({ library, tools, work }) => {
    const { writeFileSync, readdirSync } = await import('node:fs');
    const tree = tools.plant(`${work}/tree`, { a: 'base', 'd/b': 'x' });
    const session = await library.unlock({ source: [tree] });
    const { daemon } = await tools.pids(session);
    const end = await tools.traced(daemon, `${work}/trace`, [
      '-e',
      'trace=%file,clone,clone3,fork,vfork,execve',
    ]);
    writeFileSync(`${tree}/a`, 'changed');
    writeFileSync(`${tree}/d/new`, 'x'.repeat(100_000));
    tools.same(readdirSync(`${tree}/d`), ['b', 'new']);
    tools.equal((await session.status()).changes, 2);
    for await (const change of session.diff()) tools.equal(change.path.startsWith('/'), true);
    const calls = await end();
    // Relative to a descriptor of the lower, or to a descriptor alone; never from the root or the working directory.
    const byPath = calls.filter(
      (line) => /\((?:AT_FDCWD, )?"[^"]/.test(line) || /"\//.test(line) || /exec|fork/.test(line),
    );
    tools.same(byPath, []);
    tools.equal(
      calls.some((line) => /openat2|statx/.test(line)),
      true,
      calls.join('\n'),
    );
    await session.lock();
    await tools.nothingIsLeft();
  },
);

test(
  'an ordinary user has sessions of his own, over what he may read',
  sandboxed,
  async ({ library, tools, work }) => {
    const { existsSync, readFileSync, statSync, writeFileSync } = await import('node:fs');
    const tree = tools.plant(`${work}/mine`, { a: 'base', 'd/b': '' });
    const session = await library.unlock({ source: [tree] });
    writeFileSync(`${tree}/a`, 'changed');
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'changed');
    const status = await session.status();
    tools.equal(status.health, 'ok');
    tools.equal(status.changes, 1);
    tools.matches(
      tools.run('findmnt', ['-no', 'SOURCE,FSTYPE,OPTIONS', tree]),
      /^mine +fuse\.ostree-ts +rw,nosuid,nodev/,
    );
    tools.equal(statSync(session.folder).mode & 0o777, 0o700);
    // Killed, it is the same as for root: fusermount3 takes the mount away.
    const { daemon } = await tools.pids(session);
    process.kill(daemon, 'SIGKILL');
    tools.equal((await tools.until(() => tools.mountpoints().length === 0, 5000)) < 1000, true);
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    tools.matches((await session.status()).problems.join(), /signal 9/);
    await session.lock();
    // Without its keeper it is unmounted by the command.
    const second = await library.unlock({ source: [tree] });
    process.kill((await tools.pids(second)).keeper, 'SIGKILL');
    tools.equal((await second.lock()).draining, false);
    tools.equal(existsSync(second.folder), false);
    // Both killed: the dead mount is taken away as well.
    const third = await library.unlock({ source: [tree] });
    const both = await tools.pids(third);
    process.kill(both.keeper, 'SIGKILL');
    process.kill(both.daemon, 'SIGKILL');
    await tools.until(() => tools.sessionProcesses().length === 0, 1000);
    await third.lock();
    tools.equal(readFileSync(`${tree}/a`, 'utf8'), 'base');
    await tools.nothingIsLeft();
  },
  USERS[0],
);

test(
  'a second ordinary user neither sees into the session nor controls it',
  sandboxed,
  async ({ tools, work }) => {
    const { writeFileSync } = await import('node:fs');
    const [owner, other] = [64_001, 64_002];
    const as = (uid: number, body: string) => {
      writeFileSync(
        `${work}/script.mjs`,
        `const library = await import('/run/package/build/src/index.js');\n${body}`,
        { mode: 0o644 },
      );
      return tools.run('setpriv', [
        `--reuid=${uid}`,
        `--regid=${uid}`,
        '--clear-groups',
        'env',
        `XDG_RUNTIME_DIR=/run/user/${uid}`,
        '/run/node',
        `${work}/script.mjs`,
      ]);
    };
    tools.run('sh', [
      '-c',
      `install -d -m 755 -o ${owner} ${work}/theirs && echo secret > ${work}/theirs/a && chown ${owner} ${work}/theirs/a`,
    ]);
    as(owner, `await library.unlock({ source: ['${work}/theirs'] });`);
    const tried = as(
      other,
      `
    import { readdirSync, readFileSync } from 'node:fs';
    import { connect } from 'node:net';
    const tries = {
      list: () => readdirSync('${work}/theirs'),
      read: () => readFileSync('${work}/theirs/a'),
      folder: () => readdirSync('/run/user/${owner}/ostree-ts/theirs'),
      record: () => readFileSync('/run/user/${owner}/ostree-ts/theirs/record.json'),
    };
    for (const [name, attempt] of Object.entries(tries)) {
      try { attempt(); console.log(name, 'worked'); } catch (error) { console.log(name, error.code); }
    }
    await new Promise((resolve) => connect('/run/user/${owner}/ostree-ts/theirs/control').on('error', (error) => { console.log('socket', error.code); resolve(); }));
    console.log('sessions', (await library.listSessions()).length);
    try { await library.findSession('theirs'); } catch (error) { console.log(error.message); }
    process.env.XDG_RUNTIME_DIR = '/run/user/${owner}';
    console.log('sessions', (await library.listSessions()).length);
  `,
    );
    tools.same(tried.trim().split('\n'), [
      'list EACCES',
      'read EACCES',
      'folder EACCES',
      'record EACCES',
      'socket EACCES',
      'sessions 0',
      `there is no session 'theirs'`,
      'sessions 0',
    ]);
    tools.equal(
      as(owner, `console.log((await (await library.findSession()).lock()).draining);`),
      'false\n',
    );
    await tools.nothingIsLeft();
  },
);

test(
  "other users use root's session under the kernel's permission checks, and cannot control it",
  sandboxed,
  async ({ library, tools, work }) => {
    const tree = tools.plant(`${work}/tree`, { open: 'for all', closed: 'for root' });
    tools.run('chmod', ['600', `${tree}/closed`]);
    const session = await library.unlock({ source: [tree] });
    const user = (command: string) =>
      tools.run('setpriv', [
        '--reuid=64001',
        '--regid=64001',
        '--clear-groups',
        'sh',
        '-c',
        command,
      ]);
    tools.equal(user(`cat ${tree}/open`), 'for all');
    tools.equal(user(`cat ${tree}/closed 2>/dev/null || echo refused`), 'refused\n');
    tools.equal(user(`echo x 2>/dev/null > ${tree}/new || echo refused`), 'refused\n');
    tools.equal(user(`ls ${session.folder} 2>/dev/null || echo refused`), 'refused\n');
    await session.lock();
    await tools.nothingIsLeft();
  },
);
