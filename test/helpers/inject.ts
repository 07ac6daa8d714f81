/** System calls of a program, and the program as it meets one that fails: what strace(1) can arrange. */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** One call of a program's first thread. */
export interface Call {
  name: string;
  /** Which of its name, from 1 on: counted in that thread. */
  nth: number;
  /** Which file it is about, below the folder that was looked for; what differs from run to run is `*`. */
  file: string;
}

export interface Outcome {
  code: number | null;
  /** On stderr. */
  said: string;
  /** The call that failed, as strace tells it; '' when it was not made. */
  met: string;
}

/** Longest that a program may take, traced as it is on a busy machine. */
const TIMEOUT_MS = 60_000;

/** The calls that a program makes on files below `folder`, in order. */
export function callsOn(folder: string, command: string[], scratch: string): Call[] {
  const trace = traced(scratch, command, ['-yy', '-s', '4096', '-e', 'trace=%desc,%file']).text;
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  const [first = ''] = /^\d+/.exec(trace) ?? [];
  for (const line of trace.split('\n')) {
    const [, thread, name = '', args = ''] = /^(\d+)\s+(\w+)\((.*)/.exec(line) ?? [];
    if (thread !== first || name.startsWith('syscall_')) continue;
    const nth = (counts.get(name) ?? 0) + 1;
    counts.set(name, nth);
    const file = fileIn(args, folder);
    if (file !== undefined) calls.push({ name, nth, file });
  }
  return calls;
}

/** What a call is about: a descriptor of a file below the folder, and a name beneath it. */
function fileIn(args: string, folder: string): string | undefined {
  const at = args.indexOf(`<${folder}`);
  if (at < 0 && !args.includes(`"${folder}`)) return undefined;
  const path = at < 0 ? '' : args.slice(at + 1 + folder.length, args.indexOf('>', at));
  const [, name = ''] = /^\d+<[^>]*>, "([^"]*)", [{\dAO]/.exec(args) ?? [];
  return `${path}${name === '' ? '' : ` ${name}`}`
    .replaceAll(/staging-[^/ ]*?(-lock)?(?=[/ ]|$)/g, 'staging$1')
    .replaceAll(/(^|[/ ])[0-9a-f]{2}(?=[/ ]|$)/g, '$1*')
    .replaceAll(/[0-9a-f]{62,64}/g, '*')
    .replaceAll(/new-\d+/g, 'new');
}

/** Runs a program of which one call fails. @param error  as in `EIO`. */
export function failing(
  { name, nth }: Pick<Call, 'name' | 'nth'>,
  error: string,
  command: string[],
  scratch: string,
): Outcome {
  const inject = `inject=${name}:error=${error}:when=${nth}`;
  const { text, ...ran } = traced(scratch, command, ['-yy', '-e', `trace=${name}`, '-e', inject]);
  const met = text.split('\n').find((line) => line.includes('(INJECTED)')) ?? '';
  return { ...ran, met };
}

function traced(
  scratch: string,
  command: string[],
  options: string[],
): { code: number | null; said: string; text: string } {
  const trace = join(scratch, 'trace');
  rmSync(trace, { force: true });
  const args = ['-f', '-qq', '-o', trace, ...options, ...command];
  const ran = spawnSync('strace', args, { encoding: 'utf8', timeout: TIMEOUT_MS });
  return { code: ran.status, said: ran.stderr, text: readFileSync(trace, 'latin1') };
}
