/** What the real zstd makes of some bytes. */
import { spawnSync } from 'node:child_process';

export function zstdCompressSync(text: string): Buffer {
  return spawnSync('zstd', ['-c'], { input: text }).stdout;
}
