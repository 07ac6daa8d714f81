/** The ids of a user namespace for an ordinary user's session: himself as its root, and his subordinate ids, when he has any. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { SessionError } from '../errors.ts';
import type { IdMaps, IdRange } from '../layers/ids.ts';
import { findProgram } from './checks.ts';

/** What newuidmap and newgidmap take the ranges from; see subuid(5). */
const FILES = { uids: '/etc/subuid', gids: '/etc/subgid' } as const;
const PROGRAMS = { uids: 'newuidmap', gids: 'newgidmap' } as const;
const MAPPING_MS = 10_000;

/**
 * What this user may map: himself as 0, and his subordinate ids from 1 on. Only himself, where there are none or nothing
 * that maps them: the same for users and groups, so that either all owners of a tree are there, or one.
 */
export function findIdMaps(): IdMaps {
  const own = { uids: ownRange(process.getuid?.() ?? 0), gids: ownRange(process.getgid?.() ?? 0) };
  const uids = subordinate('uids');
  const gids = subordinate('gids');
  if (uids.length === 0 || gids.length === 0) return { uids: [own.uids], gids: [own.gids] };
  return { uids: [own.uids, ...uids], gids: [own.gids, ...gids] };
}

function ownRange(outside: number): IdRange {
  return { inside: 0, outside, count: 1 };
}

function subordinate(kind: 'uids' | 'gids'): IdRange[] {
  if (findProgram(PROGRAMS[kind]) === undefined) return [];
  let text: string;
  try {
    text = readFileSync(FILES[kind], 'utf8');
  } catch {
    return [];
  }
  const names = userNames();
  const ranges: IdRange[] = [];
  let inside = 1;
  for (const line of text.split('\n')) {
    const [name = '', outside, count] = line.split(':');
    if (!names.includes(name) || !(Number(count) > 0)) continue;
    ranges.push({ inside, outside: Number(outside), count: Number(count) });
    inside += Number(count);
  }
  return ranges;
}

/** As the files name this user. */
function userNames(): string[] {
  const uid = String(process.getuid?.() ?? 0);
  try {
    return [uid, userInfo().username];
  } catch {
    // He is in no passwd file.
    return [uid];
  }
}

/** One user and one group: packages, whose files have several owners, cannot be installed. */
export function isSingle({ uids }: IdMaps): boolean {
  return uids.length === 1;
}

/**
 * Gives the user namespace of `pid`, which has none yet, its ids.
 *
 * @throws SessionError they are refused.
 */
export function writeIdMaps(pid: number, maps: IdMaps): void {
  if (isSingle(maps)) {
    // Without this an ordinary user may map no group: see user_namespaces(7).
    write(pid, 'setgroups', 'deny');
    write(pid, 'uid_map', mapLine(maps.uids[0]));
    write(pid, 'gid_map', mapLine(maps.gids[0]));
    return;
  }
  for (const kind of ['uids', 'gids'] as const) {
    const numbers = maps[kind].flatMap(({ inside, outside, count }) => [inside, outside, count]);
    const { status, stderr, error } = spawnSync(
      findProgram(PROGRAMS[kind]) ?? PROGRAMS[kind],
      [pid, ...numbers].map(String),
      { encoding: 'utf8', timeout: MAPPING_MS },
    );
    if (status === 0) continue;
    throw new SessionError(
      `${PROGRAMS[kind]} failed: ${error?.message ?? stderr.trim()}`,
      `see that it may set ids (package uidmap), and what ${FILES[kind]} has for you`,
    );
  }
}

function mapLine(range: IdRange | undefined): string {
  return range === undefined ? '' : `${range.inside} ${range.outside} ${range.count}`;
}

function write(pid: number, name: string, text: string): void {
  try {
    writeFileSync(`/proc/${pid}/${name}`, text);
  } catch (error) {
    throw new SessionError(
      `the ids of the user namespace are refused (${name}: ${(error as NodeJS.ErrnoException).code})`,
      'see what is allowed here: ostree-ts doctor',
      { cause: error },
    );
  }
}
