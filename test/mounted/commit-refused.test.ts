/**
 * Commits that the repository cannot take, by the command: one line of what is wrong, one of what to do, nothing left behind,
 * and a session that has lost nothing.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type Mounted, mounted } from '../helpers/mounted.ts';
import { addCommit, commitTree, noise, ostree, remove, scratch } from '../helpers/repositories.ts';
import { PROGRAM } from '../helpers/program.ts';

const isRoot = process.getuid?.() === 0;
const rootTest = isRoot ? test.serial : test.serial.skip;
if (!isRoot) console.log('commit-refused: no root, so no mounts of repositories');

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
mkdirSync(join(tree, 'usr'), { recursive: true });
writeFileSync(join(tree, 'usr/file'), 'as it was\n');

interface Ended {
  code: number | null;
  words: string[];
}

function start(session: string, ...options: string[]): ChildProcess {
  const args = [PROGRAM, 'commit', session, '--branch=work', ...options];
  return spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

async function ended(child: ChildProcess): Promise<Ended> {
  const words: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => words.push(chunk));
  await once(child, 'close');
  const text = Buffer.concat(words).toString();
  return { code: child.exitCode, words: text.split('\n').filter((line) => line !== '') };
}

/** A session with a change, over a commit of a new repository of this mode. */
async function changed(name: string, mode: 'archive' | 'bare-user' | 'bare-split-xattrs') {
  const { path: repo } = commitTree(join(folder, name), mode, tree);
  const session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  writeFileSync(join(session.mountpoint, 'usr/new'), noise(100_000));
  return { repo, session };
}

/** All files and folders of a repository, with their sizes. */
function inside(repo: string): string[] {
  const format = '%P %y %m %s\\n';
  const told = execFileSync('find', [repo, '-printf', format], { encoding: 'utf8' });
  // Its size and time are those of the fullest that it was.
  return told
    .split('\n')
    .filter((line) => !line.startsWith('tmp '))
    .sort();
}

/** @param repo  where it would be, with `into` as what the command is told. */
async function refused(
  t: ExecutionContext,
  { session: { name }, mountpoint }: Pick<Mounted, 'session' | 'mountpoint'>,
  repo: string,
  what: RegExp,
  remedy: RegExp,
  ...options: string[]
): Promise<void> {
  const before = inside(repo);
  const { code, words } = await ended(start(name, ...options));
  t.is(code, 1);
  t.is(words.length, 2, words.join('\n'));
  t.regex(words[0] ?? '', what);
  t.regex(words[1] ?? '', remedy);
  t.deepEqual(inside(repo), before);
  t.deepEqual(readFileSync(join(mountpoint, 'usr/new')), noise(100_000));
}

/** That it is the repository which was in the way. */
async function taken(
  t: ExecutionContext,
  { session: { name } }: Mounted,
  repo: string,
  ...options: string[]
) {
  t.is((await ended(start(name, ...options))).code, 0);
  t.deepEqual(ostree('cat', `--repo=${repo}`, 'work', '/usr/new'), noise(100_000));
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/);
}

rootTest('a repository that is mounted read-only is refused', async (t) => {
  const { repo, session } = await changed('readonly', 'archive');
  await using ending = session;
  const seen = join(folder, 'seen-readonly');
  mkdirSync(seen);
  execFileSync('mount', ['--bind', repo, seen]);
  t.teardown(() => void execFileSync('umount', ['-l', seen]));
  execFileSync('mount', ['-o', 'remount,bind,ro', seen]);
  await refused(t, ending, repo, /on a read-only file system/, /remount/, `--repo=${seen}`);
  execFileSync('mount', ['-o', 'remount,bind,rw', seen]);
  await taken(t, session, repo, `--repo=${seen}`);
});

rootTest('a repository on a full disk is refused', async (t) => {
  const { repo: from, session } = await changed('full', 'bare-user');
  await using ending = session;
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
  t.teardown(() => void execFileSync('umount', ['-l', disk]));
  execFileSync('cp', ['-a', from, disk]);
  const repo = join(disk, 'bare-user');
  const rule = join(disk, 'fill');
  execFileSync('sh', ['-c', 'head -c 2000000 /dev/zero >"$0" || true', rule], { stdio: 'ignore' });
  // As much as the folder of a transaction needs.
  execFileSync('truncate', ['-s', '-32768', rule]);
  ostree('config', `--repo=${repo}`, 'set', 'core.min-free-space-percent', '0');
  await refused(t, ending, repo, /no space left for repository/, /make room/, `--repo=${repo}`);
  execFileSync('truncate', ['-s', '0', rule]);
  ostree('config', `--repo=${repo}`, 'set', 'core.min-free-space-percent', '95');
  await refused(t, ending, repo, /min-free-space-percent=95/, /make room/, `--repo=${repo}`);
  ostree('config', `--repo=${repo}`, 'set', 'core.min-free-space-percent', '3');
  await taken(t, session, repo, `--repo=${repo}`);
});

test.serial('a repository of a mode that cannot be written is refused', async (t) => {
  const { repo, session } = await changed('split', 'bare-split-xattrs');
  await using ending = session;
  await refused(t, ending, repo, /bare-split-xattrs, which cannot be written/, /--repo=REPO/);
  const other = join(folder, 'split-other');
  ostree('init', `--repo=${other}`, '--mode=archive');
  await taken(t, session, other, `--repo=${other}`);
});

/** The real tool, with the repository locked as it prunes: held up where it removes the first object. */
async function prunes(repo: string, seconds: number): Promise<ChildProcess> {
  const doomed = addCommit(repo, 'doomed', tree, '--add-metadata-string=a=b');
  ostree('refs', `--repo=${repo}`, '--delete', 'doomed');
  const object = join(repo, 'objects', doomed.slice(0, 2), `${doomed.slice(2)}.commit`);
  const delay = `inject=unlinkat:delay_enter=${seconds}000000:when=1`;
  const args = ['-f', '-qq', '-o', join(folder, 'trace'), '-e', 'trace=unlinkat', '-e', delay];
  const child = spawn('strace', [...args, 'ostree', 'prune', `--repo=${repo}`, '--refs-only'], {
    stdio: 'ignore',
  });
  const lock = join(repo, '.lock');
  const script = `import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try: fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))
except OSError: sys.exit(1)`;
  while (existsSync(object)) {
    try {
      execFileSync('python3', ['-c', script, lock]);
    } catch {
      return child;
    }
    await sleep(50);
  }
  throw new Error('the tool has pruned already');
}

test.serial('while the real tool prunes, commit waits and says so', async (t) => {
  const { repo, session } = await changed('pruned', 'archive');
  await using ending = session;
  ostree('config', `--repo=${repo}`, 'set', 'core.lock-timeout-secs', '1');
  const long = await prunes(repo, 3);
  const pruned = once(long, 'exit');
  const { name } = ending.session;
  const late = await ended(start(name));
  t.is(late.code, 1);
  t.is(late.words.length, 3, late.words.join('\n'));
  t.regex(late.words[0] ?? '', /another process has locked repository .*; waiting for it/);
  t.regex(late.words[1] ?? '', /another process has had repository .* locked for 1 s/);
  t.regex(late.words[2] ?? '', /try again when it has finished/);
  t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
  await pruned;
  ostree('config', `--repo=${repo}`, 'set', 'core.lock-timeout-secs', '60');
  const short = await prunes(repo, 2);
  const isOver = once(short, 'exit');
  const { code, words } = await ended(start(name));
  t.is(code, 0);
  t.regex(words.join('\n'), /another process has locked repository .*; waiting for it/);
  await isOver;
  await taken(t, session, repo);
});

test.serial('while a commit is written, the real tool does not prune', async (t) => {
  const { repo, session } = await changed('written', 'bare-user');
  await using ending = session;
  ostree('config', `--repo=${repo}`, 'set', 'core.lock-timeout-secs', '1');
  for (let count = 0; count < 8; count++) {
    writeFileSync(join(session.mountpoint, `usr/${count}`), noise(500_000, `${count}`));
  }
  const child = start(ending.session.name);
  const over = ended(child);
  while (!readdirSync(join(repo, 'tmp')).some((name) => name.startsWith('staging'))) {
    await sleep(5);
  }
  child.kill('SIGSTOP');
  t.throws(() => ostree('prune', `--repo=${repo}`, '--refs-only'), { message: /[Ll]ock/ });
  child.kill('SIGCONT');
  t.is((await over).code, 0);
  ostree('prune', `--repo=${repo}`, '--refs-only');
  await taken(t, session, repo);
});
