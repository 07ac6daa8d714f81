/**
 * Real programs on a real operating system: a Debian tree as the lower, a session over it, and a chroot into the mount.
 * The lower's checksum, with every content, time and attribute, is the same at the end.
 *
 * OSTREE_TS_TEST_SUBJECTS=plain runs the same scripts on a plain copy of the tree, to try the scripts themselves.
 */
import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { debianTree, PACKAGES, packageFile, SOURCE } from '../helpers/debian.ts';
import { mounted, type Mounted } from '../helpers/mounted.ts';
import { PROGRAM } from '../helpers/program.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** All packages are upgraded, and all of /usr is copied; else some. */
const ALL = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1) >= 2;
const COPIED = ALL ? 'usr' : 'usr/lib';
const PLAIN = process.env['OSTREE_TS_TEST_SUBJECTS'] === 'plain';

let session: Mounted | undefined;
let root = '';
/** A folder outside the session. */
let outside = '';

test.before(async (t) => {
  t.timeout(1_500_000);
  const lower = debianTree();
  outside = mkdtempSync(join(tmpdir(), 'programs-'));
  if (PLAIN) {
    root = join(outside, 'copy');
    execFileSync('cp', ['-a', lower, root]);
  } else {
    session = await mounted({ lower, options: { size: '4G' } });
    root = session.mountpoint;
  }
});

test.after.always('the session ends, and the lower is what it was', async (t) => {
  t.timeout(120_000);
  await session?.[Symbol.asyncDispose]();
  rmSync(outside, { recursive: true, force: true });
});

/** Runs a script in a shell, and fails with the end of what it printed. */
async function shell(t: ExecutionContext, script: string, timeoutMs = 240_000): Promise<string> {
  t.timeout(timeoutMs + 10_000);
  const child = spawn('sh', ['-ec', script], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const timer = setTimeout(() => process.kill(-(child.pid ?? 0), 'SIGKILL'), timeoutMs);
  const status = await new Promise((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal)),
  );
  clearTimeout(timer);
  t.is(status, 0, output.slice(-3000));
  return output;
}

/**
 * As `shell`, with the tree as root directory, in a mount namespace of its own for /proc. Nothing of the environment
 * goes along: a TMPDIR of the host is no folder there.
 */
function inside(t: ExecutionContext, script: string, timeoutMs?: number): Promise<string> {
  const quoted =
    `export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive; set -e; ${script}`.replaceAll(
      "'",
      `'\\''`,
    );
  const words =
    `mount -t proc proc ${root}/proc; exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot ${root} sh -ec '${quoted}'`.replaceAll(
      "'",
      `'\\''`,
    );
  return shell(t, `unshare --mount --propagation private sh -ec '${words}'`, timeoutMs);
}

test.serial('apt-get installs packages', async (t) => {
  await inside(
    t,
    `
    apt-get -y --no-install-recommends install ${PACKAGES.join(' ')}
    dpkg --audit
    hello | grep -q 'Hello, world'
  `,
  );
});

test.serial('apt-get upgrades, reinstalls and removes packages', async (t) => {
  await inside(
    t,
    `
    apt-get -y ${ALL ? 'upgrade' : 'install --only-upgrade libc6 libc-bin'}
    apt-get -y install --reinstall hello
    apt-get -y remove hello
    ! test -e /usr/bin/hello
    apt-get -y purge hello
    dpkg --audit
    dpkg --verify | { ! grep -v ' c ' ; }
  `,
  );
});

test.serial('useradd makes a user, who can log in and write at home only', async (t) => {
  await inside(
    t,
    `
    useradd -m -s /bin/sh somebody
    id somebody
    test "$(stat -c %U /home/somebody)" = somebody
    su somebody -c 'cd && echo hello > mine && ! touch /etc/not-mine 2>/dev/null'
    echo somebody:secret | chpasswd
    userdel -r somebody
    ! test -e /home/somebody
  `,
  );
});

test.serial('tar unpacks a source tree, and make builds and tests it', async (t) => {
  await inside(
    t,
    `
    cd /root/source
    tar xf ${SOURCE}_*.orig.tar.*
    cd ${SOURCE}-*/
    ./configure
    make -j2
    make check
    make install prefix=/usr/local
    printf '#include <zlib.h>\\n#include <stdio.h>\\nint main(){puts(zlibVersion());}' > /tmp/t.c
    gcc /tmp/t.c -o /tmp/t -I/usr/local/include /usr/local/lib/libz.a
    /tmp/t
  `,
  );
});

test.serial('git commits, clones, repacks and checks', async (t) => {
  await inside(
    t,
    `
    git config --global user.name t
    git config --global user.email t@localhost
    chown -R 0:0 /root/source
    cd /root/source/${SOURCE}-*/
    git init -q .
    git add -A
    git commit -qm one
    for i in 1 2 3 4 5; do echo "$i" >> README; git commit -qam "change $i"; done
    git clone -q . /root/clone
    git clone -q --no-local --bare . /root/bare.git
    cd /root/clone
    git checkout -q -b other HEAD~2
    git merge -q origin/HEAD
    git gc -q --aggressive --prune=now
    git fsck --full --strict
    test -z "$(git status --porcelain)"
    git -C /root/bare.git fsck --full
    git worktree add -q /root/worktree HEAD~3
    git stash list
    git grep -q deflate
  `,
  );
});

for (const mode of ['wal', 'mmap'] as const) {
  test.serial(`sqlite keeps its integrity under concurrent writers: ${mode}`, async (t) => {
    const pragmas =
      mode === 'wal'
        ? 'PRAGMA journal_mode=WAL;'
        : 'PRAGMA journal_mode=TRUNCATE; PRAGMA mmap_size=268435456;';
    const output = await inside(
      t,
      `
      cd /var/lib
      sqlite3 ${mode}.db '${pragmas} CREATE TABLE t(id INTEGER PRIMARY KEY, writer INT, value TEXT); CREATE INDEX i ON t(value);'
      for writer in 1 2 3 4; do
        ( for i in $(seq 60); do
            echo "PRAGMA busy_timeout=60000; ${pragmas.includes('mmap') ? 'PRAGMA mmap_size=268435456;' : ''} BEGIN IMMEDIATE;
              INSERT INTO t(writer, value) SELECT $writer, hex(randomblob(200)) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4);
              UPDATE t SET value = hex(randomblob(100)) WHERE id % 7 = $i % 7;
              DELETE FROM t WHERE id % 101 = $i; COMMIT;" | sqlite3 ${mode}.db >/dev/null
          done ) &
      done
      wait
      sqlite3 ${mode}.db 'PRAGMA integrity_check; SELECT count(DISTINCT writer) FROM t; VACUUM; PRAGMA integrity_check;'
    `,
    );
    t.regex(output, /ok\n4\nok\n$/);
  });
}

test.serial('python makes a virtual environment and imports from it', async (t) => {
  await inside(
    t,
    `
    python3 -m venv --without-pip /root/venv
    printf 'value = 42\\n' > /root/venv/lib/python3*/site-packages/made.py 2>/dev/null ||
      for d in /root/venv/lib/python3*/site-packages; do printf 'value = 42\\n' > "$d/made.py"; done
    /root/venv/bin/python -c 'import made, ssl, sqlite3; assert made.value == 42'
    python3 -m compileall -q /root/venv
  `,
  );
});

test.serial('npm installs a project from its lock file', async (t) => {
  const project = join(root, 'root/project');
  mkdirSync(project);
  for (const name of ['package.json', 'package-lock.json'])
    copyFileSync(join(ROOT, name), join(project, name));
  await shell(
    t,
    `
    cd ${project}
    npm ci --ignore-scripts --prefer-offline --no-audit --no-fund
    node_modules/.bin/prettier --version
    rm -rf node_modules
    test "$(ls)" = "$(printf 'package-lock.json\\npackage.json')"
  `,
  );
});

test.serial('rsync -aHAX copies out and in, and then has nothing to do', async (t) => {
  await shell(
    t,
    `
    mkdir ${outside}/out
    rsync -aHAX --numeric-ids ${root}/${COPIED}/ ${outside}/out/
    test -z "$(rsync -aHAX --numeric-ids --checksum --delete --itemize-changes ${root}/${COPIED}/ ${outside}/out/)"
    mkdir ${root}/back
    rsync -aHAX --numeric-ids ${outside}/out/ ${root}/back/
    test -z "$(rsync -aHAX --numeric-ids --checksum --delete --itemize-changes ${outside}/out/ ${root}/back/)"
    rm -rf ${root}/back ${outside}/out
  `,
  );
});

test.serial('cp copies with holes and with reflink=auto', async (t) => {
  await shell(
    t,
    `
    cd ${root}/root
    truncate -s 100M sparse
    printf middle | dd of=sparse bs=1 seek=50000000 conv=notrunc status=none
    cp --reflink=auto --sparse=always sparse copy
    cmp sparse copy
    test "$(du -k copy | cut -f1)" -lt 1024
    cp -a --reflink=auto ${root}/usr/bin copied-bin
    diff -r --no-dereference ${root}/usr/bin copied-bin
    ! cp --reflink=always sparse refused 2>/dev/null
    rm -rf sparse copy copied-bin refused
  `,
  );
});

test.serial('find, chmod -R, chown -R and rm -rf on a large tree', async (t) => {
  await shell(
    t,
    `
    cd ${root}
    chmod -R g+w usr/share
    test -z "$(find usr/share ! -type l ! -perm -g+w | head -1)"
    chown -R 1000:1000 usr/share/doc
    test -z "$(find usr/share/doc ! -user 1000 | head -1)"
    rm -rf usr/share/doc usr/share/locale
    ! test -e usr/share/doc
    find . -xdev -type f -newer etc/hostname > /dev/null
  `,
  );
});

test.serial('in place over the /usr of this machine', async (t) => {
  if (PLAIN) {
    t.pass();
    return;
  }
  const deb = packageFile(debianTree(), 'hello');
  // /var and /etc get an overlay of their own: a package writes there too, and this is not their test.
  const output = await shell(
    t,
    `
    mkdir -p ${outside}/usr-test
    unshare --mount --propagation private sh -ec '
      mount -t tmpfs tmpfs ${outside}/usr-test
      for d in var etc; do
        mkdir -p ${outside}/usr-test/$d/upper ${outside}/usr-test/$d/work
        mount -t overlay overlay -o lowerdir=/$d,upperdir=${outside}/usr-test/$d/upper,workdir=${outside}/usr-test/$d/work /$d
      done
      cp ${deb} ${outside}/usr-test/hello.deb
      cd /
      node ${PROGRAM} unlock /usr --name usr-test
      dpkg -i ${outside}/usr-test/hello.deb
      hello
      node -e "console.log(1 + 1)"
      git --version
      echo "int main(void) { return 0; }" > /usr/share/t.c
      gcc /usr/share/t.c -o /usr/share/t
      /usr/share/t
      echo 3 > /proc/sys/vm/drop_caches
      hello
      node ${PROGRAM} diff usr-test | grep /bin/hello
      node ${PROGRAM} lock usr-test
      ! test -e /usr/share/t.c
      ! test -e /usr/bin/hello
      node ${PROGRAM} status
      ! grep "ostree-ts usr-test" /proc/self/mountinfo
    '
    ! test -e /run/ostree-ts/usr-test
  `,
  );
  t.regex(output, /^A\t\/bin\/hello$/m);
});
