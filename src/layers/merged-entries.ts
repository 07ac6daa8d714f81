/** What several directories hold together. */
import { ListedEntries } from './entries.ts';
import { SEVERAL, type Entries, type Name } from './layer.ts';

const HIDDEN = -1;

/**
 * Each name once, of the topmost that has it.
 *
 * @param parts  topmost first.
 * @param isHidden  whether what the part at this index has under a name only hides what is below.
 */
export function mergeEntries(
  parts: readonly Entries[],
  isHidden: (part: number, name: Name, type: number) => boolean,
): Entries {
  const names: Name[] = [];
  const types: number[] = [];
  const inos: number[] = [];
  const holders: number[] = [];
  const places = new Map<Name, number>();
  for (const [part, entries] of parts.entries()) {
    for (const [index, name] of entries.names.entries()) {
      const place = places.get(name);
      if (place !== undefined) {
        if (place !== HIDDEN) holders[place] = SEVERAL;
        continue;
      }
      const type = entries.types[index] ?? 0;
      const hides = isHidden(part, name, type);
      places.set(name, hides ? HIDDEN : names.length);
      if (hides) continue;
      names.push(name);
      types.push(type);
      inos.push(entries.inos[index] ?? 0);
      holders.push(part);
    }
  }
  return new ListedEntries(
    names,
    new Uint8Array(types),
    new Float64Array(inos),
    new Int32Array(holders),
  );
}
