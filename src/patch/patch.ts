/** What `git diff` prints of one file: header, and hunks or a notice. Paths and contents are byte strings or bytes. */
import { hunks } from './hunks.ts';
import { similarity } from './similarity.ts';

/** A version of a file, as git sees it: a regular file or a symlink. */
export interface Version {
  /** Without a slash in front. A byte string: one char a byte. */
  path: string;
  /** st_mode. */
  mode: number;
  /** SHA-1 of it as a blob, in hex. */
  id: string;
  /** `undefined`: it is too large to be compared by lines. */
  data: Uint8Array | undefined;
}

export interface PatchOptions {
  /** Unchanged lines around changes. Default: 3. */
  context?: number;
}

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
const NO_ID = '0000000';
const ID_LENGTH = 7;
/** A file with a NUL in its first bytes is no text. */
const LOOKED_AT = 8000;

/**
 * The patch that makes `after` of `before`; `undefined` when there was, or is, none. Nothing comes when git sees no difference.
 *
 * @returns byte strings.
 */
export function* patch(
  before: Version | undefined,
  after: Version | undefined,
  options: PatchOptions = {},
): Generator<string> {
  const isReplaced =
    before !== undefined && after !== undefined && (before.mode & S_IFMT) !== (after.mode & S_IFMT);
  if (!isReplaced) {
    yield* one(before, after, options);
    return;
  }
  // A file that has become a symlink is another one.
  yield* one(before, undefined, options);
  yield* one(undefined, after, options);
}

function* one(
  before: Version | undefined,
  after: Version | undefined,
  { context }: PatchOptions,
): Generator<string> {
  const named = before ?? after;
  if (named === undefined) return;
  const isRenamed = before !== undefined && after !== undefined && before.path !== after.path;
  const isSame = before?.id === after?.id;
  const lines = [...modeLines(before, after), ...(isRenamed ? renameLines(before, after) : [])];
  if (!isSame) lines.push(indexLine(before, after));
  if (lines.length === 0) return;
  const from = quoted(`a/${(before ?? named).path}`);
  const to = quoted(`b/${(after ?? named).path}`);
  yield `diff --git ${from} ${to}\n${lines.map((line) => `${line}\n`).join('')}`;
  if (isSame) return;
  const labels = [before && from, after && to].map((label) => label ?? '/dev/null');
  if (!isText(before) || !isText(after)) {
    yield `Binary files ${labels.join(' and ')} differ\n`;
    return;
  }
  // An empty file has no lines to tell of.
  const a = textOf(before);
  const b = textOf(after);
  if (a === '' && b === '') return;
  const [old = '', now = ''] = labels.map((label) => (label.includes(' ') ? `${label}\t` : label));
  yield `--- ${old}\n+++ ${now}\n`;
  yield* hunks(a, b, context);
}

function modeLines(before: Version | undefined, after: Version | undefined): string[] {
  const old = modeOf(before);
  const now = modeOf(after);
  if (before === undefined) return [`new file mode ${now}`];
  if (after === undefined) return [`deleted file mode ${old}`];
  return old === now ? [] : [`old mode ${old}`, `new mode ${now}`];
}

/** Git knows three modes. */
function modeOf(version: Version | undefined): string {
  const mode = version?.mode ?? 0;
  if ((mode & S_IFMT) === S_IFLNK) return '120000';
  return (mode & 0o100) === 0 ? '100644' : '100755';
}

function renameLines(before: Version, after: Version): string[] {
  return [
    `similarity index ${similarityOf(before, after)}%`,
    `rename from ${quoted(before.path)}`,
    `rename to ${quoted(after.path)}`,
  ];
}

function similarityOf(before: Version, after: Version): number {
  if (before.id === after.id) return 100;
  if (before.data === undefined || after.data === undefined) return 0;
  return similarity(before.data, after.data, isText(before) && isText(after));
}

function indexLine(before: Version | undefined, after: Version | undefined): string {
  const ids = [before, after].map((version) => version?.id.slice(0, ID_LENGTH) ?? NO_ID);
  const mode = modeOf(after);
  const isKept = before !== undefined && after !== undefined && modeOf(before) === mode;
  return `index ${ids.join('..')}${isKept ? ` ${mode}` : ''}`;
}

function isText(version: Version | undefined): boolean {
  if (version === undefined) return true;
  return version.data !== undefined && !version.data.subarray(0, LOOKED_AT).includes(0);
}

function textOf(version: Version | undefined): string {
  return Buffer.from(version?.data ?? []).toString('latin1');
}

const ESCAPES = new Map([
  ['"', String.raw`\"`],
  ['\\', String.raw`\\`],
  ['\x07', String.raw`\a`],
  ['\b', String.raw`\b`],
  ['\t', String.raw`\t`],
  ['\n', String.raw`\n`],
  ['\v', String.raw`\v`],
  ['\f', String.raw`\f`],
  ['\r', String.raw`\r`],
]);

/** A path as git writes it: in double quotes when it has anything but printable ASCII. */
function quoted(path: string): string {
  const text = path.replaceAll(
    /["\\]|[^\x20-\x7e]/g,
    (char) => ESCAPES.get(char) ?? `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  return text === path ? path : `"${text}"`;
}
