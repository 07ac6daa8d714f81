/** GLib's key files, as far as a repository's config needs them: `[group]`, `key=value`, `#` comments. */
import { FormatError } from './gvariant.ts';

export type KeyFile = Map<string, Map<string, string>>;

const ESCAPES: Record<string, string> = { s: ' ', n: '\n', t: '\t', r: '\r', '\\': '\\' };

/**
 * Of equal keys the last counts; groups of one name are one group.
 *
 * @throws FormatError naming the line.
 */
export function parseKeyFile(text: string): KeyFile {
  const file: KeyFile = new Map();
  let group: Map<string, string> | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const header = /^\[([^[\]]+)\]$/.exec(line);
    if (header) {
      const name = header[1] ?? '';
      group = file.get(name) ?? new Map<string, string>();
      file.set(name, group);
      continue;
    }
    const separator = line.indexOf('=');
    if (separator < 1 || group === undefined) {
      throw new FormatError(`line ${index + 1} is neither a group, a key nor a comment`);
    }
    group.set(line.slice(0, separator).trimEnd(), unescaped(line.slice(separator + 1).trimStart()));
  }
  return file;
}

function unescaped(value: string): string {
  return value.replaceAll(/\\(.)/g, (whole, letter: string) => ESCAPES[letter] ?? whole);
}

/** GLib takes 1 and 0 as well. @throws FormatError for anything else. */
export function booleanOf(value: string): boolean {
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw new FormatError(`'${value}' is neither true nor false`);
}
