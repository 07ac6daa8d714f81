/**
 * An OSTree sysroot: its deployments, in the order of the boot loader, and which of them is running.
 *
 *   boot/loader/entries/ostree-*.conf       name, with ostree=, a link in ...
 *   ostree/boot.N/STATEROOT/BOOTCSUM/N      ... which leads to ...
 *   ostree/deploy/STATEROOT/deploy/CSUM.SERIAL      a deployment, with its origin beside it, CSUM.SERIAL.origin
 */
import { readdirSync, readFileSync, realpathSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import { bootOrder } from './boot-order.ts';
import { dictionaryIn, FormatError } from './gvariant.ts';
import { type KeyFile, parseKeyFile } from './keyfile.ts';

const BOOTED = '/run/ostree-booted';
const DEPLOY = 'ostree/deploy';
const DEPLOYMENT = /^([0-9a-f]{64})\.(\d+)$/;

export interface Deployment {
  stateroot: string;
  /** Of the commit. */
  checksum: string;
  /** Tells deployments of one commit apart. */
  serial: number;
  /** Of its root directory. */
  path: string;
  /** It is what runs. */
  isBooted: boolean;
  /** Its place in the boot order, 0 the default; `undefined` when no boot entry leads to it: it is staged, or left over. */
  order: number | undefined;
  /** `undefined` when there is none, or one that makes no sense. */
  origin: KeyFile | undefined;
}

export function isSysroot(path: string): boolean {
  return statSync(join(path, DEPLOY), { throwIfNoEntry: false })?.isDirectory() === true;
}

export class Sysroot {
  /** As text: OSTree itself takes no other names. */
  readonly path: string;

  /** @throws SessionError there is no sysroot at this path. */
  constructor(path: string) {
    this.path = path;
    if (isSysroot(path)) return;
    throw new SessionError(
      `${path} is no OSTree sysroot: it has no ${DEPLOY}`,
      'name one: --sysroot=PATH',
    );
  }

  /**
   * All deployments: those of the boot order, then the others by stateroot and name.
   *
   * @throws SessionError the boot order or a folder cannot be read.
   */
  deployments(): Deployment[] {
    try {
      const order = this.#order();
      const running = runningRoot();
      const place = ({ path }: Deployment) => order.get(realpathSync(path));
      return this.#onDisk(running)
        .map((deployment) => ({ ...deployment, order: place(deployment) }))
        .sort(
          (a, b) => (a.order ?? Infinity) - (b.order ?? Infinity) || (a.path < b.path ? -1 : 1),
        );
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      throw new SessionError(
        `the deployments of ${this.path} cannot be read: ${message}`,
        'deployments are for root to read',
        { cause: error },
      );
    }
  }

  /** The one that runs, if it is of this sysroot. @throws SessionError as `deployments`. */
  booted(): Deployment | undefined {
    return this.deployments().find((deployment) => deployment.isBooted);
  }

  /** Has all who watch the sysroot load it again. @returns why that cannot be, if so. */
  touch(): string | undefined {
    const now = new Date();
    try {
      utimesSync(join(this.path, DEPLOY), now, now);
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    }
  }

  /** Places in the boot order, by real path. */
  #order(): Map<string, number> {
    const order = new Map<string, number>();
    for (const argument of bootOrder(this.path)) {
      try {
        const path = realpathSync(join(this.path, argument));
        if (!order.has(path)) order.set(path, order.size);
      } catch {
        // An entry of another system, or one whose deployment has gone.
      }
    }
    return order;
  }

  #onDisk(running: DeviceAndInode | undefined): Deployment[] {
    return namesIn(join(this.path, DEPLOY)).flatMap((stateroot) => {
      const folder = join(this.path, DEPLOY, stateroot, 'deploy');
      return namesIn(folder).flatMap((name) => {
        const [, checksum, serial] = DEPLOYMENT.exec(name) ?? [];
        const path = join(folder, name);
        const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
        if (checksum === undefined || stat?.isDirectory() !== true) return [];
        const isBooted = running?.dev === stat.dev && running.ino === stat.ino;
        const origin = readOrigin(`${path}.origin`);
        return [
          { stateroot, checksum, serial: Number(serial), path, isBooted, order: undefined, origin },
        ];
      });
    });
  }
}

interface DeviceAndInode {
  dev: bigint;
  ino: bigint;
}

/**
 * The directory that this system runs from; `undefined` when that is no deployment. With composefs the root is another
 * filesystem, so what booted it has left the numbers of the deployment in a file.
 */
function runningRoot(): DeviceAndInode | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(BOOTED);
  } catch {
    return undefined;
  }
  const { dev, ino } = statSync('/', { bigint: true });
  if (bytes.length === 0) return { dev, ino };
  try {
    const known = dictionaryIn(bytes, { start: 0, end: bytes.length });
    const backing = known.get('backing-root-device-inode');
    if (backing?.type === '(tt)' && backing.bytes.length === 16) {
      return { dev: backing.bytes.readBigUInt64LE(0), ino: backing.bytes.readBigUInt64LE(8) };
    }
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  return { dev, ino };
}

function readOrigin(path: string): KeyFile | undefined {
  try {
    return parseKeyFile(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Nothing when there is no such folder. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}
