/** Ends a process with SIGKILL at a step that is counted, or at any moment, and tells which step was hit (killer.c). */
import { type ChildProcess, spawn } from 'node:child_process';
import { compiled } from './hand.ts';

/** The system calls by which a directory upper changes its host, as killer.c names them. */
export const STEPS: readonly string[] = [
  'copy_file_range',
  'fallocate',
  'fchmodat2',
  'fchownat',
  'ftruncate',
  'linkat',
  'mkdirat',
  'mknodat',
  'openat2',
  'pwrite64',
  'removexattrat',
  'renameat2',
  'renameat2-noreplace',
  'renameat2-exchange',
  'renameat2-whiteout',
  'setxattrat',
  'symlinkat',
  'unlinkat',
  'utimensat',
];
/** And of one on disk. */
export const DURABLE_STEPS: readonly string[] = [...STEPS, 'fsync'];

export interface Hit {
  /** Where the process was: before a step of its, in it, or after it. */
  where: string;
  /** The step, '' when there was none. */
  step: string;
  /** How many calls there were of each step. */
  seen: Map<string, number>;
}

export class Killer {
  readonly #child: ChildProcess;
  readonly #ready: Promise<void>;
  readonly #hit: Promise<Hit>;

  /** @param ms  kill at the latest then; 0 for never. */
  constructor(pid: number, step: string, count: number, ms: number) {
    const program = compiled('killer', ['killer.c']);
    this.#child = spawn(program, [String(pid), step, String(count), String(ms)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    this.#ready = new Promise((resolve, reject) => {
      this.#child.stdout?.once('data', () => resolve());
      this.#child.once('error', reject);
      this.#child.once('exit', () => reject(new Error('the killer ended')));
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    this.#hit = new Promise((resolve) => this.#child.once('close', () => resolve(parse(text))));
  }

  /** Waits until it follows the process. */
  ready(): Promise<void> {
    return this.#ready;
  }

  /** Kills now, unless that has been done. @returns what was hit. */
  end(): Promise<Hit> {
    this.#child.kill('SIGTERM');
    return this.#hit;
  }
}

function parse(text: string): Hit {
  const [, killed = '', ...counts] = text.trimEnd().split('\n');
  const [, where = '', step = ''] = /^killed (\w+) (\S+)$/.exec(killed) ?? [];
  const seen = new Map(
    counts.map((line) => {
      const [name = '', count = '0'] = line.split(' ');
      return [name, Number(count)] as const;
    }),
  );
  return { where, step: step === 'any' ? '' : step, seen };
}
