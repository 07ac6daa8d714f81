/**
 * Origin files, which say where a deployment came from and, as `unlocked=hotfix`, whether it is one that was changed. They
 * are key files; here only single keys are changed, and all else stays byte for byte what it was.
 */
import { FormatError } from './gvariant.ts';
import { type KeyFile, parseKeyFile } from './keyfile.ts';

const GROUP = 'origin';

/** Where a deployment came from, in a word: a ref, or the image of a container. */
export function refspecOf(origin: KeyFile | undefined): string | undefined {
  const keys = origin?.get(GROUP);
  return keys?.get('refspec') ?? keys?.get('container-image-reference') ?? keys?.get('baserefspec');
}

/** `hotfix`, as libostree reads it; other values of `unlocked` mean nothing. */
export function isHotfix(origin: KeyFile | undefined): boolean {
  return origin?.get(GROUP)?.get('unlocked') === 'hotfix';
}

/** An origin with `unlocked=hotfix`. @throws FormatError it is no key file. */
export function withHotfix(text: string): string {
  return edited(text, 'unlocked=hotfix');
}

/** An origin without `unlocked`. @throws FormatError it is no key file. */
export function withoutHotfix(text: string): string {
  return edited(text, undefined);
}

function edited(text: string, line: string | undefined): string {
  if (!parseKeyFile(text).has(GROUP)) throw new FormatError('there is no group [origin]');
  const lines = text.replace(/\n*$/, '').split('\n');
  let group = '';
  const kept = lines.filter((one) => {
    group = /^\s*\[([^[\]]+)\]\s*$/.exec(one)?.[1] ?? group;
    return group !== GROUP || !/^\s*unlocked\s*=/.test(one);
  });
  if (line !== undefined) {
    const start = kept.findIndex((one) => one.trim() === `[${GROUP}]`);
    const length = kept.slice(start + 1).findIndex((one) => /^\s*(\[|$)/.test(one));
    kept.splice(length < 0 ? kept.length : start + 1 + length, 0, line);
  }
  return `${kept.join('\n')}\n`;
}
