/** What a directory holds: names, and what readdir(3) tells of each. */
import type { PackedListing } from '../native.ts';
import type { Entries, Name, PackedNames } from './layer.ts';

/** Entries that were put together here. */
export class ListedEntries implements Entries {
  readonly names: Name[];
  readonly types: Uint8Array;
  readonly inos: Float64Array;

  constructor(names: Name[], types: Uint8Array, inos: Float64Array) {
    this.names = names;
    this.types = types;
    this.inos = inos;
  }

  get length(): number {
    return this.types.length;
  }

  name(index: number): Name {
    return this.names[index] ?? '';
  }
}

/**
 * Entries as the kernel has listed them: 10,000 strings that nobody asks for take longer than to list them. A reader of the
 * directory gets his bytes out of `packed`, strings are made of what is looked at, numbers when the first is asked for.
 */
export class PackedEntries implements Entries {
  readonly types: Uint8Array;
  readonly #listing: PackedListing;
  readonly #inoOf: ((index: number) => number) | undefined;
  #text: string | undefined;
  #names: Name[] | undefined;
  #inos: Float64Array | undefined;

  /** @param inoOf  the number of one of `entries`, when it is not the listing's own. */
  constructor(listing: PackedListing, inoOf?: (entries: PackedEntries, index: number) => number) {
    this.types = listing.types;
    this.#listing = listing;
    if (inoOf !== undefined) this.#inoOf = (index) => inoOf(this, index);
  }

  get packed(): PackedNames {
    const { names, ends, inos } = this.#listing;
    return { names, ends, inos: this.#inoOf === undefined ? inos : this.inos };
  }

  get length(): number {
    return this.types.length;
  }

  get names(): Name[] {
    this.#names ??= this.length === 0 ? [] : this.#string().slice(0, -1).split('/');
    return this.#names;
  }

  get inos(): Float64Array {
    if (this.#inos === undefined) {
      const inos = new Float64Array(this.length);
      const halves = this.#listing.inos;
      for (let index = 0; index < inos.length; index++) {
        const own = (halves[2 * index + 1] ?? 0) * 2 ** 32 + (halves[2 * index] ?? 0);
        inos[index] = this.#inoOf?.(index) ?? own;
      }
      this.#inos = inos;
    }
    return this.#inos;
  }

  name(index: number): Name {
    if (this.#names !== undefined) return this.#names[index] ?? '';
    const { ends } = this.#listing;
    return this.#string().slice(index === 0 ? 0 : ends[index - 1], (ends[index] ?? 0) - 1);
  }

  #string(): string {
    const { buffer, byteOffset, length } = this.#listing.names;
    this.#text ??= Buffer.from(buffer, byteOffset, length).toString('latin1');
    return this.#text;
  }
}
