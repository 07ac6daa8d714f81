/** The device channel on a real mount, served by helpers/native-channel.ts in a mount namespace of its own. */
import test, { type ExecutionContext } from 'ava';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { STATISTICS } from '../src/native-channel.ts';
import type { Request, Setup } from './helpers/native-channel.ts';

const SERVER = fileURLToPath(new URL('helpers/native-channel.js', import.meta.url));
const LOOKUP = 1;
const MEBIBYTE = 1 << 20;

interface Answered {
  counters: number[];
  wakes: number;
  written: string;
  /** Open in the server. */
  descriptors: number;
}

class Mount {
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (result: unknown) => void>();
  readonly #exited: Promise<unknown>;
  #ids = 0;

  static async start(
    t: ExecutionContext,
    files: (folder: string) => Setup['files'],
    threads = 2,
  ): Promise<Mount> {
    const mount = new Mount(files, threads);
    t.teardown(() => mount.#remove());
    await mount.#until(0);
    return mount;
  }

  private constructor(files: (folder: string) => Setup['files'], threads: number) {
    this.folder = mkdtempSync(join(tmpdir(), 'ostree-ts-native-'));
    mkdirSync(join(this.folder, 'mnt'));
    const setup: Setup = {
      mountpoint: join(this.folder, 'mnt'),
      threads,
      files: files(this.folder),
    };
    const command = [process.getuid!() === 0 ? '-m' : '-Urm', '--', process.execPath, SERVER];
    this.#child = spawn('unshare', [...command, JSON.stringify(setup)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#exited = once(this.#child, 'exit');
    this.#child.on('message', ({ id, result }: { id: number; result: unknown }) =>
      this.#waiting.get(id)?.(result),
    );
  }

  #until(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, resolve);
      setTimeout(() => reject(new Error(`no answer ${id} within 20 s`)), 20_000).unref();
    });
  }

  ask(call: Request['call'], more: Partial<Request> = {}): Promise<unknown> {
    const id = ++this.#ids;
    this.#child.send({ id, call, ...more });
    return this.#until(id);
  }

  async statistics(): Promise<Answered> {
    return (await this.ask('statistics')) as Answered;
  }

  /** Runs a shell command in the mount, seen from the server's namespace. @returns its output, bytes as latin1. */
  async sh(command: string): Promise<{ code: number; output: string }> {
    const namespace = ['-t', String(this.#child.pid), process.getuid!() === 0 ? '-m' : '-mU'];
    return await new Promise((resolve) => {
      execFile(
        'nsenter',
        [...namespace, '--', 'sh', '-c', `cd ${join(this.folder, 'mnt')} && ${command}`],
        { encoding: 'latin1', timeout: 20_000, killSignal: 'SIGKILL', maxBuffer: 64 * MEBIBYTE },
        (error, stdout, stderr) =>
          resolve({ code: Number(error?.code ?? 0), output: stdout + stderr }),
      );
    });
  }

  /** Unmounts from outside. @returns what the channel's loop ended with. */
  async end(): Promise<unknown> {
    const ended = this.#until(-1);
    await this.sh(`cd / && umount ${join(this.folder, 'mnt')}`);
    const result = await ended;
    await this.#exited;
    return result;
  }

  async #remove(): Promise<void> {
    this.#child.kill('SIGKILL');
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.#exited;
    rmSync(this.folder, { recursive: true });
  }
}

function row(counters: number[], opcode: number): number[] {
  const at = STATISTICS.COUNTERS + opcode * STATISTICS.ROW;
  return counters.slice(at, at + STATISTICS.ROW);
}

/** Bytes that differ from place to place, so that none can stand for another. */
function pattern(length: number): Buffer {
  const words = new Uint32Array(length / 4);
  for (let index = 0; index < words.length; index++) words[index] = Math.imul(index, 2654435761);
  return Buffer.from(words.buffer);
}

test('a reply is made of files, memory and zeros; a short file is padded, a short last one ends it', async (t) => {
  const mount = await Mount.start(t, (folder) => {
    writeFileSync(join(folder, 'a'), 'AAAAAAAA');
    writeFileSync(join(folder, 'b'), 'BBBBBBBB');
    const path = (name: string) => join(folder, name);
    return {
      mixed: {
        size: 100,
        pieces: [
          { path: path('a'), offset: 2, length: 3 },
          { offset: 0, length: 4 },
          { memory: 'memory', offset: 1, length: 4 },
          { path: path('a'), offset: 6, length: 5 },
          { path: path('b'), offset: 7, length: 50 },
        ],
      },
      zeros: {
        size: 10,
        pieces: [
          { path: path('a'), offset: 8, length: 3 },
          { offset: 0, length: 2 },
        ],
      },
      empty: { size: 10, pieces: [{ path: path('a'), offset: 8, length: 10 }] },
      broken: { size: 10, pieces: [{ path: folder, offset: 0, length: 10 }] },
    };
  });
  t.is((await mount.sh('cat mixed')).output, 'AAA\0\0\0\0emorAA\0\0\0B');
  t.is((await mount.sh('cat zeros')).output, '\0\0\0\0\0');
  t.is((await mount.sh('cat empty')).output, '');
  t.regex((await mount.sh('cat broken')).output, /Input\/output error/);
  t.is(await mount.end(), 'ENODEV');
});

test('reads and writes of 1 MiB cross whole', async (t) => {
  const content = pattern(4 * MEBIBYTE);
  const mount = await Mount.start(t, (folder) => {
    writeFileSync(join(folder, 'large'), content);
    const piece = { path: join(folder, 'large'), offset: 0, length: content.length };
    return { large: { size: content.length, pieces: [piece] } };
  });
  t.true((await mount.sh('cmp large ../large')).code === 0);
  const before = row((await mount.statistics()).counters, 15)[0]!;
  t.is(
    (await mount.sh('dd if=large bs=1M count=3 status=none | cmp -n 3145728 - ../large')).code,
    0,
  );
  t.is(row((await mount.statistics()).counters, 15)[0]! - before, 3);
  await mount.sh(`dd if=../large of=large bs=1M count=1 conv=notrunc status=none`);
  const { written } = await mount.statistics();
  t.is(written, `1048576 ${content[0]} ${content[MEBIBYTE - 1]}`);
  t.is(await mount.end(), 'ENODEV');
});

test('long replies of what is in memory go through a pipe, and are none the worse for it', async (t) => {
  const kib = 1024;
  const content = pattern(MEBIBYTE);
  const mount = await Mount.start(t, (folder) => {
    writeFileSync(join(folder, 'content'), content);
    const piece = (offset: number, length: number) => {
      return { path: join(folder, 'content'), offset, length };
    };
    return {
      whole: { size: MEBIBYTE, pieces: [piece(0, MEBIBYTE)] },
      // Not by pages, and not in order.
      pieces: {
        size: 256 * kib,
        pieces: [piece(500_001, 100_000), piece(7, 60_000), piece(123, 256 * kib - 160_000)],
      },
      zeros: { size: 256 * kib, pieces: [piece(0, 200_000), { offset: 0, length: 62_144 }] },
      // The files are shorter than was thought: one is filled up, the last ends the reply.
      short: {
        size: 256 * kib,
        pieces: [piece(MEBIBYTE - 50_000, 100_000), piece(MEBIBYTE - 100_000, 256 * kib)],
      },
      greedy: { size: 256 * kib, pieces: [piece(0, 300_000)] },
    };
  });
  const relayed = async () => (await mount.statistics()).counters[STATISTICS.RELAYED]!;
  const compare = async (name: string, expected: Uint8Array) => {
    writeFileSync(join(mount.folder, 'expected'), expected);
    const { output } = await mount.sh(`dd if=${name} bs=256k status=none | cmp - ../expected`);
    t.is(output, '', name);
  };
  await compare('whole', content);
  t.is(await relayed(), 4);
  const parts = [
    content.subarray(500_001, 600_001),
    content.subarray(7, 60_007),
    content.subarray(123, 256 * kib - 160_000 + 123),
  ];
  await compare('pieces', Buffer.concat(parts));
  t.is(await relayed(), 5);
  await compare('zeros', Buffer.concat([content.subarray(0, 200_000), Buffer.alloc(62_144)]));
  const end = [content.subarray(-50_000), Buffer.alloc(50_000), content.subarray(-100_000)];
  await compare('short', Buffer.concat(end));
  t.is(await relayed(), 5);
  // The kernel takes no more than it has asked for, and nothing of it may come before the next reply.
  const { output } = await mount.sh('dd if=greedy of=/dev/null bs=256k status=none');
  t.regex(output, /Input\/output error/);
  const { counters } = await mount.statistics();
  t.is(counters[STATISTICS.REFUSED], 1);
  t.is(counters[STATISTICS.RELAYED], 6);
  await compare('whole', content);
  t.is(await relayed(), 10);
  t.is(await mount.end(), 'ENODEV');
});

for (const threads of [0, 1, 4]) {
  test(`what is not in memory is read right by ${threads} threads, by many readers at once`, async (t) => {
    const content = pattern(32 * MEBIBYTE);
    const mount = await Mount.start(
      t,
      (folder) => {
        writeFileSync(join(folder, 'large'), content);
        const half = content.length / 2;
        const path = join(folder, 'large');
        // Memory before and after the file: what can be read at once, around what cannot.
        const pieces = [
          { memory: 'first', offset: 0, length: 5 },
          { path, offset: 0, length: half },
          { memory: 'middle', offset: 0, length: 6 },
          { path, offset: half, length: half },
        ];
        const file = { size: content.length + 11, pieces };
        return { large: file, brief: file };
      },
      threads,
    );
    writeFileSync(
      join(mount.folder, 'expected'),
      Buffer.concat([
        Buffer.from('first'),
        content.subarray(0, content.length / 2),
        Buffer.from('middle'),
        content.subarray(content.length / 2),
      ]),
    );
    const { descriptors } = await mount.statistics();
    // Evicts the source's pages, then reads from eight places at once, some of them from what is closed meanwhile.
    const places = Array.from({ length: 8 }, (_, index) => index * 4 * MEBIBYTE);
    const script = `sync -d ../large; dd if=../large iflag=nocache count=0 status=none
      ${places.map((place, index) => `cmp -i ${place} -n 4194304 ${index % 2 === 0 ? 'large' : 'brief'} ../expected & p="$p $!"`).join('\n')}
      for i in $p; do wait $i || exit 1; done`;
    t.deepEqual(await mount.sh(script), { code: 0, output: '' });
    await mount.ask('drain');
    const { counters, descriptors: left } = await mount.statistics();
    t.is(left, descriptors);
    t.log(`pooled ${counters[STATISTICS.POOLED]}, crowded ${counters[STATISTICS.CROWDED]}`);
    t.is(counters[STATISTICS.REFUSED], 0);
    if (threads === 0) t.is(counters[STATISTICS.POOLED], 0);
    // The pool's replies are timed like any others.
    const [count, , ...histogram] = row(counters, 15);
    t.is(
      count,
      histogram.reduce((sum, value) => sum + value, 0),
    );
    t.is(await mount.end(), 'ENODEV');
  });
}

test('requests are counted and their times kept', async (t) => {
  const mount = await Mount.start(t, () => ({}));
  await mount.sh('for i in 1 2 3 4 5 6 7; do test -e absent-$i; done');
  const { counters } = await mount.statistics();
  const [count, nanoseconds, ...histogram] = row(counters, LOOKUP);
  t.is(count, 7);
  t.is(
    histogram.reduce((sum, value) => sum + value, 0),
    7,
  );
  const least = histogram.reduce((sum, value, bucket) => sum + value * 2 ** bucket, 0);
  t.true(nanoseconds! >= least && nanoseconds! < 2 * least);
  t.is(counters.length, STATISTICS.COUNTERS + STATISTICS.OPCODES * STATISTICS.ROW);
});

test('a wake-up is heard while idle and while requests never pause', async (t) => {
  const mount = await Mount.start(t, () => ({}));
  t.is((await mount.statistics()).wakes, 1);
  const load = [1, 2, 3].map(() =>
    mount.sh('i=0; while [ $i -lt 30000 ]; do i=$((i+1)); test -e absent; done'),
  );
  // A question that nobody heard would not be answered. One that is asked while the one before is being answered may be
  // heard together with it, so the wake-ups may be fewer.
  for (let round = 0; round < 20; round++) await mount.statistics();
  t.true((await mount.statistics()).wakes >= 2);
  await Promise.all(load);
});

test('a notification reaches the kernel, and one that it refuses is counted', async (t) => {
  const mount = await Mount.start(t, () => ({ file: { size: 5, pieces: [] } }));
  t.is((await mount.sh('stat -c %s file')).output, '5\n');
  t.is(await mount.ask('resize', { name: 'file', size: 7 }), 0);
  // Attributes are valid for ever, so only the notification can bring the new size.
  for (let tries = 0; ; tries++) {
    const { counters } = await mount.statistics();
    if (counters[STATISTICS.NOTIFIED] === 1) break;
    t.true(tries < 1000);
  }
  t.is((await mount.sh('stat -c %s file')).output, '7\n');
  t.is(await mount.ask('malformed-notification'), 0);
  for (let tries = 0; ; tries++) {
    const { counters } = await mount.statistics();
    if (counters[STATISTICS.UNNOTIFIED] === 1) break;
    t.true(tries < 1000);
  }
  t.is(await mount.end(), 'ENODEV');
});

test('a reply that the kernel refuses is an EIO, not a hang', async (t) => {
  const mount = await Mount.start(t, () => ({}));
  t.regex((await mount.sh('stat refused')).output, /Input\/output error/);
  t.is((await mount.statistics()).counters[STATISTICS.REFUSED], 1);
  t.is((await mount.sh('test -e absent')).code, 1);
});

test('a reply to a request that is gone is ignored', async (t) => {
  const mount = await Mount.start(t, () => ({}));
  const stat = mount.sh('stat held');
  let sent: unknown[] = [];
  while (sent.length === 0) sent = (await mount.ask('release')) as unknown[];
  // The second answer finds no request: write(2) says ENOENT.
  t.deepEqual(sent, [[0, 0]]);
  t.regex((await stat).output, /No such file/);
  t.is((await mount.statistics()).counters[STATISTICS.REFUSED], 0);
  t.is(await mount.end(), 'ENODEV');
});
