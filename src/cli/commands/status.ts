import { Command } from 'commander';
import type { DeploymentStatus, Health, SessionStatus } from '../../index.ts';
import type { Context } from '../context.ts';
import type { Colour } from '../output.ts';
import { displayAge, displayBytes, displayText, table } from '../output.ts';

const COLOURS: Record<Health, Colour> = {
  ok: 'green',
  starting: 'yellow',
  unguarded: 'yellow',
  draining: 'yellow',
  hung: 'red',
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
    .option('--stats', 'also how many requests of each kind the kernel has made')
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
      const deployments = name === undefined ? await library.listDeployments(sysroot) : [];
      if (json === true) {
        for (const one of all) out(statusJson(one, stats === true));
        for (const one of deployments) out(JSON.stringify(one));
        return;
      }
      if (all.length === 0) err('ostree-ts: there is no session');
      else for (const line of overview(context, all)) out(line);
      for (const one of all) for (const line of details(context, one, stats === true)) out(line);
      if (deployments.length > 0) for (const line of hosts(context, deployments)) out(line);
    });
}

/** One line for each session. Keys are stable; more may be added. */
export function statusJson({ requests, ...rest }: SessionStatus, withRequests: boolean): string {
  return JSON.stringify(withRequests ? { ...rest, requests } : rest);
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
      one.changes === null ? '?' : String(one.changes),
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

/** What is wrong, the end of the log, and with `stats` the requests; nothing when all is well. */
function details({ paint }: Context, one: SessionStatus, stats: boolean): string[] {
  const requests = stats ? Object.entries(one.requests).sort(([, a], [, b]) => b - a) : [];
  const hasTrouble = one.problems.length > 0 || one.log.length > 0;
  if (!hasTrouble && requests.length === 0) return [];
  return [
    '',
    paint('bold', `${displayText(one.name)}:`),
    ...one.problems.map((problem) => `  ${paint(COLOURS[one.health], displayText(problem))}`),
    ...one.log.map((line) => `  ${paint('dim', `log: ${displayText(line)}`)}`),
    ...table(requests.map(([name, count]) => [`  ${name}`, String(count)])),
  ];
}
