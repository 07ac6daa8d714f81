/** `diff` with `by`: who changed what, as told by real programs of different users on real mounts. */
import { execFileSync, spawnSync } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Change, ChangeOptions, Session } from '../../src/index.ts';
import { mounted } from '../helpers/mounted.ts';
import { inSandbox, USERS } from '../helpers/sandbox.ts';
import { PROGRAM } from '../helpers/program.ts';

const LOWER = {
  'd/gone': 'x\n',
  'd/moved': 'y\n',
  'd/edit': 'z\n',
  'd/map': 'm\n',
  'd/dir/in': 'i\n',
};
const isRoot = process.getuid?.() === 0;
const rootTest = isRoot ? test : test.skip;
if (!isRoot) console.log('history: no root, so no programs of two users');

async function told(session: Session, options: ChangeOptions = {}): Promise<Map<string, Change>> {
  const changes = new Map<string, Change>();
  for await (const change of session.diff({ by: true, ...options }))
    changes.set(change.path, change);
  return changes;
}

for (const upper of ['memory', 'tmpfs', 'disk']) {
  rootTest(`programs of two users, ended by now: ${upper}`, async (t) => {
    await using mount = await mounted({ lower: LOWER, upper });
    const cwd = mount.mountpoint;
    const before = Date.now();
    execFileSync('chmod', ['-R', 'a+rwX', '.'], { cwd });
    const other = { cwd, uid: 1234, gid: 4321 };
    execFileSync('rm', ['d/gone'], { cwd });
    execFileSync('mv', ['d/moved', 'd/new'], other);
    execFileSync('touch', ['d/touched'], other);
    execFileSync('sh', ['-c', 'exec cat >>d/edit <<E\nmore\nE\n'], other);
    execFileSync('mv', ['d/dir', 'd/where'], { cwd });
    const changes = await told(mount.session);
    const who = (path: string) => {
      const by = changes.get(path)?.by;
      t.true((by?.pid ?? 0) > 0, path);
      t.true((by?.timeMs ?? 0) >= before && (by?.timeMs ?? 0) <= Date.now(), path);
      return [by?.program, by?.uid, by?.gid];
    };
    t.deepEqual(who('/d/gone'), ['rm', 0, 0]);
    t.deepEqual(who('/d/moved'), ['mv', 1234, 4321]);
    t.deepEqual(who('/d/new'), ['mv', 1234, 4321]);
    t.deepEqual(who('/d/touched'), ['touch', 1234, 4321]);
    t.deepEqual(who('/d/edit'), ['cat', 1234, 4321]);
    t.deepEqual(who('/d/dir'), ['mv', 0, 0]);
    t.deepEqual(who('/d/where'), ['mv', 0, 0]);
    const renamed = await told(mount.session, { renames: true });
    t.is(renamed.get('/d/new')?.kind, 'R');
    t.is(renamed.get('/d/new')?.by?.program, 'mv');
    t.is((await told(mount.session, { by: false })).get('/d/new')?.by, undefined);
  });
}

test('stores in a mapping are written by the kernel, which does not say for whom', async (t) => {
  await using mount = await mounted({ lower: LOWER });
  const script =
    'import mmap; f = open("d/map", "r+b"); m = mmap.mmap(f.fileno(), 2); m[0:1] = b"M"; m.flush()';
  execFileSync('python3', ['-c', script], { cwd: mount.mountpoint });
  const by = (await told(mount.session)).get('/d/map')?.by;
  t.is(typeof by?.timeMs, 'number');
  t.deepEqual([by?.program, by?.pid, by?.uid], [undefined, undefined, undefined]);
});

test('the oldest are forgotten, and writes to the same files take no room', async (t) => {
  await using mount = await mounted({ lower: LOWER, options: { history: 20 } });
  const at = (name: string) => join(mount.mountpoint, name);
  for (let i = 0; i < 21; i++) writeFileSync(at(`f${i}`), 'x');
  const first = await told(mount.session);
  t.is(first.get('/f0')?.by, null);
  t.is(first.get('/f1')?.by?.pid, process.pid);
  for (let i = 0; i < 100; i++) {
    writeFileSync(at('f20'), `${i}`);
    writeFileSync(at('f19'), `${i}`);
  }
  t.is((await told(mount.session)).get('/f1')?.by?.pid, process.pid);
  renameSync(at('f1'), at('g1'));
  t.is((await told(mount.session)).get('/g1')?.by?.pid, process.pid);
});

function commandSays(name: string, ...rest: string[]): string {
  const words = [PROGRAM, 'diff', name, '--by', ...rest];
  return execFileSync(process.execPath, words, { encoding: 'utf8' });
}

test('the command: columns, JSON, none recorded', async (t) => {
  await using mount = await mounted({ lower: LOWER });
  execFileSync('touch', ['new'], { cwd: mount.mountpoint });
  const uid = process.getuid?.() ?? 0;
  t.regex(
    commandSays(mount.session.name),
    new RegExp(String.raw`^A\t/new\ttouch\t\d+\t${uid}\t20\S+Z\n$`),
  );
  const { by } = JSON.parse(commandSays(mount.session.name, '--json')) as {
    by: Record<string, unknown>;
  };
  t.deepEqual([by['program'], by['uid'], typeof by['pid']], ['touch', uid, 'number']);
  await using without = await mounted({ lower: LOWER, options: { history: 0 } });
  execFileSync('touch', ['new'], { cwd: without.mountpoint });
  t.is(commandSays(without.session.name), 'A\t/new\tnot recorded\n');
  const wrong = spawnSync(process.execPath, [PROGRAM, 'unlock', '/tmp', '--history=1000001']);
  t.is(wrong.status, 2);
});

rootTest('an ordinary user is told who changed what in his session', async (t) => {
  const [uid] = USERS;
  const printed = await inSandbox(
    async ({ tools, work }) => {
      const files = { 'd/gone': 'x', 'd/stays': 's', edit: 'z', old: 'y' };
      const tree = tools.plant(`${work}/tree`, files);
      const mnt = tools.plant(`${work}/mnt`, {});
      const lines: string[][] = [];
      for (const upper of ['memory', tools.plant(`${work}/changes`, {})]) {
        const { err } = tools.ostreeTs(['unlock', tree, mnt, `--upper=${upper}`]);
        tools.run('rm', [`${mnt}/d/gone`]);
        tools.run('sh', ['-c', 'cd "$0"; exec cat >>edit <<E\nmore\nE\n', mnt]);
        tools.run('mv', [`${mnt}/old`, `${mnt}/new`]);
        const { code, out } = tools.ostreeTs(['diff', 'mnt', '--by']);
        tools.equal(code, 0, err);
        lines.push(out.trim().split('\n'));
        tools.equal(tools.ostreeTs(['lock', 'mnt', '--discard']).code, 0);
      }
      await tools.nothingIsLeft();
      return lines;
    },
    { uid },
  );
  t.is(printed.length, 2);
  for (const lines of printed) {
    const columns = lines.map((line) => line.split('\t'));
    t.deepEqual(
      columns.map(([kind, path, program, , user]) => [kind, path, program, user]),
      [
        ['D', '/d/gone', 'rm', `${uid}`],
        ['M', '/edit', 'cat', `${uid}`],
        ['A', '/new', 'mv', `${uid}`],
        ['D', '/old', 'mv', `${uid}`],
      ],
    );
    t.true(columns.every(([, , , pid, , time]) => Number(pid) > 1 && /^20\S+Z$/.test(time ?? '')));
  }
});

rootTest('an ordinary user is told who changed what in a session of his command', async (t) => {
  const [uid] = USERS;
  const { out, pid } = await inSandbox(
    async ({ tools, work }) => {
      const tree = tools.plant(`${work}/tree`, { 'd/gone': 'x' });
      const script = 'rm d/gone; echo new >new; echo ready; read wait';
      const cwd = { cwd: tree };
      const running = await tools.startCommand(['run', '.', '--', 'sh', '-c', script], cwd);
      const diff = tools.ostreeTs(['diff', 'tree', '--by']);
      tools.equal(diff.code, 0, diff.err);
      const [shell] = tools.processesOf(`sh -c ${script}`).filter(
        // The command itself and its runner have these words as well.
        (each) => tools.run('cat', [`/proc/${each}/comm`]).trim() === 'sh',
      );
      running.kill();
      await tools.exitCode(running);
      await tools.nothingIsLeft();
      return { out: diff.out, pid: shell };
    },
    { uid },
  );
  const columns = out
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
  // He is root there, and processes have the numbers that they have outside.
  t.deepEqual(
    columns.map(([kind, path, program, , user]) => [kind, path, program, user]),
    [
      ['D', '/d/gone', 'rm', '0'],
      ['A', '/new', 'sh', '0'],
    ],
  );
  t.is(Number(columns[1]?.[3]), pid ?? 0);
});
