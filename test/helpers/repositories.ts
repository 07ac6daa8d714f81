/** OSTree repositories for tests, made by the real `ostree` from a tree that has everything a commit can hold. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { native } from '../../src/native.ts';
import { type Xattr } from '../../src/ostree/objects.ts';
import { fileXattrs } from '../../src/ostree/object-bytes.ts';

const AT_FDCWD = -100;

export type WritableMode = 'bare' | 'bare-user' | 'bare-user-only' | 'archive';
export type RepositoryMode = WritableMode | 'bare-split-xattrs';
export const MODES: readonly RepositoryMode[] = [
  'bare',
  'bare-user',
  'bare-user-only',
  'archive',
  'bare-split-xattrs',
];

/** A new folder, for the test that removes it. */
export function scratch(): string {
  return mkdtempSync(join(tmpdir(), 'ostree-ts-store-'));
}

export function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Runs the real tool; its output as it is. @throws with what it said. */
export function ostree(...args: string[]): Buffer {
  return execFileSync('ostree', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 30,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}

/** A byte string as Node's own functions want a path. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

/** The path that Node uses as the addon wants it. */
export function byteString(path: string): string {
  return Buffer.from(path).toString('latin1');
}

/** Sets an attribute of a file or symlink; `false` where this system does not let us. */
function setXattr(path: string, name: string, value: Buffer): boolean {
  return native.setxattr(AT_FDCWD, byteString(path), name, value, 0) === 0;
}

/** Bytes that are the same in each run and do not compress. */
export function noise(length: number, seed: string = 'noise'): Buffer {
  const blocks: Buffer[] = [];
  for (let count = 0; count * 32 < length; count++) {
    blocks.push(createHash('sha256').update(`${seed} ${count}`).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** A version 2 capability set: cap_net_bind_service, effective. */
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

/**
 * Plants the tree: permissions of every kind, owners, symlinks, attributes of all namespaces, names and sizes that are
 * awkward. As root all of it, else what an ordinary user may make.
 */
export function plantEverything(root: string, options: { many?: number } = {}): void {
  const at = (path: string) => join(root, path);
  const file = (path: string, data: string | Buffer = '', mode = 0o644) => {
    mkdirSync(dirname(at(path)), { recursive: true });
    writeFileSync(at(path), data);
    chmodSync(at(path), mode);
  };
  file('usr/bin/program', 'hello\n', 0o755);
  file('usr/bin/setuid', 'setuid\n', 0o4755);
  file('usr/bin/setgid', 'setgid\n', 0o2755);
  file('usr/lib/large.bin', noise(200_000));
  file('usr/lib/zeros.bin', Buffer.alloc(3_000_000));
  file('usr/lib/same.bin', noise(200_000));
  file('usr/lib/empty');
  file('usr/lib/also-empty');
  file('usr/lib/private', 'private\n', 0o600);
  file('usr/lib/odd-mode', 'odd\n', 0o421);
  file('usr/share/naïve/日本語.txt', 'text\n');
  file('usr/share/with space\n and newline', 'text\n');
  file('usr/share/.ostree-wh.gone', '', 0o644);
  file(`usr/share/${'n'.repeat(255)}`, 'long name\n');
  file('usr/attributes/one', 'one\n');
  file('usr/attributes/many', 'many\n');
  file('usr/attributes/large', 'large\n');
  file('usr/attributes/capability', 'capability\n', 0o755);
  for (let count = 0; count < (options.many ?? 2000); count++) {
    file(`usr/many/entry-${String(count).padStart(5, '0')}`, count % 7 === 0 ? `${count}\n` : '');
  }
  for (const path of ['usr/empty', 'usr/many/below/deeper', 'var/tmp']) {
    mkdirSync(at(path), { recursive: true });
  }
  symlinkSync('usr/bin', at('bin'));
  symlinkSync('program', at('usr/bin/link'));
  symlinkSync('/no/such/Ziel-ä', at('usr/bin/dangling'));
  symlinkSync('loop', at('usr/loop'));
  symlinkSync('t'.repeat(1000), at('usr/long-target'));
  setXattr(at('usr/attributes/one'), 'user.mykey', Buffer.from('myvalue'));
  setXattr(at('usr/attributes/many'), 'user.quoted', Buffer.from('it\'s "q"\\\n\u00e9\0'));
  setXattr(at('usr/attributes/many'), 'user.b', Buffer.from('plain\0'));
  setXattr(at('usr/attributes/many'), 'user.a', Buffer.from([0, 1, 255]));
  setXattr(at('usr/attributes/large'), 'user.large', noise(3000));
  setXattr(at('usr/attributes/capability'), 'security.capability', CAPABILITY);
  setXattr(at('usr/attributes'), 'user.dirattr', Buffer.from('d'));
  setXattr(at('usr/bin/link'), 'trusted.lnk', Buffer.from('q'));
  if (process.getuid?.() === 0) {
    lchownSync(at('usr/lib/private'), 1000, 1001);
    lchownSync(at('usr/bin/dangling'), 1000, 1001);
    lchownSync(at('usr/empty'), 1000, 1001);
  }
  chmodSync(at('usr/empty'), 0o2750);
  chmodSync(at('var/tmp'), 0o1777);
  utimesSync(at('usr/lib/private'), 1_000_000_000, 1_000_000_000);
}

export interface Store {
  path: string;
  /** Of the branch `main`. */
  commit: string;
}

/** A new repository `folder/mode` with one commit of `tree` on the branch `main`. */
export function commitTree(folder: string, mode: RepositoryMode, tree: string): Store {
  const path = join(folder, mode);
  if (mode === 'bare-split-xattrs') {
    const original = join(folder, 'split-original');
    return splitXattrs(commitTree(original, 'bare', tree), path);
  }
  mkdirSync(path, { recursive: true });
  ostree('init', `--repo=${path}`, `--mode=${mode}`);
  return { path, commit: addCommit(path, 'main', tree) };
}

export function addCommit(
  repository: string,
  branch: string,
  tree: string,
  ...options: string[]
): string {
  const args = ['commit', `--repo=${repository}`, '-b', branch, '-s', 'subj', '-m', 'body text'];
  return ostree(...args, '--timestamp=2024-01-02 03:04:05 +0000', `--tree=dir=${tree}`, ...options)
    .toString()
    .trim();
}

/**
 * A copy of a bare repository in mode bare-split-xattrs, which the tool reads but cannot write: every attribute moves
 * from the inode to CHECKSUM.file-xattrs, which CHECKSUM.file-xattrs-link is a hard link of.
 */
function splitXattrs(bare: Store, path: string): Store {
  execFileSync('cp', ['-aT', '--no-preserve=xattr', bare.path, path]);
  const config = join(path, 'config');
  const text = readFileSync(config, 'utf8').replace('mode=bare\n', 'mode=bare-split-xattrs\n');
  writeFileSync(config, text);
  const objects = join(bare.path, 'objects');
  for (const prefix of readdirSync(objects)) {
    for (const name of readdirSync(join(objects, prefix))) {
      if (!name.endsWith('.file')) continue;
      linkXattrs(path, `${prefix}/${name}`, xattrsOf(join(objects, prefix, name)));
    }
  }
  return { path, commit: bare.commit };
}

function linkXattrs(path: string, object: string, xattrs: Xattr[]): void {
  const objects = join(path, 'objects');
  const bytes = fileXattrs(xattrs);
  const checksum = createHash('sha256').update(bytes).digest('hex');
  const shared = join(objects, checksum.slice(0, 2), `${checksum.slice(2)}.file-xattrs`);
  mkdirSync(dirname(shared), { recursive: true });
  if (!existsSync(shared)) writeFileSync(shared, bytes);
  const link = join(objects, object.replace(/\.file$/, '.file-xattrs-link'));
  rmSync(link, { force: true });
  try {
    linkSync(shared, link);
  } catch {
    copyFileSync(shared, link);
  }
}

function xattrsOf(path: string): Xattr[] {
  const names = native.listxattr(AT_FDCWD, byteString(path));
  if (typeof names === 'number') throw new Error(`${path}: ${names}`);
  return names.map((name) => {
    const value = native.getxattr(AT_FDCWD, byteString(path), name);
    if (typeof value === 'number') throw new Error(`${path}: ${name}: ${value}`);
    return { name, value: Buffer.from(value) };
  });
}

/** Where an object of a repository is. */
export function objectPath(repository: string, checksum: string, extension: string): string {
  return join(repository, 'objects', checksum.slice(0, 2), `${checksum.slice(2)}.${extension}`);
}

/** The names of all objects of a kind. */
export function objectsOf(repository: string, extension: string): string[] {
  const objects = join(repository, 'objects');
  return readdirSync(objects)
    .flatMap((prefix) => readdirSync(join(objects, prefix)).map((name) => prefix + name))
    .filter((name) => name.endsWith(`.${extension}`))
    .map((name) => name.slice(0, 64))
    .sort();
}

/** The checksums of a commit's root directory. */
export function rootOf(repo: string, ref: string): string {
  return ostree('ls', '-dC', `--repo=${repo}`, ref, '/').toString().split(/\s+/).slice(4, 6).join();
}

/** Everything that a commit holds, with its checksums and attributes. */
export function listing(repo: string, ref: string): Buffer {
  return ostree('ls', '-RCX', `--repo=${repo}`, ref);
}

/** Lines of `ostree diff` or `ostree-ts diff`, made comparable. */
export function normalDiff(lines: string[]): string[] {
  return lines.map((line) => line.replace(/^([AMD])\s+/, '$1 ')).sort();
}

export function theirDiff(repo: string, from: string, to: string): string[] {
  return normalDiff(
    ostree('diff', `--repo=${repo}`, from, to)
      .toString()
      .split(/\n(?=[AMD] )/)
      .map((line) => line.trimEnd()),
  );
}
