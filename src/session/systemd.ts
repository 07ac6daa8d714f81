/** What systemd is told and asked for, where it runs. Nothing needs it. */
import { existsSync, readFileSync } from 'node:fs';
import { native } from '../native.ts';

/** There where systemd is process 1. */
const BOOTED = '/run/systemd/system';
const SYSTEMD_RUN = ['/usr/bin/systemd-run', '/bin/systemd-run'];
/** Sessions that are units of their own already. */
const OUR_UNIT = /^ostree-ts[@-]/;
/** What `systemd-run` and the library of the bus look at. */
const BUS_VARIABLES = ['XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS', 'DBUS_SYSTEM_BUS_ADDRESS'];

/** A command that runs another in a scope. */
export interface Scope {
  program: string;
  /** What comes before the other. */
  args: string[];
  env: Record<string, string>;
}

/**
 * A unit of its own for what outlives this command: a login session, or the service that it was started from, takes all of
 * its processes with it when it ends.
 *
 * @returns nothing where systemd does not run, or this is a session's unit already.
 */
export function findScope(name: string): Scope | undefined {
  const program = SYSTEMD_RUN.find((path) => existsSync(path));
  if (program === undefined || !existsSync(BOOTED)) return undefined;
  if (OUR_UNIT.test(unitOf(readFileSync('/proc/self/cgroup', 'utf8')))) return undefined;
  const isRoot = process.getuid?.() === 0;
  const env = BUS_VARIABLES.flatMap((key) => {
    const value = process.env[key];
    return value === undefined ? [] : [[key, value] as const];
  });
  return { program, args: scopeArguments(name, isRoot), env: Object.fromEntries(env) };
}

/** The last unit in the text of /proc/PID/cgroup; '' without systemd. */
export function unitOf(cgroups: string): string {
  const line = cgroups.split('\n').find((each) => /^(0:|\d+:name=systemd):/.test(each)) ?? '';
  return line.split('/').findLast((part) => /\.(scope|service)$/.test(part)) ?? '';
}

/**
 * The scope ends when services have ended that may run from the session, and before file systems are unmounted, with
 * which process 1 comes to need its own program again.
 */
export function scopeArguments(name: string, isRoot: boolean): string[] {
  return [
    ...(isRoot ? [] : ['--user']),
    '--scope',
    '--quiet',
    '--collect',
    `--unit=ostree-ts-${name}`,
    `--description=ostree-ts: session ${name}`,
    '--property=TimeoutStopSec=15',
    ...(isRoot
      ? [
          '--property=DefaultDependencies=no',
          '--property=Before=basic.target umount.target',
          '--property=Conflicts=umount.target',
        ]
      : []),
    '--',
  ];
}

/**
 * Tells the service manager how this process is, as sd_notify(3); nothing where there is none that asked.
 *
 * @param state  such as `{ READY: '1', STATUS: 'text' }`.
 * @returns whether it has heard, or nobody wants to.
 */
export function notifyManager(state: Readonly<Record<string, string>>): boolean {
  const to = process.env['NOTIFY_SOCKET'];
  if (to === undefined || to === '') return true;
  const lines = Object.entries(state).map(
    ([key, value]) => `${key}=${value.replaceAll('\n', ' ')}`,
  );
  return native.sendDatagram(Buffer.from(to).toString('latin1'), Buffer.from(lines.join('\n'))) > 0;
}
