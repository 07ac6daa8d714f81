/**
 * What a session's folder says about it: `record.json`, written by the launcher before anything starts, and `state`,
 * written by the keeper whenever something changes. Both are only read here as claims; `status` looks at the world.
 */
import { readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteString } from '../native.ts';
import type { UnlockedState } from '../ostree/deployment-state.ts';
import { type ProcessId, self } from './processes.ts';

/** How far a session is kept from the rest of the system. */
export type Seclusion = 'mounts' | 'users' | undefined;

/** The booted deployment, when it is what a session unlocks. */
export interface DeploymentRecord {
  /** Of its sysroot, and of its root directory. */
  sysroot: string;
  path: string;
  checksum: string;
  serial: number;
  state: UnlockedState;
}

/** Options that are as `unlock` was given them, and that a session has again when it is brought back. */
export interface SessionSettings {
  history?: number;
  verify?: boolean;
  allowPartial?: boolean;
  mountOptions?: readonly string[];
  suid?: boolean;
  dev?: boolean;
}

/** Written once. Paths are byte strings. */
export interface SessionRecord {
  version: 1;
  name: string;
  /** Directories, topmost first; of a commit, the revision as typed. */
  source: ByteString[];
  /** Of a commit: where it is from, and its checksum. */
  repo?: ByteString;
  commit?: string;
  mountpoint: ByteString;
  mode: 'directory' | 'commit';
  /** `memory`, `tmpfs`, or the path of the directory that the changes are in. */
  upper: ByteString;
  /** Changes of attributes copy no data into it. */
  metacopy?: true;
  /** That directory is the upper itself, is somebody else's, and nothing is kept of the session when it ends. */
  isForeign?: boolean;
  /** Nobody may change anything, and why: there is nowhere to keep it, or its upper has an index that would not stay true. */
  readonlyFor?: 'no-upper' | 'index';
  /** `cached` when left out. */
  io?: 'passthrough';
  /** `kernel` when left out. */
  transport?: 'kernel' | 'fuse-native';
  links: 'shared' | 'separate';
  /** It is seen in a mount namespace of its own only, which may be in a user namespace of its own. */
  seclusion?: Exclude<Seclusion, undefined>;
  deployment?: DeploymentRecord;
  /** The SELinux label of the mount. */
  context?: string;
  /** Absent in records of versions before it was. */
  settings?: SessionSettings;
  limitBytes: number;
  /** ISO 8601, UTC. */
  started: string;
  launcher: ProcessId;
  /** The boot that all process ids are of. */
  boot: string;
  /** Their namespace, as /proc/PID/ns/pid names it. Absent in records of versions before it was. */
  pidNamespace?: string;
}

/** What only the keeper knows. */
export interface SessionState {
  keeper: ProcessId;
  daemon: ProcessId;
  /** `major:minor` of the mounted filesystem; `0:0` before it is mounted. */
  device: string;
  mountId: number;
  phase: 'starting' | 'serving' | 'detached';
  /** How the daemon ended, when it should not have, or when what it held was to be kept. */
  ended?: { how: 'signal' | 'exit' | 'kept'; code: number; time: Date };
}

/** Changes at each boot of the machine. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** What a record says of the processes that it names, when this one is among them. */
export function ownProcesses(): Pick<SessionRecord, 'launcher' | 'boot' | 'pidNamespace'> {
  const namespace = pidNamespace();
  return {
    launcher: self(),
    boot: bootId(),
    ...(namespace !== undefined && { pidNamespace: namespace }),
  };
}

function pidNamespace(): string | undefined {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return undefined;
  }
}

/** Whether the ids of its processes mean others here. */
export function isOfOtherProcesses(record: SessionRecord | undefined): boolean {
  return record?.pidNamespace !== undefined && record.pidNamespace !== pidNamespace();
}

const RECORD = 'record.json';
const STATE = 'state';

export function writeRecord(folder: string, record: SessionRecord): void {
  const path = join(folder, RECORD);
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** `undefined` when there is none, or one that makes no sense. */
export function readRecord(folder: string): SessionRecord | undefined {
  let value: Partial<Record<keyof SessionRecord, unknown>>;
  try {
    value = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as typeof value;
  } catch {
    return undefined;
  }
  const launcher = value?.launcher as Partial<ProcessId> | undefined;
  const isSound =
    typeof value?.name === 'string' &&
    Array.isArray(value.source) &&
    value.source.every((path) => typeof path === 'string') &&
    typeof value.mountpoint === 'string' &&
    value.mountpoint.startsWith('/') &&
    typeof value.upper === 'string' &&
    typeof value.limitBytes === 'number' &&
    typeof value.started === 'string' &&
    typeof value.boot === 'string' &&
    typeof launcher?.pid === 'number' &&
    typeof launcher.start === 'number';
  return isSound ? (value as SessionRecord) : undefined;
}

/** `undefined` when there is none, or one that makes no sense. */
export function readState(folder: string): SessionState | undefined {
  let text: string;
  try {
    text = readFileSync(join(folder, STATE), 'latin1');
  } catch {
    return undefined;
  }
  const values = new Map(
    text.split('\n').map((line) => {
      const [key = '', ...rest] = line.split(' ');
      return [key, rest] as const;
    }),
  );
  const keeper = processId(values.get('keeper'));
  const daemon = processId(values.get('daemon'));
  const device = values.get('device')?.[0] ?? '';
  const phase = values.get('phase')?.[0];
  if (keeper === undefined || daemon === undefined || !/^\d+:\d+$/.test(device)) return undefined;
  if (phase !== 'starting' && phase !== 'serving' && phase !== 'detached') return undefined;
  const [how, code, time] = values.get('ended') ?? [];
  const mountId = Number(values.get('mount')?.[0] ?? -1);
  return {
    keeper,
    daemon,
    device,
    mountId,
    phase,
    ...((how === 'signal' || how === 'exit' || how === 'kept') && {
      ended: { how, code: Number(code), time: new Date(Number(time) * 1000) },
    }),
  };
}

function processId(values: string[] | undefined): ProcessId | undefined {
  const [pid, start] = (values ?? []).map(Number);
  if (pid === undefined || start === undefined || !Number.isSafeInteger(pid)) return undefined;
  return { pid, start };
}
