/** What stands behind `-o`, as mount(8), kernel overlayfs and fuse-overlayfs write it. */
import { UsageError } from '../errors.ts';
import type { IdRange, Presentation } from '../index.ts';

export interface MountWords {
  /** Topmost first; empty when there is no lowerdir. */
  lowerdir: string[];
  upperdir?: string;
  workdir?: string;
  isVolatile: boolean;
  isRemount: boolean;
  /** The SELinux label of all files. */
  context?: string;
  /** Options that every filesystem has, in the order they were given. */
  generic: string[];
  /** `undefined` when files are shown as they are. */
  presentation?: Presentation;
}

/** Where the mode of xattr_permissions keeps owners and modes. */
const OVERRIDES: Readonly<Record<string, string>> = {
  1: 'security.fuseoverlayfs.override_stat',
  2: 'user.containers.override_stat',
};

/** Meant for mount(8), for fstab(5), or for what reads that. */
const FOR_OTHERS =
  /^(?:defaults|(?:no)?auto|nofail|_netdev|(?:no)?users?|owner|group|silent|loud|[xX][-.].*|comment=.*|user=.*)$/;

/** What is so anyhow, when root mounts. */
const AS_ROOT = new Set(['allow_other', 'default_permissions']);

/** What the kernel lists of a mount, and mount(8) then gives back when it remounts. */
const LISTED = /^(?:(?:user_id|group_id|rootmode|fd|max_read|blksize)=\d+|bind)$/;

const ID_MAX = 2 ** 32 - 2;

/**
 * @param text  Options with commas between them. A backslash takes a comma, a colon or a backslash literally; so do double
 *   quotes commas.
 * @param isKnownToAll  Whether every filesystem has this option.
 * @throws UsageError an option that is not known, or makes no sense.
 */
export function parseMountOptions(
  text: string,
  isKnownToAll: (word: string) => boolean,
  isRoot: boolean,
): MountWords {
  const words: MountWords = { lowerdir: [], isVolatile: false, isRemount: false, generic: [] };
  const presentation: Presentation = {};
  const options = splitAt(text, ',').filter((option) => option !== '');
  const isRemount = options.includes('remount');
  for (const option of options) {
    const at = option.indexOf('=');
    const name = at < 0 ? option : option.slice(0, at);
    const value = at < 0 ? undefined : option.slice(at + 1);
    if (option === 'remount') words.isRemount = true;
    else if (isKnownToAll(option)) words.generic.push(option);
    else if (FOR_OTHERS.test(option) || (isRoot && AS_ROOT.has(option))) continue;
    else if (isRemount && (LISTED.test(option) || AS_ROOT.has(option))) continue;
    else if (isRemount) throw new UsageError(`'${name}' cannot be changed by remounting`, UNMOUNT);
    else if (!take(words, presentation, name, value)) refuse(name);
  }
  return Object.keys(presentation).length === 0 ? words : { ...words, presentation };
}

const UNMOUNT = 'unmount it, and mount it as it is to be';

function refuse(name: string): never {
  throw new UsageError(
    `the mount option '${name}' is not supported`,
    "leave it out; those that are: 'ostree-ts-mount --help'",
  );
}

/** @returns whether there is such an option. */
function take(
  words: MountWords,
  presentation: Presentation,
  name: string,
  value: string | undefined,
): boolean {
  switch (name) {
    case 'lowerdir':
      words.lowerdir = splitAt(given(name, value), ':').map(unescape);
      if (words.lowerdir.includes('')) throw wrong(name, value, 'has an empty path');
      return true;
    case 'upperdir':
    case 'workdir':
      words[name] = unescape(given(name, value));
      return true;
    case 'context':
      words.context = given(name, value).replaceAll('"', '');
      return true;
    case 'volatile':
      words.isVolatile = alone(name, value);
      return true;
    case 'noacl':
      presentation.hasAcl = !alone(name, value);
      return true;
    case 'static_nlink':
      presentation.hasStaticNlink = alone(name, value);
      return true;
    case 'squash_to_root':
      alone(name, value);
      presentation.squashUid ??= 0;
      presentation.squashGid ??= 0;
      return true;
    case 'squash_to_uid':
      presentation.squashUid = id(name, value);
      return true;
    case 'squash_to_gid':
      presentation.squashGid = id(name, value);
      return true;
    case 'uidmapping':
      presentation.uids = ranges(name, value);
      return true;
    case 'gidmapping':
      presentation.gids = ranges(name, value);
      return true;
    case 'xattr_permissions': {
      const xattr = OVERRIDES[given(name, value)];
      if (xattr === undefined) throw wrong(name, value, 'is neither 1 nor 2');
      presentation.overrideXattr = xattr;
      return true;
    }
    default:
      return false;
  }
}

function given(name: string, value: string | undefined): string {
  if (value !== undefined && value !== '') return value;
  throw new UsageError(`the mount option '${name}' needs a value`, `write it as ${name}=VALUE`);
}

function alone(name: string, value: string | undefined): true {
  if (value === undefined) return true;
  throw wrong(name, value, 'takes no value');
}

function wrong(name: string, value: string | undefined, why: string): UsageError {
  return new UsageError(
    `the mount option '${name}=${value ?? ''}' ${why}`,
    "see 'ostree-ts-mount --help'",
  );
}

function id(name: string, value: string | undefined): number {
  const number = Number(given(name, value));
  if (/^\d+$/.test(value ?? '') && number <= ID_MAX) return number;
  throw wrong(name, value, 'is no id');
}

/** `STORED:SHOWN:COUNT`, again and again; podman writes colons, fuse-overlayfs's manual shows commas as well. */
function ranges(name: string, value: string | undefined): IdRange[] {
  const numbers = given(name, value)
    .split(/[:,]/)
    .map((part) => (/^\d+$/.test(part) ? Number(part) : Number.NaN));
  if (numbers.length % 3 !== 0) throw wrong(name, value, 'is not of the form UID:UID:COUNT');
  const found: IdRange[] = [];
  for (let i = 0; i < numbers.length; i += 3) {
    const [stored = 0, shown = 0, count = 0] = numbers.slice(i, i + 3);
    // A number that is none fails all of these.
    const fits = count > 0 && stored + count - 1 <= ID_MAX && shown + count - 1 <= ID_MAX;
    if (!fits) throw wrong(name, value, 'is not of the form UID:UID:COUNT');
    found.push({ stored, shown, count });
  }
  return found;
}

/** Parts between separators, with their backslashes. */
function splitAt(text: string, separator: string): string[] {
  const parts = [''];
  let isQuoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] ?? '';
    // Names may have quotes in them: only what begins a value encloses.
    if (char === '"' && (isQuoted || text[i - 1] === '=')) isQuoted = !isQuoted;
    if (char === separator && !isQuoted) parts.push('');
    else parts[parts.length - 1] += char === '\\' ? char + (text[++i] ?? '') : char;
  }
  return parts;
}

function unescape(text: string): string {
  return text.replaceAll(/\\(.)/gs, '$1');
}
