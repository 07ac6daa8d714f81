/**
 * The folder of deployments, writable. On most hosts /sysroot is mounted read-only, and a deployment's root directory is
 * immutable: so files are reached through a mount of our own, which is in no namespace and ends with this object, and the
 * immutable flag is put back after each change.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { check, FsError, SessionError } from '../errors.ts';
import { type ByteString, native } from '../native.ts';
import { withHotfix, withoutHotfix } from '../ostree/origin.ts';
import { bytes, openPlace } from './checks.ts';

/** What OSTree's boot code mounts over /usr, when it finds the second. */
export const HOTFIX_NAMES = { upper: '.usr-ovl-upper', work: '.usr-ovl-work' } as const;

/** linux/fs.h */
const FS_IMMUTABLE_FL = 0x10;
/** Attributes of /usr that are none of its own. */
const OVERLAY = 'trusted.overlay.';

/** Whether the boot code would mount a hotfix over this deployment. */
export function hasHotfix(deployment: string): boolean {
  return existsSync(join(deployment, HOTFIX_NAMES.work));
}

/** Whether there is anything of a hotfix, were it only a part. */
export function hasHotfixFiles(deployment: string): boolean {
  return Object.values(HOTFIX_NAMES).some((name) => existsSync(join(deployment, name)));
}

export class DeploymentFolder implements Disposable {
  readonly #fd: number;
  /** Of the deployment's root directory, beneath our mount. */
  readonly #root: string;
  readonly #deploy: string;

  /** @throws SessionError it cannot be had writable. */
  constructor({ sysroot, path }: { sysroot: string; path: string }) {
    const deploy = join(sysroot, 'ostree/deploy');
    const place = openPlace(bytes(deploy));
    const fd = native.detachedWritableBind(place, false);
    closeSync(place);
    if (fd < 0) {
      throw new SessionError(
        `${deploy} cannot be had writable: ${nameOf(fd)}`,
        'a hotfix is kept there; without --hotfix, changes are kept in memory',
      );
    }
    this.#fd = fd;
    this.#deploy = `/proc/self/fd/${fd}`;
    this.#root = this.#deploy + path.slice(deploy.length);
  }

  /** A path of the deployment's root directory, for as long as this object lives. */
  get root(): string {
    return this.#root;
  }

  /** Makes the directories of a hotfix, the upper's root as that of `usr`. @throws SessionError, and nothing is made. */
  makeUpper(usr: string): void {
    this.#change(() => {
      const { upper, work } = HOTFIX_NAMES;
      try {
        mkdirSync(join(this.#root, upper), { mode: 0o700 });
        copyAttributes(usr, join(this.#root, upper));
        // The boot code looks for this one: it comes last.
        mkdirSync(join(this.#root, work), { mode: 0o700 });
      } catch (error) {
        this.#removeBoth();
        throw error;
      }
    }, 'a place for the changes of a hotfix cannot be made');
  }

  /** Throws the changes of a hotfix away. */
  removeUpper(): void {
    this.#change(() => this.#removeBoth(), 'the changes of the hotfix cannot be removed');
  }

  /**
   * Takes the changes of a hotfix out of the way of the next boot, while something still uses them; `removeUpper` removes
   * those, too.
   */
  putUpperAside(): void {
    this.#change(() => {
      for (const name of [HOTFIX_NAMES.work, HOTFIX_NAMES.upper]) {
        const path = join(this.#root, name);
        if (existsSync(path)) renameSync(path, `${path}.${ASIDE}-${Date.now()}`);
      }
    }, 'the changes of the hotfix cannot be put aside');
  }

  #removeBoth(): void {
    const names = [HOTFIX_NAMES.work, HOTFIX_NAMES.upper];
    const all = readdirSync(this.#root).filter((one) =>
      names.some((name) => one === name || one.startsWith(`${name}.${ASIDE}-`)),
    );
    // First what makes the boot code mount the other.
    for (const name of all.toSorted().toReversed()) {
      rmSync(join(this.#root, name), { recursive: true, force: true });
    }
  }

  origin(): string {
    return readFileSync(`${this.#root}.origin`, 'utf8');
  }

  /** Has the origin say that the deployment is a hotfix, or not. @throws SessionError, and it says what it said. */
  setHotfix(isHotfix: boolean): void {
    const path = `${this.#root}.origin`;
    const draft = `${path}.ostree-ts`;
    try {
      const text = this.origin();
      const { mode, uid, gid } = statSync(path);
      writeFileSync(draft, isHotfix ? withHotfix(text) : withoutHotfix(text), { mode });
      chmodSync(draft, mode & 0o7777);
      chownSync(draft, uid, gid);
      const fd = openSync(draft, constants.O_RDONLY);
      fsyncSync(fd);
      closeSync(fd);
      renameSync(draft, path);
    } catch (error) {
      rmSync(draft, { force: true });
      throw failed('the origin of the deployment cannot be written', error);
    }
  }

  /** Has all who watch the sysroot load it again. */
  touch(): void {
    const now = new Date();
    utimesSync(this.#deploy, now, now);
  }

  /** Changes entries of the deployment's root directory, which is immutable before and after. */
  #change(change: () => void, what: string): void {
    const fd = openSync(this.#root, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const flags = native.getInodeFlags(fd);
      const isImmutable = flags > 0 && (flags & FS_IMMUTABLE_FL) !== 0;
      if (isImmutable) check(native.setInodeFlags(fd, flags & ~FS_IMMUTABLE_FL));
      try {
        change();
      } finally {
        if (isImmutable) check(native.setInodeFlags(fd, flags));
      }
      fsyncSync(fd);
    } catch (error) {
      throw failed(what, error);
    } finally {
      closeSync(fd);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

const ASIDE = 'discarded';

function failed(what: string, cause: unknown): SessionError {
  const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
  const remedy =
    why === 'EROFS'
      ? 'its filesystem is read-only: without --hotfix, changes are kept in memory'
      : 'see whether the filesystem of /sysroot is well, and that this is root with all capabilities';
  return new SessionError(`${what}: ${why}`, remedy, { cause });
}

/** Mode, owner and attributes of one directory for another; the SELinux label is one of these. */
function copyAttributes(from: string, to: string): void {
  const source = openSync(from, constants.O_RDONLY | constants.O_DIRECTORY);
  const target = openSync(to, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const names = native.listxattr(source, '');
    if (typeof names === 'number') throw new FsError('EIO', `attributes of ${from}`);
    for (const name of names.filter((one: ByteString) => !one.startsWith(OVERLAY))) {
      const value = native.getxattr(source, '', name);
      if (typeof value !== 'number') check(native.setxattr(target, '', name, value, 0), name);
    }
    const { uid, gid, mode } = statSync(from);
    chownSync(to, uid, gid);
    chmodSync(to, mode & 0o7777);
  } finally {
    closeSync(source);
    closeSync(target);
  }
}

function nameOf(result: number): string {
  try {
    check(result);
  } catch (error) {
    return (error as FsError).code;
  }
  return 'unknown';
}
