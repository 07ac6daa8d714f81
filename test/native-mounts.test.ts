/** Mounts, roots and messages: each in a mount namespace of a child process, so that nothing can stay behind. */
import test from 'ava';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = process.getuid!() === 0;
const ADDON = new URL('../src/native.js', import.meta.url).href;

/** What every script starts with; `say` prints one line of JSON. */
const PRELUDE = `
  import { native, STAT, STAT_FIELDS } from ${JSON.stringify(ADDON)};
  import { spawnSync } from 'node:child_process';
  import { constants as fs, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
  import { Worker } from 'node:worker_threads';
  const O_PATH = 0o10000000;
  const say = (value) => console.log(JSON.stringify(value));
  const open = (path) => native.open(path, fs.O_RDONLY | fs.O_DIRECTORY, 0);
  const folder = process.argv[1];
`;

/** Runs a module in namespaces of its own, in a folder of the temp folder. @returns what it said, and what `during` gave. */
async function inNamespace<T>(
  script: string,
  during?: (child: ChildProcessWithoutNullStreams) => T,
): Promise<{ said: unknown[]; during: T | undefined }> {
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-native-'));
  const node = [process.execPath, '--input-type=module', '-e', PRELUDE + script, folder];
  const child = spawn('unshare', [ROOT ? '-m' : '-Urm', '--', ...node]);
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  let output = '';
  let errors = '';
  let result: T | undefined;
  child.stdout.on('data', (data: Buffer) => {
    if (output === '' && during) result = during(child);
    output += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  clearTimeout(timer);
  rmSync(folder, { recursive: true });
  if (code !== 0) throw new Error(`exit ${code}: ${errors}`);
  const said = output.trimEnd().split('\n');
  return { said: said.map((line) => JSON.parse(line) as unknown), during: result };
}

test('a detached bind can be read and not written, keeps atime, and does not see what covers it', async (t) => {
  const { said } = await inNamespace(`
    mkdirSync(folder + '/sub');
    writeFileSync(folder + '/file', 'below');
    const atime = () => {
      const out = new Float64Array(STAT_FIELDS);
      native.statx(open(folder), 'file', 0, out);
      return out[STAT.ATIME_SEC];
    };
    // Older than mtime, so that relatime would renew it.
    native.utimensat(open(folder), 'file', 1000, 0, 2000, 0);
    const bind = native.detachedReadonlyBind(open(folder));
    spawnSync('mount', ['-t', 'tmpfs', 'cover', folder]);
    writeFileSync(folder + '/file', 'above');
    const read = (dirfd) => {
      const fd = native.openBeneath(dirfd, 'file', fs.O_RDONLY, 0);
      const into = new Uint8Array(5);
      native.pread(fd, into, 0);
      return Buffer.from(into).toString();
    };
    say([read(bind), readFileSync(folder + '/file', 'latin1'), native.listDirectory(bind).names.sort()]);
    say([
      native.openBeneath(bind, 'file', fs.O_WRONLY, 0),
      native.openBeneath(bind, 'sub/new', fs.O_RDWR | fs.O_CREAT, 0o600),
      native.unlinkat(bind, 'file', 0),
      native.setxattr(bind, 'file', 'user.x', new Uint8Array(1), 0),
      native.fchmodat(bind, 'file', 0o777),
      native.utimensat(bind, 'file', 1, 1, 1, 1),
    ]);
    native.umount2(folder, 2);
    say(atime());
    say(readFileSync('/proc/self/mountinfo', 'latin1').includes(folder));
  `);
  const { EROFS } = constants.errno;
  t.deepEqual(said[0], ['below', 'above', ['file', 'sub']]);
  t.deepEqual(
    said[1],
    Array.from({ length: 6 }, () => -EROFS),
  );
  t.is(said[2], 1000);
  t.is(said[3], false);
});

test('an empty root is all that remains, for every thread, and open directories still work', async (t) => {
  const { said, during } = await inNamespace(
    `
    writeFileSync(folder + '/file', 'still here');
    const fd = open(folder);
    const bind = native.detachedReadonlyBind(fd);
    const worker = new Worker(
      "import { parentPort } from 'node:worker_threads'; import { readdirSync } from 'node:fs';" +
        "parentPort.on('message', () => parentPort.postMessage([readdirSync('/'), readdirSync('.')]));" +
        "parentPort.postMessage('ready')",
      { eval: true },
    );
    const heard = () => new Promise((resolve) => worker.once('message', resolve));
    await heard();
    const entered = native.enterEmptyRoot();
    worker.postMessage('look');
    const seen = await heard();
    let refusal;
    try { writeFileSync('/x', ''); } catch (error) { refusal = error.code; }
    say([entered, readdirSync('/'), readdirSync('.'), seen, refusal]);
    await new Promise((resolve) => process.stdin.once('data', resolve));
    for (const dirfd of [fd, bind]) {
      const file = native.openBeneath(dirfd, 'file', fs.O_RDONLY, 0);
      const into = new Uint8Array(10);
      say([native.pread(file, into, 0), Buffer.from(into).toString(), native.listDirectory(dirfd).names]);
    }
    process.exit(0);
  `,
    (child) => {
      // unshare has become node by now, so this is its namespace.
      const mounts = readFileSync(`/proc/${child.pid}/mountinfo`, 'latin1');
      child.stdin.end('go\n');
      return mounts.trimEnd().split('\n');
    },
  );
  t.deepEqual(said[0], [0, [], [], [[], []], 'EROFS']);
  t.deepEqual(said.slice(1), [
    [10, 'still here', ['file']],
    [10, 'still here', ['file']],
  ]);
  t.is(during!.length, 1);
  t.regex(during![0]!, / \/ \/ ro,nosuid,nodev,noexec,relatime - tmpfs ostree-ts ro,/);
});

test('attributes without /proc: all by name, directories by O_PATH fd', async (t) => {
  const { said } = await inNamespace(`
    writeFileSync(folder + '/file', '');
    const fd = native.openBeneath(open(folder), '.', O_PATH | fs.O_DIRECTORY, 0);
    const file = native.openBeneath(fd, 'file', O_PATH, 0);
    native.setxattr(fd, 'file', 'user.x', Buffer.from('file'), 0);
    native.setxattr(fd, '', 'user.x', Buffer.from('dir'), 0);
    const get = (dirfd, path) => {
      const value = native.getxattr(dirfd, path, 'user.x');
      return typeof value === 'number' ? value : Buffer.from(value).toString();
    };
    say([get(fd, ''), get(fd, 'file'), get(file, '')]);
    say([native.enterEmptyRoot(), get(fd, ''), get(fd, 'file'), get(file, ''), native.listxattr(fd, '')]);
    process.exit(0);
  `);
  t.deepEqual(said[0], ['dir', 'file', 'file']);
  t.deepEqual(said[1], [0, 'dir', 'file', -constants.errno.EOPNOTSUPP, ['user.x']]);
});

test('a message carries bytes and an fd, and its end is an empty message', async (t) => {
  // Python has socketpair; what it sends is what our receiver must see, and the other way round.
  const path = join(mkdtempSync(join(tmpdir(), 'ostree-ts-native-')), 'file');
  t.teardown(() => rmSync(join(path, '..'), { recursive: true }));
  writeFileSync(path, 'by fd');
  const script = `
    ${PRELUDE}
    const got = native.receiveMessage(9);
    const into = new Uint8Array(5);
    native.pread(got.fd, into, 0);
    say([Buffer.from(got.data).toString('latin1'), Buffer.from(into).toString()]);
    const plain = native.receiveMessage(9);
    say([plain.data.length, plain.data[65535], plain.fd]);
    say(native.sendMessage(9, Buffer.from('back'), got.fd));
    const end = native.receiveMessage(9);
    say([end.data.length, end.fd]);
    say(native.sendMessage(9, Buffer.from('x'), -1));
  `;
  const python = `
import array, os, socket, subprocess, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
# Non-blocking, as a socket that Node has touched.
theirs.setblocking(False)
os.dup2(theirs.fileno(), 9, inheritable=True)
child = subprocess.Popen(sys.argv[1:5], close_fds=True, pass_fds=[9])
theirs.close(); os.close(9)
fd = os.open(sys.argv[5], os.O_RDONLY)
socket.send_fds(ours, [b"a\\0\\xff"], [fd])
ours.send(bytes(65535) + b"\\x07")
data, fds, _, _ = socket.recv_fds(ours, 100, 1)
assert data == b"back" and os.pread(fds[0], 5, 0) == b"by fd"
ours.close()
sys.exit(child.wait())
`;
  const child = spawn(
    'python3',
    ['-c', python, process.execPath, '--input-type=module', '-e', script, path],
    { timeout: 30_000, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  t.is(code, 0);
  t.deepEqual(
    output
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
    [['a\0\u00ff', 'by fd'], [65536, 7, -1], 4, [0, -1], -constants.errno.EPIPE],
  );
});
