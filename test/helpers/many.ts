/** A repository of very many files, written object by object: the real `ostree` would take minutes. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Checksum } from '../../src/ostree/objects.ts';
import { encodeDirTree } from '../../src/ostree/dirtree.ts';
import { contentHeader, encodeCommit, encodeMeta } from '../../src/ostree/object-bytes.ts';
import { objectPath } from './repositories.ts';

/** More than what a session remembers of content objects: further files have them again. */
const CONTENTS = 20_000;

/** Makes `path` a bare-user-only repository whose `main` has so many directories of so many small files. */
export function manyFiles(path: string, directories: number, files: number): void {
  for (const folder of ['refs/heads', 'refs/remotes', 'tmp', 'extensions', 'state']) {
    mkdirSync(join(path, folder), { recursive: true });
  }
  writeFileSync(join(path, 'config'), '[core]\nrepo_version=1\nmode=bare-user-only\n');
  const put = (bytes: Buffer, extension: string, header: Buffer = Buffer.alloc(0)): Checksum => {
    const checksum = createHash('sha256').update(header).update(bytes).digest('hex');
    const object = objectPath(path, checksum, extension);
    mkdirSync(dirname(object), { recursive: true });
    writeFileSync(object, bytes);
    return checksum;
  };
  const header = contentHeader({ uid: 0, gid: 0, mode: 0o100644, target: '', xattrs: [] });
  const contents = Array.from({ length: Math.min(CONTENTS, directories * files) }, (_, index) =>
    put(Buffer.from(`${index}\n`), 'file', header),
  );
  const meta = put(encodeMeta({ uid: 0, gid: 0, mode: 0o40755, xattrs: [] }), 'dirmeta');
  const dirs = Array.from({ length: directories }, (_dir, dir) => {
    const list = Array.from({ length: files }, (_file, file) => ({
      name: `file-${String(file).padStart(5, '0')}`,
      checksum: contents[(dir * files + file) % contents.length] ?? '',
    }));
    const name = `d${String(dir).padStart(5, '0')}`;
    return { name, checksum: put(encodeDirTree(list, []), 'dirtree'), meta };
  });
  const tree = put(encodeDirTree([], dirs), 'dirtree');
  const none = { metadata: new Map(), parent: undefined, body: '', timestamp: 1_700_000_000 };
  const commit = put(encodeCommit({ ...none, subject: 'many', tree, meta }), 'commit');
  writeFileSync(join(path, 'refs/heads/main'), `${commit}\n`);
}
