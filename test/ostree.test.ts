// Reading repositories that the real `ostree` made.
import {
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SessionError } from '../src/errors.ts';
import { native } from '../src/native.ts';
import { contents, verifyFile, verifySymlink } from '../src/ostree/data.ts';
import { fileInfo } from '../src/ostree/content.ts';
import { formatEntry } from '../src/ostree/entry-line.ts';
import { findFile, listTree } from '../src/ostree/listing.ts';
import { parseFileXattrs, sha256 } from '../src/ostree/objects.ts';
import { fileXattrs } from '../src/ostree/object-bytes.ts';
import { resolveRevision } from '../src/ostree/refs.ts';
import { ObjectError } from '../src/ostree/failures.ts';
import { Repository } from '../src/ostree/repo.ts';
import {
  MODES,
  addCommit,
  byteString,
  commitTree,
  objectPath,
  objectsOf,
  ostree,
  plantEverything,
  remove,
  scratch,
  type RepositoryMode,
  type Store,
} from './helpers/repositories.ts';

const folder = scratch();
test.after.always(() => remove(folder));

const tree = join(folder, 'tree');
plantEverything(tree);
const stores = new Map<RepositoryMode, Store>(
  MODES.map((mode) => [mode, commitTree(folder, mode, tree)]),
);

function storeOf(mode: RepositoryMode): Store {
  const store = stores.get(mode);
  if (store === undefined) throw new Error(mode);
  return store;
}

/** Opens, runs, closes. */
async function reading<T>(
  path: string,
  use: (repository: Repository) => T | Promise<T>,
): Promise<T> {
  const repository = Repository.open(native, byteString(path));
  try {
    return await use(repository);
  } finally {
    repository.close();
  }
}

function openCommit(repository: Repository, checksum: string) {
  return repository.commitToRead(checksum, { allowPartial: true });
}

function list(
  repository: Repository,
  checksum: string,
  options: { path?: string; depth?: number; checksum?: boolean; xattrs?: boolean },
): string {
  const { path = '/', ...rest } = options;
  const lines = [...listTree(repository, openCommit(repository, checksum), path, rest)].map(
    (entry) => `${formatEntry(entry, rest)}\n`,
  );
  return Buffer.from(lines.join(''), 'latin1').toString();
}

async function bytesAt(repository: Repository, checksum: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of contents(repository, checksum)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

for (const mode of MODES) {
  test(`${mode}: the commit says what was committed`, async (t) => {
    const { path, commit } = storeOf(mode);
    await reading(path, (repository) => {
      t.is(repository.mode, mode);
      const { subject, body, timestamp, parent, metadata } = openCommit(repository, commit);
      t.deepEqual([subject, body, timestamp, parent], ['subj', 'body text', 1704164645, undefined]);
      t.is(metadata.get('ostree.ref-binding')?.type, 'as');
    });
  });

  test(`${mode}: every file and symlink hashes to its name`, async (t) => {
    const { path } = storeOf(mode);
    const objects = objectsOf(path, mode === 'archive' ? 'filez' : 'file');
    t.true(objects.length > 250, `only ${objects.length}`);
    await reading(path, async (repository) => {
      for (const checksum of objects) await verifyFile(repository, checksum);
    });
    t.pass();
  });

  test(`${mode}: ls -RCX prints what the real one prints`, async (t) => {
    const { path, commit } = storeOf(mode);
    const expected = ostree('ls', `--repo=${path}`, '-RCX', commit).toString();
    t.true(expected.split('\n').length > 2000);
    await reading(path, (repository) => {
      const ours = list(repository, commit, { depth: Infinity, checksum: true, xattrs: true });
      t.deepEqual(ours.split('\n'), expected.split('\n'));
    });
  });

  test(`${mode}: cat prints what the real one prints`, async (t) => {
    const { path, commit } = storeOf(mode);
    const paths = ['usr/lib/large.bin', 'usr/lib/zeros.bin', 'usr/lib/empty', 'bin/link'];
    await reading(path, async (repository) => {
      for (const each of paths) {
        const checksum = findFile(repository, openCommit(repository, commit), each);
        const expected = readFileSync(join(tree, each));
        t.true((await bytesAt(repository, checksum)).equals(expected), each);
      }
    });
  });
}

test('ls shows one level, one entry or one file, as the real one does', async (t) => {
  const { path, commit } = storeOf('bare');
  const real = (...args: string[]) => ostree('ls', `--repo=${path}`, ...args).toString();
  await reading(path, (repository) => {
    t.is(list(repository, commit, {}), real(commit));
    t.is(list(repository, commit, { path: '/usr', depth: 0 }), real('-d', commit, '/usr'));
    t.is(list(repository, commit, { path: 'usr/bin' }), real(commit, 'usr/bin'));
    const attributes = { path: '/usr/attributes/many', xattrs: true, checksum: true };
    t.is(list(repository, commit, attributes), real('-CX', commit, '/usr/attributes/many'));
  });
});

const noPath = test.macro({
  async exec(t, path: string) {
    const store = storeOf('bare');
    await reading(store.path, (repository) => {
      t.throws(() => list(repository, store.commit, { path }), { instanceOf: SessionError });
    });
  },
  title: (given = '') => `ls refuses ${given}`,
});
test('a path that is not there', noPath, '/usr/nothing');
test('a path below a file', noPath, '/usr/bin/program/x');
test('a path below a symlink', noPath, '/bin/program');

const noFile = test.macro({
  async exec(t, path: string) {
    const store = storeOf('bare');
    await reading(store.path, (repository) => {
      const commit = openCommit(repository, store.commit);
      t.throws(() => findFile(repository, commit, path), { instanceOf: SessionError });
    });
  },
  title: (given = '') => `cat refuses ${given}`,
});
test('a directory', noFile, '/usr');
test('a dangling symlink', noFile, '/usr/bin/dangling');
test('a symlink to itself', noFile, '/usr/loop');
test('a name that is not there', noFile, '/usr/bin/no');

test('a repository stays readable when its path is gone', async (t) => {
  const { path, commit } = commitTree(join(folder, 'moving'), 'archive', tree);
  const elsewhere = join(folder, 'moving', 'elsewhere');
  await reading(path, async (repository) => {
    renameSync(path, elsewhere);
    try {
      t.regex(list(repository, commit, { depth: Infinity }), /entry-01999/);
      const program = findFile(repository, openCommit(repository, commit), 'usr/bin/program');
      t.is((await bytesAt(repository, program)).toString(), 'hello\n');
    } finally {
      renameSync(elsewhere, path);
    }
  });
});

test('reading changes no access time', async (t) => {
  const { path, commit } = storeOf('bare');
  await reading(path, async (repository) => {
    const program = findFile(repository, openCommit(repository, commit), 'usr/bin/program');
    const file = objectPath(path, program, 'file');
    utimesSync(file, 1, 0);
    await bytesAt(repository, program);
    t.is(statSync(file).atimeMs, 1000);
  });
});

test('the split-xattrs repository, which the tool cannot write, is one that it accepts', (t) => {
  const { path } = storeOf('bare-split-xattrs');
  t.regex(ostree('fsck', `--repo=${path}`).toString(), /no errors found/);
});

test('files of a split-xattrs repository have their attributes beside them', async (t) => {
  const { path } = storeOf('bare-split-xattrs');
  const links = objectsOf(path, 'file-xattrs-link');
  t.deepEqual(links, objectsOf(path, 'file'));
  for (const checksum of objectsOf(path, 'file-xattrs')) {
    const bytes = readFileSync(objectPath(path, checksum, 'file-xattrs'));
    t.is(sha256(bytes), checksum);
    t.deepEqual(fileXattrs(parseFileXattrs(bytes)), bytes);
  }
});

test('disable-xattrs makes the attributes of a bare repository count as none', async (t) => {
  const store = commitTree(join(folder, 'disabled'), 'bare', smallTree('disabled'));
  ostree('config', `--repo=${store.path}`, 'set', 'core.disable-xattrs', 'true');
  await reading(store.path, (repository) => {
    for (const checksum of objectsOf(store.path, 'file')) {
      t.deepEqual(fileInfo(repository, checksum).xattrs, []);
    }
  });
});

function smallTree(name: string): string {
  const root = join(folder, `${name}-tree`);
  plantEverything(root, { many: 3 });
  return root;
}

test('objects and refs that are missing are found in the parent', async (t) => {
  for (const mode of ['bare', 'archive'] as const) {
    const parent = storeOf(mode);
    const child = join(folder, `child-of-${mode}`);
    ostree('init', `--repo=${child}`, '--mode=bare-user');
    ostree('config', `--repo=${child}`, 'set', 'core.parent', parent.path);
    await reading(child, async (repository) => {
      t.is(resolveRevision(repository, 'main'), parent.commit);
      t.is(resolveRevision(repository, parent.commit.slice(0, 10)), parent.commit);
      const expected = ostree('ls', `--repo=${parent.path}`, '-RCX', 'main').toString();
      const all = { depth: Infinity, checksum: true, xattrs: true };
      t.is(list(repository, parent.commit, all), expected);
      const program = findFile(repository, openCommit(repository, parent.commit), 'bin/program');
      t.is((await bytesAt(repository, program)).toString(), 'hello\n');
    });
  }
});

test('parents that go round in a circle are refused', (t) => {
  const [one, two] = [join(folder, 'circle-1'), join(folder, 'circle-2')];
  for (const path of [one, two]) ostree('init', `--repo=${path}`, '--mode=bare');
  for (const [path, other] of [
    [one, two],
    [two, one],
  ] as const) {
    const config = join(path, 'config');
    writeFileSync(config, `${readFileSync(config, 'utf8')}parent=${other}\n`);
  }
  t.throws(() => Repository.open(native, byteString(one)), {
    instanceOf: SessionError,
    message: /circle/,
  });
});

test('revisions: checksums, their beginnings, refs, remotes, aliases and parents', async (t) => {
  const root = smallTree('revisions');
  const { path, commit: first } = commitTree(join(folder, 'revisions'), 'archive', root);
  const second = addCommit(path, 'main', root);
  const third = addCommit(
    path,
    'a/nested-ref',
    root,
    '--parent=none',
    '--timestamp=1970-01-01 00:00:00 +0000',
  );
  ostree('refs', `--repo=${path}`, '--create=far:main', third);
  symlinkSync('a/nested-ref', join(path, 'refs/heads/alias'));
  const revisions = {
    [first]: first,
    [second.slice(0, 12)]: second,
    main: second,
    'main^': first,
    [`${second.slice(0, 9)}^`]: first,
    'a/nested-ref': third,
    'far:main': third,
    alias: third,
  };
  await reading(path, (repository) => {
    for (const [revision, expected] of Object.entries(revisions)) {
      t.is(resolveRevision(repository, revision), expected, revision);
      t.is(ostree('rev-parse', `--repo=${path}`, revision).toString().trim(), expected, revision);
    }
  });
});

test('a ref of one remote needs no prefix; of two remotes that differ, it does', async (t) => {
  const root = smallTree('remotes');
  const { path, commit: first } = commitTree(join(folder, 'remotes'), 'archive', root);
  const second = addCommit(path, 'main', root);
  ostree('refs', `--repo=${path}`, '--create=near:stable', first);
  await reading(path, (repository) => {
    t.is(resolveRevision(repository, 'stable'), first);
    ostree('refs', `--repo=${path}`, '--create=far:stable', second);
    const error = t.throws(() => resolveRevision(repository, 'stable'), {
      instanceOf: SessionError,
    });
    t.regex(error.message, /far:stable, near:stable/);
  });
});

test('an ambiguous beginning lists the candidates', async (t) => {
  const root = smallTree('ambiguous');
  const { path, commit } = commitTree(join(folder, 'ambiguous'), 'archive', root);
  const commits = [commit];
  // Sixteen first digits: among seventeen commits, two share one.
  for (let count = 0; count < 16; count++) {
    commits.push(addCommit(path, 'main', root, `--timestamp=2024-01-02 00:00:${count} +0000`));
  }
  const digits = commits.map((each) => each.charAt(0));
  const shared = digits.find((each, index) => digits.indexOf(each) !== index) ?? '';
  const candidates = commits.filter((each) => each.startsWith(shared));
  await reading(path, (repository) => {
    const error = t.throws(() => resolveRevision(repository, shared), {
      instanceOf: SessionError,
    });
    for (const candidate of candidates) t.true(error.message.includes(candidate));
    t.throws(() => resolveRevision(repository, `${commit}^`), { message: /no parent/ });
  });
});

const noRevision = test.macro({
  async exec(t, revision: string) {
    await reading(storeOf('bare').path, (repository) => {
      const error = t.throws(() => resolveRevision(repository, revision), {
        instanceOf: SessionError,
      });
      t.notRegex(error.message, /\n/);
    });
  },
  title: (given = '') => `no revision: ${given}`,
});
test('an unknown ref', noRevision, 'nothing');
test('an unknown ref of a remote', noRevision, 'far:main');
test('a beginning that fits nothing', noRevision, '00000000000000000000000000');
test('the empty string', noRevision, '');
test('only a caret', noRevision, '^');
test('a ref that climbs', noRevision, '../heads/main');
test('a ref that climbs later', noRevision, 'a/../main');
test('an absolute path', noRevision, '/etc/passwd');
test('a NUL', noRevision, 'main\0');

test('a deleted commit is refused as deleted', async (t) => {
  const root = smallTree('tombstone');
  const { path, commit } = commitTree(join(folder, 'tombstone'), 'archive', root);
  addCommit(path, 'main', root);
  ostree('config', `--repo=${path}`, 'set', 'core.tombstone-commits', 'true');
  ostree('prune', `--repo=${path}`, '--delete-commit', commit);
  t.is(objectsOf(path, 'tombstone-commit').length, 1);
  await reading(path, (repository) => {
    t.throws(() => openCommit(repository, commit), {
      instanceOf: SessionError,
      message: /deleted/,
    });
  });
});

test('a partial commit is refused, unless that is allowed', async (t) => {
  const { path: source } = commitTree(join(folder, 'partial'), 'archive', smallTree('partial'));
  const path = join(folder, 'partial-pulled');
  ostree('init', `--repo=${path}`, '--mode=archive');
  ostree('pull-local', `--repo=${path}`, '--commit-metadata-only', source, 'main');
  await reading(path, (repository) => {
    const commit = resolveRevision(repository, 'main');
    const error = t.throws(() => repository.commitToRead(commit, { allowPartial: false }), {
      instanceOf: SessionError,
      message: /partial/,
    });
    t.regex(error.remedy ?? '', /--allow-partial/);
    const { tree: root } = repository.commitToRead(commit, { allowPartial: true });
    t.throws(() => repository.dirTree(root), { instanceOf: ObjectError, message: /missing/ });
  });
});

test('detached metadata of a commit is no part of it', async (t) => {
  const root = smallTree('detached');
  const { path } = commitTree(join(folder, 'detached'), 'archive', root);
  const commit = addCommit(path, 'main', root, '--add-detached-metadata-string=signed=no');
  t.deepEqual(objectsOf(path, 'commitmeta'), [commit]);
  await reading(path, (repository) => {
    t.false(openCommit(repository, commit).metadata.has('signed'));
  });
});

test('a commit that is not there is refused', async (t) => {
  await reading(storeOf('bare').path, (repository) => {
    t.throws(() => openCommit(repository, '0'.repeat(64)), { instanceOf: SessionError });
  });
});

test('a metadata object that was changed is refused by its name', async (t) => {
  const store = commitTree(join(folder, 'changed'), 'archive', smallTree('changed'));
  await reading(store.path, (repository) => {
    const { tree: root, meta } = openCommit(repository, store.commit);
    for (const [checksum, extension] of [
      [root, 'dirtree'],
      [meta, 'dirmeta'],
    ] as const) {
      const file = objectPath(store.path, checksum, extension);
      const bytes = readFileSync(file);
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      const read = () =>
        extension === 'dirtree' ? repository.dirTree(checksum) : repository.dirMeta(checksum);
      const error = t.throws(read, { instanceOf: ObjectError, message: /checksum/ });
      t.is(error.object, `${checksum}.${extension}`);
    }
  });
});

for (const mode of ['bare', 'bare-user', 'archive', 'bare-split-xattrs'] as const) {
  test(`${mode}: changed data is noticed`, async (t) => {
    const store = commitTree(join(folder, `flipped-${mode}`), mode, smallTree(`flipped-${mode}`));
    await reading(store.path, async (repository) => {
      const commit = openCommit(repository, store.commit);
      const checksum = findFile(repository, commit, '/usr/lib/large.bin');
      const file = objectPath(store.path, checksum, mode === 'archive' ? 'filez' : 'file');
      const bytes = readFileSync(file);
      bytes[100_000] = (bytes[100_000] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      await t.throwsAsync(verifyFile(repository, checksum), { instanceOf: ObjectError });
    });
  });
}

test('a changed symlink is noticed', async (t) => {
  const store = commitTree(join(folder, 'relinked'), 'bare', smallTree('relinked'));
  await reading(store.path, (repository) => {
    const entries = [...listTree(repository, openCommit(repository, store.commit), '/bin')];
    const checksum = entries[0]?.checksum ?? '';
    verifySymlink(repository, checksum);
    const file = objectPath(store.path, checksum, 'file');
    rmSync(file);
    symlinkSync('usr/lib', file);
    t.throws(() => verifySymlink(repository, checksum), { instanceOf: ObjectError });
  });
});

const noRepository = test.macro({
  exec(t, config: string | undefined, expected: RegExp) {
    const path = join(folder, `config-${t.title.replaceAll(/\W/g, '-')}`);
    ostree('init', `--repo=${path}`, '--mode=bare');
    if (config === undefined) rmSync(join(path, 'config'));
    else writeFileSync(join(path, 'config'), config);
    const error = t.throws(() => Repository.open(native, byteString(path)), {
      instanceOf: SessionError,
      message: expected,
    });
    t.notRegex(error.message, /\n/);
  },
  title: (given = '') => `no repository: ${given}`,
});
test('without a config', noRepository, undefined, /no config/);
test('an empty config', noRepository, '', /repo_version/);
test('another version', noRepository, '[core]\nrepo_version=2\nmode=bare\n', /repo_version/);
test('another mode', noRepository, '[core]\nrepo_version=1\nmode=odd\n', /'odd'/);
test('archive=true', noRepository, '[core]\nrepo_version=1\narchive=true\n', /archive=true/);
test('a line of nonsense', noRepository, '[core]\nrepo_version=1\nnonsense\n', /line 3/);
test('a key before any group', noRepository, 'repo_version=1\n', /line 1/);
test('a relative parent', noRepository, '[core]\nrepo_version=1\nparent=x\n', /absolute/);
test('no parent there', noRepository, '[core]\nrepo_version=1\nparent=/no/such\n', /parent/);

test('a directory that is no repository, and a path that is no directory, are refused', (t) => {
  for (const path of [tree, join(tree, 'usr/bin/program'), join(tree, 'nothing')]) {
    t.throws(() => Repository.open(native, byteString(path)), { instanceOf: SessionError });
  }
});

test('a config without a mode is one of a bare repository', async (t) => {
  const { path, commit } = commitTree(join(folder, 'modeless'), 'bare', smallTree('modeless'));
  writeFileSync(join(path, 'config'), '# by hand\n\n[ core ]\nx=y\n[core]\nrepo_version = 1\n');
  await reading(path, (repository) => {
    t.is(repository.mode, 'bare');
    t.regex(list(repository, commit, { depth: Infinity }), /program/);
  });
});
