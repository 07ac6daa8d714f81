import { Command } from 'commander';
import type { DeploymentStatus, Health, SessionStatistics, SessionStatus } from '../../index.ts';
import type { AnySession, Context } from '../context.ts';
import type { Colour } from '../output.ts';
import { displayAge, displayBytes, displayText, table } from '../output.ts';

const COLOURS: Record<Health, Colour> = {
  ok: 'green',
  starting: 'yellow',
  unguarded: 'yellow',
  draining: 'yellow',
  hung: 'red',
  elsewhere: 'yellow',
  kept: 'green',
  dead: 'red',
};

interface Options {
  json?: true;
  sysroot?: string;
  stats?: true;
}

export function status(context: Context): Command {
  return new Command('status')
    .summary('list sessions, and what is wrong with any of them')
    .description(
      'Lists every session, or one, and what is wrong with it; on an OSTree host, every deployment as well, with how it is ' +
        'unlocked. It looks at the mount, not at a record of it.',
    )
    .argument('[SESSION]', 'a name or a mountpoint (default: all of them)')
    .option(
      '--stats',
      'also how busy it is, over a second: requests, how long they take, what it holds',
    )
    .option(
      '--sysroot <path>',
      'an OSTree sysroot of which the deployments are listed (default: /)',
    )
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts status                  a table, with the end of the log where something is wrong
  ostree-ts status usr --stats      one session, with its requests
  ostree-ts status --json | jq .    for programs`,
    )
    .action(async (name: string | undefined, { json, stats, sysroot }: Options) => {
      const { out, err } = context;
      const library = await context.load();
      const sessions =
        name === undefined ? await library.listSessions() : [await library.findSession(name)];
      const all = await Promise.all(sessions.map(async (session) => await session.status()));
      // Of one that does not answer its status says why.
      const measure = async (session: AnySession) =>
        stats === true ? await session.statistics().catch(() => undefined) : undefined;
      const statistics = await Promise.all(sessions.map(measure));
      const deployments = name === undefined ? await library.listDeployments(sysroot) : [];
      if (json === true) {
        for (const [i, one] of all.entries()) {
          out(statusJson(one, stats === true, statistics[i]));
        }
        for (const one of deployments) out(JSON.stringify(one));
        return;
      }
      if (all.length === 0) err('ostree-ts: there is no session');
      else for (const line of overview(context, all)) out(line);
      for (const [i, one] of all.entries()) {
        for (const line of details(context, one, statistics[i])) out(line);
      }
      if (deployments.length > 0) for (const line of hosts(context, deployments)) out(line);
    });
}

/** One line for each session. Keys are stable; more may be added. */
export function statusJson(
  { requests, ...rest }: SessionStatus,
  withRequests: boolean,
  statistics?: SessionStatistics,
): string {
  if (!withRequests) return JSON.stringify(rest);
  return JSON.stringify({ ...rest, requests, statistics: statistics ?? null });
}

function overview({ paint, now }: Context, all: SessionStatus[]): string[] {
  const [head = '', ...rows] = table([
    ['NAME', 'MOUNTPOINT', 'SOURCE', 'USED', 'LIMIT', 'CHANGES', 'AGE', 'HEALTH'],
    ...all.map((one) => [
      displayText(one.name),
      displayText(one.mountpoint),
      one.source === one.mountpoint ? 'in place' : displayText(one.source),
      one.used === null ? '?' : displayBytes(one.used),
      one.limit === null ? '?' : displayBytes(one.limit),
      one.changes === null ? '?' : `${one.changes}${one.moreChanges ? '+' : ''}`,
      displayAge(one.started, now()),
      one.health,
    ]),
  ]);
  return [
    paint('bold', head),
    ...rows.map((row, i) => {
      const health = all[i]?.health ?? 'ok';
      return row.slice(0, row.length - health.length) + paint(COLOURS[health], health);
    }),
  ];
}

/** The deployments, the running one marked as ostree does, each with what is wrong with it. */
function hosts({ paint }: Context, all: DeploymentStatus[]): string[] {
  const [head = '', ...rows] = table([
    ['  DEPLOYMENT', 'ORIGIN', 'UNLOCKED'],
    ...all.map(({ booted, stateroot, checksum, serial, origin, unlocked, by }) => [
      `${booted ? '*' : ' '} ${displayText(`${stateroot} ${checksum.slice(0, 12)}.${serial}`)}`,
      displayText(origin ?? '?'),
      unlocked === 'none' || by === null ? unlocked : `${unlocked}, by ${by}`,
    ]),
  ]);
  return [
    '',
    paint('bold', head),
    ...rows.flatMap((row, i) => [
      row,
      ...(all[i]?.problems ?? []).map((problem) => `    ${paint('red', displayText(problem))}`),
    ]),
  ];
}

/** What is wrong, the end of the log, and what was asked for beyond it; nothing when all is well. */
function details(
  { paint }: Context,
  one: SessionStatus,
  statistics: SessionStatistics | undefined,
): string[] {
  const hasTrouble = one.problems.length > 0 || one.log.length > 0;
  if (!hasTrouble && statistics === undefined) return [];
  return [
    '',
    paint('bold', `${displayText(one.name)}:`),
    ...one.problems.map((problem) => `  ${paint(COLOURS[one.health], displayText(problem))}`),
    ...one.log.map((line) => `  ${paint('dim', `log: ${displayText(line)}`)}`),
    ...(statistics === undefined ? [] : measured(statistics)),
  ];
}

/** How busy it is: operations, the most frequent first, with how long they take. */
function measured(statistics: SessionStatistics): string[] {
  const { perSecond, inodes, nodes, used, bytesWritten, bytesCopied, daemonBytes } = statistics;
  const operations = Object.entries(statistics.operations).sort(
    ([, a], [, b]) => b.requests - a.requests,
  );
  return [
    `  ${perSecond} requests a second; the kernel knows ${inodes} files`,
    `  upper: ${nodes} files, ${displayBytes(used)}; ${displayBytes(bytesWritten)} written, ${displayBytes(bytesCopied)} copied for it`,
    ...(daemonBytes === null ? [] : [`  daemon: ${displayBytes(daemonBytes)} of memory`]),
    ...(operations.length === 0
      ? []
      : table([
          ['  OPERATION', 'REQUESTS', 'A SECOND', 'MEAN', '50 %', '90 %', '99 %'],
          ...operations.map(([name, one]) => [
            `  ${name}`,
            String(one.requests),
            String(one.perSecond),
            time(one.meanUs),
            time(one.p50Us),
            time(one.p90Us),
            time(one.p99Us),
          ]),
        ])),
  ];
}

function time(microseconds: number | undefined): string {
  if (microseconds === undefined) return '-';
  return `${microseconds < 10 ? microseconds.toFixed(1) : Math.round(microseconds)} us`;
}
