/** Device numbers in requests and replies: 32 bits each. */

/** A device number in 32 bits, as new_encode_dev() of the kernel packs it. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function deviceMajor(device: number): number {
  return (device & 0xfff00) >>> 8;
}

export function deviceMinor(device: number): number {
  return ((device & 0xff) | ((device >>> 12) & 0xfff00)) >>> 0;
}
