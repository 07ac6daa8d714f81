/** The `config` of a repository, and what of it matters to whoever reads objects. */
import { SessionError } from '../errors.ts';
import type { ByteString, Native } from '../native.ts';
import { isNone, ReadError, unreadable } from './failures.ts';
import { FormatError } from './gvariant.ts';
import { booleanOf, parseKeyFile, type KeyFile } from './keyfile.ts';
import { readAll } from './read-file.ts';

const MODES = ['bare', 'bare-user', 'bare-user-only', 'archive', 'bare-split-xattrs'] as const;
export type Mode = (typeof MODES)[number];

const MAX_CONFIG = 1024 * 1024;
const O_RDONLY = 0;
const O_NONBLOCK = 0o4000;
const O_NOFOLLOW = 0o400000;

export interface Settings {
  mode: Mode;
  disableXattrs: boolean;
  /** The path of the parent repository. */
  parent: ByteString | undefined;
  /** What messages call the repository. */
  label: string;
}

/** The `config` of a repository. @throws SessionError when there is none, or nothing that is one. */
export function readConfig(native: Native, fd: number, label: string): KeyFile {
  return configured(native, fd, label, (config) => config);
}

/** @throws SessionError as `readConfig`. */
export function settingsOf(native: Native, fd: number, label: string): Settings {
  return configured(native, fd, label, (config) => ({ ...settingsIn(config), label }));
}

/** @throws SessionError unless `config` is one of a repository that can be read. */
function configured<T>(native: Native, fd: number, label: string, use: (config: KeyFile) => T): T {
  const file = native.openBeneath(fd, 'config', O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
  if (isNone(file)) {
    throw new SessionError(`${label} is not an OSTree repository: it has no config file`);
  }
  if (file < 0) throw unreadable(label, 'config', file);
  try {
    return use(parseKeyFile(readAll(native, file, MAX_CONFIG).toString()));
  } catch (error) {
    if (error instanceof ReadError) throw unreadable(label, 'config', error.result);
    if (!(error instanceof FormatError)) throw error;
    throw new SessionError(
      `${label} is not a repository this can read: its config: ${error.message}`,
    );
  } finally {
    native.close(file);
  }
}

function settingsIn(config: KeyFile): Omit<Settings, 'label'> {
  const core = config.get('core') ?? new Map<string, string>();
  const version = core.get('repo_version');
  if (version !== '1') {
    throw new FormatError(
      version === undefined ? 'repo_version is missing' : `repo_version is ${version}, not 1`,
    );
  }
  if (booleanOf(core.get('archive') ?? 'false')) {
    throw new FormatError('archive=true is a format that OSTree gave up long ago');
  }
  const written = core.get('mode') ?? 'bare';
  const mode = MODES.find((each) => each === (written === 'archive-z2' ? 'archive' : written));
  if (mode === undefined) {
    throw new FormatError(`mode '${written}' is none of ${MODES.join(', ')}`);
  }
  const parent = core.get('parent');
  if (parent !== undefined && !parent.startsWith('/')) {
    throw new FormatError(`parent '${parent}' is not an absolute path`);
  }
  return {
    mode,
    disableXattrs: booleanOf(core.get('disable-xattrs') ?? 'false'),
    parent: parent === undefined ? undefined : Buffer.from(parent).toString('latin1'),
  };
}
