/** What several directories hold together: each name once, of the topmost that has it. */
import type { Entries, Name } from './layer.ts';
import { SEVERAL } from './layer.ts';

const HIDDEN = -1;

export class MergedEntries implements Entries {
  readonly names: Name[] = [];
  readonly types: Uint8Array;
  readonly inos: Float64Array;
  readonly holders: Int32Array;

  /**
   * @param parts  topmost first.
   * @param isHidden  whether what the part at this index has under a name only hides what is below.
   */
  constructor(
    parts: readonly Entries[],
    isHidden: (part: number, name: Name, type: number) => boolean,
  ) {
    const types: number[] = [];
    const holders: number[] = [];
    const inos: number[] = [];
    const places = new Map<Name, number>();
    for (const [part, entries] of parts.entries()) {
      for (const [index, name] of entries.names.entries()) {
        const place = places.get(name);
        if (place !== undefined) {
          if (place !== HIDDEN) holders[place] = SEVERAL;
          continue;
        }
        const type = entries.types[index] ?? 0;
        if (isHidden(part, name, type)) {
          places.set(name, HIDDEN);
          continue;
        }
        places.set(name, this.names.length);
        this.names.push(name);
        types.push(type);
        holders.push(part);
        inos.push(entries.inos[index] ?? 0);
      }
    }
    this.types = new Uint8Array(types);
    this.holders = new Int32Array(holders);
    this.inos = new Float64Array(inos);
  }

  get length(): number {
    return this.names.length;
  }

  reach(end: number): number {
    return Math.min(end, this.length);
  }

  name(index: number): Name {
    return this.names[index] ?? '';
  }
}
