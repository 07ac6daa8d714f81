/** The benchmark itself: all work is done by everyone, is the same work, and leaves nothing. No time is looked at. */
import test from 'ava';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Figure } from '../../scripts/bench/figures.ts';
import type { State } from '../../scripts/bench/group.ts';
import type { Point } from '../../scripts/bench/growth.ts';
import { MODES } from '../../scripts/bench/ours.ts';
import { PEERS, type Peer } from '../../scripts/bench/peers.ts';
import { GROUPS } from '../../scripts/bench/rows.ts';
import { listSessions } from '../../src/index.ts';

const PROGRAM = fileURLToPath(new URL('../../scripts/bench/main.js', import.meta.url));

const SCALE = Number(process.env['OSTREE_TS_TEST_SCALE'] ?? 1);

interface Try {
  options: string[];
  modes: readonly Peer[];
}

/** All modes take minutes, at the smallest size. */
const TRIES: Try[] = [
  { options: ['--quick', '--rounds=1'], modes: MODES.slice(0, 1) },
  ...(SCALE > 1 ? [{ options: ['--tiny'], modes: MODES }] : []),
];

/** What README and `--help` promise of each line of --json. */
const NUMBERS = ['ratio', 'ours_ms', 'peer_ms', 'ours_cpu_ms', 'peer_cpu_ms', 'rounds'] as const;

/** A line for all that should be compared: everything, but for what a peer that is not ours has said that it cannot do. */
function expected(complaints: string, tried: readonly Peer[]): string[] {
  return GROUPS.flatMap((group) => {
    const present = PEERS.filter(
      (peer) =>
        peer.missing() === undefined &&
        !(group.changesLower === true && peer.name === 'plain') &&
        !complaints.includes(`bench: ${peer.name} cannot do ${group.name}: `),
    );
    const { modes, peers } = group.among ?? { modes: tried, peers: present };
    return group.rows.flatMap(({ name, targets }) =>
      statesOf(targets).flatMap((state) =>
        modes.flatMap((mode) => peers.map((peer) => line(name, state, mode.name, peer.name))),
      ),
    );
  });
}

/** Those that have a target, if any have: a row without one has one state. */
function statesOf(targets: Partial<Record<State, number>>): State[] {
  const named = Object.keys(targets) as State[];
  return named.length === 0 ? ['-'] : named;
}

function line(row: string, state: string, mode: string, peer: string): string {
  return [row, state, mode, peer].join(' ');
}

function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((mount) => mount.includes(folder));
}

if (process.getuid?.() === 0) {
  for (const { options, modes } of TRIES) {
    test(`bench ${options.join(' ')}: all rows are done, by us and every peer, alike, and nothing is left`, async (t) => {
      t.timeout(600_000);
      const folder = mkdtempSync(join(tmpdir(), 'b-'));
      t.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const temp = join(folder, 'temp');
      mkdirSync(temp);
      const before = await listSessions();
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [PROGRAM, ...options, '--json', `--modes=${modes.map(({ name }) => name).join(',')}`],
        { encoding: 'utf8', env: { ...process.env, TMPDIR: temp } },
      );
      t.is(status, 0, stderr);
      // Not the same work was done.
      t.notRegex(stderr, /step \d+ saw/);
      const figures = stdout
        .split('\n')
        .filter((words) => words !== '')
        .map((words) => JSON.parse(words) as Figure);
      const found = new Set(
        figures.map(({ row, state, mode, peer }) => line(row, state, mode, peer)),
      );
      t.is(found.size, figures.length);
      t.deepEqual(
        expected(stderr, modes).filter((each) => !found.has(each)),
        [],
      );
      for (const figure of figures) {
        const { row, spread } = figure;
        for (const key of NUMBERS) t.true(Number.isFinite(figure[key]), `${row} ${key}`);
        t.true(spread.length === 2 && spread[0] <= figure.ratio && figure.ratio <= spread[1], row);
        t.true(figure.ours_ms > 0 && figure.peer_ms > 0, row);
      }
      t.deepEqual(readdirSync(temp), []);
      t.deepEqual(mountsBelow(temp), []);
      const names = (await listSessions()).map(({ name }) => name);
      t.deepEqual(
        names,
        before.map(({ name }) => name),
      );
    });
  }

  // It takes minutes.
  if (SCALE > 1) {
    test('growth is measured at every size, by us and by overlayfs', (t) => {
      t.timeout(300_000);
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [PROGRAM, '--growth', '--tiny', '--json'],
        { encoding: 'utf8' },
      );
      t.is(status, 0, stderr);
      t.notRegex(stderr, /cannot do/);
      const points = stdout
        .split('\n')
        .filter((words) => words !== '')
        .map((words) => JSON.parse(words) as Point);
      const modes = new Set(points.map(({ mode }) => mode));
      t.deepEqual([...modes], ['memory/cached', 'overlayfs']);
      for (const series of ['walk-cold', 'create', 'commit', 'one-byte', 'list-cold']) {
        t.true(
          points.some((point) => point.series === series && point.us > 0),
          series,
        );
      }
      const lowers = points.filter(
        ({ series, mode }) => series === 'lowers-walk' && mode !== 'overlayfs',
      );
      t.deepEqual(
        lowers.map(({ size }) => size),
        [1, 4, 16, 64],
      );
    });
  }
} else {
  test('mounting the peers of the benchmark needs root', (t) => {
    t.log('not run: not root');
    t.pass();
  });
}
