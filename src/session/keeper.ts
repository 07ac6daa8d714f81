/** Starts keepers, which mount sessions and start their daemons, and hears whether they succeed. */
import type { ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SessionError, UNUSABLE_UPPER } from '../errors.ts';
import { programPath } from '../built.ts';
import { type ByteString, native } from '../native.ts';
import { type HostPath, hostPath, openPlace, type Places, shown } from './checks.ts';
import type { DaemonOptions } from './daemon-options.ts';
import { HOTFIX_NAMES } from './deployment-folder.ts';
import { daemonCommand, socketOf, spawnKeeper, takeKeeper } from './keeper-process.ts';
import type { Secluded } from './launcher.ts';
import type { UnlockOptions } from './options.ts';
import { flagArguments } from './mount-flags.ts';
import type { SessionRecord } from './record.ts';
import type { Store } from './store.ts';
import { findScope, type Scope } from './systemd.ts';
import { keepsInFolder, ownUpper } from './upper.ts';
import { writeIdMaps } from './user-ids.ts';

const UPPER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** More than the keeper allows the daemon and the mount together, so that its reason arrives. */
const START_MS = 90_000;
/** The verdict of a keeper that never ran. */
const SILENT = 'the keeper ended without a word';
/** For the keeper to undo what it has done. */
const UNDO_MS = 10_000;

/**
 * KiB that the kernel reads ahead, for root: the default of 128 has a long read ask eight times for a mebibyte, and each time
 * is a round trip. With 512 it takes three quarters of the time; more would have a fault in a mapped file copy too much.
 */
const READ_AHEAD_KB = 512;

/** A session to be started. */
interface Start {
  folder: string;
  record: SessionRecord;
  places: Places;
  programs: { keeper: string; mounter: string };
  options: UnlockOptions;
  store: Store | undefined;
  /** Of an upper that is not ours. */
  workdir: ByteString | undefined;
  /** Its upper was left by a daemon that died. */
  isLeft: boolean;
  /** Another path of the upper's directory, by which it is writable. */
  upperPath: string | undefined;
  /** Of the upper's directory, when it is open already, and locked. */
  upperFd: number | undefined;
  secluded: Secluded | undefined;
}

/** @throws SessionError it was not built, and none fits. */
export function findKeeper(): string {
  try {
    return programPath('keeper');
  } catch (error) {
    throw new SessionError((error as Error).message, 'install the package again', { cause: error });
  }
}

/** Starts the keeper and waits for its verdict. @returns the keeper, when the session is tied to this process. */
export async function start(given: Start): Promise<ChildProcess | undefined> {
  const { folder, record, places, options, store, secluded, workdir } = given;
  const toClose: number[] = [];
  const opened = (fd: number) => {
    toClose.push(fd);
    return fd;
  };
  try {
    const logFlags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT;
    const lowers = store?.fds ?? places.sources.map((source) => opened(openPlace(source)));
    const log = opened(openSync(`${folder}/log`, logFlags, 0o600));
    const upperPath = given.upperPath ?? upperPathOf(folder, record);
    const openUpper = (path: HostPath) => opened(openSync(path, UPPER_FLAGS));
    const upper = [
      ...(upperPath === undefined ? [] : [given.upperFd ?? openUpper(upperPath)]),
      ...(workdir === undefined ? [] : [openUpper(hostPath(workdir))]),
    ];
    const args = [
      ...upperArguments(given),
      ...secludedArguments(secluded, places),
      ...keeperArguments(given, lowers.length),
    ];
    // The keeper says which is which.
    const fds = [
      log,
      opened(openPlace(Buffer.from(folder).toString('latin1'))),
      opened(openPlace(Buffer.from(dirname(folder)).toString('latin1'))),
      opened(openPlace(places.mountpoint)),
      ...lowers,
      ...upper,
    ];
    const isTied = options.foreground === true || secluded !== undefined;
    const scope = isTied ? undefined : findScope(record.name);
    const command = [given.programs.keeper, ...args];
    let keeper = earlyKeeper(given, args, fds) ?? newKeeper(command, fds, scope);
    let verdict = await outcome(keeper, secluded);
    if (scope !== undefined && verdict === SILENT) {
      options.onWarning?.(
        'systemd-run could not make a unit for the session, which ends with the login session or service that it is started from',
      );
      keeper = newKeeper(command, fds, undefined);
      verdict = await outcome(keeper, secluded);
    }
    if (verdict === 'up') {
      if (options.foreground === true) return keeper;
      keeper.unref();
      socketOf(keeper).destroy();
      return undefined;
    }
    const lines = readFileSync(`/proc/self/fd/${log}`, 'utf8').trimEnd().split('\n');
    throw startError(record, verdict, lines);
  } finally {
    for (const fd of toClose) closeSync(fd);
  }
}

function newKeeper(
  [program = '', ...args]: string[],
  [log = -1, ...given]: number[],
  scope: Scope | undefined,
): ChildProcess {
  const command = [
    ...(scope === undefined ? [] : [scope.program, ...scope.args]),
    program,
    ...args,
  ];
  return spawnKeeper(command, ['ignore', log, log, 'pipe', ...given], scope?.env);
}

/** As keepers take them that are told by messages. */
const DESCRIPTORS_MAX = 250;
const BYTES_MAX = 60_000;

/** The keeper that was begun before, told for what it is; `undefined` when it does not fit: others have more to do before their daemon. */
function earlyKeeper(
  { record, options, secluded }: Start,
  args: string[],
  fds: number[],
): ChildProcess | undefined {
  const isFitting = secluded !== undefined && record.upper === 'memory';
  if (!isFitting || options.transport === 'fuse-native') return undefined;
  const text = Buffer.from(args.map((arg) => `${arg}\0`).join(''));
  if (fds.length > DESCRIPTORS_MAX || text.length > BYTES_MAX) return undefined;
  const early = takeKeeper();
  if (early === undefined) return undefined;
  const header = new Uint8Array(Uint32Array.of(fds.length, text.length).buffer);
  const isTold =
    native.sendMessage(early.fd, header, -1) >= 0 &&
    fds.every((fd) => native.sendMessage(early.fd, Uint8Array.of(0), fd) >= 0) &&
    native.sendMessage(early.fd, text, -1) >= 0;
  if (isTold) return early.process;
  socketOf(early.process).destroy();
  return undefined;
}

/** Of a directory that is there already, whose descriptor is handed on. */
function upperPathOf(folder: string, { upper }: SessionRecord): HostPath | undefined {
  if (keepsInFolder(upper)) return ownUpper(folder);
  return upper === 'memory' || upper === 'tmpfs' ? undefined : hostPath(upper);
}

function upperArguments({ record, isLeft, workdir }: Start): string[] {
  const { upper, limitBytes } = record;
  if (upper === 'memory') return [];
  const isMount = upper === 'tmpfs' && !keepsInFolder(upper);
  const kind = isMount ? `--tmpfs=${limitBytes}` : '--upper';
  if (workdir !== undefined) return [kind, '--work'];
  return isLeft ? [kind, '--attach'] : [kind];
}

function secludedArguments(secluded: Secluded | undefined, { covered }: Places): string[] {
  if (secluded === undefined) return [];
  return [
    '--private',
    ...(secluded.ids === undefined ? [] : ['--user']),
    ...(secluded.join === undefined ? [] : [`--join=${secluded.join}`]),
    ...(secluded.keep ? ['--keep'] : []),
    // A path that is no text cannot be an argument: what is there is not seen.
    ...covered.map((path) => `--below=${shown(path)}`),
  ];
}

function keeperArguments(
  { record, options, store, secluded, workdir, programs: { mounter } }: Start,
  lowers: number,
): string[] {
  const { upper, presentation, mountOptions = [] } = options;
  const isVolatile = typeof upper === 'object' && 'isVolatile' in upper && upper.isVolatile;
  const { bits, text } = flagArguments([
    ...(record.readonlyFor === undefined ? [] : ['ro']),
    ...mountOptions,
    ...(options.suid === false ? ['nosuid'] : []),
    ...(options.dev === false ? ['nodev'] : []),
  ]);
  const daemon: DaemonOptions = {
    name: record.name,
    lowers,
    ...(record.isForeign === true && { hasAufsWhiteouts: true }),
    ...(store !== undefined && { commit: store.source }),
    links: record.links,
    limitBytes: record.limitBytes,
    ...(record.upper !== 'memory' && {
      upper: record.upper === 'tmpfs' ? 'tmpfs' : isVolatile ? 'volatile' : 'disk',
    }),
    io: record.io ?? 'cached',
    ...(record.metacopy === true && { metacopy: true }),
    ...(record.deployment?.state === 'hotfix' && {
      upperNames: HOTFIX_NAMES,
      withoutRedirects: true,
    }),
    // Engines read the upper by themselves, and know none.
    ...(workdir !== undefined && { hasWork: true, withoutRedirects: true }),
    ...(presentation !== undefined && { presentation }),
    ...(options.history !== undefined && { historyEntries: options.history }),
    readonly: record.readonlyFor !== undefined,
    // Engines wait for their mounts, as commands do, and who mounts a commit may want one file of it.
    rehearses:
      process.env['OSTREE_TS_COLD'] === '1'
        ? 'never'
        : secluded === undefined && store === undefined && record.isForeign !== true
          ? 'before'
          : 'idle',
    ...(secluded?.ids !== undefined && { ids: secluded.ids }),
    isolated: process.getuid?.() === 0 && options.transport !== 'fuse-native',
    ...(options.transport === 'fuse-native' && {
      libfuse: {
        mountpoint: shown(record.mountpoint),
        suid: mounter === '' && options.suid !== false,
        dev: mounter === '' && options.dev !== false,
      },
    }),
  };
  return [
    `--name=${record.name}`,
    `--fusermount=${mounter}`,
    `--lowers=${lowers}`,
    ...(options.foreground === true ? ['--foreground'] : []),
    ...(options.transport === 'fuse-native' ? ['--daemon-mounts'] : []),
    ...(record.deployment?.state === 'transient' ? ['--transient'] : []),
    ...(record.context === undefined ? [] : [`--context=${record.context}`]),
    `--flags=${bits}`,
    `--options=${text}`,
    `--read-ahead=${READ_AHEAD_KB}`,
    '--',
    ...daemonCommand(),
    JSON.stringify(daemon),
  ];
}

/** `up`, or why not. */
function outcome(keeper: ChildProcess, secluded: Secluded | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = socketOf(keeper);
    let timer = setTimeout(() => {
      text = 'failed it takes too long\n';
      keeper.kill('SIGTERM');
      timer = setTimeout(() => {
        keeper.kill('SIGKILL');
        settle();
      }, UNDO_MS);
    }, START_MS);
    const settle = () => {
      clearTimeout(timer);
      const [first = ''] = text.split('\n');
      if (first === 'up') resolve('up');
      else resolve(first === '' ? SILENT : first.replace('failed ', ''));
    };
    keeper.on('error', (error) => {
      clearTimeout(timer);
      reject(
        new SessionError(`cannot run the keeper: ${error.message}`, 'install the package again', {
          cause: error,
        }),
      );
    });
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      if (text === 'map\n' && keeper.pid !== undefined && secluded?.ids !== undefined) {
        text = '';
        try {
          writeIdMaps(keeper.pid, secluded.ids);
          socket.write('\n');
        } catch (error) {
          keeper.kill('SIGKILL');
          clearTimeout(timer);
          reject(error);
        }
      }
      if (text === 'up\n') settle();
    });
    socket.on('error', settle);
    socket.on('close', settle);
  });
}

/** Why there is no session, from what the keeper or the daemon has said of it. */
function startError({ upper }: SessionRecord, verdict: string, log: string[]): SessionError {
  const at = verdict.indexOf(UNUSABLE_UPPER);
  if (at === -1) {
    return new SessionError(`cannot start the session: ${verdict}`, remedyFor(verdict, log));
  }
  const place = upper === 'tmpfs' ? 'the tmpfs' : `the directory ${shown(upper)}`;
  return new SessionError(
    `${place} for changes cannot be used: ${verdict.slice(at + UNUSABLE_UPPER.length)}`,
    'name an empty directory on ext4, xfs, btrfs or tmpfs, or mend what is damaged',
  );
}

/** The last words in the log, when they say more than the verdict. Where an error was is for who reads all of it. */
function remedyFor(verdict: string, log: string[]): string {
  const last = log.findLast((line) => !/^(?: +at .*)?$/.test(line) && !line.includes(verdict));
  return last === undefined
    ? 'see what is allowed here: ostree-ts doctor'
    : `the log says: ${last}`;
}
