/** What a directory holds: names, and what readdir(3) tells of each. */
import type { Entries, Name, PackedNames } from './layer.ts';
import { joined, type PackedListing } from './packed-listing.ts';

/** Entries that were put together here. */
export class ListedEntries implements Entries {
  readonly names: Name[];
  readonly types: Uint8Array;
  readonly inos: Float64Array;
  readonly holders: Int32Array | undefined;

  constructor(names: Name[], types: Uint8Array, inos: Float64Array, holders?: Int32Array) {
    this.names = names;
    this.types = types;
    this.inos = inos;
    this.holders = holders;
  }

  get length(): number {
    return this.types.length;
  }

  reach(end: number): number {
    return Math.min(end, this.length);
  }

  name(index: number): Name {
    return this.names[index] ?? '';
  }
}

/** Lists a directory a part at a time. After an error it begins anew. */
export interface PartReader {
  /** @throws FsError */
  next(): PackedListing;
}

/** How the files behind the names are numbered. */
export interface Numbering {
  /** Whether they are the listing's own, but for those that are too large. */
  isListed(): boolean;
  /** @param listing  all of `entries`. */
  inoOf(entries: Entries, listing: PackedListing, index: number): number;
}

/**
 * Entries as the kernel has listed them: 10,000 strings that nobody asks for take longer than to list them. A reader of the
 * directory gets his bytes out of `packed`, strings are made of what is looked at, numbers when the first is asked for.
 *
 * Of a large directory a part is listed at a time, so that who reads it can begin; whatever needs more reads on.
 */
export class PackedEntries implements Entries {
  readonly #reader: PartReader;
  readonly #numbering: Numbering;
  /** What has been listed, in order; one when all of it was asked for together. */
  #parts: Part[] = [];
  #count = 0;
  #isComplete = false;
  #hasLarge = false;
  /** The names of the first part. */
  #text: string | undefined;
  #names: Name[] | undefined;
  #inos: Float64Array | undefined;

  /** Whatever needs more than `head` throws what the reader does. */
  constructor(head: PackedListing, reader: PartReader, numbering: Numbering) {
    this.#reader = reader;
    this.#numbering = numbering;
    this.#add(head);
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  proceed(): boolean {
    if (this.#isComplete) return false;
    try {
      this.#add(this.#reader.next());
    } catch (error) {
      this.#parts = [];
      this.#count = 0;
      this.#text = undefined;
      throw error;
    }
    return !this.#isComplete;
  }

  #add(listing: PackedListing): void {
    this.#parts.push({ first: this.#count, listing });
    this.#count += listing.types.length;
    this.#hasLarge ||= listing.hasLarge;
    this.#isComplete = listing.isLast;
  }

  packed(index: number, isNeeded: boolean): PackedNames | undefined {
    if (isNeeded) this.#readOn(index + 1);
    if (index >= this.#count) return undefined;
    if (!this.#numbering.isListed() || this.#hasLarge) {
      return { ...this.#whole(), first: 0, inos: this.inos };
    }
    const { first, listing } = this.#parts.findLast((part) => part.first <= index)!;
    const { names, ends, types, inos } = listing;
    return { first, names, ends, types, inos };
  }

  get length(): number {
    this.#readOn(Infinity);
    return this.#count;
  }

  reach(end: number): number {
    this.#readOn(end);
    return Math.min(end, this.#count);
  }

  get types(): Uint8Array {
    return this.#whole().types;
  }

  get names(): Name[] {
    if (this.#names === undefined) {
      const text = textOf(this.#whole());
      this.#names = text === '' ? [] : text.slice(0, -1).split('/');
    }
    return this.#names;
  }

  get inos(): Float64Array {
    if (this.#inos === undefined) {
      const listing = this.#whole();
      const inos = new Float64Array(this.#count);
      for (let index = 0; index < inos.length; index++) {
        inos[index] = this.#numbering.inoOf(this, listing, index);
      }
      this.#inos = inos;
    }
    return this.#inos;
  }

  name(index: number): Name {
    if (this.#names !== undefined) return this.#names[index] ?? '';
    // The first names are looked at while the others are yet to come.
    const listing = this.#headOf(index) ?? this.#whole();
    this.#text ??= textOf(listing);
    const { ends } = listing;
    return this.#text.slice(index === 0 ? 0 : ends[index - 1], (ends[index] ?? 0) - 1);
  }

  #headOf(index: number): PackedListing | undefined {
    const listing = this.#parts[0]?.listing;
    return listing !== undefined && index < listing.types.length ? listing : undefined;
  }

  /** Until there are `count` names, or all. */
  #readOn(count: number): void {
    while (this.#count < count && this.proceed());
  }

  /** All of it, in one part. */
  #whole(): PackedListing {
    this.#readOn(Infinity);
    const [head] = this.#parts;
    if (head !== undefined && this.#parts.length === 1) return head.listing;
    const listing = joined(this.#parts.map((part) => part.listing));
    this.#parts = [{ first: 0, listing }];
    this.#text = undefined;
    return listing;
  }
}

interface Part {
  /** Index of its first name. */
  readonly first: number;
  readonly listing: PackedListing;
}

function textOf({ names: { buffer, byteOffset, length } }: PackedListing): string {
  return Buffer.from(buffer, byteOffset, length).toString('latin1');
}
