/** What is looked at before a directory upper is used: what nobody could follow is refused, by name. */
import { constants } from 'node:fs';
import { check, UpperError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import type { ByteString, Native } from '../native.ts';
import type { Name } from './layer.ts';
import { wrongMetacopy, wrongRedirect } from './overlayfs-marks.ts';

const EACCES = 13;
const DT_DIR = 4;
const DT_REG = 8;
/** Of the owner, who we may be. */
const ALL_RIGHTS = 0o700;
const OPAQUE = ['y', 'x', 'n'];

export class Inspection {
  /** Paths, from the root of the upper, of what has its names or its data elsewhere in the lowers. */
  readonly references: Name[] = [];
  readonly #native: Native;
  readonly #label: Name;
  readonly #prefix: ByteString;

  /** @param label  what the upper is called in errors. */
  constructor(native: Native, label: Name, prefix: ByteString) {
    this.#native = native;
    this.#label = label;
    this.#prefix = prefix;
  }

  /** Looks at all that is in the directory `fd`. @throws UpperError EIO, naming what is damaged and how. */
  tree(fd: number): void {
    this.#directory(fd, '');
  }

  /** @param path  as `/a/b`. */
  #directory(fd: number, path: Name): void {
    const marks = this.#marks(fd, '.', path);
    const opaque = marks.get('opaque');
    if (opaque !== undefined && !OPAQUE.includes(opaque)) {
      this.#refuse(path, `its ${this.#prefix}opaque is '${opaque}'`);
    }
    if (this.#hasRedirect(marks, path) && opaque !== 'y') this.references.push(path.slice(1));
    const listing = this.#native.listDirectory(fd);
    if (typeof listing === 'number') {
      check(listing, this.#label + path);
      return;
    }
    for (const [i, name] of listing.names.entries()) {
      const inner = `${path}/${name}`;
      if (listing.types[i] === DT_REG) this.#file(fd, name, inner);
      if (listing.types[i] !== DT_DIR) continue;
      const opened = openDirectory(this.#native, fd, name, this.#label + inner);
      try {
        this.#directory(opened, inner);
      } finally {
        this.#native.close(opened);
      }
    }
  }

  #file(fd: number, name: Name, path: Name): void {
    const marks = this.#marks(fd, name, path);
    const metacopy = marks.get('metacopy');
    if (metacopy === undefined) return;
    const why = wrongMetacopy(Buffer.from(metacopy, 'latin1'));
    if (why !== undefined) this.#refuse(path, why);
    this.#hasRedirect(marks, path);
    this.references.push(path.slice(1));
  }

  #hasRedirect(marks: Map<string, string>, path: Name): boolean {
    const redirect = marks.get('redirect');
    const why = redirect === undefined ? undefined : wrongRedirect(redirect);
    if (why !== undefined) this.#refuse(path, why);
    return redirect !== undefined;
  }

  /** What overlayfs has noted of a name, in latin1, by what follows the prefix. */
  #marks(fd: number, name: Name, path: Name): Map<string, string> {
    const marks = new Map<string, string>();
    const names = this.#native.listxattr(fd, name);
    if (typeof names === 'number') {
      check(names, this.#label + path);
      return marks;
    }
    for (const attribute of names) {
      if (!attribute.startsWith(this.#prefix)) continue;
      let value = '';
      const read = () => {
        const bytes = this.#native.getxattr(fd, name, attribute);
        if (typeof bytes === 'number') return bytes;
        value = Buffer.from(bytes).toString('latin1');
        return 0;
      };
      check(allowed(this.#native, fd, name, read), this.#label + path);
      marks.set(attribute.slice(this.#prefix.length), value);
    }
    return marks;
  }

  #refuse(path: Name, why: string): never {
    throw new UpperError('EIO', `${this.#label}${path}: ${why}`);
  }
}

/** Opens a directory, also one that its owner, who we may be, has made unreadable. */
export function openDirectory(native: Native, fd: number, name: Name, path: Name): number {
  const open = () => native.openBeneath(fd, name, constants.O_DIRECTORY, 0);
  return check(allowed(native, fd, name, open), path);
}

/** Does what its owner, who we may be, has given himself no right to. @returns what the call returns. */
function allowed(native: Native, fd: number, name: Name, act: () => number): number {
  const result = act();
  if (result !== -EACCES) return result;
  const stat = new Float64Array(STAT_FIELDS);
  const found = native.statx(fd, name, 0, stat);
  if (found < 0) return found;
  const mode = (stat[STAT.MODE] ?? 0) & 0o7777;
  const widened = native.fchmodat(fd, name, mode | ALL_RIGHTS);
  if (widened < 0) return widened;
  try {
    return act();
  } finally {
    native.fchmodat(fd, name, mode);
  }
}
