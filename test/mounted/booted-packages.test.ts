/** Packages in the unlocked /usr of an OSTree host: installed, verified, removed and installed again, by dpkg and by rpm. */
import test from 'ava';
import { inSandbox, type Inside } from '../helpers/sandbox.ts';

const sandboxed = test.macro(async (t, body: (inside: Inside) => Promise<void>) => {
  t.timeout(1_800_000);
  await inSandbox(body, { timeoutMs: 1_700_000 });
  t.pass();
});

test(
  'dpkg, on a deployment of a real Debian tree, in all three modes',
  sandboxed,
  async ({ tools, work }) => {
    const fs = await import('node:fs');
    const debian = tools.debianTree();
    const tree = `${work}/tree`;
    tools.run('sh', [
      '-ec',
      `mkdir "$2" && cd "$1" && cp -a --parents usr etc bin sbin lib lib64 "$2" && cp -a var/lib/dpkg "$2/usr/lib/dpkg-database"`,
      'copy',
      debian,
      tree,
    ]);
    tools.addPrograms(tree, [
      'ostree',
      'lsattr',
      'sha256sum',
      'find',
      'xargs',
      'findmnt',
      'nsenter',
    ]);
    tools.makeBootable(tree);
    const host = new tools.BootedHost(work, tree);
    fs.rmSync(tree, { recursive: true });
    const base = host.base();
    fs.copyFileSync(
      tools.packageFile(debian, 'hello'),
      `${host.sysroot}/ostree/deploy/test/var/hello.deb`,
    );
    await host.boot({ sysroot: 'ro' });
    const dpkg = 'dpkg --admindir=/usr/lib/dpkg-database';
    const verified = host.try('bash', '--norc', '-c', `${dpkg} --verify`).stdout;
    const install = `${dpkg} --install /var/hello.deb && hello && ${dpkg} --verify hello`;
    tools.equal(host.try('bash', '--norc', '-c', install).status === 0, false);
    const life = `
      ${install} && ${dpkg} --remove hello && ! test -e /usr/bin/hello
      ${install} && ${dpkg} --purge hello && ! test -e /usr/share/doc/hello
      ${install}`;
    host.ours('unlock');
    tools.matches(host.sh(life), /(Hello, world![^]*){3}/);
    // What was there before is as whole as it was.
    tools.equal(host.try('bash', '--norc', '-c', `${dpkg} --verify`).stdout, verified);
    host.ours('lock');
    host.sh('! test -e /usr/bin/hello');
    host.ours('unlock', '--transient');
    host.sh(`unshare --mount bash --norc -ec 'mount -i -o remount,rw /usr\n${life}'`);
    // Others see it, and cannot change it.
    tools.equal(host.sh('hello'), 'Hello, world!');
    tools.equal(host.try('rm', '/usr/bin/hello').status, 1);
    host.ours('lock');
    host.ours('unlock', '--hotfix');
    host.sh(life);
    await host.reboot({ sysroot: 'ro' });
    tools.equal(host.sh(`hello && ${dpkg} --verify hello`), 'Hello, world!');
    tools.equal(host.try('bash', '--norc', '-c', `${dpkg} --verify`).stdout, verified);
    // Kernel overlayfs changes what we have written, and the other way round.
    host.sh(`${dpkg} --remove hello`);
    host.sh(install);
    host.ours('lock', '--hotfix');
    host.sh('! test -e /usr/bin/hello');
    tools.equal(host.base(), base);
    await host.crash();
  },
);

test(
  'rpm, on a deployment that has its database in /usr, as a session and as a hotfix',
  sandboxed,
  async ({ tools, work }) => {
    const fs = await import('node:fs');
    const tree = `${work}/tree`;
    tools.run('cp', ['-a', tools.smallTree(), tree]);
    tools.addPrograms(tree, ['rpm']);
    fs.cpSync('/usr/lib/rpm', `${tree}/usr/lib/rpm`, { recursive: true });
    // One version is in the tree, the next is to come.
    // OSTree gives all files the time 0, which is not what rpm has on record: times of these are not compared.
    const built = tools.buildRpms(`${work}/rpms`, ['1', '2']);
    const database = '/usr/lib/sysimage/rpm';
    tools.run('rpm', [
      `--root=${tree}`,
      `--dbpath=${database}`,
      '--nodeps',
      '--install',
      built[0]!,
    ]);
    const host = new tools.BootedHost(work, tree);
    fs.rmSync(tree, { recursive: true });
    const base = host.base();
    const folder = `${host.sysroot}/ostree/deploy/test/var`;
    for (const [i, file] of built.entries()) fs.copyFileSync(file, `${folder}/tool-${i + 1}.rpm`);
    await host.boot();
    const rpm = `rpm --dbpath=${database}`;
    const upgrade = `${rpm} --nodeps --upgrade /var/tool-2.rpm`;
    tools.equal(
      host.sh(`${rpm} --query tool; tool; ${rpm} --verify --nomtime tool`),
      'tool-1-1.noarch\ntool 1',
    );
    tools.equal(host.try('bash', '--norc', '-c', upgrade).status === 0, false);
    const life = `
      ${upgrade} && tool && ${rpm} --verify tool
      ${rpm} --erase tool && ! test -e /usr/share/tool && ! ${rpm} --query tool
      ${rpm} --nodeps --install /var/tool-1.rpm && tool && ${rpm} --verify tool
      ${upgrade} && ${rpm} --verify --all && tool`;
    for (const mode of ['--upper=memory', '--upper=tmpfs', '--hotfix']) {
      host.ours('unlock', mode);
      tools.equal(host.sh(life), 'tool 2\npackage tool is not installed\ntool 1\ntool 2');
      if (mode !== '--hotfix') host.ours('lock');
    }
    await host.reboot();
    tools.equal(
      host.sh(`${rpm} --query tool; tool; ${rpm} --verify --all`),
      'tool-2-1.noarch\ntool 2',
    );
    tools.equal(host.sh(`${rpm} --erase tool; ${life}`).split('\n').at(-1), 'tool 2');
    host.ours('lock', '--hotfix');
    tools.equal(
      host.sh(`${rpm} --query tool; tool; ${rpm} --verify --nomtime --all`),
      'tool-1-1.noarch\ntool 1',
    );
    tools.equal(host.base(), base);
    await host.crash();
  },
);
