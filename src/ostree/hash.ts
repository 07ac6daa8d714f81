/** Checksums of objects. */
import type { Hash } from 'node:crypto';

/** SHA-256. Node's crypto takes milliseconds to load, so the first who needs it has it loaded; it is part of Node: no path is opened. */
export function newHash(): Hash {
  return process.getBuiltinModule('node:crypto').createHash('sha256');
}
