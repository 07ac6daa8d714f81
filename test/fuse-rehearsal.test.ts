/** What a worker serves to itself before it says ready, and while no request is there. */
import test from 'ava';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Programs } from '../src/fuse/programs.ts';
import { Rehearsal } from '../src/fuse/rehearsal.ts';
import { DirectoryUpper } from '../src/layers/overlayfs-dir.ts';
import { native } from '../src/native.ts';

const UPPERS = { memory: undefined, tmpfs: { isDurable: false }, disk: { isDurable: true } };

for (const [name, upper] of Object.entries(UPPERS)) {
  test(`${name}: every request of a rehearsal is served, and nothing stays open`, (t) => {
    const before = readdirSync('/proc/self/fd').length;
    const programs = new Programs(native);
    const rehearsal = new Rehearsal(native, upper, programs);
    rehearsal.prepare();
    let slices = 0;
    while (rehearsal.proceed()) slices++;
    programs.close();
    t.true(slices > 100, 'more is left for idle moments');
    t.is(rehearsal.refused, 0);
    t.is(readdirSync('/proc/self/fd').length, before);
  });
}

test('the directories of a session are not touched', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'rehearsal-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const name of ['upper', 'work/work']) {
    mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(join(folder, name, 'kept'), '');
  }
  const [fd, workFd] = ['upper', 'work'].map((name) => native.open(join(folder, name), 0, 0));
  const names = { upper: 'kept', work: 'kept' };
  // As a worker is given it.
  const upper = { isDurable: false, fd, workFd, names };
  const rehearsal = new Rehearsal(native, upper, undefined);
  rehearsal.prepare();
  t.is(rehearsal.refused, 0);
  rehearsal[Symbol.dispose]();
  for (const name of ['upper', 'work/work']) t.deepEqual(readdirSync(join(folder, name)), ['kept']);
  for (const each of [fd, workFd]) t.is(native.close(each ?? -1), 0);
});

// Without it, what stands for a session's directory would be memory, and no test above would tell.
if (process.getuid?.() === 0) {
  test('an upper fits into a tmpfs that is mounted nowhere', (t) => {
    const before = readFileSync('/proc/self/mountinfo', 'utf8');
    const fd = native.detachedTmpfs(2 ** 20);
    t.true(fd >= 0, `errno ${-fd}`);
    t.notThrows(() => new DirectoryUpper(native, native.dup(fd), { isDurable: false }));
    const listing = native.listDirectory(fd);
    t.true(typeof listing !== 'number' && listing.names.includes('work'));
    t.is(readFileSync('/proc/self/mountinfo', 'utf8'), before);
    t.is(native.close(fd), 0);
  });
}

test('a rehearsal that ends early leaves nothing open', (t) => {
  for (const upper of Object.values(UPPERS)) {
    const before = readdirSync('/proc/self/fd').length;
    const rehearsal = new Rehearsal(native, upper, undefined);
    rehearsal.prepare();
    t.true(rehearsal.proceed());
    rehearsal[Symbol.dispose]();
    t.false(rehearsal.proceed());
    t.is(readdirSync('/proc/self/fd').length, before);
  }
});

/** Code that V8 throws away, as it is wrong or made for objects that are gone: why, and whose it is. */
const WRONG = /bailout .*reason: (?<reason>.*?)\).*<JSFunction (?<name>\S+)/g;
const GONE =
  /marking dependent code .*<SharedFunctionInfo (?<name>.*?)>\).*reason: (?<reason>.*?)\]/g;
const COMPILED = /completed compiling .*<JSFunction (\S+)/g;

/** Functions that requests go through: that of the loop and those of finding, listing, making, writing, reading and removing files. */
const SERVING = `run #turn #serve #answerAndReceive #take #file #name slot
  lookup find lowerInode add readdir #readLowers entries create getxattr write #store getattr read unlink remove relink`.split(
  /\s+/,
);

test('what was compiled for a rehearsal is good for a session', (t) => {
  const script = fileURLToPath(new URL('./helpers/rehearsed.js', import.meta.url));
  const flags = ['--trace-opt', '--trace-deopt', '--no-concurrent-recompilation', '--expose-gc'];
  const { stdout, status } = spawnSync(process.execPath, [...flags, script], {
    encoding: 'utf8',
    maxBuffer: 64 * 2 ** 20,
  });
  t.is(status, 0);
  const [rehearsed = '', served = ''] = stdout.split('REHEARSED\n');
  const compiled = new Set([...rehearsed.matchAll(COMPILED)].map(([, name]) => name));
  t.deepEqual(
    SERVING.filter((name) => !compiled.has(name)),
    [],
    'these were not compiled, or have another name now',
  );
  // While it lasts, code is thrown away: so this is how V8 tells.
  t.true([...rehearsed.matchAll(WRONG)].length > 0);
  for (const pattern of [WRONG, GONE]) {
    for (const { groups } of served.matchAll(pattern)) {
      const { name = '', reason } = groups ?? {};
      t.log(`${name}: ${reason}`);
      t.false(SERVING.includes(name), name);
    }
  }
});
