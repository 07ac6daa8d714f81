/** Which ratio a target of the benchmark is about. */
import test from 'ava';
import { figures } from '../scripts/bench/figures.ts';
import { type Group, row, type Row } from '../scripts/bench/group.ts';
import type { Peer } from '../scripts/bench/peers.ts';

const peer = (name: string): Peer => ({
  name,
  missing: () => undefined,
  open: () => Promise.reject(new Error('not to be opened')),
});

const OURS = peer('ours');
const PEERS = [peer('plain'), peer('overlayfs')];

const aims = test.macro((t, given: Row, among: Group['among'], aimed: string[]) => {
  const sample = { row: 'r', state: '-', round: 0, ms: 1, cpuMs: 0, bytes: 0 } as const;
  const samples = [OURS, ...PEERS].map(({ name }) => ({ ...sample, peer: name }));
  const group: Group = { name: 'g', needs: [], rows: [given], run: () => Promise.resolve() };
  const found = figures(
    { samples, failures: [], rounds: 1, isCut: false },
    [among === undefined ? group : { ...group, among }],
    { modes: [OURS], peers: PEERS, machine: 'm' },
  );
  t.is(found.length, PEERS.length);
  const named = found.filter(({ target }) => target !== undefined).map((figure) => figure.peer);
  t.deepEqual(named, aimed);
});

const ROW = row('r', 'some work', { '-': 2 });
test('a target is about overlayfs', aims, ROW, undefined, ['overlayfs']);
test('or about the rival of its row', aims, { ...ROW, rival: 'plain' }, undefined, ['plain']);
test('or about all that a group is compared with', aims, ROW, { modes: [OURS], peers: PEERS }, [
  'plain',
  'overlayfs',
]);
test('a state without a target has none', aims, row('r', 'some work', {}), undefined, []);
