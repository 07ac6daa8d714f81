import { Command } from 'commander';
import type { Health, SessionStatus } from '../../index.ts';
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
  stats?: true;
}

export function status(context: Context): Command {
  return new Command('status')
    .summary('list sessions, and what is wrong with any of them')
    .description(
      'Lists every session, or one, and what is wrong with it. It looks at the mount, not at a record of it.',
    )
    .argument('[SESSION]', 'a name or a mountpoint (default: all of them)')
    .option('--stats', 'also how many requests of each kind the kernel has made')
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts status                  a table, with the end of the log where something is wrong
  ostree-ts status usr --stats      one session, with its requests
  ostree-ts status --json | jq .    for programs`,
    )
    .action(async (name: string | undefined, { json, stats }: Options) => {
      const { out, err } = context;
      const library = await context.load();
      const sessions =
        name === undefined ? await library.listSessions() : [await library.findSession(name)];
      const all = await Promise.all(sessions.map(async (session) => await session.status()));
      if (json === true) {
        for (const one of all) out(statusJson(one, stats === true));
      } else if (all.length === 0) {
        err('ostree-ts: there is no session');
      } else {
        for (const line of overview(context, all)) out(line);
        for (const one of all) for (const line of details(context, one, stats === true)) out(line);
      }
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
