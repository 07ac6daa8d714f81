/**
 * Trees from object literals: `plant(hand, { 'usr/lib/x': 'hi', 'usr/bin/y': symlink('x') })`. Keys are paths (byte
 * strings), parents are made as needed; every file and directory gets fixed times in the past.
 */
import { dataWord, type Hand, word } from './hand.ts';

interface Metadata {
  mode?: number;
  uid?: number;
  gid?: number;
  /** SEC.NSEC, nanoseconds as a plain number. */
  mtime?: string;
  xattrs?: Readonly<Record<string, string>>;
}

export type Node =
  | ({ kind: 'file'; data: string; size?: number } & Metadata)
  | ({ kind: 'dir' } & Metadata)
  | ({ kind: 'symlink'; target: string } & Metadata)
  | ({ kind: 'node'; type: string; major: number; minor: number } & Metadata)
  | { kind: 'link'; to: string };

/** A string is a file's content. */
export type Tree = Readonly<Record<string, string | Node>>;

/** When every planted node was last changed, unless it says otherwise. */
export const PLANTED = '1000000000.123456789';

/** @param size  with it, the file goes on as a hole up to there. */
export function file(data: string, metadata: Metadata & { size?: number } = {}): Node {
  return { kind: 'file', data, ...metadata };
}
export function dir(metadata: Metadata = {}): Node {
  return { kind: 'dir', ...metadata };
}
export function symlink(target: string, metadata: Metadata = {}): Node {
  return { kind: 'symlink', target, ...metadata };
}
/** One more name of the file at `to`, a path in the same tree that comes earlier. */
export function link(to: string): Node {
  return { kind: 'link', to };
}
export function fifo(metadata: Metadata = {}): Node {
  return { kind: 'node', type: 'S_IFIFO', major: 0, minor: 0, ...metadata };
}
export function device(
  type: 'S_IFCHR' | 'S_IFBLK',
  major: number,
  minor: number,
  metadata: Metadata = {},
): Node {
  return { kind: 'node', type, major, minor, ...metadata };
}
export function socket(metadata: Metadata = {}): Node {
  return { kind: 'node', type: 'S_IFSOCK', major: 0, minor: 0, ...metadata };
}

/** The lines that make `tree` below `root`, which exists or is made. */
export function plantScript(tree: Tree, root: string): string[] {
  const lines: string[] = [];
  const attributes: { path: string; depth: number; node: Exclude<Node, { kind: 'link' }> }[] = [];
  const made = new Set<string>();
  const makeParents = (path: string) => {
    const parts = path.split('/');
    for (let count = 1; count < parts.length; count++) {
      const parent = parts.slice(0, count).join('/');
      if (!made.has(parent)) put(parent, dir());
    }
  };
  const put = (path: string, node: Node) => {
    made.add(path);
    const at = word(`${root}/${path}`);
    switch (node.kind) {
      case 'file':
        lines.push(`open 0 ${at} O_CREAT|O_RDWR 0600`);
        if (node.data !== '') lines.push(`pwrite 0 0 ${dataWord(node.data)}`);
        if (node.size !== undefined) lines.push(`truncate @0 ${node.size}`);
        lines.push('close 0');
        break;
      case 'dir':
        lines.push(`mkdir ${at} 0700`);
        break;
      case 'symlink':
        lines.push(`symlink ${word(node.target)} ${at}`);
        break;
      case 'node':
        lines.push(`mknod ${at} ${node.type}|0600 ${node.major} ${node.minor}`);
        break;
      case 'link':
        lines.push(`link ${word(`${root}/${node.to}`)} ${at}`);
        return;
    }
    attributes.push({ path: at, depth: path.split('/').length, node });
  };
  for (const [path, node] of Object.entries(tree)) {
    makeParents(path);
    put(path, typeof node === 'string' ? file(node) : node);
  }
  // Children first: making a name changes its directory's time.
  attributes.sort((a, b) => b.depth - a.depth);
  for (const { path, node } of attributes) lines.push(...attributeLines(path, node));
  return lines;
}

function attributeLines(at: string, node: Exclude<Node, { kind: 'link' }>): string[] {
  const lines: string[] = [];
  if (node.uid !== undefined || node.gid !== undefined) {
    lines.push(`chown ${at} ${node.uid ?? 0} ${node.gid ?? 0}`);
  }
  if (node.kind !== 'symlink') {
    const mode = node.mode ?? (node.kind === 'dir' ? 0o755 : 0o644);
    lines.push(`chmod ${at} 0${mode.toString(8)}`);
  }
  for (const [name, value] of Object.entries(node.xattrs ?? {})) {
    lines.push(`setxattr ${at} ${word(name)} ${dataWord(value)}`);
  }
  const mtime = node.mtime ?? PLANTED;
  lines.push(`utimens ${at} ${mtime} ${mtime}`);
  return lines;
}

/**
 * The lines that bring everything of `tree`, planted at `root`, into the upper layer and leave it as it was: data by
 * writing a byte that is there already, metadata by setting it to what it is.
 */
export function copyUpScript(tree: Tree, root: string): string[] {
  const lines: string[] = [];
  const paths = Object.keys(tree).sort((a, b) => b.split('/').length - a.split('/').length);
  for (const path of paths) {
    const node = tree[path] ?? '';
    const whole = typeof node === 'string' ? file(node) : node;
    if (whole.kind === 'link') continue;
    const at = word(`${root}/${path}`);
    if (whole.kind === 'file' && whole.data !== '') {
      lines.push(
        `open 0 ${at} O_RDWR`,
        `pwrite 0 0 ${dataWord(whole.data.charAt(0))}`,
        'fsync 0',
        'close 0',
      );
    }
    lines.push(...attributeLines(at, whole));
  }
  return lines;
}

/** Makes `tree` in the folder `root` (a path the hand understands), which exists. */
export async function plant(hand: Hand, tree: Tree, root: string): Promise<void> {
  await hand.must(plantScript(tree, root));
}
