/** The booted deployment when things go wrong: each step of unlock fails, records and mounts disagree, processes are killed. */
import test from 'ava';
import { sandboxedLong } from '../helpers/sandbox.ts';

test(
  'a step of unlock that fails is named, and leaves the host as it was',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    const ours = tools.BootedHost.ours.join(' ');
    host.sh(`mkdir /tmp/bin && printf '#!/bin/sh\\n[ "$1" = --version ] || { echo "error: no luck" >&2; exit 1; }\\n' \\
      > /tmp/bin/ostree && chmod +x /tmp/bin/ostree`);
    const origin = `${host.deployment()}.origin`;
    // oxlint-disable-next-line unicorn/consistent-function-scoping -- the body runs in another process
    const traced = (words: string) => `strace -o /tmp/trace ${words} `;
    // What is done first, what is put before the command, its options, what is said, what is undone.
    const cases: [
      before: string,
      prefix: string,
      options: string,
      message: RegExp,
      after: string,
    ][] = [
      // Development.
      [
        'mount -t tmpfs -o ro tmpfs /run/ostree',
        '',
        '',
        /ostree cannot be told .*EROFS/,
        'umount /run/ostree',
      ],
      ['', traced('-f -e inject=mount:error=EIO'), '', /cannot start the session/, ''],
      ['', 'unshare --mount --propagation private ', '', /the host would not see it/, ''],
      ['', 'unshare --mount --propagation private ', '--hotfix', /the host would not see it/, ''],
      // A hotfix: without ostree, when it fails, without a writable view, without capabilities, on a full disk.
      ['', 'env PATH=/nowhere ', '--hotfix', /needs the program 'ostree'/, ''],
      [
        '',
        'env PATH=/tmp/bin ',
        '--hotfix',
        /ostree cannot make the rollback deployment: no luck/,
        '',
      ],
      [
        '',
        traced('-e inject=open_tree:error=EPERM'),
        '--hotfix',
        /cannot be had writable: EPERM/,
        '',
      ],
      [
        '',
        'setpriv --bounding-set=-linux_immutable ',
        '--hotfix',
        /a place for the changes .*EPERM/,
        '',
      ],
      [
        '',
        traced('-e inject=mkdir:error=ENOSPC:when=3'),
        '--hotfix',
        /a place for the changes .*ENOSPC/,
        '',
      ],
      [
        '',
        traced('-e inject=mkdir:error=ENOSPC:when=4'),
        '--hotfix',
        /a place for the changes .*ENOSPC/,
        '',
      ],
      [
        '',
        traced('-f -e inject=memfd_create:error=EMFILE'),
        '--hotfix',
        /cannot make the session's memory/,
        '',
      ],
      [
        `chattr +i ${origin}`,
        '',
        '--hotfix',
        /the origin .* cannot be written: EPERM/,
        `chattr -i ${origin}`,
      ],
      // What only a mistake can be.
      [
        '',
        '',
        '--hotfix --transient',
        /^ostree-ts: Cannot specify both --hotfix and --transient\n/,
        '',
      ],
      ['', '', '--hotfix --upper=tmpfs', /kept in the deployment/, ''],
      ['', '', '--upper=/var', /as a hotfix/, ''],
      ['', '', '--hotfix /usr', /for the booted deployment/, ''],
      ['', '', '--sysroot=/usr', /is no OSTree sysroot/, ''],
      ['', 'setpriv --reuid=1 ', '', /You must be root|fusermount3/, ''],
      [
        'mv /run/ostree-booted /run/no',
        '',
        '',
        /Not currently booted into an OSTree system/,
        'mv /run/no /run/ostree-booted',
      ],
    ];
    for (const [before, prefix, options, message, after] of cases) {
      const was = host.everything();
      host.sh(`mkdir -p /run/ostree\n${before}`);
      const { status, stderr } = host.try(
        'bash',
        '--norc',
        '-c',
        `exec ${prefix}${ours} unlock ${options}`,
      );
      tools.equal(
        status === 1 || status === 2,
        true,
        `${prefix}${options}: exit ${status}: ${stderr}`,
      );
      tools.matches(stderr, message);
      host.sh(`${after}\nrmdir /run/ostree || true; rm -f /tmp/trace`);
      // Files that are still open go a moment later.
      await tools.until(() => host.everything() === was, 3000);
      tools.equal(host.everything(), was);
    }
    await host.crash();
  },
);

test(
  'what mount, marker and origin say of a deployment that something else has changed is told, and set right by lock',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    const was = host.everything();
    const state = '/run/ostree/deployment-state';
    const id = host.deployment().split('/').at(-1);
    const cases: [
      what: string,
      script: string,
      unlocked: string,
      recorded: string,
      found: RegExp,
    ][] = [
      [
        'our session, unmounted behind our back',
        'OURS unlock && umount -l /usr',
        'none',
        'development',
        /nothing was mounted/,
      ],
      [
        "ostree's own",
        'ostree admin unlock',
        'development',
        'development',
        /not of ostree-ts.*development/,
      ],
      [
        "ostree's own, read-only",
        'ostree admin unlock --transient',
        'transient',
        'transient',
        /not of ostree-ts.*transient/,
      ],
      [
        "ostree's own, unmounted",
        'ostree admin unlock && umount -l /usr',
        'none',
        'development',
        /nothing was mounted/,
      ],
      [
        "ostree's own, in a namespace of nobody",
        'unshare --mount --propagation private ostree admin unlock',
        'none',
        'development',
        /nothing was mounted/,
      ],
      [
        'a stale marker',
        `mkdir -p ${state}/${id} && touch ${state}/${id}/unlocked-transient`,
        'none',
        'transient',
        /nothing was mounted/,
      ],
      [
        'a session of which ostree does not know',
        `OURS unlock && rm ${state}/*/unlocked-*`,
        'development',
        'none',
        /^$/,
      ],
      [
        'a dead daemon',
        'OURS unlock && kill -9 $(PID)',
        'none',
        'development',
        /killed by signal 9/,
      ],
    ];
    const ours = tools.BootedHost.ours.join(' ');
    // Nothing of /usr runs until the keeper has taken a dead mount away.
    const isBare = () => !tools.mountsOf(host.first).includes(' /usr fuse.ostree-ts ');
    const field = (name: string) =>
      `${ours} status --json usr | sed 's/.*"${name}":\\([0-9]*\\).*/\\1/'`;
    for (const [what, script, unlocked, recorded, found] of cases) {
      host.sh(script.replaceAll('OURS', ours).replace('PID', field('pid')));
      if (unlocked === 'none') await tools.until(isBare, 5000);
      const booted = host.booted();
      tools.equal(`${what}: ${String(booted['unlocked'])}`, `${what}: ${unlocked}`);
      tools.equal(`${what}: ${String(booted['recorded'])}`, `${what}: ${recorded}`);
      tools.equal(host.ostreeSays(), recorded);
      const problems = (booted['problems'] as string[]).join('\n');
      if (unlocked === recorded) tools.equal(problems, '');
      else tools.matches(problems, /^ostree says that .*'ostree-ts lock' sets that right$/);
      tools.matches(host.tryOurs(['unlock']).stderr, /already/);
      const { status, stderr } = host.tryOurs(['lock']);
      tools.equal(status, 0, `${what}: ${stderr}`);
      tools.matches(stderr.trim(), found);
      tools.equal(host.ostreeSays(), 'none');
      tools.same(host.booted()['problems'], []);
      // What ostree has made besides is ostree's to remove.
      host.sh(
        `rm -rf /sysroot/ostree/deploy/*/backing /var/tmp/ostree-unlock-ovl.*; chattr +i /; rmdir /run/ostree || true`,
      );
      await tools.until(() => host.everything() === was, 3000);
      tools.equal(host.everything(), was, what);
    }
    tools.matches(host.tryOurs(['lock']).stderr, /is not unlocked/);
    await host.crash();
  },
);

test(
  'a hotfix that was begun, cut off or half removed is told, and thrown away by lock --hotfix',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    const clean = host.usr();
    const ours = tools.BootedHost.ours.join(' ');
    const problems = () => (host.booted()['problems'] as string[]).join('\n');
    // Killed between the mount and the record: the second file that it renames is the origin.
    host.try(
      'bash',
      '--norc',
      '-c',
      `strace -o /tmp/trace -e inject=rename:signal=KILL:when=2 ${ours} unlock --hotfix`,
    );
    tools.matches(host.sh("grep -c 'origin' /tmp/trace"), /^[1-9]/);
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(host.booted()['unlocked'], 'hotfix');
    tools.matches(problems(), /ostree says that it is not unlocked, but it is \(hotfix\)/);
    host.sh('echo begun > /usr/share/begun');
    await host.reboot();
    tools.equal(host.sh('cat /usr/share/begun'), 'begun');
    tools.matches(problems(), /its origin does not say hotfix/);
    tools.matches(host.tryOurs(['lock']).stderr, /is a hotfix/);
    tools.matches(host.tryOurs(['lock', '--hotfix']).stderr, /not of ostree-ts/);
    tools.equal(host.usr(), clean);
    tools.equal(problems(), '');
    tools.equal(host.sh('ls -a / | grep -c usr-ovl || true'), '0');
    // Unmounted behind our back: the next boot has it, and nobody may start another meanwhile.
    host.ours('unlock', '--hotfix');
    host.sh('echo kept > /usr/share/kept && umount -l /usr');
    tools.equal(host.booted()['unlocked'], 'none');
    tools.matches(
      problems(),
      /unlocked \(hotfix\), but nothing is mounted over \/usr: 'ostree-ts lock --hotfix'/,
    );
    tools.matches(host.tryOurs(['unlock', '--hotfix']).stderr, /already/);
    await host.reboot();
    tools.equal(host.sh('cat /usr/share/kept'), 'kept');
    host.sh('umount -l /usr');
    tools.matches(problems(), /nothing is mounted over/);
    host.ours('lock', '--hotfix');
    tools.equal(host.usr(), clean);
    tools.equal(host.ostreeSays(), 'none');
    tools.equal(problems(), '');
    // Its daemon dies: its name brings it back.
    host.ours('unlock', '--hotfix', '--name=fix');
    host.sh('echo back > /usr/share/back');
    const [session] = host.status();
    host.sh(`kill -9 ${String(session?.['pid'])}`);
    await tools.until(() => !tools.mountsOf(host.first).includes(' /usr fuse.ostree-ts '), 5000);
    host.ours('unlock', '--name=fix');
    tools.equal(host.sh('cat /usr/share/back'), 'back');
    tools.same(host.booted()['problems'], []);
    // In use: named; given back at once with --lazy, and no boot finds it.
    const nsenter = `--target ${host.first} --mount --pid --root --wdns=/usr/share -- /usr/bin/bash --norc -c`;
    const held = await tools.start('nsenter', [...nsenter.split(' '), 'echo ready; read -r line']);
    const busy = host.tryOurs(['lock', '--hotfix']);
    tools.equal(busy.status, 1);
    tools.matches(busy.stderr, /in use: bash \(\d+: cwd/);
    host.ours('lock', '--hotfix', '--lazy');
    tools.equal(host.usr(), clean);
    tools.equal(host.ostreeSays(), 'none');
    await tools.stop(held);
    await host.reboot();
    tools.equal(host.usr(), clean);
    tools.equal(problems(), '');
    await host.crash();
  },
);

test(
  'an enforcing host needs a label, which reaches the mount; the /usr that is shown is the one that runs',
  sandboxedLong,
  async ({ tools, work }) => {
    const host = new tools.BootedHost(work, tools.smallTree());
    await host.boot();
    const ours = tools.BootedHost.ours.join(' ');
    // As with composefs: another filesystem is mounted over /usr, which the deployment's directory is not.
    host.sh(`mkdir -p /tmp/image/share && echo verified > /tmp/image/share/verified
      mount -t overlay -o ro,lowerdir=/tmp/image:/usr image /usr`);
    tools.equal(host.booted()['unlocked'], 'none');
    host.ours('unlock');
    tools.equal(
      host.sh('echo more >> /usr/share/verified; cat /usr/share/verified'),
      'verified\nmore',
    );
    host.ours('lock');
    tools.equal(host.sh('cat /usr/share/verified; umount -l /usr'), 'verified');
    // The boot code has left the numbers of the deployment, since / may be another filesystem.
    const numbers = host.sh('stat -c "%d %i" /').split(' ').map(BigInt);
    const value = Buffer.alloc(55);
    value.write('backing-root-device-inode');
    value.writeBigUInt64LE(numbers[0] ?? 0n, 32);
    value.writeBigUInt64LE(numbers[1] ?? 0n, 40);
    value.write('(tt)', 49);
    value[53] = 26;
    value[54] = 54;
    host.sh(
      `printf '${[...value].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}' > /run/ostree-booted`,
    );
    tools.equal(host.booted()['booted'], true);
    host.sh(
      `mount -t tmpfs tmpfs /sys/fs && mkdir /sys/fs/selinux && echo 1 > /sys/fs/selinux/enforce`,
    );
    const refused = host.tryOurs(['unlock']);
    tools.equal(refused.status, 1);
    tools.matches(refused.stderr, /SELinux is enforcing.*\n.*--context=/);
    tools.matches(host.tryOurs(['unlock', '--context=nonsense']).stderr, /is no SELinux context/);
    const label = 'system_u:object_r:usr_t:s0:c1,c2';
    host.try(
      'bash',
      '--norc',
      '-c',
      `strace -f -s 400 -e trace=mount -o /tmp/trace ${ours} unlock --context=${label}`,
    );
    tools.matches(
      host.sh('grep fuse.ostree-ts /tmp/trace'),
      /default_permissions,context=\\"system_u:object_r:usr_t:s0:c1,c2\\"/,
    );
    tools.equal(host.ostreeSays(), 'none');
    host.sh('umount /sys/fs');
    tools.matches(
      host.tryOurs(['unlock', `--context=${label}`]).stderr,
      /there is no SELinux here/,
    );
    await host.crash();
  },
);
