/** What is read of a sysroot, and written into origins: the boot order, deployments, and a key among others. */
import test from 'ava';
import { join } from 'node:path';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { bootOrder, parseEntry } from '../src/ostree/boot-order.ts';
import { parseKeyFile } from '../src/ostree/keyfile.ts';
import { isHotfix, refspecOf, withHotfix, withoutHotfix } from '../src/ostree/origin.ts';
import { Sysroot } from '../src/ostree/sysroot.ts';
import { remove, scratch } from './helpers/repositories.ts';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);

/** Makes a sysroot of `STATEROOT CSUM.SERIAL` in the order of the boot loader; what is `left` has no entry. */
function plant(entries: string[], left: string[] = []): string {
  const root = scratch();
  mkdirSync(join(root, 'boot/loader/entries'), { recursive: true });
  for (const deployment of [...entries, ...left]) {
    const [stateroot = '', name = ''] = deployment.split(' ');
    const path = join(root, 'ostree/deploy', stateroot, 'deploy', name);
    mkdirSync(path, { recursive: true });
    writeFileSync(`${path}.origin`, `[origin]\nrefspec=${stateroot}/main\n`);
  }
  for (const [i, deployment] of entries.entries()) {
    const [stateroot = '', name = ''] = deployment.split(' ');
    const folder = `ostree/boot.1/${stateroot}/${B}`;
    mkdirSync(join(root, folder), { recursive: true });
    symlinkSync(join('../../../deploy', stateroot, 'deploy', name), join(root, folder, String(i)));
    const version = entries.length - i;
    writeFileSync(
      join(root, `boot/loader/entries/ostree-${version}-x.conf`),
      `title X\nversion ${version}\noptions root=x ostree=/${folder}/${i} quiet\nlinux /vmlinuz\n`,
    );
  }
  return root;
}

test('deployments come in the order of the boot loader, those without an entry last', (t) => {
  const ordered = Array.from({ length: 11 }, (_, i) => `os ${A}.${i}`);
  const root = plant(ordered, [`os ${B}.0`, `other ${A}.0`]);
  mkdirSync(join(root, 'ostree/deploy/os/deploy/no-deployment'));
  const all = new Sysroot(root).deployments();
  t.deepEqual(
    all.map(({ stateroot, checksum, serial }) => `${stateroot} ${checksum}.${serial}`),
    [...ordered, `os ${B}.0`, `other ${A}.0`],
  );
  t.deepEqual(
    all.slice(-3).map(({ order }) => order),
    [10, undefined, undefined],
  );
  t.is(refspecOf(all[0]?.origin), 'os/main');
  t.is(new Sysroot(root).booted(), undefined);
  remove(root);
});

test('a folder that is no sysroot is refused; one without entries has no order', (t) => {
  const folder = scratch();
  t.throws(() => new Sysroot(folder), { message: /is no OSTree sysroot/ });
  t.deepEqual(bootOrder(folder), []);
  remove(folder);
});

test('entries of other systems, and what is odd in them, are passed over', (t) => {
  t.deepEqual(parseEntry('title Other\nversion 5\noptions root=y\n'), {
    version: 5,
    argument: undefined,
  });
  t.deepEqual(parseEntry('# a comment\n\n  options   a  ostree=/b  c\n'), {
    version: 0,
    argument: '/b',
  });
});

function changes(name: string, before: string, hotfix: string, after: string = before): void {
  test(`an origin ${name} keeps all but the key`, (t) => {
    t.is(withHotfix(before), hotfix);
    t.true(isHotfix(parseKeyFile(hotfix)));
    t.is(withHotfix(hotfix), hotfix);
    t.is(withoutHotfix(hotfix), after);
    t.false(isHotfix(parseKeyFile(withoutHotfix(hotfix))));
  });
}

changes('as ostree writes it', '[origin]\nrefspec=a\n', '[origin]\nrefspec=a\nunlocked=hotfix\n');
changes(
  'with other groups and comments',
  '# mine\n[libostree-transient]\nunlocked=x\n\n[origin]\nrefspec=a\n\n[packages]\nrequested=b;\n',
  '# mine\n[libostree-transient]\nunlocked=x\n\n[origin]\nrefspec=a\nunlocked=hotfix\n\n[packages]\nrequested=b;\n',
);
changes(
  'that has another value, and no last newline',
  '[origin]\nunlocked = development\nrefspec=a',
  '[origin]\nrefspec=a\nunlocked=hotfix\n',
  '[origin]\nrefspec=a\n',
);

test('what is no origin is refused, not rewritten', (t) => {
  for (const text of ['', '[other]\na=b\n', 'nonsense\n']) {
    t.throws(() => withHotfix(text), { name: 'FormatError' });
  }
  t.is(isHotfix(undefined), false);
});
