/** What `unlock` may be asked for. */
import type { IoMode } from '../fuse/negotiate.ts';
import type { Presentation } from '../overlay/presentation.ts';
import type { HostPath } from './checks.ts';
import type { OverlayDirs } from './overlay-dirs.ts';
import type { UpperOption } from './upper.ts';

export type { HostPath, OverlayDirs, UpperOption };

export interface UnlockOptions {
  /**
   * The directories to show, topmost first; with `repo`, one ref, commit or beginning of a commit. None: a session that is
   * to be brought back by its name, or else the booted deployment of an OSTree host, over /usr.
   */
  source: HostPath[];
  /** An OSTree repository: the session shows a commit of it. */
  repo?: HostPath;
  /** With `repo`: check the contents of files of bare repositories too, when they are opened. */
  verify?: boolean;
  /** With `repo`: take a commit of which objects are missing; what needs them fails with EIO. */
  allowPartial?: boolean;
  /** Where to mount; the source itself (in place) when there is one source and this is left out. */
  mountpoint?: HostPath;
  /** How much the session may hold: `50%` (of RAM or the memory cgroup; the default), or bytes as `512M`, `2G`. */
  size?: string;
  /**
   * Where changes are kept: in memory (the default), on a tmpfs of their own, or in a directory, which outlives the session
   * and the machine. A session on the latter two whose daemon has died is brought back by its name. Or in directories that
   * are not ours, of which nothing is remembered.
   */
  upper?: UpperOption | OverlayDirs;
  /** The session is read-only and keeps no changes; without `upper`. */
  readonly?: boolean;
  /** How files are shown otherwise than they are kept. */
  presentation?: Presentation;
  /** Options that every filesystem has, as mount(8) calls them: `ro`, `noexec`, `noatime`; `suid` and `dev` are apart. */
  mountOptions?: readonly string[];
  /**
   * With a tmpfs or a directory, for root: changes of a file's attributes alone copy no data. Kernel overlayfs shows such changes
   * when it is mounted with metacopy=on only.
   */
  metacopy?: boolean;
  /** With a directory: take the changes in it for this source, though they were made over another. */
  force?: boolean;
  /**
   * Changes of which it is remembered who made them, for `Session.diff` with `by`: 16384 when left out, 0 to 1000000, 68
   * bytes each. Not known with fuse-native.
   */
  history?: number;
  /** The session's name: the mountpoint's last component when left out, with a number when taken. */
  name?: string;
  /**
   * Hard links of the source: links that stay links, or a file of its own for each name. Default: `separate` for commits
   * and in deployments, otherwise `shared`; needed where files look like a repository's objects.
   */
  links?: 'shared' | 'separate';
  /**
   * Who moves the bytes of files: the daemon, for the kernel's cache (the default), or the kernel by itself, which is faster for
   * large files and slower for many small ones. For root, over directories, with an upper on a tmpfs or in a directory. Who reads
   * a file while another begins to change it goes on with what it was.
   */
  io?: IoMode;
  /**
   * Who speaks with the kernel: ostree-ts itself (the default), or the package `fuse-native`, if it is installed, where
   * that is not possible. The latter is slower, is for its owner alone, and lacks what libfuse 2 cannot say.
   */
  transport?: 'kernel' | 'fuse-native';
  /** Ties the session to this process: it ends when this process does. See `Session.ended`. */
  foreground?: boolean;
  /** Of the booted deployment: keep the changes in it, for all boots to come, and have a rollback deployment made. */
  hotfix?: boolean;
  /** Of the booted deployment: read-only, until a process remounts /usr in a mount namespace of its own. */
  transient?: boolean;
  /** Where the booted deployment is to be found (default: the host's sysroot). */
  sysroot?: HostPath;
  /** The SELinux label of all files of the session. Needed for /usr of a host that enforces. */
  context?: string;
  /** Honour setuid bits (default true for root; never for others). */
  suid?: boolean;
  /** Honour device nodes (default true for root; never for others). */
  dev?: boolean;
  /** Told of everything that deserves a word but does not stop the session, one line each. */
  onWarning?: (message: string) => void;
}
