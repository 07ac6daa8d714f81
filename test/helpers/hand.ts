/**
 * The test hand from TypeScript: a child process that carries out one system call for each line (sys.c says how a line
 * reads), so that a test never blocks on the mount it tries, and a hung mount fails a test rather than the run.
 */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = ['sys.h', 'sys.c', 'sys-file.c', 'sys-watch.c', 'sys-tree.c'];

/** Where the tests keep what is made once and used by every run. */
export function cacheFolder(): string {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'ostree-ts-test');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Compiles the hand, once for each version of its source. @returns its path. */
export function handProgram(): string {
  return compiled('sys', SOURCES);
}

/** Compiles a program of the tests, once for each version of its sources. @returns its path. */
export function compiled(program: string, sources: readonly string[]): string {
  const folder = fileURLToPath(new URL('../../../test/helpers/', import.meta.url));
  const hash = createHash('sha256');
  for (const name of sources) hash.update(readFileSync(join(folder, name)));
  const path = join(cacheFolder(), `${program}-${process.arch}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(path)) return path;
  const draft = `${path}.${process.pid}`;
  const units = sources.filter((name) => name.endsWith('.c')).map((name) => join(folder, name));
  execFileSync('gcc', ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Wshadow', '-o', draft, ...units]);
  renameSync(draft, path);
  return path;
}

/** A byte string as one word of a line. */
export function word(bytes: string): string {
  if (bytes === '') return "''";
  return bytes.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[^!-$&-~]/g,
    (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** A byte string as a data argument of a line. */
export function dataWord(bytes: string): string {
  if (bytes === '') return '=';
  if (bytes.includes('\0')) return `:${Buffer.from(bytes, 'latin1').toString('hex')}`;
  return `=${word(bytes)}`;
}

interface Waiting {
  line: string;
  tree: boolean;
  settle: (answer: string) => void;
  fail: (error: Error) => void;
}

export interface HandOptions {
  /** Folder to start in. */
  cwd: string;
  /** How long one line may take. */
  timeoutMs?: number;
  /** A mount namespace of its own, as a list of words put before the program. */
  prefix?: string[];
}

export class Hand {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting: Waiting[] = [];
  readonly #timeoutMs: number;
  #chunks: Buffer[] = [];
  #stderr = '';
  #lines: string[] = [];
  #ended: Error | undefined;
  readonly #exit: Promise<void>;

  constructor(options: HandOptions) {
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    const words = [...(options.prefix ?? []), handProgram()];
    this.#child = spawn(words[0] ?? '', words.slice(1), { cwd: options.cwd, stdio: 'pipe' });
    this.#child.stdout.on('data', (chunk: Buffer) => this.#take(chunk));
    this.#child.stderr.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
    this.#child.stdin.on('error', () => undefined);
    this.#exit = new Promise((resolve) => {
      const end = (reason: string) => {
        this.#ended ??= new Error(`the hand ended: ${reason} ${this.#stderr}`);
        for (const waiting of this.#waiting.splice(0)) waiting.fail(this.#ended);
        resolve();
      };
      this.#child.on('exit', (code, signal) => end(`${signal ?? code}`));
      this.#child.on('error', (error) => end(error.message));
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Carries out one line. @returns "ok", "ok ..." or an errno's name; for `tree`, the lines of the tree. */
  async do(line: string): Promise<string> {
    const [answer = ''] = await this.script([line]);
    return answer;
  }

  /** Carries out many lines without waiting between them. @returns an answer for each. */
  async script(lines: readonly string[], timeoutMs: number = this.#timeoutMs): Promise<string[]> {
    if (this.#ended) throw this.#ended;
    if (lines.length === 0) return [];
    const answers = lines.map(
      (line) =>
        new Promise<string>((settle, fail) => {
          this.#waiting.push({ line, tree: line.startsWith('tree '), settle, fail });
        }),
    );
    this.#child.stdin.write(Buffer.from(`${lines.join('\n')}\n`, 'latin1'));
    const timer = setTimeout(() => {
      this.#ended = new Error(`no answer within ${timeoutMs} ms to: ${this.#waiting[0]?.line}`);
      for (const waiting of this.#waiting.splice(0)) waiting.fail(this.#ended);
      this.#child.kill('SIGKILL');
    }, timeoutMs);
    try {
      const settled = await Promise.allSettled(answers);
      return settled.map((one) => {
        if (one.status === 'rejected') throw one.reason;
        return one.value;
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** As `script`, but every line must be "ok". */
  async must(lines: readonly string[]): Promise<void> {
    const answers = await this.script(lines);
    for (const [index, answer] of answers.entries()) {
      assert.match(answer, /^ok/, `${lines[index]}: ${answer}`);
    }
  }

  /** The numbers and words of `stat PATH`. */
  async stat(path: string): Promise<Stat> {
    const answer = await this.do(`stat ${path}`);
    assert.match(answer, /^ok/, `stat ${path}: ${answer}`);
    return parseStat(answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 2000);
    await Promise.race([this.#exit, new Promise((resolve) => setTimeout(resolve, 5000).unref())]);
    clearTimeout(timer);
  }

  #take(chunk: Buffer): void {
    if (!chunk.includes(10)) {
      this.#chunks.push(chunk);
      return;
    }
    const text = Buffer.concat([...this.#chunks, chunk]).toString('latin1');
    const lines = text.split('\n');
    const rest = lines.pop() ?? '';
    this.#chunks = rest === '' ? [] : [Buffer.from(rest, 'latin1')];
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    const waiting = this.#waiting[0];
    if (!waiting) return;
    if (waiting.tree && (this.#lines.length > 0 || line === 'ok') && line !== '') {
      this.#lines.push(line);
      return;
    }
    this.#waiting.shift();
    waiting.settle(waiting.tree && line === '' ? this.#lines.slice(1).join('\n') : line);
    this.#lines = [];
  }
}

export interface Stat {
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  ino: string;
  dev: string;
  rdev: string;
  blocks: number;
  blksize: number;
  /** SEC.NNNNNNNNN */
  atime: string;
  mtime: string;
  ctime: string;
}

/** What an answer to `stat` says. */
export function parseStat(answer: string): Stat {
  const fields = new Map(answer.split(' ').map((pair) => pair.split('=') as [string, string]));
  const text = (key: string) => fields.get(key) ?? '';
  return {
    mode: Number.parseInt(text('mode'), 8),
    nlink: Number(text('nlink')),
    uid: Number(text('uid')),
    gid: Number(text('gid')),
    size: Number(text('size')),
    ino: text('ino'),
    dev: text('dev'),
    rdev: text('rdev'),
    blocks: Number(text('blocks')),
    blksize: Number(text('blksize')),
    atime: text('atime'),
    mtime: text('mtime'),
    ctime: text('ctime'),
  };
}
