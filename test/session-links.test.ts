import { linkSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { SessionError } from '../src/errors.ts';
import { linksOf } from '../src/session/links.ts';

/** A folder of its own for a test. */
function folder(t: { teardown: (end: () => void) => void }): string {
  const path = mkdtempSync(join(tmpdir(), 'ostree-ts-links-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

/** A file with two names and this modification time. */
function linked(path: string, mtimeSec: number): void {
  mkdirSync(join(path, 'lib'), { recursive: true });
  writeFileSync(join(path, 'lib/a'), 'a');
  linkSync(join(path, 'lib/a'), join(path, 'b'));
  utimesSync(join(path, 'b'), mtimeSec, mtimeSec);
}

test('links of a plain directory are links', (t) => {
  const path = folder(t);
  linked(path, 1_700_000_000);
  t.is(linksOf([path]), 'shared');
});

test('links inside a deployment are separate files', (t) => {
  const path = folder(t);
  const deployment = join(path, `ostree/deploy/os/deploy/${'0a'.repeat(32)}.0`);
  linked(join(deployment, 'usr'), 0);
  writeFileSync(`${deployment}.origin`, '[origin]\n');
  t.is(linksOf([deployment]), 'separate');
  t.is(linksOf([join(deployment, 'usr')]), 'separate');
});

test('a folder that only has the name of a deployment is none', (t) => {
  const path = folder(t);
  const deployment = join(path, `ostree/deploy/os/deploy/${'0a'.repeat(32)}.0`);
  linked(deployment, 1_700_000_000);
  t.is(linksOf([deployment]), 'shared');
});

test("files that look like a repository's objects need a decision", (t) => {
  const path = folder(t);
  const plain = folder(t);
  linked(path, 0);
  t.throws(() => linksOf([plain, path]), { instanceOf: SessionError, message: /objects/ });
});

test('a checkout inside a tree of other files is found', (t) => {
  const path = folder(t);
  for (let i = 0; i < 100; i++) writeFileSync(join(path, `plain-${i}`), 'plain');
  mkdirSync(join(path, 'checkout'));
  linked(join(path, 'checkout'), 0);
  t.throws(() => linksOf([path]), { instanceOf: SessionError, message: /objects/ });
});

test('a file with one link and no time is a file', (t) => {
  const path = folder(t);
  writeFileSync(join(path, 'a'), 'a');
  utimesSync(join(path, 'a'), 0, 0);
  t.is(linksOf([path]), 'shared');
});
