/**
 * Files that have several names in the lowers. A session makes one copy of such a file, for all its names; a folder beside the
 * work directory knows it by the lower file's number, and what the upper alone cannot tell:
 *
 *   NUMBER        one more link of the copy, with the links that programs see noted in it
 *   NUMBER.left   a symlink, while there is no copy: how many of the names are left
 *   pending       a symlink: a name that is about to come or go, and the links of its file afterwards
 *
 * What is noted here is no promise to programs: where the host refuses it, a removal in a full layer say, links are counted
 * wrongly by whoever attaches the upper after a crash, and nothing else is wrong.
 */
import { check, FsError } from '../errors.ts';
import { STAT, STAT_FIELDS } from '../native.ts';
import type { Native } from '../native.ts';
import type { Name } from './layer.ts';
import type { Host } from './overlayfs-host.ts';
import type { Marks } from './overlayfs-marks.ts';
import { HostNode } from './overlayfs-node.ts';
import { hostNumber } from './overlayfs-tree.ts';
import type { HostTree } from './overlayfs-tree.ts';

const PENDING = 'pending';
const LEFT = '.left';
const O_PATH_DIRECTORY = 0o10200000;

export class Links {
  readonly #native: Native;
  readonly #host: Host;
  readonly #marks: Marks;
  readonly #tree: HostTree;
  readonly #folder: HostNode;
  readonly #root: HostNode;
  /** Names left of files without a copy, by number, as the last session has noted it. */
  readonly #left: Map<number, number> = new Map();
  readonly #stat: Float64Array = new Float64Array(STAT_FIELDS);
  /** Files of which the host has refused to note something. */
  readonly #owed: Set<HostNode> = new Set();
  #isPending = false;

  constructor(host: Host, marks: Marks, tree: HostTree, folder: HostNode, root: HostNode) {
    this.#native = host.native;
    this.#host = host;
    this.#marks = marks;
    this.#tree = tree;
    this.#folder = folder;
    this.#root = root;
  }

  get #fd(): number {
    return this.#host.directory(this.#folder);
  }

  /** Reads what is there, before anything else is asked. @returns the copies, by number. */
  read(): (readonly [number, HostNode])[] {
    this.#settle();
    const copies: (readonly [number, HostNode])[] = [];
    for (const name of this.#host.list(this.#folder).names) {
      if (name.endsWith(LEFT)) {
        const left = this.#native.readlinkat(this.#fd, name);
        this.#left.set(Number(name.slice(0, -LEFT.length)), Number(left));
        continue;
      }
      const node = this.#tree.link(this.#folder, name);
      if (node.nlink > 0 && Number.isSafeInteger(node.link)) copies.push([node.link, node]);
      else this.#discard(name);
    }
    for (const [number] of copies) this.#left.delete(number);
    return copies;
  }

  /** How many names a lower file without a copy has, when it is not all it has in the lowers. */
  left(number: number): number | undefined {
    return this.#left.get(number);
  }

  /** Has a copy that was just made, and has no name yet, known by its number. */
  keep(node: HostNode): void {
    const name = String(node.link);
    const was = node.name;
    const work = node.dir;
    if (work === undefined) throw new FsError('ESTALE');
    // True from the first moment on: all its names are the lowers' still.
    this.#marks.setExtraLinks(node, node.nlink - 1);
    this.#host.rename(work, was, this.#folder, name, 0);
    node.displace(work, was);
    node.place(this.#folder, name);
    this.#discard(name + LEFT);
  }

  /** Forgets a file, which has no names any more. */
  drop(node: HostNode): void {
    const name = String(node.link);
    this.#owed.delete(node);
    this.#discard(name + LEFT);
    if (node.planned !== undefined) return;
    this.#discard(name);
    node.displace(this.#folder, name);
  }

  /** As `UpperLayer.foretell`. */
  foretell(node: HostNode, nlink: number, dir: HostNode, name: Name): void {
    this.retry();
    this.#settled();
    const before = this.#numberAt(this.#host.directory(dir), name);
    const text = `${node.link} ${nlink} ${before} ${this.#path(dir)}/${name}`;
    this.#isPending = this.#native.symlinkat(text, this.#fd, PENDING) === 0;
  }

  /** Notes the links that programs see, which are not those on the host. */
  note(node: HostNode): void {
    try {
      if (node.planned === undefined) {
        const onHost = this.#host.stat(node)[STAT.NLINK] ?? 0;
        this.#marks.setExtraLinks(node, node.nlink - (onHost - this.#host.countAside(node)));
      } else if (node.nlink > 0) this.#noteLeft(node.link, node.nlink);
      else this.#discard(node.link + LEFT);
    } catch {
      // What is pending says it.
      this.#owed.add(node);
      return;
    }
    this.#owed.delete(node);
    this.#settled();
  }

  /** Notes what was refused: a directory is about to move, and what is pending says where it is. */
  retry(): void {
    for (const node of this.#owed) this.note(node);
  }

  /** All that was pending is noted. */
  #settled(): void {
    if (this.#isPending) this.#isPending = this.#native.unlinkat(this.#fd, PENDING, 0) < 0;
  }

  #noteLeft(number: number, left: number): void {
    const name = `${number}${LEFT}`;
    const draft = `${name}.new`;
    this.#discard(draft);
    check(this.#native.symlinkat(String(left), this.#fd, draft));
    check(this.#native.renameat2(this.#fd, draft, this.#fd, name, 0));
  }

  /** A crash may have come between a change and its note. */
  #settle(): void {
    const text = this.#native.readlinkat(this.#fd, PENDING);
    if (typeof text === 'number') return;
    const [, number = '', nlink = '', before = '', path = '', name = ''] =
      /^(\d+) (\d+) (\d+) (.*)\/([^/]+)$/s.exec(text) ?? [];
    const dir = this.#native.openBeneath(
      this.#host.directory(this.#root),
      path === '' ? '.' : path.slice(1),
      O_PATH_DIRECTORY,
      0,
    );
    if (dir >= 0) {
      const isDone = this.#numberAt(dir, name) !== Number(before);
      this.#native.close(dir);
      if (isDone) this.#noteLate(number, Number(nlink));
    }
    this.#discard(PENDING);
  }

  #noteLate(number: Name, nlink: number): void {
    if (this.#native.statx(this.#fd, number, 0, this.#stat) < 0) {
      this.#noteLeft(Number(number), nlink);
      return;
    }
    const node = new HostNode(0, this.#stat[STAT.MODE] ?? 0, 0, false);
    node.place(this.#folder, number);
    this.#marks.setExtraLinks(node, nlink - (this.#stat[STAT.NLINK] ?? 0));
  }

  /** The number of what has a name on the host, 0 for nothing. */
  #numberAt(fd: number, name: Name): number {
    return this.#native.statx(fd, name, 0, this.#stat) < 0 ? 0 : hostNumber(this.#stat, 0);
  }

  /** Where a directory is on the host, from the root of the upper; '' for the root itself. */
  #path(dir: HostNode): Name {
    if (dir.dir === undefined) return '';
    return `${this.#path(dir.dir)}/${dir.name}`;
  }

  #discard(name: Name): void {
    this.#host.discard(this.#fd, name, false);
  }
}
