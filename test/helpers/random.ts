/**
 * Random operations on a tree, as scripts of the hand. One seed gives one tree and one script; both are text, so a
 * script that fails is its own reproduction.
 *
 * The generator keeps a rough idea of what exists, so that most operations have something to work on; where it is wrong
 * the operation is refused, and refusals are compared too.
 */
import { acl } from './acl.ts';
import { dataWord, word } from './hand.ts';
import { device, dir, fifo, file, link, symlink, type Node, type Tree } from './trees.ts';

/** mulberry32: 32 bits of state, good enough to choose operations. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 .. below - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }
}

const NAMES = [
  'a',
  'b',
  'c',
  'd',
  'e',
  'f',
  'g',
  'h',
  '\xff\xfe',
  'a b\n',
  '%41',
  'long'.padEnd(255, 'x'),
];
const SIZES = [0, 1, 3, 100, 4095, 4096, 4097, 8192, 20_000, 65_536, 150_000];
const MODES = [
  '0644',
  '0600',
  '0755',
  '0777',
  '04755',
  '02755',
  '06777',
  '01777',
  '02777',
  '0',
  '0400',
  '0070',
];
const IDS = [0, 1000, 2000];
const XATTRS = ['user.a', 'user.b', 'user.\xff', 'trusted.t', 'security.s', 'user.long'];
const ACLS = [
  'u:7 g:5 o:4',
  'u:6 user:1000:6 g:4 m:6 o:0',
  'u:7 user:2000:7 g:0 group:1000:5 m:5 o:1',
];
const SLOTS = [10, 11, 12, 13, 14, 15, 16, 17];
const MAPS = [0, 1, 2, 3];

/** A tree to begin with: three levels, hard links, holes, odd names, every kind of file. */
export function randomTree(random: Random): Tree {
  const tree: Record<string, Node> = {};
  const directories = [''];
  const files: string[] = [];
  for (let count = 0; count < 45; count++) {
    const parent = random.pick(directories);
    const path = `${parent}${random.pick(NAMES)}`;
    if (path in tree) continue;
    const metadata = {
      mode: Number.parseInt(random.pick(MODES), 8),
      uid: random.pick(IDS),
      gid: random.pick(IDS),
      mtime: `${1_000_000_000 + random.below(1_000_000)}.${random.below(1_000_000_000)}`,
      ...(random.chance(30) && { xattrs: { [random.pick(['user.a', 'trusted.t'])]: `v${count}` } }),
    };
    const kind = random.below(20);
    if (kind < 7 && parent.split('/').length < 4) {
      const mode = random.pick([0o755, 0o777, 0o1777, 0o2775]);
      const xattrs = random.chance(15)
        ? { 'system.posix_acl_default': acl(random.pick(ACLS)) }
        : {};
      tree[path] = dir({ ...metadata, mode, xattrs });
      directories.push(`${path}/`);
    } else if (kind < 9) tree[path] = symlink(random.pick(NAMES), { mtime: metadata.mtime });
    else if (kind < 10)
      tree[path] = random.chance(50) ? fifo({ mode: 0o666 }) : device('S_IFCHR', 1, 3);
    else if (kind < 13 && files.length > 0) tree[path] = link(random.pick(files));
    else {
      const data = `${path}:`.repeat(random.pick([0, 1, 10, 900])).slice(0, 30_000);
      const size = random.chance(30) ? { size: data.length + random.pick(SIZES) } : {};
      tree[path] = file(data, { ...metadata, ...size });
      files.push(path);
    }
  }
  return tree;
}

type Kind = 'file' | 'dir' | 'other';

export class Generator {
  readonly #random: Random;
  readonly #known: Map<string, Kind> = new Map();

  constructor(random: Random, tree: Tree) {
    this.#random = random;
    for (const [path, node] of Object.entries(tree)) this.#known.set(path, kindOf(node));
  }

  /** The next operation: one line, or a few that belong together. */
  next(): string[] {
    let choice = this.#random.below(TOTAL_WEIGHT);
    for (const [weight, make] of OPERATIONS) {
      choice -= weight;
      if (choice < 0) return make(this, this.#random);
    }
    return [];
  }

  existing(...kinds: Kind[]): string {
    const paths = [...this.#known].filter(([, kind]) => kinds.includes(kind));
    if (paths.length === 0 || this.#random.chance(7)) return this.fresh();
    return this.#random.pick(paths)[0];
  }

  any(): string {
    return this.existing('file', 'dir', 'other');
  }

  directory(): string {
    return this.#random.chance(15) ? '.' : this.existing('dir');
  }

  /** A path in a known directory, which may exist. */
  fresh(): string {
    const dirs = [...this.#known].filter(
      ([path, kind]) => kind === 'dir' && path.split('/').length < 5,
    );
    const parent =
      dirs.length === 0 || this.#random.chance(20) ? '' : `${this.#random.pick(dirs)[0]}/`;
    return parent + this.#random.pick(NAMES);
  }

  made(path: string, kind: Kind): void {
    if (!this.#known.has(path)) this.#known.set(path, kind);
  }

  removed(path: string): void {
    this.#known.delete(path);
  }

  moved(from: string, to: string, exchange: boolean): void {
    const sources = this.#below(from);
    const targets = this.#below(to);
    if (sources.length === 0) return;
    for (const [path] of [...sources, ...targets]) this.#known.delete(path);
    for (const [path, kind] of sources) this.#known.set(to + path.slice(from.length), kind);
    if (exchange)
      for (const [path, kind] of targets) this.#known.set(from + path.slice(to.length), kind);
  }

  #below(top: string): [string, Kind][] {
    return [...this.#known].filter(([path]) => path === top || path.startsWith(`${top}/`));
  }
}

function kindOf(node: string | Node): Kind {
  if (typeof node === 'string' || node.kind === 'file' || node.kind === 'link') return 'file';
  return node.kind === 'dir' ? 'dir' : 'other';
}

type Make = (g: Generator, r: Random) => string[];

const slot = (r: Random): number => r.pick(SLOTS);
const size = (r: Random): number => r.pick(SIZES) + (r.chance(30) ? r.below(5000) : 0);
const noise = (r: Random, most = 30_000): string =>
  r.chance(20) ? `=${'w'.repeat(1 + r.below(9))}` : `#${r.below(1e6)}:${r.below(most)}`;

/** Weight, and what makes the lines. The histogram that a run prints is by the first word of each line. */
const OPERATIONS: readonly (readonly [number, Make])[] = [
  [
    60,
    (g, r) => {
      const path = g.fresh();
      g.made(path, 'file');
      const flags = r.pick([
        'O_CREAT|O_RDWR',
        'O_CREAT|O_EXCL|O_RDWR',
        'O_CREAT|O_TRUNC|O_RDWR',
        'O_CREAT|O_WRONLY|O_APPEND',
      ]);
      return [`open ${slot(r)} ${word(path)} ${flags}|O_NONBLOCK|O_NOFOLLOW ${r.pick(MODES)}`];
    },
  ],
  [
    90,
    (g, r) => {
      const flags = r.pick([
        'O_RDWR',
        'O_RDWR',
        'O_RDONLY',
        'O_WRONLY',
        'O_RDWR|O_TRUNC',
        'O_RDWR|O_APPEND',
        'O_RDWR|O_DIRECT',
      ]);
      return [`open ${slot(r)} ${word(g.existing('file'))} ${flags}|O_NONBLOCK|O_NOFOLLOW`];
    },
  ],
  [30, (_, r) => [`close ${slot(r)}`]],
  [120, (_, r) => [`pwrite ${slot(r)} ${size(r)} ${noise(r)}`]],
  [40, (_, r) => [`write ${slot(r)} ${noise(r, 5000)}`]],
  [100, (_, r) => [`pread ${slot(r)} ${size(r)} ${size(r)}`]],
  [25, (g, r) => [`resize ${word(g.existing('file'))} ${size(r)}`]],
  [25, (_, r) => [`truncate @${slot(r)} ${size(r)}`]],
  [
    40,
    (g, r) => {
      const path = g.fresh();
      g.made(path, 'dir');
      return [`mkdir ${word(path)} ${r.pick(MODES)}`];
    },
  ],
  [
    18,
    (g) => {
      const path = g.existing('dir');
      g.removed(path);
      return [`rmdir ${word(path)}`];
    },
  ],
  [
    35,
    (g) => {
      const path = g.existing('file', 'other');
      g.removed(path);
      return [`unlink ${word(path)}`];
    },
  ],
  [
    30,
    (g) => {
      const [from, to] = [g.existing('file', 'file', 'other'), g.fresh()];
      g.made(to, 'file');
      return [`link ${word(from)} ${word(to)}`];
    },
  ],
  [
    12,
    (g, r) => {
      const path = g.fresh();
      g.made(path, 'other');
      return [`symlink ${word(r.chance(50) ? g.any() : 'nowhere')} ${word(path)}`];
    },
  ],
  [
    8,
    (g, r) => {
      const path = g.fresh();
      g.made(path, 'other');
      return [
        `mknod ${word(path)} ${r.pick(['S_IFIFO|0644', 'S_IFCHR|0600', 'S_IFSOCK|0755', 'S_IFREG|0644'])} 0 ${r.below(2)}`,
      ];
    },
  ],
  [
    70,
    (g, r) => {
      const [from, to] = [g.any(), r.chance(50) ? g.fresh() : g.any()];
      const flags = r.pick([
        '',
        '',
        '',
        ' RENAME_NOREPLACE',
        ' RENAME_EXCHANGE',
        ' RENAME_EXCHANGE',
        ' RENAME_WHITEOUT',
      ]);
      g.moved(from, to, flags.includes('EXCHANGE'));
      return [`rename ${word(from)} ${word(to)}${flags}`];
    },
  ],
  [25, (g, r) => [`chmod ${word(g.existing('file', 'dir'))} ${r.pick(MODES)}`]],
  [8, (_, r) => [`chmod @${slot(r)} ${r.pick(MODES)}`]],
  [20, (g, r) => [`chown ${word(g.any())} ${r.pick([-1, ...IDS])} ${r.pick(IDS)}`]],
  [
    25,
    (g, r) => {
      const times = [
        'now',
        'omit',
        `${r.below(1e9)}.${r.below(1e9)}`,
        `-${r.below(1e6)}.${r.below(1e9)}`,
      ];
      return [`utimens ${word(g.any())} ${r.pick(times)} ${r.pick(times)}`];
    },
  ],
  [
    30,
    (g, r) => [
      `setxattr ${word(g.any())} ${word(r.pick(XATTRS))} ${noise(r, 3000)}${r.pick(['', '', ' XATTR_CREATE', ' XATTR_REPLACE'])}`,
    ],
  ],
  [
    10,
    (g, r) => {
      const name = r.pick(['system.posix_acl_access', 'system.posix_acl_default']);
      return [`setxattr ${word(g.existing('file', 'dir'))} ${name} ${dataWord(acl(r.pick(ACLS)))}`];
    },
  ],
  [
    15,
    (g, r) => [
      `removexattr ${word(g.any())} ${word(r.pick([...XATTRS, 'system.posix_acl_access']))}`,
    ],
  ],
  [
    20,
    (g, r) => [`getxattr ${word(g.any())} ${word(r.pick([...XATTRS, 'system.posix_acl_access']))}`],
  ],
  [15, (g) => [`listxattr ${word(g.any())}`]],
  [
    30,
    (_, r) => {
      const mode = r.pick([
        '0',
        'FALLOC_FL_KEEP_SIZE',
        'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE',
        'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE',
        'FALLOC_FL_ZERO_RANGE',
        'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE',
      ]);
      return [`fallocate ${slot(r)} ${mode} ${size(r)} ${size(r)}`];
    },
  ],
  [25, (_, r) => [`copyrange ${slot(r)} ${size(r)} ${slot(r)} ${size(r)} ${size(r)}`]],
  [10, (_, r) => [`sendfile ${slot(r)} ${slot(r)} ${size(r)} ${r.below(5000)}`]],
  [15, (_, r) => [`holes ${slot(r)} whole`]],
  [20, (_, r) => [`mmap ${r.pick(MAPS)} ${slot(r)} 0 65536 PROT_READ|PROT_WRITE MAP_SHARED`]],
  [30, (_, r) => [`mput ${r.pick(MAPS)} ${size(r) % 60_000} ${noise(r, 5000)}`]],
  [25, (_, r) => [`mget ${r.pick(MAPS)} ${size(r) % 60_000} ${r.below(5000)}`]],
  [6, (_, r) => [`munmap ${r.pick(MAPS)}`]],
  [
    15,
    (g, r) => {
      const at = slot(r);
      const path = g.fresh();
      if (r.chance(70)) g.made(path, 'file');
      const lines = [
        `open ${at} ${word(g.directory())} O_TMPFILE|O_RDWR ${r.pick(MODES)}`,
        `pwrite ${at} 0 ${noise(r)}`,
      ];
      return r.chance(70) ? [...lines, `link @${at} ${word(path)}`] : lines;
    },
  ],
  [
    15,
    (g, r) => {
      const [at, path] = [slot(r), g.existing('file')];
      g.removed(path);
      return [
        `open ${at} ${word(path)} O_RDWR|O_NONBLOCK|O_NOFOLLOW`,
        `unlink ${word(path)}`,
        `pwrite ${at} ${size(r)} ${noise(r)}`,
        `pread ${at} 0 70000`,
        `look @${at}`,
      ];
    },
  ],
  [15, (g) => [`readlink ${word(g.any())}`]],
  [60, (g) => [`look ${word(g.any())}`]],
  [20, (_, r) => [`look @${slot(r)}`]],
  [25, (g) => [`list ${word(g.directory())}`]],
  [6, (_, r) => [`fsync ${slot(r)}`]],
  [
    15,
    (_, r) => [r.chance(50) ? 'as 0 0' : r.pick(['as 1000 1000', 'as 2000 2000', 'as 1000 2000'])],
  ],
  [8, (_, r) => [`umask ${r.pick(['0', '022', '077'])}`]],
  [1, () => ['as 0 0', 'drop 2']],
  [12, () => ['as 0 0']],
];
const TOTAL_WEIGHT = OPERATIONS.reduce((sum, [weight]) => sum + weight, 0);

/**
 * `count` operations or a few more, with the whole tree told every `every` of them and at the end.
 *
 * @param since  seconds: when the run began, see the hand's `tree`.
 */
export function randomScript(random: Random, tree: Tree, count: number, every: number): string[] {
  const generator = new Generator(random, tree);
  const lines: string[] = [];
  let next = every;
  while (lines.length < count) {
    lines.push(...generator.next());
    if (lines.length >= next) {
      lines.push(...SNAPSHOT);
      next = lines.length + every;
    }
  }
  return [...lines, ...SNAPSHOT];
}

/** What uppers in overlayfs format refuse: it would be taken for a whiteout. */
const WHITEOUTS = /RENAME_WHITEOUT|S_IFCHR\|0600 0 0$/;
/** All attributes of a file together have 4 KiB on ext4. */
const XATTR_MAX = 300;

/** What of a script an upper in overlayfs format can do; on disk, where a file's attributes have less room. */
export function keepable(script: readonly string[], isOnDisk: boolean): string[] {
  const lines = script.filter((line) => !WHITEOUTS.test(line));
  if (!isOnDisk) return lines;
  return lines.map((line) =>
    line.replace(
      /^(setxattr .* #\d+:)(\d+)/,
      (_, words: string, length: string) => `${words}${Number(length) % XATTR_MAX}`,
    ),
  );
}

/** Tells the tree, as root. `SINCE` is put in by whoever runs the script. */
export const SNAPSHOT: readonly string[] = ['as 0 0', 'tree . SINCE'];
