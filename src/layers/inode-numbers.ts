/** The numbers that files of directories and commits are shown by: those of several devices, and of paths, in one space. */
import { STAT } from '../native.ts';
import type { Name } from './layer.ts';

/** Inode numbers below 2^48 are shown as they are on the first device; others carry a device's index above. */
const INO_SPAN = 2 ** 48;
const DEVICES_MAX = 15;

/** Of a file's device among those met so far, to which it is added. @param stat  the file's fields begin at `at`. */
export function deviceIndex(devices: Map<number, number>, stat: Float64Array, at: number): number {
  const device = (stat[at + STAT.DEV_MAJOR] ?? 0) * 2 ** 32 + (stat[at + STAT.DEV_MINOR] ?? 0);
  let index = devices.get(device);
  if (index === undefined) {
    index = Math.min(devices.size, DEVICES_MAX - 1);
    devices.set(device, index);
  }
  return index;
}

/** Folds a 64-bit inode number that is too large into the span; up to 2^48 it is exact. */
export function inoOf(low: number, high: number, device: number): number {
  const folded = high > 0xffff ? ((high >>> 16) ^ (high & 0xffff)) & 0xffff : high;
  return device * INO_SPAN + folded * 2 ** 32 + low;
}

/**
 * A 48-bit hash of a name in a directory, in the span after every device's. Two files of a large tree may meet: they
 * then show one inode number, and nothing worse, since nothing finds a file of st_nlink 1 by its number.
 */
export function hashName(parent: number, name: Name): number {
  let a = 0x811c9dc5 ^ (parent >>> 0);
  let b = 0x01000193 ^ Math.floor(parent / 2 ** 32);
  for (let i = 0; i < name.length; i++) {
    const char = name.charCodeAt(i);
    a = Math.imul(a ^ char, 0x01000193);
    b = Math.imul(b ^ (char + i), 0x85ebca6b);
  }
  b ^= b >>> 15;
  return DEVICES_MAX * INO_SPAN + ((b >>> 0) & 0xffff) * 2 ** 32 + ((a ^ (b >>> 3)) >>> 0);
}
