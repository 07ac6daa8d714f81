/** What our writer writes, as the real `ostree` sees it. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { SessionError, UsageError } from '../src/errors.ts';
import { native } from '../src/native.ts';
import { fileInfo, fileXattrs } from '../src/ostree/content.ts';
import { contents } from '../src/ostree/data.ts';
import { stringsVariant } from '../src/ostree/gvariant.ts';
import { initRepository } from '../src/ostree/init.ts';
import type { Checksum } from '../src/ostree/objects.ts';
import type { TreeDirectory, TreeFile } from '../src/ostree/dirtree.ts';
import { Repository } from '../src/ostree/repo.ts';
import { RepositoryWriter } from '../src/ostree/writer.ts';
import {
  addCommit,
  byteString,
  commitTree,
  ostree,
  plantEverything,
  remove,
  scratch,
  type Store,
  type WritableMode,
} from './helpers/repositories.ts';

const WRITABLE: WritableMode[] = ['bare', 'bare-user', 'bare-user-only', 'archive'];
const S_IFREG = 0o100000;
/** 2024-01-02 03:04:05 UTC, as `addCommit` has it. */
const TIMESTAMP = 1_704_164_645;

const folder = scratch();
const tree = join(folder, 'tree');
let source: Store;

test.before(() => {
  mkdirSync(tree);
  plantEverything(tree, { many: 700 });
  source = commitTree(folder, 'bare', tree);
});
test.after.always(() => remove(folder));

/** Writes a directory of one repository to another, object by object. */
async function copyTree(
  from: Repository,
  to: RepositoryWriter,
  checksum: Checksum,
): Promise<Checksum> {
  const { files, dirs } = from.dirTree(checksum);
  const ours: TreeFile[] = [];
  for (const [index, name] of files.names.entries()) {
    const file = files.checksum(index);
    const info = fileInfo(from, file);
    const header = { ...info, xattrs: info.xattrs ?? fileXattrs(from, file) };
    const data = (info.mode & 0o170000) === S_IFREG ? contents(from, file) : undefined;
    ours.push({ name, checksum: await to.writeContent(header, data) });
  }
  const below: TreeDirectory[] = [];
  for (const [index, name] of dirs.names.entries()) {
    const meta = to.writeDirMeta(from.dirMeta(dirs.checksum(index, 1)));
    below.push({ name, checksum: await copyTree(from, to, dirs.checksum(index)), meta });
  }
  return to.writeDirTree(ours, below);
}

/** Writes the commit of `source` into a repository of our own, to the branch `main`. */
async function copyCommit(path: string): Promise<Checksum> {
  const from = Repository.open(native, byteString(source.path));
  await using to = await RepositoryWriter.open(byteString(path));
  const commit = from.commit(source.commit);
  const checksum = to.writeCommit({
    metadata: new Map([['ostree.ref-binding', stringsVariant(['main'])]]),
    parent: undefined,
    subject: 'subj',
    body: 'body text',
    timestamp: TIMESTAMP,
    tree: await copyTree(from, to, commit.tree),
    meta: to.writeDirMeta(from.dirMeta(commit.meta)),
  });
  to.setRef('main', checksum);
  await to.finish();
  from.close();
  return checksum;
}

for (const mode of WRITABLE) {
  test(`${mode}: what we write is what the tool would have written`, async (t) => {
    const path = join(folder, `ours-${mode}`);
    initRepository(byteString(path), mode);
    const checksum = await copyCommit(path);
    const theirs = commitTree(join(folder, `theirs-${mode}`), mode, tree);
    t.is(checksum, theirs.commit);
    t.notThrows(() => ostree('fsck', `--repo=${path}`));
    t.deepEqual(
      ostree('ls', '-RCX', `--repo=${path}`, 'main'),
      ostree('ls', '-RCX', `--repo=${theirs.path}`, 'main'),
    );
    t.is(readFileSync(join(path, 'refs/heads/main'), 'utf8'), `${checksum}\n`);
    t.deepEqual(
      readdirSync(join(path, 'tmp')).filter((name) => name !== 'cache'),
      [],
    );
    // Checked out by the tool, committed by it again, it is the same tree.
    const out = join(folder, `out-${mode}`);
    ostree('checkout', `--repo=${path}`, 'main', out);
    ostree('pull-local', `--repo=${theirs.path}`, path, 'main');
    t.is(addCommit(theirs.path, 'again', out).length, 64);
    t.is(rootOf(theirs.path, 'again'), rootOf(path, 'main'));
  });
}

/** The checksum of a commit's tree. */
function rootOf(path: string, ref: string): string {
  return ostree('ls', '-dC', `--repo=${path}`, ref, '/').toString().split(/\s+/)[4] ?? '';
}

test('an object that is there is not written again, and what was not finished is nowhere', async (t) => {
  const path = join(folder, 'twice');
  initRepository(byteString(path), 'bare-user');
  await copyCommit(path);
  const before = ostree('fsck', `--repo=${path}`).toString();
  await copyCommit(path);
  t.is(ostree('fsck', `--repo=${path}`).toString(), before);
  {
    await using to = await RepositoryWriter.open(byteString(path));
    await to.writeContent({ uid: 0, gid: 0, mode: S_IFREG | 0o644, target: '', xattrs: [] }, [
      Buffer.from('never finished'),
    ]);
    to.setRef('other', source.commit);
  }
  t.false(existsSync(join(path, 'refs/heads/other')));
  t.deepEqual(readdirSync(join(path, 'tmp')), ['cache']);
  t.is(ostree('fsck', `--repo=${path}`).toString(), before);
});

test('while the tool prunes, a writer waits and says so', async (t) => {
  const path = join(folder, 'locked');
  initRepository(byteString(path), 'archive');
  writeFileSync(join(path, '.lock'), '');
  // As `ostree prune` locks it.
  const script = `import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
print('locked', flush=True)
sys.stdin.read()`;
  const holder = spawn('python3', ['-c', script, join(path, '.lock')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const said: string[] = [];
  const opening = RepositoryWriter.open(byteString(path), {
    onWait: (message) => {
      said.push(message);
      holder.stdin.end();
    },
  });
  await using writer = await opening;
  void writer;
  t.is(said.length, 1);
});

test('a ref may not be called anything, nor lie below another', async (t) => {
  const path = join(folder, 'refs');
  initRepository(byteString(path), 'archive');
  mkdirSync(join(path, 'refs/heads/a/b'), { recursive: true });
  writeFileSync(join(path, 'refs/heads/a/b/c'), `${source.commit}\n`);
  await using writer = await RepositoryWriter.open(byteString(path));
  for (const name of ['', '/', 'a/', '../x', '-x', 'a//b', 'x:y', 'ä']) {
    t.throws(() => writer.setRef(name, source.commit), { instanceOf: UsageError }, name);
  }
  for (const name of ['a', 'a/b', 'a/b/c/d']) {
    t.throws(() => writer.setRef(name, source.commit), { instanceOf: SessionError }, name);
  }
  t.notThrows(() => writer.setRef('a/b/d', source.commit));
});

test('repositories that cannot be written are refused', async (t) => {
  const split = join(folder, 'split');
  initRepository(byteString(split), 'bare');
  const config = join(split, 'config');
  writeFileSync(config, readFileSync(config, 'utf8').replace('bare', 'bare-split-xattrs'));
  await t.throwsAsync(RepositoryWriter.open(byteString(split)), { instanceOf: SessionError });
  const nonsense = join(folder, 'nonsense');
  initRepository(byteString(nonsense), 'bare');
  writeFileSync(join(nonsense, 'config'), '[core]\nrepo_version=1\nmin-free-space-size=lots\n');
  await t.throwsAsync(RepositoryWriter.open(byteString(nonsense)), { instanceOf: SessionError });
  t.deepEqual(readdirSync(join(nonsense, 'tmp')), ['cache']);
});

test('the space that a repository wants free stays free', async (t) => {
  const path = join(folder, 'space');
  initRepository(byteString(path), 'bare-user');
  writeFileSync(
    join(path, 'config'),
    '[core]\nrepo_version=1\nmode=bare-user\nmin-free-space-size=1000TB\n',
  );
  await using writer = await RepositoryWriter.open(byteString(path));
  const header = { uid: 0, gid: 0, mode: S_IFREG | 0o644, target: '', xattrs: [] };
  await t.throwsAsync(writer.writeContent(header, [Buffer.from('x')]), {
    instanceOf: SessionError,
    message: /min-free-space-size=1000TB/,
  });
});
