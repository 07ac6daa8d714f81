/** What may be typed after `npm run bench --`. */
import { parseArgs } from 'node:util';
import { FULL, QUICK, type Scale, TINY } from './inputs.ts';
import { MODES, USUAL } from './ours.ts';
import { PEERS } from './peers.ts';
import { SERIES } from './growth-series.ts';
import { GROUPS } from './rows.ts';

export const USAGE: string = `npm run bench -- [options]
  --rows=a,b     only these rows: ${GROUPS.flatMap(({ rows }) => rows.map(({ name }) => name)).join(' ')}
  --peers=a,b    only these peers: ${PEERS.map(({ name }) => name).join(' ')}
  --modes=a,b    these of ours: ${MODES.map(({ name }) => name).join(' ')}
                 (${USUAL.join(' ')})
  --rounds=N     at most so many rounds (5; 3 with --quick, 1 with --tiny)
  --quick        smaller inputs and one mode, two minutes rather than fifteen; one round is always
                 done to its end
  --tiny         hardly any inputs and one mode: whether all work is done, not how fast
  --growth       instead of rows, the same work at sizes far apart: does cost grow as work grows?
                 (more than an hour; with --quick nothing above 100,000 files and 1 GiB); its rows are
                 ${SERIES.map(({ name }) => name).join(' ')}
  --json         one object a line, and nothing else, on stdout
  --svg=FILE     a picture of the ratios of the first mode
  --from=FILE    what --json has printed, instead of measuring`;

const MINUTE = 60_000;

export interface Size {
  scale: Scale;
  /** How many of the usual modes. */
  modes: number;
  rounds: number;
  /** From the start to the last piece of work; the rest is for clearing away. */
  budgetMs: number;
  /** With --growth: files and bytes of the largest pieces of work. */
  most: { files: number; bytes: number };
}

const SIZES = {
  full: {
    scale: FULL,
    modes: USUAL.length,
    rounds: 5,
    budgetMs: 14 * MINUTE,
    most: { files: Infinity, bytes: Infinity },
  },
  quick: {
    scale: QUICK,
    modes: 1,
    rounds: 3,
    budgetMs: 1.7 * MINUTE,
    most: { files: 100_000, bytes: 2 ** 30 },
  },
  tiny: {
    scale: TINY,
    modes: 1,
    rounds: 1,
    budgetMs: 8 * MINUTE,
    most: { files: 1000, bytes: 2 ** 20 },
  },
} satisfies Record<string, Size>;

export class Misuse extends Error {}

export interface Options {
  rows: string[] | undefined;
  peers: string[] | undefined;
  modes: string[] | undefined;
  /** Those of them that were named. */
  named: string[] | undefined;
  rounds: number;
  size: Size;
  /** Instead of rows. */
  growth: boolean;
  json: boolean;
  svg: string | undefined;
  from: string | undefined;
  /** The temp folder, in the process that measures. */
  inside: string | undefined;
}

/** @throws Misuse */
export function parse(words: string[]): Options {
  const { values } = parseArgs({
    args: words,
    options: {
      rows: { type: 'string' },
      peers: { type: 'string' },
      modes: { type: 'string' },
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      growth: { type: 'boolean', default: false },
      tiny: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      svg: { type: 'string' },
      from: { type: 'string' },
      inside: { type: 'string' },
    },
  });
  if (values.quick && values.tiny) throw new Misuse('--quick and --tiny are two sizes');
  const size = SIZES[values.tiny ? 'tiny' : values.quick ? 'quick' : 'full'];
  const rounds = Number(values.rounds ?? size.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Misuse('--rounds is a number from 1 on');
  const { growth, json, svg, from, inside } = values;
  const rows = names(
    values.rows,
    (growth ? SERIES : GROUPS.flatMap((group) => group.rows)).map(({ name }) => name),
  );
  const peers = names(
    values.peers,
    PEERS.map(({ name }) => name),
  );
  const named = names(
    values.modes,
    MODES.map(({ name }) => name),
  );
  const modes = named ?? USUAL.slice(0, size.modes);
  return { rows, peers, modes, named, rounds, size, growth, json, svg, from, inside };
}

/** A list of names, each of which must be known. */
function names(list: string | undefined, known: readonly string[]): string[] | undefined {
  const some = list?.split(',').filter((name) => name !== '');
  const unknown = some?.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new Misuse(`'${unknown}' is not known, one of: ${known.join(' ')}`);
  return some;
}
