/** What every lower must do, each case written once: over directories, stacked ones, and commits of each mode. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CommitLayer } from '../src/layers/commit.ts';
import {
  Attr,
  type LowerLayer,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  Segments,
} from '../src/layers/layer.ts';
import { native } from '../src/native.ts';
import { Repository } from '../src/ostree/repo.ts';
import { BIG, bytesOf, directory, FILES, LINKS, Lower, plant } from './helpers/layers.ts';
import { byteString, commitTree, MODES, remove, scratch } from './helpers/repositories.ts';

const AT_FDCWD = -100;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const FOLDER = scratch();
test.after.always(() => remove(FOLDER));
const TREE = plant(join(FOLDER, 'tree'));

/** The tree over two directories: files of one hide those of the other, a whiteout hides what is below it. */
function stacked(): LowerLayer<object>[] {
  const top = plant(join(FOLDER, 'top'), (path) => path === 'f' || path === 'd/x');
  const bottom = plant(join(FOLDER, 'bottom'), (path) => path !== 'f');
  writeFileSync(join(bottom, 'f'), 'hidden');
  writeFileSync(join(bottom, 'gone'), 'hidden');
  // Only root can; without it there is nothing to be hidden.
  if (native.mknodat(AT_FDCWD, byteString(join(top, 'gone')), 0o020000, 0, 0) < 0) {
    rmSync(join(bottom, 'gone'));
  }
  return [directory(top, true), directory(bottom)];
}

const LOWERS: Readonly<Record<string, () => LowerLayer<object>[]>> = {
  'a directory': () => [directory(TREE)],
  'two directories': stacked,
  ...Object.fromEntries(
    MODES.map((mode) => [
      `a commit, ${mode}`,
      () => {
        const store = commitTree(FOLDER, mode, TREE);
        const repository = Repository.open(native, byteString(store.path));
        const { tree, meta } = repository.commitToRead(store.commit, { allowPartial: false });
        return [new CommitLayer(native, repository, { tree, meta })];
      },
    ]),
  ),
};

function overLowers(title: string, run: (t: ExecutionContext, lower: Lower) => void): void {
  for (const [kind, make] of Object.entries(LOWERS)) {
    test.serial(`${title} [${kind}]`, (t) => {
      lowers[kind] ??= new Lower(make());
      run(t, lowers[kind]);
    });
  }
}
const lowers: Record<string, Lower> = {};

overLowers('a lower shows names with type, size and permissions', (t, lower) => {
  for (const [path, data] of Object.entries(FILES)) {
    const { attr } = lower.at(path);
    t.is(attr.mode, S_IFREG | (path === 'f' ? 0o755 : 0o644), path);
    t.is(attr.size, data.length, path);
  }
  t.is(lower.at('d').attr.mode & S_IFMT, S_IFDIR);
  t.is(lower.at('inside').attr.mode & S_IFMT, S_IFLNK);
});

overLowers('what a lower does not have is undefined', (t, lower) => {
  for (const name of ['no', 'F', 'gone', '\u00ff', 'n'.repeat(255)]) {
    t.is(lower.find(name), undefined, name);
    t.is(lower.find(`d/${name}`), undefined, name);
  }
});

overLowers('a lower lists what it has, with the types and numbers of lookup', (t, lower) => {
  for (const [path, expected] of [
    ['', ['big', 'd', 'empty', 'f', 'inside', 'outside']],
    ['d', ['sub', 'x']],
    ['d/sub', ['y']],
  ] as const) {
    const { names, types, inos } = lower.stack.entries(lower.find(path) ?? []);
    t.deepEqual(names.toSorted(), expected);
    for (const [index, name] of names.entries()) {
      const { attr } = lower.at(`${path}/${name}`);
      t.is(types[index], (attr.mode & S_IFMT) >>> 12, name);
      t.is(inos[index], attr.ino, name);
    }
    t.deepEqual(lower.stack.entries(lower.find(path) ?? []).names, names, 'the same order');
  }
});

overLowers('attributes are the same however a lower is asked', (t, lower) => {
  for (const { layer, node } of lower.at('d').refs) {
    const { names } = layer.entries(node);
    layer.statMany(node, names, 0, names.length, (index, attr) => {
      const name = names[index] ?? '';
      const [found, same, again] = [new Attr(), new Attr(), new Attr()];
      const child = layer.lookup(node, name, found);
      layer.attr(child ?? node, same);
      layer.attr(layer.child(node, name), again);
      t.deepEqual([attr, same, again], [found, found, found]);
    });
  }
});

overLowers('a lower gives any run of bytes', (t, lower) => {
  const { top, attr } = lower.at('big');
  for (const [from, length] of [
    [0, attr.size],
    [1, 4095],
    [65_535, 70_000],
    [attr.size - 1, 1],
  ] as const) {
    const segments = new Segments();
    top.layer.read(top.node, from, length, segments);
    t.true(bytesOf(segments).equals(BIG.subarray(from, from + length)), `${length} from ${from}`);
  }
});

overLowers('a symlink is shown, never followed', (t, lower) => {
  for (const [path, target] of Object.entries(LINKS)) {
    const { top, attr } = lower.at(path);
    t.is(top.layer.readlink(top.node), target);
    t.is(attr.size, target.length);
  }
  const { top } = lower.at('f');
  t.throws(() => top.layer.readlink(top.node), { code: 'EINVAL' });
});

overLowers('numbers of files are constant, and no two have the same', (t, lower) => {
  const paths = [...Object.keys(FILES), ...Object.keys(LINKS), 'd', 'd/sub'];
  const inos = () => paths.map((path) => lower.at(path).attr.ino);
  t.deepEqual(inos(), inos());
  t.is(new Set(inos()).size, paths.length);
  t.true(inos().every((ino) => Number.isSafeInteger(ino) && ino > 0));
});

overLowers('data ends where the file ends', (t, lower) => {
  const { top, attr } = lower.at('big');
  t.is(top.layer.seek(top.node, 0, SEEK_DATA), 0);
  t.is(top.layer.seek(top.node, 100, SEEK_HOLE), attr.size);
  t.throws(() => top.layer.seek(top.node, attr.size, SEEK_DATA), { code: 'ENXIO' });
});

overLowers('extended attributes: those that are there, and undefined', (t, lower) => {
  const { top } = lower.at('f');
  const value = top.layer.getxattr(top.node, 'user.k');
  // The one mode that keeps none.
  const isKept = lower !== lowers['a commit, bare-user-only'];
  t.is(
    value === undefined ? undefined : Buffer.from(value).toString(),
    isKept ? 'value' : undefined,
  );
  t.is(top.layer.listxattr(top.node).includes('user.k'), isKept);
  t.is(top.layer.getxattr(top.node, 'user.none'), undefined);
});
