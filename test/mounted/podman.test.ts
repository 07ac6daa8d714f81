/** Podman with `ostree-ts-mount` in the place of fuse-overlayfs: an image is built, looked into, changed and committed. */
import test from 'ava';
import { debianTree } from '../helpers/debian.ts';
import { inSandbox } from '../helpers/sandbox.ts';

test('podman builds, mounts, commits and removes images', async (t) => {
  const tree = debianTree();
  await inSandbox(
    async ({ library, tools, work }) => {
      const fs = await import('node:fs');
      const write = (name: string, text: string, mode = 0o644) =>
        fs.writeFileSync(`${work}/${name}`, text, { mode });
      write('mount', '#!/bin/sh\nexec /run/node /run/package/build/src/cli/mount.js "$@"\n', 0o755);
      const storage = [
        '[storage]',
        'driver = "overlay"',
        `graphroot = "${work}/root"`,
        `runroot = "${work}/state"`,
        '[storage.options.overlay]',
        `mount_program = "${work}/mount"`,
      ];
      write('storage.conf', storage.join('\n'));
      process.env['CONTAINERS_STORAGE_CONF'] = `${work}/storage.conf`;
      process.env['TMPDIR'] = work;
      const podman = (...args: string[]) => tools.run('podman', args, { timeout: 120_000 }).trim();

      // What dpkg and a shell need; the rest would only take time.
      const left = [
        'var/cache',
        'var/lib/apt',
        'root',
        'usr/lib/apt',
        'usr/lib/x86_64-linux-gnu/gconv',
      ]
        .concat(['doc', 'locale', 'zoneinfo', 'man', 'i18n'].map((name) => `usr/share/${name}`))
        .map((path) => `--exclude=./${path}/*`);
      const image = `tar -C /run/tree ${left.join(' ')} -c . | podman import - base`;
      tools.run('sh', ['-c', image], { timeout: 120_000 });
      fs.mkdirSync(`${work}/context`);
      const archives = '/run/tree/var/cache/apt/archives';
      const hello = fs.readdirSync(archives).find((name) => name.startsWith('hello_')) ?? '';
      fs.copyFileSync(`${archives}/${hello}`, `${work}/context/hello.deb`);
      const steps = [
        'FROM base',
        'COPY hello.deb /hello.deb',
        'RUN dpkg -i /hello.deb && rm /hello.deb',
        'RUN mv /usr/share/perl5 /usr/share/moved && rm -rf /etc/issue /usr/share/bash-completion && hello > /greeting',
      ];
      write('context/Containerfile', steps.join('\n'));
      const build = ['--isolation=chroot', '--network=host', '--ulimit', 'nofile=20000:20000'];
      podman('build', ...build, '-t', 'built', `${work}/context`);

      const there = (root: string, ...names: string[]) =>
        names.map((name) => fs.existsSync(`${root}/${name}`));
      const built = podman('image', 'mount', 'built');
      tools.equal(fs.readFileSync(`${built}/greeting`, 'utf8'), 'Hello, world!\n');
      tools.same(
        there(built, 'usr/share/moved/Debconf', 'usr/bin/hello', 'usr/share/perl5', 'hello.deb'),
        [true, true, false, false],
      );
      tools.same(there(built, 'etc/issue', 'usr/share/bash-completion'), [false, false]);
      // The same image as a commit, in a session, is the same tree.
      podman('save', '--format=oci-dir', '-o', `${work}/saved`, 'built');
      const repo = `${work}/repo`;
      tools.run('ostree', ['init', `--repo=${repo}`, '--mode=bare-user']);
      const saved = { image: `oci:${work}/saved`, repo, branch: 'built' };
      const { skipped } = await library.importImage(saved);
      tools.run('ostree', ['fsck', `--repo=${repo}`]);
      const mountpoint = `${work}/session`;
      fs.mkdirSync(mountpoint);
      const session = await library.unlock({ repo, source: ['built'], mountpoint });
      const apart = skipped.map(({ path }) => `! -path '.${path}'`).join(' ');
      const listed = (root: string) =>
        tools.run(
          'sh',
          [
            '-ec',
            `find . -mindepth 1 ${apart} -printf '%p %y %m %U:%G %l\\n' | sort
            find . -type f -print0 | sort -z | xargs -0 sha256sum`,
          ],
          { cwd: root },
        );
      tools.equal(listed(mountpoint), listed(built));
      await session.lock();
      podman('image', 'umount', 'built');
      const differs = (what: string, ...expected: string[]) => {
        const lines = podman('diff', what).split('\n');
        tools.same(
          expected.filter((line) => !lines.includes(line)),
          [],
        );
      };
      // Of an image podman looks at what it has unpacked, where whiteouts are files.
      differs('built', 'A /greeting', 'A /usr/share/moved', 'A /usr/share/.wh.perl5');

      const container = podman('create', 'built', 'true');
      const root = podman('mount', container);
      fs.writeFileSync(`${root}/made`, 'made');
      fs.rmSync(`${root}/greeting`);
      tools.run('mv', ['moved', 'again'], { cwd: `${root}/usr/share` });
      differs(
        container,
        'A /made',
        'D /greeting',
        'D /usr/share/moved',
        'A /usr/share/again/Debconf',
      );
      podman('umount', container);
      podman('commit', container, 'kept');
      podman('rm', container);
      const kept = podman('image', 'mount', 'kept');
      tools.same(there(kept, 'made', 'usr/share/again/Debconf', 'greeting', 'usr/share/moved'), [
        true,
        true,
        false,
        false,
      ]);
      podman('image', 'umount', 'kept');
      podman('rmi', 'kept', 'built', 'base');
      tools.equal(podman('images', '-q'), '');
      await tools.nothingIsLeft();
    },
    { tree, timeoutMs: 280_000 },
  );
  t.pass();
});
