/** Words of a command line, and those that are printed: bytes, names, sizes. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { byteString, decodeArguments, hostPath, mountPath, splitSource } from '../src/cli/bytes.ts';
import { displayAge, displayBytes, displayName } from '../src/cli/output.ts';

test('arguments that are no UTF-8 keep their bytes', (t) => {
  const line = Buffer.from('node\0main.js\0unlock\0/a\xff\xc3\xa9\0\xf0\x9f\x98\x80\0', 'latin1');
  const args = decodeArguments(line, 3);
  t.deepEqual(args, ['unlock', '/a\udcffé', '\u{1f600}']);
  t.is(byteString(args[1] ?? ''), '/a\xff\xc3\xa9');
  t.is(byteString(args[2] ?? ''), '\xf0\x9f\x98\x80');
  t.deepEqual(hostPath(args[1] ?? ''), Buffer.from('/a\xff\xc3\xa9', 'latin1'));
  t.is(hostPath(args[2] ?? ''), '\u{1f600}');
});

test('SOURCE is split at colons that are not escaped', (t) => {
  t.deepEqual(splitSource('/a:b'), ['/a', 'b']);
  t.deepEqual(splitSource('a\\:b\\\\:c\\d'), ['a:b\\', 'c\\d']);
});

test('paths of diff are normalised', (t) => {
  t.is(mountPath('usr/./lib//x/'), '/usr/lib/x');
  t.is(mountPath('/'), '/');
  t.is(mountPath('a\udcff'), '/a\xff');
});

const shown = test.macro({
  exec(t: ExecutionContext, bytes: string, text: string) {
    t.is(displayName(bytes), text);
  },
  title: (_, bytes) => `a name is shown: ${JSON.stringify(bytes)}`,
});

test('', shown, '/plain name', '/plain name');
test('', shown, '/caf\xc3\xa9', '/café');
test('', shown, 'a\\b', '"a\\\\b"');
test('', shown, 'a\nb\x1b', '"a\\nb\\033"');
test('', shown, '\xc3', '"\\303"');
// An overlong NUL, half of a surrogate pair, and U+202E, which turns the rest of the line round.
test('', shown, '\xc0\x80', '"\\300\\200"');
test('', shown, '\xed\xa0\x80', '"\\355\\240\\200"');
test('', shown, '\xe2\x80\xae', '"\\342\\200\\256"');

test('sizes and ages are short', (t) => {
  t.deepEqual([0, 1023, 1024, 10_240, 2 ** 20, 1.5 * 2 ** 30].map(displayBytes), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '10 KiB',
    '1.0 MiB',
    '1.5 GiB',
  ]);
  const start = '2026-01-01T00:00:00Z';
  const after = (seconds: number): string => displayAge(start, Date.parse(start) + seconds * 1000);
  t.deepEqual([5, 300, 7200, 200_000].map(after), ['5 s', '5 min', '2 h', '2 d']);
});
