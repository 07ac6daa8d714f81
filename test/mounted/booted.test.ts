/** The booted deployment of an OSTree host: unlocked, rebooted, upgraded, rolled back, locked, with the real `ostree` beside. */
import test from 'ava';
import { sandboxedLong } from '../helpers/sandbox.ts';

test(
  'development: writable and known to ostree, on a read-only sysroot; gone at a reboot, without a leak',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    const base = host.base();
    await host.boot({ sysroot: 'ro' });
    const flags = host.sh('lsattr -d /');
    tools.matches(flags, /^----i/);
    const write = 'echo new > /usr/share/new';
    tools.equal(host.try('bash', '-c', write).status, 1);
    tools.equal(host.ostreeSays(), 'none');
    for (const upper of ['memory', 'tmpfs']) {
      tools.matches(
        host.ours('unlock', `--upper=${upper}`),
        /^\/usr is writable;.*and so does a reboot$/,
      );
      tools.equal(host.ostreeSays(), 'development');
      host.sh(
        `test ! -e /usr/share/new && ${write} && echo more >> /usr/share/doc/text && rm /usr/bin/cmp`,
      );
      host.sh('mv /usr/share/doc /usr/share/moved');
      tools.equal(host.sh('cat /usr/share/new /usr/share/moved/text'), 'new\nas delivered\nmore');
      tools.equal(host.sh('stat -c "%a %u:%g" /usr'), '755 0:0');
      tools.equal(host.sh('lsattr -d /'), flags);
      tools.equal(host.booted()['unlocked'], 'development');
      tools.same(host.booted()['problems'], []);
      const again = host.tryOurs(['unlock']);
      tools.equal(again.status, 1);
      tools.matches(
        again.stderr,
        /^ostree-ts: Deployment is already in unlocked state: development\n/,
      );
      // Nothing of it is where a reboot would find it.
      tools.equal(tools.run('find', [host.sysroot, '-name', 'new', '-o', '-name', 'moved']), '');
      tools.equal(host.base(), base);
      await host.reboot({ sysroot: 'ro' });
      tools.equal(host.ostreeSays(), 'none');
      tools.equal(host.booted()['unlocked'], 'none');
      host.sh('test ! -e /usr/share/new && test -e /usr/bin/cmp');
      tools.equal(host.try('bash', '-c', write).status, 1);
    }
    // For one command, of which nothing is on record.
    tools.equal(host.ours('run', '--', 'sh', '-c', `${write}; cat /usr/share/new`), 'new');
    host.sh('test ! -e /usr/share/new');
    tools.equal(host.ostreeSays(), 'none');
    // Named as a directory it is the same files, of which ostree does not know.
    host.ours('unlock', '/usr');
    tools.matches(
      String(host.booted()['problems']),
      /ostree says that it is not unlocked, but it is/,
    );
    host.ours('lock');
    // A session that others still hold is none of the business of the next one.
    host.ours('unlock');
    const enter = `--target ${host.first} --mount --pid --root --wdns=/usr/share -- /usr/bin/bash --norc -c`;
    const held = await tools.start('nsenter', [...enter.split(' '), 'echo ready; read -r line']);
    tools.matches(host.tryOurs(['lock']).stderr, /session usr is in use: bash/);
    host.ours('lock', '--lazy');
    tools.equal(host.ostreeSays(), 'none');
    host.ours('unlock', '--transient');
    host.ours('lock', 'usr', '--lazy');
    tools.equal(host.ostreeSays(), 'transient');
    tools.same(host.booted()['problems'], []);
    await tools.stop(held);
    host.ours('lock', '/usr');
    tools.equal(host.ostreeSays(), 'none');
    // Locked, without a reboot.
    host.ours('unlock');
    host.sh(`test ! -e /usr/share/new && ${write}`);
    tools.matches(host.ours('lock'), /usr is locked again, 1 change/);
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.try('bash', '-c', write).status, 1);
    host.sh('test ! -e /run/ostree && test ! -e /run/ostree-ts');
    tools.equal(host.sh('lsattr -d /'), flags);
    tools.equal(host.base(), base);
    await host.crash();
  },
);

test(
  'transient: read-only for everybody but a process that remounts it for itself; gone at a reboot',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    const base = host.base();
    await host.boot();
    const before = host.sh('stat -c %Y%y /sysroot/ostree/deploy; sleep 0.01');
    tools.matches(host.ours('unlock', '--transient'), /mounted read-only/);
    tools.equal(host.ostreeSays(), 'transient');
    // Those who watch the sysroot were told.
    tools.equal(host.sh('stat -c %Y%y /sysroot/ostree/deploy') === before, false);
    tools.same(host.booted()['problems'], []);
    tools.equal(host.booted()['unlocked'], 'transient');
    const refused = host.try('bash', '-c', 'echo no > /usr/share/new');
    tools.matches(refused.stderr, /Read-only file system/);
    // mount(8) finds no helper for the type here, or is told to take none.
    for (const words of [
      '-i -o remount,rw',
      '-i --options-source=disable -o remount,rw',
      '-o remount,rw',
    ]) {
      host.sh(`unshare --mount sh -c 'mount ${words} /usr && echo "${words}" >> /usr/share/new'`);
    }
    tools.equal(host.sh('wc() { :; }; grep -c remount /usr/share/new'), '3');
    tools.matches(
      host.try('bash', '-c', 'echo no > /usr/share/new').stderr,
      /Read-only file system/,
    );
    tools.matches(
      host.tryOurs(['unlock', '--hotfix']).stderr,
      /already in unlocked state: transient/,
    );
    tools.matches(host.ours('diff'), /^A\t\/share\/new$/);
    await host.reboot();
    tools.equal(host.ostreeSays(), 'none');
    host.ours('unlock', '--transient');
    host.sh('test ! -e /usr/share/new');
    host.ours('lock');
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.base(), base);
    await host.crash();
  },
);

test(
  'hotfix: kept over reboots by plain ostree and kernel overlayfs, with the same tree; the rollback is clean',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    const fs = await import('node:fs');
    await host.boot({ sysroot: 'ro' });
    const clean = host.usr();
    const deployment = host.deployment();
    const outside = `${host.sysroot}${deployment.replace('/sysroot', '')}`;
    tools.matches(host.ours('unlock', '--hotfix'), /stays changed at all boots/);
    tools.equal(host.ostreeSays(), 'hotfix');
    const base = host.base();
    tools.same(host.booted()['problems'], []);
    host.sh(`
      echo new > /usr/share/new
      echo more >> /usr/share/doc/text
      rm /usr/bin/cmp
      rm -r /usr/lib/modules && mkdir /usr/lib/modules && echo other > /usr/lib/modules/file
      mkdir /usr/made && mv /usr/made /usr/share/made && ln /usr/share/new /usr/share/linked
      chmod 700 /usr/share/doc && setfattr -n user.mark -v here /usr/share/doc
      mv /usr/share/doc /usr/share/moved
      suid=$(stat -c %a /usr/bin/suid) && test "$suid" = 4755 && chown 5:6 /usr/share/new`);
    // Nothing in it that only some mounts follow.
    tools.equal(host.sh(`cd ${deployment} && getfattr -R -d -m redirect .usr-ovl-upper`), '');
    tools.equal(fs.readFileSync(`${outside}/.usr-ovl-upper/share/new`, 'utf8'), 'new\n');
    tools.equal(
      host.sh(`stat -c '%a %u %g' ${deployment}/.usr-ovl-upper`),
      host.sh("stat -c '%a %u %g' /usr"),
    );
    tools.matches(host.sh('lsattr -d /'), /^----i/);
    tools.equal(host.base(), base);
    const changed = host.usr();
    await host.reboot({ sysroot: 'ro' });
    tools.matches(
      host.sh('findmnt -n -o FSTYPE,OPTIONS /usr'),
      /^overlay .*upperdir=\.usr-ovl-upper/,
    );
    tools.equal(host.ostreeSays(), 'hotfix');
    tools.equal(host.usr(), changed);
    tools.equal(host.booted()['by'], 'ostree');
    tools.equal(host.booted()['unlocked'], 'hotfix');
    tools.same(host.booted()['problems'], []);
    host.sh('echo later > /usr/share/later');
    // The rollback target, chosen in the boot menu.
    await host.reboot({ entry: 1 });
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.usr(), clean);
    tools.matches(host.sh('ostree admin status'), /Unlocked: hotfix/);
    const [other] = host.status().filter(({ booted }) => booted === false);
    tools.equal(other?.['unlocked'], 'hotfix');
    // Back, and ended.
    await host.reboot({ sysroot: 'ro' });
    tools.equal(host.sh('cat /usr/share/later'), 'later');
    const refused = host.tryOurs(['lock']);
    tools.equal(refused.status, 1);
    tools.matches(refused.stderr, /is a hotfix, .*\n.*lock --hotfix/);
    host.ours('lock', '--hotfix');
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.usr(), clean);
    tools.equal(host.try('bash', '-c', 'echo no > /usr/share/new').status, 1);
    tools.equal(fs.existsSync(`${outside}/.usr-ovl-upper`), false);
    tools.equal(fs.existsSync(`${outside}/.usr-ovl-work`), false);
    tools.equal(fs.readFileSync(`${outside}.origin`, 'utf8'), '[origin]\nrefspec=test/main\n');
    tools.matches(host.sh('lsattr -d /'), /^----i/);
    // Again: the rollback that is there serves, and nothing of the first hotfix is seen.
    host.ours('unlock', '--hotfix');
    tools.equal(host.usr(), clean);
    tools.equal(host.status().filter(({ booted }) => booted !== undefined).length, 2);
    host.sh('echo second > /usr/share/second');
    const held = host.tryOurs(['lock']);
    tools.matches(held.stderr, /is a hotfix/);
    host.ours('lock', '--hotfix');
    tools.equal(host.usr(), clean);
    tools.equal(host.base(), base);
    await host.reboot();
    tools.equal(host.usr(), clean);
    await host.crash();
  },
);

test(
  'a new deployment beside an unlocked one is clean; the hotfix waits in the one before',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    host.ours('unlock');
    host.sh('echo dev > /usr/share/dev');
    host.commit(tools.smallTree());
    host.sh(`ostree admin deploy --os=test test/main`);
    tools.equal(host.ostreeSays(), 'development');
    tools.equal(host.sh('cat /usr/share/dev'), 'dev');
    await host.reboot();
    tools.equal(host.ostreeSays(), 'none');
    host.sh('test ! -e /usr/share/dev');
    host.ours('unlock', '--hotfix');
    host.sh('echo fix > /usr/share/fix');
    host.commit(tools.smallTree());
    host.sh('ostree admin deploy --os=test test/main');
    tools.equal(host.ostreeSays(), 'hotfix');
    tools.equal(host.sh('cat /usr/share/fix'), 'fix');
    await host.reboot();
    tools.equal(host.ostreeSays(), 'none');
    host.sh('test ! -e /usr/share/fix');
    tools.same(host.booted()['problems'], []);
    // Rolled back by ostree.
    host.sh('ostree admin undeploy 0 2>/dev/null || true');
    await host.reboot({ entry: 1 });
    tools.equal(host.ostreeSays(), 'hotfix');
    tools.equal(host.sh('cat /usr/share/fix'), 'fix');
    host.ours('lock', '--hotfix');
    await host.reboot({ entry: 1 });
    tools.equal(host.ostreeSays(), 'none');
    host.sh('test ! -e /usr/share/fix');
    await host.crash();
  },
);

test(
  'a session is kept: committed on the host, deployed by the real tool, booted',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    const before = host.sh('ostree rev-parse test/main');
    host.ours('unlock');
    host.sh('echo fixed > /usr/share/doc/text && mkdir /usr/lib/new && rm /usr/bin/cmp');
    host.sh('ln -s doc /usr/share/link && chmod 0750 /usr/share/doc && chown 3:4 /usr/share/doc');
    const changed = host.usr();
    host.ours('commit', '--branch=test/main', '--subject=hotfix');
    tools.equal(host.sh('ostree rev-parse test/main^'), before);
    tools.matches(host.sh('ostree fsck'), /no errors found/);
    host.sh('ostree admin deploy --os=test test/main');
    host.ours('lock');
    await host.reboot();
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.booted()['unlocked'], 'none');
    // Times apart, which a deployment does not have.
    const times = / \d+\.\d+ /g;
    tools.equal(host.usr().replaceAll(times, ' '), changed.replaceAll(times, ' '));
    tools.equal(host.sh('cat /usr/share/link/text'), 'fixed');
    // And back, by the other entry of the boot loader.
    await host.reboot({ entry: 1 });
    tools.equal(host.sh('cat /usr/share/doc/text'), 'as delivered');
    await host.crash();
  },
);
