/** One SHA-256 of a tree: every name, content, metadata (ctime and inode numbers too, atime not) and xattr. */
import { createHash } from 'node:crypto';
import { Hand } from './hand.ts';

export async function checksumTree(path: string, timeoutMs: number = 300_000): Promise<string> {
  return createHash('sha256')
    .update(await listTree(path, timeoutMs), 'latin1')
    .digest('hex');
}

/** What `checksumTree` sums, a line an entry, for telling what has changed. */
export async function listTree(path: string, timeoutMs: number = 300_000): Promise<string> {
  await using hand = new Hand({ cwd: path, timeoutMs });
  return await hand.do('tree . exact');
}
