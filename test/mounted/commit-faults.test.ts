/**
 * Commits that meet a failing host: each system call that is made on the repository, a disk that is full, pages that
 * programs have stored into and that cannot be written, files that change or go while they are read. What fails says so and
 * leaves the repository as it was; what is committed is whole. Commits that are cut off: commit-kills.test.ts.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { SessionError } from '../../src/index.ts';
import { PROGRAM } from '../helpers/program.ts';
import { type Call, callsOn, failing } from '../helpers/inject.ts';
import { mounted } from '../helpers/mounted.ts';
import {
  commitTree,
  noise,
  ostree,
  plantEverything,
  remove,
  scratch,
} from '../helpers/repositories.ts';

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);

const folder = scratch();
test.after.always(() => remove(folder));
const small = join(folder, 'small');
plantEverything(small, { many: 5 });

function isWhole(t: ExecutionContext, repo: string, label?: string): void {
  t.regex(ostree('fsck', `--repo=${repo}`).toString(), /no errors found/, label);
}

test.serial('a commit to a disk that is full changes nothing', async (t) => {
  const { path } = commitTree(join(folder, 'full'), 'bare-user', small);
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', disk]);
  t.teardown(() => void execFileSync('umount', ['-l', disk]));
  execFileSync('cp', ['-a', path, disk]);
  const repo = join(disk, 'bare-user');
  ostree('config', `--repo=${repo}`, 'set', 'core.min-free-space-percent', '0');
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  writeFileSync(join(session.mountpoint, 'large'), noise(16_000_000));
  await t.throwsAsync(session.session.commit({ branch: 'work' }), { message: /no space left/ });
  isWhole(t, repo);
  t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
  truncateSync(join(session.mountpoint, 'large'), 100_000);
  t.is((await session.session.commit({ branch: 'work' })).branch, 'work');
});

/** Those that Node makes for itself just as often are met at another time in another run: they only may not break anything. */
const OWN = new Set(['close', 'openat', 'read', 'statx']);

/**
 * Of each kind of call the first, and of those that are made often a late one: what goes over the staged files does so three
 * times. All of them in a long run.
 */
function chosen(calls: Call[]): Call[] {
  if (SCALE >= 10) return calls;
  const groups = new Map<string, Call[]>();
  for (const call of calls) {
    groups.set(call.name, [...(groups.get(call.name) ?? []), call]);
  }
  return [...groups.values()].flatMap((group) => {
    const late = Math.floor((2 * group.length) / 3);
    return [...group.slice(0, 1), ...(group.length < 12 ? [] : group.slice(late - 1, late))];
  });
}

for (const mode of SCALE >= 10
  ? (['bare', 'bare-user', 'archive'] as const)
  : (['bare'] as const)) {
  test.serial(
    `${mode}: each call on the repository may fail, and nothing but words comes of it`,
    async (t) => {
      t.timeout(7_200_000);
      const { path: repo } = commitTree(join(folder, 'calls'), mode, small);
      await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
      const kept = join(folder, `kept-${mode}`);
      execFileSync('cp', ['-a', repo, kept]);
      writeFileSync(join(session.mountpoint, 'usr/new'), 'new\n');
      mkdirSync(join(session.mountpoint, 'usr/folder'));
      writeFileSync(join(session.mountpoint, 'usr/folder/large'), noise(300_000));
      execFileSync('ln', ['-s', 'new', join(session.mountpoint, 'usr/link')]);
      const args = [PROGRAM, 'commit', session.session.name, '--branch=work', '--parent=none'];
      const command = [process.execPath, ...args, '--timestamp=1700000000'];
      const restore = () => {
        for (const name of ['objects', 'refs']) {
          rmSync(join(repo, name), { recursive: true });
          execFileSync('cp', ['-a', join(kept, name), repo]);
        }
      };
      const calls = callsOn(repo, command, folder);
      const made = [...new Set(calls.map(({ name }) => name))].sort();
      t.log(`${calls.length} calls on the repository: ${made.join(' ')}`);
      const tally: Record<string, number[]> = {};
      for (const call of chosen(calls)) {
        for (const error of SCALE >= 10 ? ['EIO', 'ENOSPC'] : ['EIO']) {
          restore();
          const { code, said, met } = failing(call, error, command, folder);
          const label = `${call.name} ${call.nth} on ${call.file}: ${error}: ${said}`;
          const isOurs = met.includes(repo);
          if (!OWN.has(call.name)) t.true(isOurs, `not met: ${label}`);
          isWhole(t, repo, label);
          const isSet = existsSync(join(repo, 'refs/heads/work'));
          if (isSet) ostree('ls', '-R', `--repo=${repo}`, 'work');
          if (!isOurs) continue;
          (tally[call.name] ??= []).push(code ?? -1);
          t.true(code === 0 || code === 1, label);
          if (code === 0) t.true(isSet, label);
          else t.regex(said, /^ostree-ts: (?!unexpected)[^\n]+\n[^\n]+\n$/, label);
          // A ref that could not be made durable is there all the same, and is told of.
          if (code === 1 && isSet) t.regex(said, /work is [0-9a-f]{64} now/, label);
        }
      }
      t.log(
        `exit codes: ${Object.entries(tally)
          .map(([name, codes]) => `${name} ${codes.join('')}`)
          .join(', ')}`,
      );
      restore();
      await session.session.commit({ branch: 'work' });
      t.deepEqual(
        readdirSync(join(repo, 'tmp')),
        ['cache'],
        'what could not be removed was removed later',
      );
      isWhole(t, repo);
    },
  );
}

test.serial('what of a transaction could not be removed goes with the next commit', async (t) => {
  const { path: repo } = commitTree(join(folder, 'left'), 'bare-user', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const left = () => readdirSync(join(repo, 'tmp')).filter((name) => name !== 'cache');
  const kinds = new Set<string>();
  for (let nth = 1; nth <= 4; nth++) {
    writeFileSync(join(session.mountpoint, 'usr/new'), `${nth}\n`);
    const command = [process.execPath, PROGRAM, 'commit', session.session.name, '--branch=work'];
    failing({ name: 'unlinkat', nth }, 'EIO', command, folder);
    for (const name of left()) kinds.add(name.replace(/^staging-.*?(-lock)?$/, 'staging$1'));
    await session.session.commit({ branch: 'work', allowEmpty: true });
    t.deepEqual(left(), [], `${nth}`);
  }
  t.deepEqual([...kinds].sort(), ['staging', 'staging-lock']);
  isWhole(t, repo);
});

/** Calls that strace does not know: a filter of the kernel fails all of them. */
const NEWER = { fchmodat2: 452 };

for (const [name, number] of Object.entries(NEWER)) {
  test.serial(`${name} may fail, too`, async (t) => {
    const { path: repo } = commitTree(join(folder, name), 'bare-user', small);
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    writeFileSync(join(session.mountpoint, 'usr/new'), 'new\n');
    const args = [PROGRAM, 'commit', session.session.name, '--branch=work'];
    const ran = spawnSync('python3', ['-c', FILTER, String(number), process.execPath, ...args], {
      encoding: 'utf8',
    });
    t.is(ran.status, 1, ran.stderr);
    t.regex(ran.stderr, /cannot write to repository .*: EIO\n/);
    t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
    t.false(existsSync(join(repo, 'refs/heads/work')));
    isWhole(t, repo);
  });
}

/** Has a program meet EIO in every system call of a number (seccomp(2): the number is the first word of its data). */
const FILTER = `
import ctypes, os, struct, sys
number, EIO = int(sys.argv[1]), 5
filter = b''.join(struct.pack('HBBI', *each) for each in [
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | EIO), (0x06, 0, 0, 0x7fff0000)])
code = ctypes.create_string_buffer(filter)
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
os.execv(sys.argv[2], sys.argv[2:])
`;

function run(...args: string[]): { code: number | null; out: string; said: string } {
  const ran = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8' });
  return { code: ran.status, out: ran.stdout, said: ran.stderr };
}

test.serial(
  'what mapped pages lack room for fails a commit, an export and a patch, and is warned of elsewhere',
  async (t) => {
    const { path: repo } = commitTree(join(folder, 'mapped'), 'archive', small);
    await using session = await mounted({
      lower: 'main',
      upper: 'memory',
      unchecked: true,
      options: { repo, size: '4M' },
    });
    const hand = session.hand();
    await hand.must(['open 0 usr/hole O_CREAT|O_RDWR 0644', 'truncate @0 8000000']);
    await hand.must(['mmap 0 0 0 8000000 PROT_READ|PROT_WRITE MAP_SHARED']);
    const output = join(session.folder, 'out.tar');
    const { name } = session.session;
    const refused = /^ostree-ts: the session was full,[^\n]*\n[^\n]*make room[^\n]*\n$/;
    for (const args of [
      ['commit', name, '--branch=work'],
      ['export', name, '--format=tar', `--output=${output}`],
      ['diff', name, '--patch'],
    ]) {
      await hand.must(['mstore 0 0 #1:8000000']);
      const { code, said, out } = run(...args);
      t.is(code, 1, args.join(' '));
      t.is(out, '');
      t.regex(said, refused);
    }
    t.false(existsSync(output));
    t.false(existsSync(join(repo, 'refs/heads/work')));
    t.deepEqual(readdirSync(join(repo, 'tmp')), ['cache']);
    isWhole(t, repo);
    for (const args of [
      ['diff', name],
      ['undo', `--session=${name}`, '/usr/nothing-new'],
    ]) {
      if (args[0] === 'undo') writeFileSync(join(session.mountpoint, 'usr/nothing-new'), '');
      await hand.must(['mstore 0 0 #2:8000000']);
      const { code, said, out } = run(...args);
      t.is(code, 0, said);
      t.regex(out, args[0] === 'undo' ? /removed/ : /A\t\/usr\/hole\n/);
      t.regex(said, /^ostree-ts: warning: the session was full/);
    }
    await hand.must(['mstore 0 0 #3:8000000']);
    const noWarning = { instanceOf: SessionError, message: /was full/ };
    await t.throwsAsync(session.session.diff().next(), noWarning, 'a library that is not told');
    await hand.must(['munmap 0', 'truncate @0 100000']);
    // What the kernel had begun to write before it was cut off is told of once more, at most.
    const make = () => session.session.commit({ branch: 'work' });
    const { commit } = await make().catch((error: unknown) => {
      if (error instanceof SessionError && error.message.includes('was full')) return make();
      throw error;
    });
    t.is(ostree('cat', `--repo=${repo}`, commit ?? '', '/usr/hole').length, 100_000);
  },
);

test.serial('what was stored in mapped pages before a commit is in it, all of it', async (t) => {
  const { path: repo } = commitTree(join(folder, 'stored'), 'bare-user', small);
  await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
  const hand = session.hand();
  // More requests than the kernel sends at a time.
  const size = 96_000_000;
  await hand.must(['open 0 usr/mapped O_CREAT|O_RDWR 0644', `truncate @0 ${size}`]);
  await hand.must([`mmap 0 0 0 ${size} PROT_READ|PROT_WRITE MAP_SHARED`]);
  for (let round = 1; round <= 3; round++) {
    await hand.must([`mstore 0 0 #${round}:${size}`]);
    const { commit } = await session.session.commit({ branch: 'work', parent: 'none' });
    const kept = ostree('cat', `--repo=${repo}`, commit ?? '', '/usr/mapped');
    const wanted = createHash('sha256').update(kept).digest('hex');
    t.is(await hand.do('sha256 usr/mapped'), `ok ${wanted}`, `round ${round}`);
  }
});

test.serial(
  'pages that the kernel fails to write are told of by each command that has it write',
  async (t) => {
    const { path: repo } = commitTree(join(folder, 'flush'), 'archive', small);
    await using session = await mounted({ lower: 'main', unchecked: true, options: { repo } });
    writeFileSync(join(session.mountpoint, 'usr/new'), 'new\n');
    const { name } = session.session;
    const output = join(session.folder, 'out.tar');
    for (const [expected, ...args] of [
      [1, 'commit', name, '--branch=work'],
      [1, 'export', name, '--format=tar', `--output=${output}`],
      [1, 'diff', name, '--patch'],
      [0, 'diff', name],
      [0, 'undo', `--session=${name}`, '/usr/new'],
    ] as [number, ...string[]][]) {
      const command = [process.execPath, PROGRAM, ...args];
      const { code, said, met } = failing({ name: 'syncfs', nth: 1 }, 'EIO', command, folder);
      t.not(met, '');
      t.is(code, expected, args.join(' '));
      t.regex(said, /could not be written to the session: EIO/);
    }
    t.false(existsSync(output));
    t.false(existsSync(join(repo, 'refs/heads/work')));
    isWhole(t, repo);
  },
);

test.serial(
  'a source that is cut off under the session is no shorter file of the commit',
  async (t) => {
    const { path: repo } = commitTree(join(folder, 'shorter'), 'archive', small);
    const source = join(folder, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'file'), noise(1_000_000));
    await using session = await mounted({
      lower: source,
      upper: 'memory',
      unchecked: true,
    });
    appendFileSync(join(session.mountpoint, 'file'), 'more');
    truncateSync(join(source, 'file'), 500_000);
    await t.throwsAsync(session.session.commit({ branch: 'work', repo }), {
      instanceOf: SessionError,
      message: /shorter/,
    });
    t.false(existsSync(join(repo, 'refs/heads/work')));
  },
);

/** Does to files whatever may be done to them while they are read; all bytes of one are alike at every moment. */
const RESTLESS = `
import os, random
os.makedirs('live', exist_ok=True)
def whole(path, letter):
    with open(path, 'wb', 0) as file:
        file.write(bytes([letter]) * random.choice([1, 5000, 300000, 900000]))
for count in range(10**9):
    path, letter = 'live/%d' % random.randrange(6), random.randrange(1, 255)
    what = random.randrange(5)
    if what == 0 or not os.path.exists(path):
        whole('draft', letter)
        os.rename('draft', path)
    elif what == 1:
        os.unlink(path)
    elif what == 2:
        os.truncate(path, os.stat(path).st_size // 2)
    elif what == 3:
        os.rename(path, 'live/%d' % random.randrange(6))
    else:
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, bytes([letter]) * os.stat(path).st_size, 0)
        os.close(fd)
    if count == 100:
        print('begun', flush=True)
`;

for (const upper of ['memory', 'tmpfs', 'dir'] as const) {
  test.serial(
    `${upper}: files that shrink, move, are replaced or go while a session is committed`,
    async (t) => {
      t.timeout(1_800_000);
      const { path: repo } = commitTree(join(folder, `restless-${upper}`), 'bare-user', small);
      const place = join(folder, `upper-${upper}`);
      if (upper === 'dir') mkdirSync(place);
      await using session = await mounted({
        lower: 'main',
        unchecked: true,
        options: { repo, upper: upper === 'dir' ? place : upper },
      });
      const writer = spawn('python3', ['-c', RESTLESS], {
        cwd: session.mountpoint,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.teardown(() => writer.kill('SIGKILL'));
      await new Promise((resolve) => writer.stdout.once('data', resolve));
      let files = 0;
      for (let round = 0; round < 5 * SCALE; round++) {
        const { commit } = await session.session.commit({ branch: 'live', parent: 'none' });
        const listed = ostree(
          'ls',
          `--repo=${repo}`,
          '--nul-filenames-only',
          commit ?? '',
          '/live',
        );
        for (const path of listed
          .toString()
          .split('\0')
          .filter((each) => /\d$/.test(each))) {
          const bytes = ostree('cat', `--repo=${repo}`, commit ?? '', path);
          t.true(
            bytes.every((byte) => byte === bytes[0]),
            `round ${round}: ${path} is torn`,
          );
          files++;
        }
        await sleep(5);
      }
      t.log(`${files} files looked at`);
      t.is(writer.exitCode, null, 'the writer has gone on');
      writer.kill('SIGKILL');
      isWhole(t, repo);
    },
  );
}
