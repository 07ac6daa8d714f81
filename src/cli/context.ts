/** What a command may touch. The program hands in the real things; a test passes its own. */
import type {
  ExportResult,
  BootedLockOptions,
  DeploymentStatus,
  Finding,
  ImportOptions,
  ImportResult,
  RepositoryReader,
  LockResult,
  RunOptions,
  Session,
  TreeEntry,
  UnlockOptions,
} from '../index.ts';
import { parseTimestamp } from '../timestamp.ts';
import type { Colour } from './output.ts';

/** A session, as far as commands need it. */
export type AnySession = Pick<
  Session,
  | 'name'
  | 'mountpoint'
  | 'status'
  | 'statistics'
  | 'diff'
  | 'patch'
  | 'commit'
  | 'export'
  | 'undo'
  | 'apply'
  | 'lock'
  | 'ended'
>;

/** The part of the library that commands call. */
export interface Library {
  unlock(options: UnlockOptions): Promise<AnySession>;
  notifyManager(state: Readonly<Record<string, string>>): boolean;
  run(options: RunOptions): Promise<number>;
  listSessions(): Promise<AnySession[]>;
  listDeployments(sysroot?: string): Promise<DeploymentStatus[]>;
  lockBooted(options: BootedLockOptions): Promise<LockResult>;
  findSession(nameOrMountpoint?: string): Promise<AnySession>;
  importImage(options: ImportOptions): Promise<ImportResult>;
  exportWarnings(result: ExportResult): string[];
  doctor(): Promise<Finding[]>;
  openRepository(
    path?: string | Uint8Array,
  ): Promise<Pick<RepositoryReader, 'list' | 'contents' | 'close'>>;
  formatEntry(entry: TreeEntry, options?: { checksum?: boolean }): string;
}

export interface Context {
  /** Loads the library, and with it the addon, which may not fit; `--help` does without. */
  load: () => Promise<Library>;
  /** One line, or several in one string, of data to stdout. */
  out: (line: string) => void;
  /** Bytes of data to stdout, as they are, after the lines before them; resolves when there is room for more. */
  write: (bytes: Uint8Array) => Promise<void>;
  /** One line of words to stderr. */
  err: (line: string) => void;
  /** Colours what goes to stdout, if that is a terminal. */
  paint: (colour: Colour, text: string) => string;
  /** Where the command was typed. */
  cwd: string;
  /** What was typed after `--`, for the command that runs others. */
  command?: string[];
  /** Milliseconds since 1970. */
  now: () => number;
  /** For work that must be undone when it is stopped: aborted by the first SIGINT or SIGTERM from now on. */
  interrupted: () => AbortSignal;
  /** Sets what the process exits with when nothing fails; 0 unless it is called. */
  exitWith: (code: number) => void;
}

/** A warning: with --json an object like everything else, and on stderr like every word. */
export function warn(context: Context, message: string, json: boolean | undefined): void {
  context.err(
    json === true ? JSON.stringify({ warning: message }) : `ostree-ts: warning: ${message}`,
  );
}

/**
 * A fixed time, as an option or SOURCE_DATE_EPOCH gives it; `undefined` when neither does.
 *
 * @throws UsageError it is no number of seconds, or too large.
 */
export function seconds(option: string | undefined): number | undefined {
  const text = option ?? process.env['SOURCE_DATE_EPOCH'];
  return text === undefined ? undefined : parseTimestamp(text);
}
