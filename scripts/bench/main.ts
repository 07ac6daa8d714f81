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
import { listSessions } from '../../src/index.ts';
import { chart } from './chart.ts';
import { type Figure, figures, machine } from './figures.ts';
import { growth, growthTable } from './growth.ts';
import { SERIES } from './growth-series.ts';
import { compileWork, makeInputs } from './inputs.ts';
import { Misuse, type Options, parse, USAGE } from './options.ts';
import { LARGE, MODES } from './ours.ts';
import { overlayfs, PEERS, type Peer, unmount } from './peers.ts';
import { interruption, run } from './process.ts';
import { table } from './report.ts';
import { GROUPS } from './rows.ts';
import { Runner } from './runner.ts';

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
  const { size } = options;
  const tmpfs = join(folder, 'tmpfs');
  mkdirSync(tmpfs);
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=80%,mode=755', 'tmpfs', tmpfs]);
    if (options.growth) return await grow(options, folder, tmpfs);
    const groups = GROUPS.filter(
      ({ rows }) => options.rows === undefined || rows.some(({ name }) => has(options.rows, name)),
    );
    const peers = able(PEERS, options.peers);
    const modes = able(MODES, options.modes);
    const parts = groups.flatMap(({ needs }) => needs);
    const inputs = await makeInputs(folder, size.scale, parts, say);
    const runner = new Runner({
      inputs,
      groups,
      modes,
      peers,
      tmpfs,
      say,
      rounds: options.rounds,
      deadline: start + size.budgetMs,
    });
    const results = await runner.run();
    const about = await machine(inputs.work);
    const all = figures(results, groups, { modes, peers, machine: about }).filter(({ row }) =>
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

/** The series of --growth, instead of rows. */
async function grow(
  { rows, rounds, size, json }: Options,
  folder: string,
  tmpfs: string,
): Promise<number> {
  const series = SERIES.filter(({ name }) => has(rows, name)).map((one) => {
    const most = one.name === 'file' ? size.most.bytes : size.most.files;
    return { ...one, sizes: one.sizes.filter((each) => each <= most) };
  });
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
