/** Descriptors of a layer's nodes, which are a cache: what is not in it is opened again. */
import { LRUCache } from 'lru-cache';
import type { Native } from '../native.ts';
import { OpenedAhead } from './opened-ahead.ts';

/** How many of each kind are kept at most. */
export interface OpenLimits {
  directories: number;
  files: number;
}

/** More are of no use. */
const USEFUL = 2048;
/** Of several lowers, each directory is open once for each. */
const USEFUL_DIRECTORIES = 2 * USEFUL;
/** With fewer, a request could lose what it has just opened. */
const LEAST = 16;
/** For all else: what is opened ahead, the device, the pool's reads, snapshots, the control socket. */
const RESERVED = 320;

/** What the lowers, all together, and the upper may each keep open, of what RLIMIT_NOFILE allows the process. */
export function openLimits(native: Native): OpenLimits {
  const share = Math.max(LEAST, Math.floor((native.raiseNofile() - RESERVED) / 4));
  return { directories: Math.min(share, USEFUL_DIRECTORIES), files: Math.min(share, USEFUL) };
}

/** An open directory saves a walk from its parent for every name in it. */
export class OpenFiles<Node extends object> {
  readonly directories: LRUCache<Node, number>;
  readonly files: LRUCache<Node, number>;
  readonly ahead: OpenedAhead;

  constructor(native: Native, limits: OpenLimits) {
    const dispose = (fd: number): void => void native.close(fd);
    this.directories = new LRUCache({ max: limits.directories, dispose });
    this.files = new LRUCache({ max: limits.files, dispose });
    this.ahead = new OpenedAhead(native);
  }

  close(): void {
    this.ahead.close();
    this.files.clear();
    this.directories.clear();
  }
}
