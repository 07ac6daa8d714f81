/** The lowers as one tree: what several of them have under a name, together. */
import { ListedEntries } from './entries.ts';
import { Attr, S_IFCHR, S_IFDIR, S_IFMT } from './layer.ts';
import type { Entries, LowerLayer, Name } from './layer.ts';
import { NameIndex } from './name-index.ts';
import type { LowerRef } from './upper.ts';

const DT_CHR = 2;

export class LowerStack {
  /** What the lowers have at the root. */
  readonly roots: readonly LowerRef[];
  readonly #layers: readonly LowerLayer<object>[];
  readonly #bottom: LowerLayer<object> | undefined;
  readonly #below: Attr = new Attr();
  readonly #index: NameIndex = new NameIndex();

  /** @param layers  topmost first. */
  constructor(layers: readonly LowerLayer<object>[]) {
    this.#layers = layers;
    this.#bottom = layers.at(-1);
    const roots: LowerRef[] = [];
    for (const layer of layers) {
      roots.push({ layer, node: layer.root });
      if (layer.isOpaque(layer.root)) break;
    }
    this.roots = roots;
  }

  /** Which of the lowers a layer is, topmost first. */
  indexOf(layer: LowerLayer<object>): number {
    return this.#layers.indexOf(layer);
  }

  /** What directories of the lowers have under a name, topmost first, with the attributes of the topmost. */
  find(parents: readonly LowerRef[], name: Name, attr: Attr): LowerRef[] | undefined {
    const found: LowerRef[] = [];
    const last = parents.length - 1;
    for (let i = 0; i <= last; i++) {
      const { layer, node } = parents[i]!;
      if (i < last && this.#index.lacks(node, name)) continue;
      const into = found.length === 0 ? attr : this.#below;
      const child = layer.lookup(node, name, into);
      if (child === undefined) {
        if (i < last) this.#index.missed(layer, node);
        continue;
      }
      if (this.isWhiteout(layer, into)) break;
      const isDirectory = (into.mode & S_IFMT) === S_IFDIR;
      if (found.length > 0 && !isDirectory) break;
      found.push({ layer, node: child });
      if (!isDirectory || layer.isOpaque(child)) break;
    }
    if (found.length === 0) return undefined;
    return found;
  }

  /** A 0:0 device hides what is below it; in the bottom layer it is a device like any other. */
  isWhiteout(layer: LowerLayer<object>, attr: Attr): boolean {
    return (
      layer !== this.#bottom &&
      (attr.mode & S_IFMT) === S_IFCHR &&
      attr.rdevMajor === 0 &&
      attr.rdevMinor === 0
    );
  }

  /** What several directories hold together, topmost first; in the same order each time. */
  entries(refs: readonly LowerRef[]): Entries {
    const [top] = refs;
    const isAlone = refs.length === 1 && top !== undefined;
    if (isAlone && top.layer === this.#bottom) return top.layer.entries(top.node);
    const merged: Name[] = [];
    const mergedTypes: number[] = [];
    const mergedInos: number[] = [];
    const seen = new Set<Name>();
    const last = refs.at(-1);
    for (const ref of refs) {
      const { layer, node } = ref;
      const { names, types, inos } = layer.entries(node);
      if (ref !== last) this.#index.keep(node, names);
      for (const [i, name] of names.entries()) {
        if (seen.has(name)) continue;
        seen.add(name);
        const type = types[i] ?? 0;
        if (type === DT_CHR) {
          layer.lookup(node, name, this.#below);
          if (this.isWhiteout(layer, this.#below)) continue;
        }
        merged.push(name);
        mergedTypes.push(type);
        mergedInos.push(inos[i] ?? 0);
      }
    }
    return new ListedEntries(merged, Uint8Array.from(mergedTypes), Float64Array.from(mergedInos));
  }
}
