/** What a daemon is told of its session, by those who start it and to itself. */
import type { MountOptions } from '../fuse/libfuse-mount.ts';
import type { IoMode } from '../fuse/negotiate.ts';
import type { IdMaps } from '../layers/ids.ts';
import type { StoreNames } from '../layers/overlayfs-store.ts';
import type { Presentation } from '../overlay/presentation.ts';

/** The commit of a repository that is shown. */
export interface CommitSource {
  /** Checksums of the root's dirtree and dirmeta. */
  tree: string;
  meta: string;
  /** Check files of bare repositories as well, when they are opened. */
  verify: boolean;
}

/** What the launcher tells, as JSON: in the only argument or, when the daemon was begun before, in a message. */
export interface DaemonOptions {
  name: string;
  /** How many directories, topmost first; with `commit`, its repository and the parents. */
  lowers: number;
  /** In the directories, whiteouts may also be files. */
  hasAufsWhiteouts?: boolean;
  /** What is shown instead of the directories. */
  commit?: CommitSource;
  links: 'shared' | 'separate';
  /** The session is mounted in a user namespace that has these ids. */
  ids?: IdMaps;
  limitBytes: number;
  /** Who moves the bytes of files. */
  io: IoMode;
  /** The upper is a directory, in a folder that is given. */
  upper?: 'tmpfs' | 'volatile' | 'disk';
  /** What the upper and its work directory are called in that folder. */
  upperNames?: StoreNames;
  /** The upper itself is given, and its work directory. */
  hasWork?: true;
  /** It must hold no redirects. */
  withoutRedirects?: true;
  /** Changes of attributes copy no data into it. */
  metacopy?: true;
  /** How files are shown otherwise than they are kept. */
  presentation?: Presentation;
  readonly: boolean;
  /** It says ready only when it is warm, or gets warm a little later, for a command that waits for it, or by real requests. */
  rehearses: 'before' | 'idle' | 'never';
  /** Changes of which it is remembered who made them; the default when left out. */
  historyEntries?: number;
  /** There is a mount namespace of our own to be emptied. */
  isolated: boolean;
  /** This process mounts, through the package fuse-native, and serves on this thread. */
  libfuse?: Omit<MountOptions, 'name'>;
}
