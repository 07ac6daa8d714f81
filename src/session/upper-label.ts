/** What a directory of changes says of itself: which lower they are over, and in whose marks. */
import {
  closeSync,
  constants,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { hostPath, shown } from './checks.ts';
import type { SessionRecord } from './record.ts';

/** What of a session's record says which lower its changes are over. */
export type Lower = Pick<SessionRecord, 'source' | 'repo' | 'commit' | 'links'>;

/** Extended attributes of the upper are `trusted.overlay.*`, which only root has, or `user.overlay.*`. */
type Marks = 'trusted' | 'user';

interface Label extends Lower {
  marks: Marks;
}

const LABEL = 'ostree-ts.json';
const DRAFT = `${LABEL}.new`;

/** Files of a directory of changes that are the label's. */
export const LABEL_NAMES: readonly string[] = [LABEL, DRAFT];

/**
 * @param force  the changes may be of another lower.
 * @throws SessionError they are of another lower, or in marks that this user's sessions do not see.
 */
export function checkLabel(path: ByteString, lower: Lower, force: boolean): void {
  const before = readLabel(path);
  if (before === undefined) return;
  if (before.marks !== ownMarks()) {
    const [owner, other] =
      before.marks === 'user' ? ["an ordinary user's", 'root'] : ["root's", 'an ordinary user'];
    throw new SessionError(
      `the changes in ${shown(path)} are ${owner}, with marks that sessions of ${other} do not read`,
      before.marks === 'user' ? 'unlock with it as that user' : 'unlock with it as root',
    );
  }
  if (force || difference(before, lower) === undefined) return;
  throw new SessionError(
    `the changes in ${shown(path)} belong to another source: ${describe(before)}`,
    'unlock the source that they are of, or take them for this one all the same: --force',
  );
}

/**
 * Records which lower the changes in a directory are over.
 *
 * @param discard  empties the directory.
 * @returns takes it back, when there is no session after all.
 * @throws SessionError it cannot be written, and all is as it was.
 */
export function label(
  path: ByteString,
  lower: Lower,
  discard: (path: ByteString) => void,
): () => void {
  const before = readLabel(path);
  // A full disk has no room for the same once more.
  if (before !== undefined && difference(before, lower) === undefined) return () => {};
  const wasEmpty = readdirSync(hostPath(path)).length === 0;
  writeLabel(path, lower);
  return () => {
    if (before !== undefined) writeLabel(path, before);
    else if (wasEmpty) discard(path);
    else rmSync(hostFile(path, LABEL), { force: true });
  };
}

function ownMarks(): Marks {
  return process.getuid?.() === 0 ? 'trusted' : 'user';
}

function describe({ source, repo, links }: Lower): string {
  const from = repo === undefined ? '' : ` of ${shown(repo)}`;
  return `${source.map(shown).join(':')}${from} (links ${links})`;
}

function writeLabel(path: ByteString, { source, repo, commit, links }: Lower): void {
  const text = JSON.stringify({ version: 1, source, repo, commit, links, marks: ownMarks() });
  const draft = hostFile(path, DRAFT);
  try {
    writeFileSync(draft, `${text}\n`, { mode: 0o600 });
    const fd = openSync(draft, constants.O_RDONLY);
    fsyncSync(fd);
    closeSync(fd);
    renameSync(draft, hostFile(path, LABEL));
  } catch (error) {
    rmSync(draft, { force: true });
    throw new SessionError(
      `cannot write ${shown(path)}/${LABEL}: ${(error as NodeJS.ErrnoException).code}`,
      'make room there, or name another directory for the changes',
      { cause: error },
    );
  }
}

/** What of two lowers is not the same. */
function difference(one: Lower, other: Lower): keyof Lower | undefined {
  return (['source', 'repo', 'commit', 'links'] as const).find(
    (key) => JSON.stringify(one[key]) !== JSON.stringify(other[key]),
  );
}

/** @throws SessionError when it makes no sense. */
function readLabel(path: ByteString): Label | undefined {
  const file = hostFile(path, LABEL);
  let text: string;
  let owner: number;
  try {
    text = readFileSync(file, 'utf8');
    owner = statSync(file).uid;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const value = JSON.parse(text) as Lower & Partial<Label>;
    // The first labels did not say it.
    const { marks = owner === 0 ? 'trusted' : 'user' } = value;
    if (Array.isArray(value.source)) return { ...value, marks };
  } catch {
    // Told below.
  }
  throw new SessionError(
    `${shown(path)}/${LABEL} is damaged, so nobody knows what the changes are over`,
    `remove that file if you know it: the directory then belongs to what is unlocked with it next`,
  );
}

function hostFile(path: ByteString, name: string): Buffer {
  return hostPath(`${path}/${name}`);
}
