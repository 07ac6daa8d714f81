/** The programs as they are bundled: run from what V8 has compiled of them, and without. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const BUNDLE = fileURLToPath(new URL('../bundle/', import.meta.url));
const PARTS = join(BUNDLE, 'parts');
const COMPILED = `${process.arch}-${process.versions.v8}`;

test('V8 takes every part as it has compiled it', (t) => {
  const parts = readdirSync(PARTS).filter((name) => name.endsWith('.js'));
  t.true(parts.length > 10);
  for (const name of parts) {
    const cachedData = readFileSync(join(PARTS, `${name}.${COMPILED}`));
    const script = new Script(readFileSync(join(PARTS, name), 'utf8'), { cachedData });
    t.false(script.cachedDataRejected, name);
  }
});

test('a program runs without what was compiled, or where V8 refuses it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bundle-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const copy = join(folder, 'build/bundle');
  const parts = join(copy, 'parts');
  cpSync(BUNDLE, copy, { recursive: true });
  cpSync(join(BUNDLE, '../../package.json'), join(folder, 'package.json'));
  const version = () => {
    const args = [join(copy, 'cli/main.cjs'), '--version'];
    return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
  };
  const expected = version();
  t.regex(expected, /^\d+\.\d+\.\d+$/);
  const compiled = readdirSync(parts).filter((name) => name.endsWith(COMPILED));
  for (const name of compiled) writeFileSync(join(parts, name), 'not of any V8');
  t.is(version(), expected);
  for (const name of compiled) rmSync(join(parts, name));
  t.is(version(), expected);
});
