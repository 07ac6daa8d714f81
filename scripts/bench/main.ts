/**
 * `npm run bench`: what a session costs, against the plain lower and the others who can show one writable.
 *
 * The benchmark runs in a mount namespace of its own, so that no mount outlives it; the process that was started only
 * waits for it, and removes whatever else it may have left.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { listSessions } from '../../src/index.ts';
import { chart } from './chart.ts';
import { type Figure, figures } from './figures.ts';
import { growth, growthTable } from './growth.ts';
import { SERIES } from './growth-series.ts';
import { compileWork, FULL, makeInputs, QUICK } from './inputs.ts';
import { LARGE, MODES, USUAL } from './ours.ts';
import { overlayfs, PEERS, type Peer, unmount } from './peers.ts';
import { interruption, run } from './process.ts';
import { table } from './report.ts';
import { GROUPS } from './rows.ts';
import { Runner } from './runner.ts';

const USAGE = `npm run bench -- [options]
  --rows=a,b     only these rows: ${GROUPS.flatMap(({ rows }) => rows.map(({ name }) => name)).join(' ')}
  --peers=a,b    only these peers: ${PEERS.map(({ name }) => name).join(' ')}
  --modes=a,b    these of ours: ${MODES.map(({ name }) => name).join(' ')}
                 (${USUAL.join(' ')})
  --rounds=N     at most so many rounds (5; 3 with --quick)
  --quick        smaller inputs and one mode, two minutes rather than fifteen
  --scale        the same work at sizes far apart instead: does cost grow as work grows?
                 (half an hour; with --quick none above 100,000 files and 1 GiB)
  --json         one object a line, and nothing else, on stdout
  --svg=FILE     a picture of the ratios of the first mode
  --from=FILE    what --json has printed, instead of measuring`;

const MINUTE = 60_000;
/** From the start to the last piece of work; the rest is for clearing away. */
const BUDGET_MS = 14 * MINUTE;
const QUICK_BUDGET_MS = 1.7 * MINUTE;

class Misuse extends Error {}

interface Options {
  rows: string[] | undefined;
  peers: string[] | undefined;
  modes: string[] | undefined;
  /** Those of them that were named. */
  named: string[] | undefined;
  rounds: number;
  quick: boolean;
  scale: boolean;
  json: boolean;
  svg: string | undefined;
  from: string | undefined;
  /** The temp folder, in the process that measures. */
  inside: string | undefined;
}

function parse(words: string[]): Options {
  const { values } = parseArgs({
    args: words,
    options: {
      rows: { type: 'string' },
      peers: { type: 'string' },
      modes: { type: 'string' },
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      scale: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      svg: { type: 'string' },
      from: { type: 'string' },
      inside: { type: 'string' },
    },
  });
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Misuse('--rounds is a number from 1 on');
  const { quick, scale, json, svg, from, inside } = values;
  const rows = names(
    values.rows,
    GROUPS.flatMap((group) => group.rows.map(({ name }) => name)),
  );
  const peers = names(
    values.peers,
    PEERS.map(({ name }) => name),
  );
  const named = names(
    values.modes,
    MODES.map(({ name }) => name),
  );
  const modes = named ?? USUAL.slice(0, quick ? 1 : undefined);
  return { rows, peers, modes, named, rounds, quick, scale, json, svg, from, inside };
}

/** A list of names, each of which must be known. */
function names(list: string | undefined, known: readonly string[]): string[] | undefined {
  const some = list?.split(',').filter((name) => name !== '');
  const unknown = some?.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new Misuse(`'${unknown}' is not known, one of: ${known.join(' ')}`);
  return some;
}

function say(words: string): void {
  process.stderr.write(`bench: ${words}\n`);
}

/** Runs this module again in a mount namespace of its own, and clears away what that leaves. */
async function supervise(words: string[]): Promise<number> {
  if (process.getuid?.() !== 0) throw new Misuse('mounting the peers needs root');
  const folder = mkdtempSync(join(tmpdir(), 'ostree-ts-bench-'));
  const self = fileURLToPath(import.meta.url);
  const child = spawn(
    'unshare',
    ['--mount', '--propagation=private', process.execPath, self, `--inside=${folder}`, ...words],
    { stdio: 'inherit' },
  );
  // A terminal signals both; whoever else means the benchmark as a whole.
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, pass);
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (status) => resolve(status ?? 1));
  });
  for (const session of await listSessions()) {
    if (session.name.startsWith(basename(folder))) await session.lock({ lazy: true });
  }
  rmSync(folder, { recursive: true, force: true });
  return code;
}

async function measure(options: Options, folder: string): Promise<number> {
  const start = Date.now();
  const tmpfs = join(folder, 'tmpfs');
  mkdirSync(tmpfs);
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=80%,mode=755', 'tmpfs', tmpfs]);
    if (options.scale) return await grow(options, folder, tmpfs);
    const groups = GROUPS.filter(
      ({ rows }) => options.rows === undefined || rows.some(({ name }) => has(options.rows, name)),
    );
    const peers = able(PEERS, options.peers);
    const modes = able(MODES, options.modes);
    const parts = groups.flatMap(({ needs }) => needs);
    const inputs = await makeInputs(folder, options.quick ? QUICK : FULL, parts, say);
    const runner = new Runner({
      inputs,
      groups,
      modes,
      peers,
      tmpfs,
      say,
      rounds: options.rounds,
      deadline: start + (options.quick ? QUICK_BUDGET_MS : BUDGET_MS),
    });
    const results = await runner.run();
    const all = figures(results, groups, { modes, peers }).filter(({ row }) =>
      has(options.rows, row),
    );
    show(all, results, options);
    say(`${Math.round((Date.now() - start) / 1000)} s`);
    return results.failures.some(({ peer }) => MODES.some(({ name }) => name === peer)) ? 1 : 0;
  } finally {
    await unmount(join(folder, 'lower'));
    await unmount(tmpfs);
  }
}

/** The most that --scale --quick works with: files, and bytes of one. */
const QUICK_FILES = 100_000;
const QUICK_BYTES = 2 ** 30;

async function grow(
  { rounds, quick, json }: Options,
  folder: string,
  tmpfs: string,
): Promise<number> {
  const series = SERIES.map((one) => ({
    ...one,
    sizes: one.sizes.filter(
      (size) => !quick || size <= (one.name === 'file' ? QUICK_BYTES : QUICK_FILES),
    ),
  }));
  const peers = [LARGE, ...able([overlayfs], undefined)];
  const work = await compileWork(folder);
  const points = await growth({ work, folder, tmpfs, peers, series, rounds, say });
  if (json) for (const point of points) console.log(JSON.stringify(point));
  (json ? console.error : console.log)(growthTable(points));
  return 0;
}

/** Prints and draws what was found. */
function show(
  all: readonly Figure[],
  results: Parameters<typeof table>[1],
  { json, svg }: Options,
): void {
  if (json) for (const figure of all) console.log(JSON.stringify(figure));
  (json ? console.error : console.log)(table(all, results, GROUPS));
  if (svg === undefined) return;
  const common = GROUPS.filter(({ among }) => among === undefined);
  const known = common.flatMap(({ rows }) => rows.map(({ name }) => name));
  const drawn = all.filter(({ row }) => known.includes(row));
  if (drawn.length === 0) throw new Misuse('no picture: these rows have peers of their own only');
  writeFileSync(svg, chart(drawn.filter(({ mode }) => mode === drawn[0]?.mode)));
}

/** @throws Misuse it is not what --json prints. */
function kept(file: string): Figure[] {
  const lines = orMisuse(() => readFileSync(file, 'utf8').split('\n'), `${file} cannot be read`);
  return lines
    .filter((line) => line !== '')
    .map((line, index) => {
      const what = `${file}: line ${index + 1} is not what --json prints`;
      const figure = orMisuse(() => JSON.parse(line) as Partial<Figure> | null, what);
      const isWhole =
        figure !== null &&
        [figure.row, figure.state, figure.mode, figure.peer, figure.machine, figure.date].every(
          (value) => typeof value === 'string',
        ) &&
        [figure.ratio, figure.rounds, ...(figure.spread ?? [])].every(
          (value) => typeof value === 'number',
        ) &&
        figure.spread?.length === 2;
      if (!isWhole) throw new Misuse(what);
      return figure as Figure;
    });
}

/** What `act` gives. @throws Misuse that says `what` when it fails. */
function orMisuse<T>(act: () => T, what: string): T {
  try {
    return act();
  } catch (error) {
    throw new Misuse(`${what}: ${error instanceof Error ? error.message : ''}`);
  }
}

/** Those who are asked for and can be measured here; the others are told. */
function able(all: readonly Peer[], wanted: readonly string[] | undefined): Peer[] {
  return all.filter((one) => {
    if (!has(wanted, one.name)) return false;
    const why = one.missing();
    if (why !== undefined) say(`without ${one.name}: ${why}`);
    return why === undefined;
  });
}

function has(list: readonly string[] | undefined, name: string): boolean {
  return list === undefined || list.includes(name);
}

async function main(words: string[]): Promise<number> {
  if (words.includes('--help')) {
    console.log(USAGE);
    return 0;
  }
  const options = parse(words);
  if (options.from !== undefined) {
    const all = kept(options.from).filter(
      ({ row, peer, mode }) =>
        has(options.rows, row) && has(options.peers, peer) && has(options.named, mode),
    );
    if (all.length === 0) throw new Misuse(`${options.from} has nothing of that`);
    const rounds = Math.max(...all.map((figure) => figure.rounds));
    show(all, { rounds, failures: [], isCut: false }, options);
    return 0;
  }
  if (options.inside === undefined) return supervise(words);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interruption.abort(new Error('interrupted')));
  }
  return measure(options, options.inside);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isMisuse = error instanceof Misuse || String(error).includes('ERR_PARSE_ARGS');
  const words = error instanceof Error ? error.message : String(error);
  if (isMisuse) console.error(`bench: ${words}\n${USAGE}`);
  else if (interruption.signal.aborted) console.error('bench: interrupted');
  else console.error(error);
  process.exitCode = isMisuse ? 2 : interruption.signal.aborted ? 130 : 1;
}
