/**
 * What was typed, as bytes. Node decodes its arguments as UTF-8 and so loses the bytes of names that are not; they are
 * kept here as Python keeps them (surrogateescape): byte 0x80 + n becomes the lone surrogate U+DC80 + n, which no text
 * holds.
 */
import { UsageError } from '../errors.ts';
import type { HostPath } from '../index.ts';

/** In a byte string (one char a byte): one character of valid UTF-8 as group 1, or one byte that is none as group 2. */
export const UTF8: RegExp =
  // eslint-disable-next-line no-control-regex
  /([\0-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})|([\x80-\xff])/g;

/**
 * The arguments of a process.
 *
 * @param cmdline  As /proc/self/cmdline has it: each ended by NUL.
 * @param count  How many of the last are wanted.
 */
export function decodeArguments(cmdline: Buffer, count: number): string[] {
  const all = cmdline.toString('latin1').split('\0').slice(0, -1);
  return all
    .slice(all.length - count)
    .map((bytes) =>
      bytes.replaceAll(UTF8, (_, valid: string | undefined, invalid: string | undefined) =>
        valid === undefined
          ? String.fromCharCode(0xdc00 + (invalid ?? '').charCodeAt(0))
          : Buffer.from(valid, 'latin1').toString(),
      ),
    );
}

/** An argument as a byte string. */
export function byteString(argument: string): string {
  // With the flag u, half of a pair is no match: only escapes are.
  return argument
    .split(/([\udc80-\udcff])/u)
    .map((part, i) =>
      i % 2 === 1
        ? String.fromCharCode(part.charCodeAt(0) - 0xdc00)
        : Buffer.from(part).toString('latin1'),
    )
    .join('');
}

/** An argument as a path for the library: text where it is text, else its bytes. */
export function hostPath(argument: string): HostPath {
  return /[\udc80-\udcff]/u.test(argument) ? Buffer.from(byteString(argument), 'latin1') : argument;
}

/**
 * The directories of a SOURCE: separated by colons, topmost first; `\:` is a colon in a name and `\\` a backslash.
 *
 * @throws UsageError one of them is empty.
 */
export function splitSource(source: string): string[] {
  const parts = [''];
  for (const [token] of source.matchAll(/\\[:\\]|[^]/g)) {
    if (token === ':') parts.push('');
    else parts[parts.length - 1] += token.length === 2 ? token.slice(1) : token;
  }
  if (parts.includes('')) {
    throw new UsageError(
      `SOURCE '${source}' names an empty path`,
      'separate directories by one colon each, topmost first; a colon in a name is written \\:',
    );
  }
  return parts;
}

/**
 * A path from the root of a mount, as `diff` knows paths: `/usr/lib`, from `usr/lib/`, `./usr//lib` and the like.
 *
 * @returns a byte string; '/' for the root itself.
 * @throws UsageError it leads out by '..'.
 */
export function mountPath(argument: string): string {
  const parts = byteString(argument)
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) {
    throw new UsageError(
      `path '${argument}' has '..' in it`,
      'give paths from the root of the session',
    );
  }
  return `/${parts.join('/')}`;
}
