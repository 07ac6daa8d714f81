// A commit as a lower layer, without a mount: what it shows is what `ostree checkout` of the same commit shows.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FsError } from '../src/errors.ts';
import { CommitLayer, type CommitLayerOptions, type CommitNode } from '../src/layers/commit.ts';
import { Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Segments } from '../src/layers/layer.ts';
import { native } from '../src/native.ts';
import { Repository } from '../src/ostree/repo.ts';
import {
  MODES,
  addCommit,
  byteString,
  bytesOf,
  commitTree,
  objectPath,
  ostree,
  plantEverything,
  remove,
  scratch,
  type Store,
} from './helpers/repositories.ts';

const folder = scratch();
test.after.always(() => remove(folder));
const tree = join(folder, 'tree');
plantEverything(tree);

const AT_FDCWD = -100;

function layerOf(store: Store, options: Partial<CommitLayerOptions> = {}): CommitLayer {
  const repository = Repository.open(native, byteString(store.path));
  const { tree: root, meta } = repository.commitToRead(store.commit, { allowPartial: true });
  return new CommitLayer(native, repository, { tree: root, meta, ...options });
}

function bytesIn(layer: CommitLayer, node: CommitNode, size: number): Buffer {
  const segments = new Segments();
  const chunks: Buffer[] = [];
  for (let at = 0; at < size; at += 100_000) {
    segments.clear();
    layer.read(node, at, Math.min(100_000, size - at), segments);
    for (let index = 0; index < segments.count; index++) {
      const [fd = -1, offset = 0, length = 0] = segments.values.subarray(3 * index);
      const chunk = Buffer.alloc(length);
      if (native.pread(fd, chunk, offset) !== length) throw new Error('short');
      chunks.push(chunk);
    }
  }
  return Buffer.concat(chunks);
}

function sum(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Everything that can be seen of a file, on one line. */
function line(path: string, attr: Attr, rest: { data?: Buffer; target?: string; xattrs: string }) {
  const { mode, uid, gid, nlink, size, mtimeSec, rdevMajor, rdevMinor } = attr;
  const type = mode & S_IFMT;
  const parts = [path, mode.toString(8), uid, gid, `${rdevMajor}:${rdevMinor}`];
  if (type === S_IFDIR) parts.push(`links=${nlink}`);
  else parts.push(`size=${size}`);
  parts.push(`mtime=${mtimeSec}`);
  if (rest.data !== undefined) parts.push(sum(rest.data));
  if (rest.target !== undefined) parts.push(`-> ${rest.target}`);
  return `${parts.join(' ')} ${rest.xattrs}`;
}

function walkLayer(layer: CommitLayer): string[] {
  const lines: string[] = [];
  const visit = (node: CommitNode, path: string, attr: Attr) => {
    const xattrs = layer
      .listxattr(node)
      .map((name) => `${name}=${Buffer.from(layer.getxattr(node, name) ?? []).toString('hex')}`)
      .sort()
      .join(' ');
    const type = attr.mode & S_IFMT;
    if (type === S_IFREG) {
      lines.push(line(path, attr, { data: bytesIn(layer, node, attr.size), xattrs }));
    } else if (type === S_IFLNK) {
      lines.push(line(path, attr, { target: layer.readlink(node), xattrs }));
    } else lines.push(line(path, attr, { xattrs }));
    if (type !== S_IFDIR) return;
    const { names, types, inos } = layer.entries(node);
    const seen = new Map<number, Attr>();
    layer.statMany(node, names, 0, names.length, (index, each) => {
      seen.set(index, Object.assign(new Attr(), each));
    });
    for (const [index, name] of names.entries()) {
      const child = new Attr();
      const found = layer.lookup(node, name, child);
      if (found === undefined) throw new Error(`${path}/${name} is listed but not there`);
      if ((child.mode & S_IFMT) >>> 12 !== types[index]) throw new Error(`type of ${name}`);
      if (child.ino !== inos[index]) throw new Error(`ino of ${name}`);
      if (JSON.stringify(seen.get(index)) !== JSON.stringify(child)) throw new Error(name);
      visit(found, `${path}/${name}`, child);
    }
  };
  const attr = new Attr();
  layer.attr(layer.root, attr);
  visit(layer.root, '', attr);
  return lines.sort();
}

/** The same of a checkout. Times of what is no hard link of an object are those of the checkout, and count as 0. */
function walkDirectory(root: string): string[] {
  const lines: string[] = [];
  const visit = (path: string) => {
    const at = bytesOf(byteString(root) + path);
    const stat = lstatSync(at);
    const attr = Object.assign(new Attr(), {
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      nlink: stat.nlink,
      size: stat.size,
      mtimeSec: stat.isDirectory() || (stat.isFile() && stat.nlink > 1) ? stat.mtimeMs / 1000 : 0,
    });
    const names = native.listxattr(AT_FDCWD, at.toString('latin1'));
    const xattrs = (typeof names === 'number' ? [] : names)
      .map((name) => {
        const value = native.getxattr(AT_FDCWD, at.toString('latin1'), name);
        return `${name}=${Buffer.from(value as Uint8Array).toString('hex')}`;
      })
      .sort()
      .join(' ');
    if (stat.isFile()) lines.push(line(path, attr, { data: readFileSync(at), xattrs }));
    else if (stat.isSymbolicLink()) {
      const target = readlinkSync(at, 'buffer').toString('latin1');
      lines.push(line(path, attr, { target, xattrs }));
    } else lines.push(line(path, attr, { xattrs }));
    if (!stat.isDirectory()) return;
    for (const name of readdirSync(at, 'buffer')) visit(`${path}/${name.toString('latin1')}`);
  };
  visit('');
  return lines.sort();
}

for (const mode of MODES) {
  for (const verify of [false, true]) {
    test(`${mode}${verify ? ', verified' : ''}: the layer shows what a checkout shows`, (t) => {
      const store = commitTree(join(folder, String(verify)), mode, tree);
      const checkout = join(folder, `checkout-${mode}-${verify}`);
      const options = ['--force-copy-zerosized', '--process-passthrough-whiteouts'];
      ostree('checkout', `--repo=${store.path}`, ...options, store.commit, checkout);
      const problems: string[] = [];
      const layer = layerOf(store, { verify, onProblem: (message) => problems.push(message) });
      const shown = walkLayer(layer);
      layer.close();
      t.true(shown.length > 2000);
      t.deepEqual(differences(shown, walkDirectory(checkout)), []);
      t.deepEqual(problems, []);
    });
  }
}

/** Bytes in the memfds of objects that this process holds. */
function inMemory(): number {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        const path = `/proc/self/fd/${fd}`;
        return readlinkSync(path).includes('memfd:object') ? statSync(path).size : 0;
      } catch {
        // The one that the listing itself had open.
        return 0;
      }
    })
    .reduce((total, size) => total + size, 0);
}

/** What is only in one of two sorted lists, the first few. */
function differences(ours: string[], theirs: string[]): string[] {
  const [a, b] = [new Set(ours), new Set(theirs)];
  return [
    ...ours.filter((each) => !b.has(each)).map((each) => `+ ${each}`),
    ...theirs.filter((each) => !a.has(each)).map((each) => `- ${each}`),
  ].slice(0, 10);
}

/** A store of a tree of one's own. */
function storeOf(name: string, files: Record<string, string>, mode: 'bare' | 'archive'): Store {
  const root = join(folder, name, 'tree');
  for (const [path, data] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), data);
  }
  return commitTree(join(folder, name), mode, root);
}

function find(layer: CommitLayer, path: string): { node: CommitNode; attr: Attr } {
  const attr = new Attr();
  let node = layer.root;
  for (const name of path.split('/').filter((each) => each !== '')) {
    const next = layer.lookup(node, name, attr);
    if (next === undefined) throw new Error(`no ${path}`);
    node = next;
  }
  return { node, attr };
}

test('a whiteout in the payload is a device of its name; what cannot be one stays a file', (t) => {
  const files = {
    '.ostree-wh.gone': '',
    '.ostree-wh.': 'no name',
    '.ostree-wh..': 'a dot',
    '.ostree-wh.there': 'hidden by nobody',
    there: 'a file',
  };
  const layer = layerOf(storeOf('whiteouts', files, 'archive'));
  const { names } = layer.entries(layer.root);
  const expected = ['.ostree-wh.', '.ostree-wh..', '.ostree-wh.there', 'gone', 'there'];
  t.deepEqual(names.toSorted(), expected);
  t.is(find(layer, 'gone').attr.mode & S_IFMT, 0o020000);
  t.is(layer.lookup(layer.root, '.ostree-wh.gone', new Attr()), undefined);
  layer.close();
});

test('two paths of one object are two files', (t) => {
  const layer = layerOf(storeOf('same', { 'a/x': 'same', 'b/x': 'same' }, 'bare'));
  const [a, b] = [find(layer, 'a/x'), find(layer, 'b/x')];
  t.is(a.node.checksum, b.node.checksum);
  t.not(a.attr.ino, b.attr.ino);
  t.is(a.attr.nlink, 1);
  layer.close();
});

test('bare: bytes come from the object itself', (t) => {
  const store = storeOf('direct', { file: 'some data' }, 'bare');
  const layer = layerOf(store);
  const { node } = find(layer, 'file');
  const segments = new Segments();
  layer.read(node, 2, 4, segments);
  const [fd = -1, offset, length] = segments.values;
  t.deepEqual([offset, length, segments.count], [2, 4, 1]);
  const object = statSync(objectPath(store.path, node.checksum, 'file'));
  t.is(statSync(`/proc/self/fd/${fd}`).ino, object.ino);
  layer.close();
});

test('archive: inflated once while it is in use, and within the bound', (t) => {
  const files = Object.fromEntries(
    Array.from({ length: 20 }, (_, index) => [`f${index}`, String(index).repeat(40_000)]),
  );
  const store = storeOf('cache', files, 'archive');
  const layer = layerOf(store, { cacheBytes: 300_000 });
  const fdOf = (name: string) => {
    const segments = new Segments();
    layer.read(find(layer, name).node, 0, 10, segments);
    return segments.values[0] ?? -1;
  };
  t.is(fdOf('f1'), fdOf('f1'));
  for (const name of Object.keys(files)) {
    fdOf(name);
    t.true(inMemory() <= 300_000, `${inMemory()}`);
  }
  // Evicted by now, and inflated again.
  const { node, attr } = find(layer, 'f1');
  t.is(bytesIn(layer, node, attr.size).toString(), '1'.repeat(40_000));
  layer.close();
  t.is(inMemory(), 0);
});

test('archive: a file larger than the whole cache is served all the same', (t) => {
  const files = { huge: 'h'.repeat(500_000), large: 'l'.repeat(400_000) };
  const layer = layerOf(storeOf('huge', files, 'archive'), { cacheBytes: 100_000 });
  for (const [name, data] of [...Object.entries(files), ...Object.entries(files)]) {
    const { node, attr } = find(layer, name);
    t.is(bytesIn(layer, node, attr.size).toString(), data);
  }
  layer.close();
});

const FILES = { 'd/lost': 'lost', 'd/good': 'good', 'e/other': 'other' };

for (const mode of ['bare', 'archive'] as const) {
  const extension = mode === 'archive' ? 'filez' : 'file';

  test(`${mode}: a missing file is EIO alone, and told once`, (t) => {
    const store = storeOf(`missing-${mode}`, FILES, mode);
    const told: string[] = [];
    const probe = layerOf(store);
    const { checksum } = find(probe, 'd/lost').node;
    probe.close();
    rmSync(objectPath(store.path, checksum, extension));
    const layer = layerOf(store, { onProblem: (message) => told.push(message) });
    const directory = find(layer, 'd').node;
    const lost = () => layer.lookup(directory, 'lost', new Attr());
    t.throws(lost, { instanceOf: FsError, code: 'EIO' });
    t.throws(lost, { instanceOf: FsError, code: 'EIO' });
    t.deepEqual(layer.entries(directory).names, ['good', 'lost']);
    const { node, attr } = find(layer, 'd/good');
    t.is(bytesIn(layer, node, attr.size).toString(), 'good');
    t.is(told.length, 1);
    t.true(told[0]?.includes(checksum));
    t.deepEqual(layer.problems(), told);
    layer.close();
  });

  test(`${mode}: a changed file is EIO when it is read${mode === 'bare' ? ', if verified' : ''}`, (t) => {
    const store = storeOf(`changed-${mode}`, FILES, mode);
    const layer = layerOf(store, { verify: true });
    const { node, attr } = find(layer, 'd/lost');
    const object = objectPath(store.path, node.checksum, extension);
    const bytes = readFileSync(object);
    const at = mode === 'bare' ? 0 : bytes.length - 3;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(object, bytes);
    t.throws(() => bytesIn(layer, node, attr.size), { instanceOf: FsError, code: 'EIO' });
    t.is(layer.problems().length, 1);
    layer.close();
  });

  test(`${mode}: a directory whose dirtree is missing is there, but cannot be read`, (t) => {
    const store = storeOf(`treeless-${mode}`, FILES, mode);
    const probe = layerOf(store);
    const { checksum } = find(probe, 'd').node;
    probe.close();
    rmSync(objectPath(store.path, checksum, 'dirtree'));
    const layer = layerOf(store);
    const { node } = find(layer, 'd');
    t.throws(() => layer.entries(node), { instanceOf: FsError, code: 'EIO' });
    t.is(bytesIn(layer, find(layer, 'e/other').node, 5).toString(), 'other');
    layer.close();
  });
}

test('a pulled file that its bare-user-only name does not fit is served, and told of', (t) => {
  if (process.getuid?.() !== 0) {
    t.log('only root can make a file of another owner');
    t.pass();
    return;
  }
  const source = storeOf('foreign', { file: 'data' }, 'bare');
  const root = join(folder, 'foreign', 'tree');
  execFileSync('chown', ['1000:1000', join(root, 'file')]);
  const commit = addCommit(source.path, 'main', root);
  const path = join(folder, 'foreign', 'pulled');
  ostree('init', `--repo=${path}`, '--mode=bare-user-only');
  ostree('pull-local', `--repo=${path}`, source.path, 'main');
  const layer = layerOf({ path, commit }, { verify: true });
  const { node, attr } = find(layer, 'file');
  t.is(bytesIn(layer, node, attr.size).toString(), 'data');
  t.is(layer.problems().length, 1);
  layer.close();
});
