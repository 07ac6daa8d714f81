/** What a thread that is a filesystem is handed by the daemon: open descriptors and decisions, no paths. */
import type { IdMaps } from '../layers/ids.ts';
import type { StoreNames } from '../layers/overlayfs-store.ts';
import type { Presentation } from '../overlay/presentation.ts';
import type { IoMode } from './negotiate.ts';

/** What a lower is made of, out of open directories. */
export type LowerData =
  | {
      kind: 'directory';
      fd: number;
      /** Whiteouts may also be files, `.wh.NAME`. */
      hasAufsWhiteouts: boolean;
    }
  | {
      kind: 'commit';
      /** The repository and its parents, nearest first. */
      fds: number[];
      /** Checksums of the root's dirtree and dirmeta. */
      tree: string;
      meta: string;
      verify: boolean;
    };

/** Where an upper in overlayfs format is. */
export interface UpperData {
  /** Of the directory that holds it and its work directory; with `workFd`, of the upper itself. */
  fd: number;
  /** Of the work directory. */
  workFd?: number;
  /** On disk: it is to be there after a crash of the machine. */
  isDurable: boolean;
  /** What upper and work directory are called there. */
  names?: StoreNames;
  /** Directories of the lowers may be moved in it, by redirects; true when left out. */
  redirects?: boolean;
  /** Changes of attributes copy no data; false when left out. */
  metacopy?: boolean;
  /** It is an ordinary user's. */
  isUsers?: boolean;
}

export interface WorkerData {
  /** Topmost first. */
  lowers: LowerData[];
  links: 'shared' | 'separate';
  /** The session is in a user namespace that has these ids. */
  ids?: IdMaps | undefined;
  /** An empty memfd. */
  arenaFd: number;
  limitBytes: number;
  /** Who moves the bytes of files. */
  io: IoMode;
  /** Changes are kept in a directory instead of memory. */
  upper?: UpperData;
  /** An eventfd by which the main thread says that it has asked something. */
  wakeFd: number;
  /** The mount is read-only, so that the kernel refuses changes; nothing is different here. */
  readonly: boolean;
  /** When V8 is to compile what lookups and reads run: before the session is ready, while no request is there, or as they come. */
  rehearses: 'before' | 'idle' | 'never';
  /** How files are shown otherwise than they are kept. */
  presentation?: Presentation | undefined;
  /** Changes of which it is remembered who made them; 0: none. */
  historyEntries: number;
}
