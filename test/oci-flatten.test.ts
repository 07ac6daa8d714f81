import test from 'ava';
import { ImageTree } from '../src/oci/flatten.ts';
import { tarEntry, type TarEntry } from '../src/oci/tar.ts';

const dir = (path: string) => tarEntry('directory', path);
const file = (path: string) => tarEntry('file', path);
const symlink = (path: string, target: string) => tarEntry('symlink', path, { target });
const link = (path: string, target: string) => tarEntry('link', path, { target });

/** Applies layers, and lists what is there: a path, and of files `layer.index`. */
function flattened(...layers: TarEntry[][]): string[] {
  const tree = new ImageTree();
  for (const [number, entries] of layers.entries()) {
    const layer = tree.layer(number);
    for (const each of entries) layer.apply(each);
  }
  return [...tree.walk()].map(({ path, node }) => {
    if (node.kind === 'file') return `${path} ${node.layer}.${node.index}`;
    if (node.kind === 'symlink') return `${path} -> ${node.target}`;
    return node.kind === 'directory' ? `${path}/` : `${path} ${node.what}`;
  });
}

test('a later layer replaces, removes and adds', (t) => {
  t.deepEqual(
    flattened(
      [dir('./'), dir('a'), file('a/kept'), file('a/gone'), file('a/new'), file('f')],
      [file('a/.wh.gone'), file('./a/new'), dir('f'), file('f/inside'), file('x/y/z')],
    ),
    ['/a/', '/a/kept 0.2', '/a/new 1.1', '/f/', '/f/inside 1.3', '/x/', '/x/y/', '/x/y/z 1.4'],
  );
});

test('whiteouts are about the layers below, whatever their place in the layer', (t) => {
  const below = [file('d/old'), file('d/sub/old'), file('e/old')];
  for (const opaque of [
    [file('d/.wh..wh..opq'), file('d/new'), file('d/sub/new')],
    [file('d/new'), file('d/sub/new'), file('d/.wh..wh..opq')],
  ]) {
    const names = flattened(below, opaque).map((line) => line.split(' ')[0]);
    t.deepEqual(names, ['/d/', '/d/new', '/d/sub/', '/d/sub/new', '/e/', '/e/old']);
  }
  for (const replaced of [
    [file('.wh.d'), file('d/new')],
    [file('d/new'), file('.wh.d')],
  ]) {
    const names = flattened(below, replaced).map((line) => line.split(' ')[0]);
    t.deepEqual(names, ['/d/', '/d/new', '/e/', '/e/old']);
  }
  t.deepEqual(flattened([file('a'), file('.wh..wh.plnk'), file('.wh.none')]), ['/a 0.0']);
});

test('links are the file they lead to, in their layer and below', (t) => {
  t.deepEqual(flattened([file('a'), link('b', './a')], [link('c', 'b'), file('.wh.a')]), [
    '/b 0.0',
    '/c 0.0',
  ]);
});

test('a symlink on the way is followed, and leads nowhere out', (t) => {
  t.deepEqual(
    flattened([
      dir('usr'),
      dir('usr/bin'),
      symlink('bin', 'usr/bin'),
      symlink('up', '../../../usr'),
      symlink('abs', '/usr/bin'),
      file('bin/a'),
      file('up/b'),
      file('abs/c'),
      link('bin/d', 'abs/c'),
    ]),
    [
      '/abs -> /usr/bin',
      '/bin -> usr/bin',
      '/up -> ../../../usr',
      '/usr/',
      '/usr/b 0.6',
      '/usr/bin/',
      '/usr/bin/a 0.5',
      '/usr/bin/c 0.7',
      '/usr/bin/d 0.7',
    ],
  );
});

test('attributes without a value are left out', (t) => {
  const none: [string, Uint8Array] = ['user.none', Buffer.alloc(0)];
  const z: [string, Uint8Array] = ['user.z', Buffer.from('z')];
  const tree = new ImageTree();
  const application = tree.layer(0);
  const a: [string, Uint8Array] = ['user.a', Buffer.from('a')];
  application.apply(tarEntry('file', 'a', { xattrs: new Map([z, none, a]) }));
  application.apply(tarEntry('file', 'b', { xattrs: new Map([none]) }));
  const names = [...tree.walk()].map(({ node }) =>
    node.kind === 'special' ? [] : node.meta.xattrs.map(({ name }) => name),
  );
  t.deepEqual(names, [['user.a', 'user.z'], []]);
});

const refused = test.macro({
  exec(t, entries: TarEntry[], message: RegExp) {
    t.throws(() => flattened(entries), { name: 'SessionError', message });
  },
  title: (_, __, message: RegExp) => `refused: ${message.source}`,
});

test(refused, [file('/etc/passwd')], /'\/etc\/passwd', which is absolute/);
test(refused, [file('a/../../b')], /'a\/\.\.\/\.\.\/b', which leads upwards/);
test(refused, [file('..')], /'\.\.', which leads upwards/);
test(refused, [file(`a/${'n'.repeat(256)}`)], /has a name over 255 bytes/);
test(refused, [file('')], /'', which is empty/);
test(refused, [file('a'), file('./a')], /a is in the layer twice/);
test(refused, [dir('d'), file('d')], /d is in the layer twice/);
test(refused, [file('f'), file('f/below')], /f\/below lies below what is no directory/);
test(refused, [symlink('l', 'l'), file('l/x')], /l\/x lies below what is no directory/);
test(refused, [link('a', '../../etc/shadow')], /'\.\.\/\.\.\/etc\/shadow', which leads upwards/);
test(refused, [link('a', '/etc/shadow')], /'\/etc\/shadow', which is absolute/);
test(refused, [link('a', 'none')], /a is a link to none, which is not there/);
test(refused, [link('a', 'a')], /a is a link to a, which is not there/);
test(refused, [dir('d'), link('a', 'd')], /a is a link to a directory/);
