/** The lowers as one tree: what several of them have under a name, together. */
import { Attr, S_IFCHR, S_IFDIR, S_IFMT } from './layer.ts';
import type { Entries, LowerLayer, Name } from './layer.ts';
import { mergeEntries } from './merged-entries.ts';
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
    const above = last > 0 ? this.#index.holders(parents[0]!.node, name) : undefined;
    const count = above === undefined ? last : above.length;
    let hasMissed = false;
    for (let at = 0; at <= count; at++) {
      const holder = at < count ? above?.[at] : undefined;
      const { layer, node } = parents[at === count ? last : (holder?.index ?? at)]!;
      let child: object | undefined;
      let isDirectory = true;
      if (found.length > 0 && holder?.isDirectory === true) {
        // Nobody needs its attributes.
        child = layer.child(node, name);
      } else {
        const into = found.length === 0 ? attr : this.#below;
        child = layer.lookup(node, name, into);
        hasMissed ||= child === undefined && at < count;
        if (child !== undefined && this.isWhiteout(layer, into)) break;
        isDirectory = (into.mode & S_IFMT) === S_IFDIR;
      }
      if (child === undefined) continue;
      if (found.length > 0 && !isDirectory) break;
      found.push({ layer, node: child });
      if (!isDirectory || layer.isOpaque(child)) break;
    }
    if (hasMissed && this.#index.missed(parents[0]!.node)) this.#keepNames(parents);
    return found.length === 0 ? undefined : found;
  }

  /** Of who has which names: the directories above the bottom one. */
  #keepNames(refs: readonly LowerRef[]): void {
    const above = refs.slice(0, -1);
    this.#index.keep(above[0]!.node, above.map(listed));
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
    const parts = refs.map(listed);
    const merged = mergeEntries(
      parts,
      (part, name, type) => type === DT_CHR && this.#isHidden(refs[part]!, name),
    );
    if (parts.length > 1) this.#index.keep(refs[0]!.node, parts.slice(0, -1));
    return merged;
  }

  #isHidden({ layer, node }: LowerRef, name: Name): boolean {
    return (
      layer.lookup(node, name, this.#below) !== undefined && this.isWhiteout(layer, this.#below)
    );
  }
}

/** All that a directory has, before another is listed: a large one is open until then. */
function listed({ layer, node }: LowerRef): Entries {
  const entries = layer.entries(node);
  entries.reach(Infinity);
  return entries;
}
