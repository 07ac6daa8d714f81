/** What is rehearsed: requests about the folder of these very modules, and about files that are made beside them. */
import * as abi from './abi.ts';

/** How often what is there is looked at; in the second act how often that is done and a directory made, with how many changes. */
const PASSES = 4;
const DIRECTORIES = 8;
const CHANGES = 3;

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
  /** The body: a struct, then a string with its NUL, then bytes that are as they are. */
  readonly words: readonly number[];
  readonly text: string;
  readonly bytes: number;
}

const ROOT = 0;
/** Of FOLDERS: 1 to 3. */
const FIRST_DIRECTORY = 1;
const DIRECTORY: number = FOLDERS.length;
const FILE = 4;
/** What is made; the rest is there. */
const NEW_DIRECTORY = 5;
const NEW_FILE = 6;
export const NOWHERE = 7;

/** struct fuse_read_in, of a page and of two from the start; struct fuse_getattr_in; struct fuse_forget_in. */
const READ_IN: readonly number[] = [0, 0, 0, 0, PAGE, 0, 0, 0, 0, 0];
const READ_ALL_IN: readonly number[] = [0, 0, 0, 0, 2 * PAGE, 0, 0, 0, 0, 0];
const GETATTR_IN: readonly number[] = [0, 0, 0, 0];
const FORGET_IN: readonly number[] = [1000, 0];
/** struct fuse_setattr_in with mode, owner, atime and mtime: what is set by who unpacks an archive. */
const SETATTR_IN: readonly number[] = Array.from({ length: 22 }, (_, index) => {
  if (index === 0) return 0b110111;
  if (index === 8 || index === 10) return 1_700_000_000;
  return index === 17 ? 0o100644 : 0;
});

function step(
  opcode: number,
  about: number,
  words: readonly number[] = [],
  text = '',
  into: number = NOWHERE,
  bytes = 0,
): Step {
  return { opcode, about, into, words, text, bytes };
}

/** To a file that was made; struct fuse_write_in. */
function write(offset: number, size: number): Step {
  const words = [0, 0, offset, 0, size, 0, 0, 0, 0, 0];
  return step(abi.FUSE_WRITE, NEW_FILE, words, '', NOWHERE, size);
}

/** As walks and reads do. */
const LOOK: readonly Step[] = [
  ...FOLDERS.flatMap((folder, index) => [
    step(abi.FUSE_LOOKUP, ROOT, [], folder, FIRST_DIRECTORY + index),
    step(abi.FUSE_READDIRPLUS, FIRST_DIRECTORY + index, READ_IN),
    step(abi.FUSE_GETATTR, FIRST_DIRECTORY + index, GETATTR_IN),
  ]),
  ...NAMES.flatMap((name, index) => [
    step(abi.FUSE_LOOKUP, FIRST_DIRECTORY + (index % FOLDERS.length), [], `${name}.absent`),
    step(abi.FUSE_LOOKUP, DIRECTORY, [], `${name}.js`, FILE),
    step(abi.FUSE_READ, FILE, READ_IN),
    step(abi.FUSE_GETATTR, FILE, GETATTR_IN),
    step(abi.FUSE_FORGET, FILE, FORGET_IN),
  ]),
  step(abi.FUSE_STATFS, ROOT),
];

/** Makes, changes and removes files. */
const CHANGE: readonly Step[] = [
  ...NAMES.flatMap((name) => [
    step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], name),
    step(abi.FUSE_CREATE, NEW_DIRECTORY, [0o101, 0o100644, 0o22, 0], name, NEW_FILE),
    step(abi.FUSE_GETXATTR, NEW_FILE, [PAGE, 0], 'security.capability'),
    write(0, 1000),
    write(0, PAGE),
    write(PAGE, PAGE),
    step(abi.FUSE_GETATTR, NEW_DIRECTORY, GETATTR_IN),
    step(abi.FUSE_GETATTR, NEW_FILE, GETATTR_IN),
    step(abi.FUSE_READ, NEW_FILE, READ_ALL_IN),
    step(abi.FUSE_SETATTR, NEW_FILE, SETATTR_IN),
    step(abi.FUSE_RENAME2, NEW_DIRECTORY, [0, 0, 0, 0], `${name}\0${name}.new`),
  ]),
  step(abi.FUSE_READDIRPLUS, NEW_DIRECTORY, READ_IN),
  step(abi.FUSE_READDIR, NEW_DIRECTORY, READ_IN),
  ...NAMES.flatMap((name) => [
    step(abi.FUSE_LOOKUP, NEW_DIRECTORY, [], `${name}.new`, NEW_FILE),
    write(0, PAGE),
    step(abi.FUSE_UNLINK, NEW_DIRECTORY, [], `${name}.new`),
    step(abi.FUSE_GETATTR, NEW_DIRECTORY, GETATTR_IN),
    step(abi.FUSE_FORGET, NEW_FILE, FORGET_IN),
  ]),
];

/** In a directory that comes and goes. */
function changes(times: number): Step[] {
  return [
    step(abi.FUSE_MKDIR, ROOT, [0o755, 0o22], 'd', NEW_DIRECTORY),
    ...Array.from({ length: times }, () => CHANGE).flat(),
    step(abi.FUSE_RMDIR, ROOT, [], 'd'),
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
  ...changes(1),
  ...Array.from({ length: PASSES }, () => LOOK).flat(),
];

/** Of the second. */
export const CHANGED: readonly Step[] = [
  step(abi.FUSE_INIT, ROOT, OFFERED),
  ...Array.from({ length: DIRECTORIES }, () => [...changes(CHANGES), ...LOOK]).flat(),
];
