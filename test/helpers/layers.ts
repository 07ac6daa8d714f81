/** A small tree, and layers of it without a mount: what the contracts of lowers and uppers are tried on. */
import { chmodSync, closeSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DirectoryLayer } from '../../src/layers/directory.ts';
import { Attr, type LowerLayer, Segments } from '../../src/layers/layer.ts';
import { LowerStack } from '../../src/layers/stack.ts';
import type { LowerRef } from '../../src/layers/upper.ts';
import { native } from '../../src/native.ts';
import { byteString, noise } from './repositories.ts';

const AT_FDCWD = -100;

export const BIG: Buffer = noise(200_000);
export const FILES: Readonly<Record<string, string | Buffer>> = {
  f: 'hello',
  empty: '',
  big: BIG,
  'd/x': 'in d',
  'd/sub/y': 'deeper',
};
export const LINKS: Readonly<Record<string, string>> = { inside: 'd/x', outside: '/etc/passwd' };

export function plant(root: string, wanted: (path: string) => boolean = () => true): string {
  for (const path of Object.keys(FILES).filter(wanted)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), FILES[path] ?? '');
  }
  for (const path of Object.keys(LINKS).filter(wanted)) {
    symlinkSync(LINKS[path] ?? '', join(root, path));
  }
  if (wanted('f')) {
    chmodSync(join(root, 'f'), 0o755);
    native.setxattr(AT_FDCWD, byteString(join(root, 'f')), 'user.k', Buffer.from('value'), 0);
  }
  return root;
}

export function open(path: string): number {
  const fd = openSync(path, 'r');
  const copy = native.dup(fd);
  closeSync(fd);
  return copy;
}

export function directory(path: string, above = false): DirectoryLayer {
  return new DirectoryLayer(native, open(path), { links: 'shared', above });
}

/** A tree of lowers, found by paths. */
export class Lower {
  readonly stack: LowerStack;

  constructor(layers: LowerLayer<object>[]) {
    this.stack = new LowerStack(layers);
  }

  find(path: string, attr: Attr = new Attr()): LowerRef[] | undefined {
    let refs: LowerRef[] | undefined = [...this.stack.roots];
    for (const name of path.split('/').filter((part) => part !== '')) {
      refs = refs === undefined ? undefined : this.stack.find(refs, name, attr);
    }
    return refs;
  }

  at(path: string): { refs: LowerRef[]; top: LowerRef; attr: Attr } {
    const attr = new Attr();
    const refs = this.find(path, attr);
    const [top] = refs ?? [];
    if (refs === undefined || top === undefined) throw new Error(`there is no ${path}`);
    return { refs, top, attr };
  }
}

export function bytesOf(segments: Segments): Buffer {
  const parts = Array.from({ length: segments.count }, (_, index) => {
    const [fd = -1, offset = 0, length = 0] = segments.values.subarray(3 * index, 3 * index + 3);
    const part = Buffer.alloc(length);
    if (fd >= 0 && native.pread(fd, part, offset) !== length) throw new Error('short');
    return part;
  });
  return Buffer.concat(parts);
}
