/** What is rehearsed: requests about the folder of these very modules, and about files that are made beside them. */
import { OWN_COOKIES } from '../layers/upper.ts';
import * as abi from './abi.ts';

/** How often what is there is looked at; in the second act how often that is done and a directory made, with how many changes. */
const PASSES = 4;
const DIRECTORIES = 4;
const CHANGES = 2;
const LISTINGS = 8;
/** Files that are changed in the first act. */
const FEW = 2;
/** Files of the lower that are changed or removed in the second. */
const REMOVED_MAX = 40;

const PAGE = 4096;

/** Folders of modules, and modules of the last. */
const FOLDERS: readonly string[] = ['overlay', 'layers', 'fuse'];
const NAMES: readonly string[] = ['abi', 'control', 'exchange', 'negotiate', 'reply', 'server'];

/** One request of the script. */
export interface Step {
  readonly opcode: number;
  /** Whom it is about: an index of the nodes met so far. */
  readonly about: number;
  /** Where the node in its reply goes. */
  readonly into: number;
  /** Whose number the body begins with, if anybody's. */
  readonly with: number;
  /** The body: a struct, then a string with its NUL, then bytes that are as they are. */
  readonly words: readonly number[];
  readonly text: string;
  readonly bytes: number;
}

const ROOT = 0;
/** Of FOLDERS: 1 to 3. */
const FIRST_DIRECTORY = 1;
const DIRECTORY: number = FOLDERS.length;
/** The folder that files are removed from: where it is, and its name. */
const REMOVED = 1;
export const REMOVED_FOLDER = 'overlay';
const FILE = 4;
/** What is made; the rest is there. */
const NEW_DIRECTORY = 5;
const NEW_FILE = 6;
const OTHER_FILE = 7;
export const NOWHERE = 8;
export const NOBODY = -1;

/** struct fuse_read_in; struct fuse_getattr_in; struct fuse_forget_in; struct fuse_rename_in and fuse_link_in. */
const READ_IN: readonly number[] = readIn(0, PAGE);
const GETATTR_IN: readonly number[] = [0, 0, 0, 0];
const FORGET_IN: readonly number[] = [1000, 0];
const NODE_IN: readonly number[] = [0, 0];
/** fuse_setattr_in.valid: what is set by who unpacks an archive, truncate(1), touch(1), chmod(1) and chown(1). */
const SET: readonly number[] = [0b110111, 0b1000, 0b100000, 0b1_1011_0000, 0b1, 0b110];

function readIn(offset: number, size: number): number[] {
  return [0, 0, offset % 2 ** 32, Math.floor(offset / 2 ** 32), size, 0, 0, 0, 0, 0];
}

function step(
  opcode: number,
  about: number,
  words: readonly number[] = [],
  text = '',
  into: number = NOWHERE,
  bytes = 0,
): Step {
  return { opcode, about, with: NOBODY, into, words, text, bytes };
}

/** struct fuse_write_in. */
function write(about: number, offset: number, size: number): Step {
  return step(abi.FUSE_WRITE, about, readIn(offset, size), '', NOWHERE, size);
}

/** struct fuse_setattr_in. */
function setattr(about: number, which: number): Step {
  const words = Array.from({ length: 22 }, () => 0);
  words[0] = SET[which % SET.length] ?? 0;
  words[4] = 100;
  words[8] = words[10] = 1_700_000_000;
  words[17] = 0o100755;
  return step(abi.FUSE_SETATTR, about, words);
}

/** Within a directory. */
function rename(dir: number, from: string, to: string): Step {
  return { ...step(abi.FUSE_RENAME, dir, NODE_IN, `${from}\0${to}`), with: dir };
}

function unlink(dir: number, name: string): Step[] {
  return [step(abi.FUSE_UNLINK, dir, [], name), step(abi.FUSE_GETATTR, dir, GETATTR_IN)];
}

function create(name: string, into: number): Step {
  return step(abi.FUSE_CREATE, NEW_DIRECTORY, [0o101, 0o100644, 0o22, 0], name, into);
}

/** As walks and reads do. Folders are listed before or after something in them is looked for. */
const LOOK: readonly Step[] = [
  ...FOLDERS.flatMap((folder, index) => {
    const about = FIRST_DIRECTORY + index;
    const listing = index === 0 ? abi.FUSE_READDIR : abi.FUSE_READDIRPLUS;
    const listed = step(listing, about, READ_IN);
    const absent = step(abi.FUSE_LOOKUP, about, [], `${folder}.absent`);
    return [
      step(abi.FUSE_LOOKUP, ROOT, [], folder, about),
      ...(index % 2 === 0 ? [listed, absent] : [absent, listed]),
      step(abi.FUSE_GETATTR, about, GETATTR_IN),
    ];
  }),
  ...NAMES.flatMap((name, index) => [
    step(abi.FUSE_LOOKUP, FIRST_DIRECTORY + (index % FOLDERS.length), [], `${name}.absent`),
    step(abi.FUSE_LOOKUP, DIRECTORY, [], `${name}.js`, FILE),
    step(abi.FUSE_READ, FILE, READ_IN),
    step(abi.FUSE_GETATTR, FILE, GETATTR_IN),
    step(abi.FUSE_FORGET, FILE, FORGET_IN),
  ]),
  ...FOLDERS.map((_, index) => step(abi.FUSE_FORGET, FIRST_DIRECTORY + index, FORGET_IN)),
  step(abi.FUSE_STATFS, ROOT),
];

/** Makes and changes files; every other one takes the place of another. */
function made(names: readonly string[]): Step[] {
  return names.flatMap((name, index) => [
    step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], name),
    create(name, NEW_FILE),
    step(abi.FUSE_GETXATTR, NEW_FILE, [PAGE, 0], 'security.capability'),
    write(NEW_FILE, 0, 1000),
    write(NEW_FILE, 0, PAGE),
    write(NEW_FILE, PAGE, PAGE),
    write(NEW_FILE, 2 * PAGE, 3 * PAGE + 100),
    step(abi.FUSE_GETATTR, NEW_DIRECTORY, GETATTR_IN),
    step(abi.FUSE_GETATTR, NEW_FILE, GETATTR_IN),
    step(abi.FUSE_READ, NEW_FILE, readIn(0, 2 * PAGE)),
    setattr(NEW_FILE, 0),
    setattr(NEW_FILE, index),
    ...(index % 2 === 0 ? [] : [create(`${name}.new`, OTHER_FILE)]),
    rename(NEW_DIRECTORY, name, `${name}.new`),
    step(abi.FUSE_SYMLINK, NEW_DIRECTORY, [], `${name}.symlink\0${name}`),
    { ...step(abi.FUSE_LINK, NEW_DIRECTORY, NODE_IN, `${name}.link`), with: NEW_FILE },
    step(abi.FUSE_FORGET, NEW_FILE, FORGET_IN),
  ]);
}

/** Lists and removes them. */
function unmade(names: readonly string[]): Step[] {
  return [
    step(abi.FUSE_READDIRPLUS, NEW_DIRECTORY, READ_IN),
    step(abi.FUSE_READDIR, NEW_DIRECTORY, READ_IN),
    step(abi.FUSE_READDIR, NEW_DIRECTORY, readIn(OWN_COOKIES + names.length, PAGE)),
    ...names.flatMap((name) => [
      step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], `${name}.new`, NEW_FILE),
      write(NEW_FILE, 0, PAGE),
      ...unlink(NEW_DIRECTORY, `${name}.link`),
      ...unlink(NEW_DIRECTORY, `${name}.symlink`),
      ...unlink(NEW_DIRECTORY, `${name}.new`),
      step(abi.FUSE_FORGET, NEW_FILE, FORGET_IN),
    ]),
  ];
}

const MKDIR: Step = step(abi.FUSE_MKDIR, ROOT, [0o755, 0o22], 'd', NEW_DIRECTORY);

/** In a directory that comes and goes. */
function changes(times: number, names: readonly string[]): Step[] {
  return [
    MKDIR,
    ...Array.from({ length: times }, () => [...made(names), ...unmade(names)]).flat(),
    create('last', NOWHERE),
    // Refused: it is not empty.
    step(abi.FUSE_RMDIR, ROOT, [], 'd'),
    ...unlink(NEW_DIRECTORY, 'last'),
    step(abi.FUSE_RMDIR, ROOT, [], 'd'),
    step(abi.FUSE_FORGET, NEW_DIRECTORY, FORGET_IN),
  ];
}

const OFFERED: readonly number[] = [
  abi.FUSE_KERNEL_VERSION,
  abi.FUSE_KERNEL_MINOR_VERSION,
  0,
  0xffffffff,
  0x3ff,
];

/** Of the first act. It is changed once: who waits for the session waits for what is compiled. */
export const LOOKED_AT: readonly Step[] = [
  step(abi.FUSE_INIT, ROOT, OFFERED),
  ...changes(1, NAMES.slice(0, FEW)),
  ...Array.from({ length: PASSES }, () => LOOK).flat(),
];

/** Removes a file that the lower has; of four one is first renamed, one written to, and one given other attributes. */
function removed(name: string, index: number): Step[] {
  const moved = index % 4 === 3 ? `${name}.moved` : name;
  const before = [
    [],
    [setattr(FILE, index)],
    [write(FILE, 10, 100)],
    [rename(REMOVED, name, moved)],
  ];
  return [
    step(abi.FUSE_LOOKUP, REMOVED, [], name, FILE),
    step(abi.FUSE_GETXATTR, FILE, [PAGE, 0], 'security.capability'),
    ...(before[index % 4] ?? []),
    ...unlink(REMOVED, moved),
    step(abi.FUSE_FORGET, FILE, FORGET_IN),
  ];
}

/** Lists what nobody has listed before, and what has changed. */
const LISTED: readonly Step[] = FOLDERS.flatMap((folder, index) => [
  step(abi.FUSE_LOOKUP, ROOT, [], folder, FIRST_DIRECTORY + index),
  step(abi.FUSE_READDIR, FIRST_DIRECTORY + index, READ_IN),
  step(abi.FUSE_READDIR, FIRST_DIRECTORY + index, readIn(10, PAGE)),
  step(abi.FUSE_FORGET, FIRST_DIRECTORY + index, FORGET_IN),
]);

/** Of the second, which leaves files of all kinds behind. @param names  of files in the folder that they are removed from. */
export function changed(names: readonly string[]): Step[] {
  return [
    step(abi.FUSE_INIT, ROOT, OFFERED),
    ...Array.from({ length: DIRECTORIES }, () => [...changes(CHANGES, NAMES), ...LOOK]).flat(),
    step(abi.FUSE_LOOKUP, ROOT, [], REMOVED_FOLDER, REMOVED),
    ...names.slice(0, REMOVED_MAX).flatMap(removed),
    step(abi.FUSE_FORGET, REMOVED, FORGET_IN),
    ...Array.from({ length: LISTINGS }, () => LISTED).flat(),
    MKDIR,
    ...made(NAMES),
  ];
}
