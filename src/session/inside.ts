/** What a command finds around it in a session that only it sees: the runner's operations, and its environment. */
import { existsSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import type { IdMaps } from '../layers/ids.ts';
import { hostPath } from './checks.ts';
import type { ByteString } from '../native.ts';

/** One operation of the runner: its kind and its words, text or the bytes of a path. See native/runner-operations.cc. */
export type Operation = (string | Buffer)[];

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
const DEVICE_LINKS = [
  ['/dev/ptmx', 'pts/ptmx'],
  ['/dev/fd', '/proc/self/fd'],
  ['/dev/stdin', '/proc/self/fd/0'],
  ['/dev/stdout', '/proc/self/fd/1'],
  ['/dev/stderr', '/proc/self/fd/2'],
];
/** The group that terminals belong to, on every distribution. */
const TTY_GROUP = 5;
const RESOLVER = '/etc/resolv.conf';
/** Where systemd-resolved has a file that /etc/resolv.conf is then a link to. */
const RESOLVERS = ['/run/systemd', '/run/systemd/resolve'];
/** Of the host's environment, what means nothing in another root. */
const FOREIGN =
  /^(TMPDIR|TEMP|TMP|XDG_.*|LD_.*|DBUS_.*|SSH_.*|GPG_.*|DISPLAY|XAUTHORITY|WAYLAND_.*|NODE_.*|MAIL|OLDPWD|PWD|SHELL)$/;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Everything stays where it is; only processes are the session's own. */
export function inPlace(cwd: string): Operation[] {
  return [
    ['new', 'proc', '/proc', ''],
    ['cd', cwd],
  ];
}

/**
 * The session is the root, and what an operating system needs beside its files is there as in a container.
 *
 * @param root  The session's mountpoint.
 * @param files  To be made in /run: paths and contents.
 */
export function inRoot(
  root: ByteString,
  ids: IdMaps | undefined,
  files: [string, string][],
): Operation[] {
  const hasTtyGroup =
    ids === undefined || ids.gids.some(({ inside, count }) => TTY_GROUP - inside < count);
  const terminals = `ptmxmode=0666,mode=0620${hasTtyGroup ? `,gid=${TTY_GROUP}` : ''}`;
  const own = terminalPath();
  return [
    ['new', 'proc', '/proc', ''],
    ['tree', '/sys', '/sys', 'ro'],
    ['new', 'tmpfs', '/dev', 'mode=0755'],
    ...DEVICES.map((name) => ['tree', `/dev/${name}`, `/dev/${name}`, 'rw']),
    ['new', 'devpts', '/dev/pts', terminals],
    ['new', 'tmpfs', '/dev/shm', 'mode=1777'],
    ...(own === undefined ? [] : [['tree', own, '/dev/console', 'rw']]),
    ['new', 'tmpfs', '/run', 'mode=0755'],
    ...DEVICE_LINKS.map(([path = '', target = '']) => ['link', path, target]),
    ...resolver(),
    ...files.map(([path, content]) => ['file', path, content]),
    ['root', hostPath(root)],
    ['cd', '/'],
  ];
}

/** Names are resolved as outside. */
function resolver(): Operation[] {
  if (!existsSync(RESOLVER)) return [];
  const content = readFileSync(RESOLVER, 'utf8');
  return [
    ...RESOLVERS.map((path) => ['dir', path]),
    ['file', '/run/systemd/resolve/stub-resolv.conf', content],
    ['file', '/run/systemd/resolve/resolv.conf', content],
    ['offer', realpathSync(RESOLVER), RESOLVER],
  ];
}

/** The terminal that a program asks ttyname(3) for: one of the host, which another /dev/pts does not have. */
function terminalPath(): string | undefined {
  try {
    const path = readlinkSync('/proc/self/fd/0');
    return /^\/dev\/(pts\/\d+|tty\w*|console)$/.test(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** What the command's environment has of ours. */
export function environment(isRoot: boolean): NodeJS.ProcessEnv {
  const outside = Object.entries(process.env).filter(([key]) => !isRoot || !FOREIGN.test(key));
  return {
    ...Object.fromEntries(outside),
    ...(isRoot && { HOME: '/root', USER: 'root', LOGNAME: 'root', PATH }),
  };
}

/** What it has beside that; the session's name is for scripts and prompts. */
export function additions(name: string, env: Record<string, string>): Operation[] {
  return Object.entries({ OSTREE_TS_SESSION: name, ...env }).map(([key, value]) => [
    'set',
    `${key}=${value}`,
  ]);
}
