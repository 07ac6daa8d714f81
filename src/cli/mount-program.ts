/**
 * Mounting as mount(8) asks its helpers to, and as container engines ask fuse-overlayfs to. It is `unlock` of the library
 * with the options of overlayfs, over an upper that belongs to the caller.
 */
import { UsageError } from '../errors.ts';
import type { UnlockOptions } from '../index.ts';
import { hostPath } from './bytes.ts';
import { EXIT, explainError, version } from './failure.ts';
import { type MountWords, parseMountOptions } from './mount-options.ts';
import { displayText } from './output.ts';
import { load } from './startup.ts';

const HELP = `Usage: ostree-ts-mount -o OPTION[,OPTION...] MOUNTPOINT
       mount -t fuse.ostree-ts -o OPTION[,OPTION...] none MOUNTPOINT
       mount -o remount,ro MOUNTPOINT

Shows lowerdirs with upperdir on top of them at MOUNTPOINT, until it is unmounted. All that is changed is kept in upperdir,
in the format of kernel overlayfs, without redirects. Without upperdir the mount is read-only.

Options:
  lowerdir=A[:B...]        what is shown, topmost first; \\: is a colon, \\, a comma and \\\\ a backslash in a name
  upperdir=DIR             where changes are kept
  workdir=DIR              on the filesystem of upperdir; what is in DIR/work is removed
  volatile                 sync nothing: after a crash of the machine upperdir may be damaged
  noacl                    no POSIX ACLs, to be seen or set
  uidmapping=KEPT:SHOWN:COUNT[:...], gidmapping=...
                           users and groups of files are shown under other numbers
  squash_to_root           everything belongs to root
  squash_to_uid=UID, squash_to_gid=GID
                           everything belongs to this user, this group
  static_nlink             directories have one link
  xattr_permissions=1|2    owner and mode are kept in security.fuseoverlayfs.override_stat (1)
                           or user.containers.override_stat (2)
  context=LABEL            SELinux label of all files
  ro, nosuid, nodev, noexec, noatime, ... and their opposites, as mount(8) has them

  -f, --foreground         (ostree-ts-mount) stay, and unmount at the end of this program
  -h, --help; -V, --version

'ostree-ts status' lists these mounts, 'umount MOUNTPOINT' or 'ostree-ts lock MOUNTPOINT' ends them.

Exit codes: 0 done, 1 refused or failed, 2 called wrongly.`;

interface Streams {
  out: (line: string) => void;
  err: (line: string) => void;
}

/** Whether the main command was called as a mount helper: /sbin/mount.fuse runs it as `ostree-ts SOURCE MOUNTPOINT -o ...`. */
export function isMountForm(args: readonly string[]): boolean {
  return args.length === 4 && args[2] === '-o';
}

/** What was typed. */
interface Call {
  mountpoint: string;
  options: string;
  foreground: boolean;
  /** Everything is checked, and nothing done: `-f` of mount(8). */
  isFake: boolean;
}

/**
 * Runs one command line.
 *
 * @param kind  A `helper` of mount(8) is called SOURCE MOUNTPOINT, a `program` only MOUNTPOINT.
 * @returns the exit code.
 */
export async function mount(
  args: string[],
  kind: 'helper' | 'program',
  { out, err }: Streams,
): Promise<number> {
  try {
    if (args.some((arg) => arg === '-h' || arg === '--help')) out(HELP);
    else if (args.some((arg) => arg === '-V' || arg === '--version')) out(`ostree-ts ${version()}`);
    else await start(parseCall(args, kind), err);
    return EXIT.done;
  } catch (error) {
    const { message, remedy, code } = explainError(error);
    err(`ostree-ts: ${displayText(message)}`);
    if (remedy !== undefined) err(remedy);
    return code;
  }
}

function parseCall(args: string[], kind: 'helper' | 'program'): Call {
  const places: string[] = [];
  const options: string[] = [];
  const call: Call = { mountpoint: '', options: '', foreground: false, isFake: false };
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '-o' || (kind === 'helper' && arg === '-t')) {
      const value = args[++i];
      if (value === undefined) throw misused(`${arg} needs a value`);
      if (arg === '-o') options.push(value);
    } else if (arg.startsWith('-o')) options.push(arg.slice(2));
    else if (kind === 'helper' && arg === '-f') call.isFake = true;
    else if (kind === 'program' && (arg === '-f' || arg === '--foreground')) call.foreground = true;
    // Be verbose, write no mtab, tolerate what is unknown: nothing to do, and nothing is tolerated.
    else if (kind === 'helper' && /^-[vns]+$/.test(arg)) continue;
    else if (arg.startsWith('-')) throw misused(`the option ${arg} is not supported`);
    else places.push(arg);
  }
  const wanted = kind === 'helper' ? 2 : 1;
  if (places.length !== wanted) {
    throw misused(kind === 'helper' ? 'name SOURCE and MOUNTPOINT' : 'name one MOUNTPOINT');
  }
  return { ...call, mountpoint: places.at(-1) ?? '', options: options.join(',') };
}

function misused(message: string): UsageError {
  return new UsageError(message, "see 'ostree-ts-mount --help'");
}

async function start(call: Call, err: Streams['err']): Promise<void> {
  const library = await load();
  const isRoot = process.getuid?.() === 0;
  const words = parseMountOptions(call.options, library.isMountFlag, isRoot);
  if (words.isRemount) {
    if (!call.isFake) await library.remount(call.mountpoint, words.generic);
    return;
  }
  const options = unlockOptions(call, words);
  if (call.isFake) return;
  const session = await library.unlock({
    ...options,
    onWarning: (message) => err(`ostree-ts: warning: ${displayText(message)}`),
  });
  if (call.foreground) await session.ended();
}

function unlockOptions({ mountpoint, foreground }: Call, words: MountWords): UnlockOptions {
  const { lowerdir, upperdir, workdir, isVolatile, context, generic, presentation } = words;
  if (lowerdir.length === 0) {
    throw new UsageError('no lowerdir is given', 'say what to show: -o lowerdir=DIR');
  }
  if ((upperdir === undefined) !== (workdir === undefined)) {
    throw new UsageError(
      'upperdir and workdir need each other',
      'give both, or none for a read-only mount',
    );
  }
  return {
    source: lowerdir.map(hostPath),
    mountpoint: hostPath(mountpoint),
    // Names of one file stay what they are in an upper that others read.
    links: 'separate',
    ...(upperdir === undefined || workdir === undefined
      ? { readonly: true }
      : { upper: { upperdir: hostPath(upperdir), workdir: hostPath(workdir), isVolatile } }),
    ...(presentation !== undefined && { presentation }),
    ...(context !== undefined && { context }),
    mountOptions: generic,
    foreground,
  };
}
