/** The options that every filesystem has, as mount(8) and mount(2) call them. */

/** MS_* of linux/mount.h: what the word sets, or takes back. */
const FLAGS: Readonly<Record<string, number>> = {
  ro: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  sync: 16,
  dirsync: 128,
  noatime: 1024,
  nodiratime: 2048,
  relatime: 1 << 21,
  strictatime: 1 << 24,
  lazytime: 1 << 25,
};

const OPPOSITES: Readonly<Record<string, string>> = {
  rw: 'ro',
  suid: 'nosuid',
  dev: 'nodev',
  exec: 'noexec',
  async: 'sync',
  atime: 'noatime',
  diratime: 'nodiratime',
  norelatime: 'relatime',
  nostrictatime: 'strictatime',
  nolazytime: 'lazytime',
};

/** What fusermount3 does not know; nothing is lost, since reading changes no access time. */
const ROOT_ONLY = new Set(['nodiratime', 'relatime', 'strictatime', 'lazytime']);

export function isMountFlag(word: string): boolean {
  return Object.hasOwn(FLAGS, word) || Object.hasOwn(OPPOSITES, word);
}

/** What is left of such words when later ones take earlier ones back. @throws TypeError for another word. */
export function mountFlags(words: readonly string[]): string[] {
  const set = new Set<string>();
  for (const word of words) {
    const opposite = OPPOSITES[word];
    if (opposite !== undefined) set.delete(opposite);
    else if (Object.hasOwn(FLAGS, word)) set.add(word);
    else throw new TypeError(`there is no mount option '${word}'`);
  }
  return [...set];
}

/** As mount(2) takes them, and as fusermount3 does. */
export function flagArguments(words: readonly string[]): { bits: number; text: string } {
  const flags = mountFlags(words);
  return {
    bits: flags.reduce((bits, flag) => bits | (FLAGS[flag] ?? 0), 0),
    text: flags
      .filter((flag) => !ROOT_ONLY.has(flag))
      .map((flag) => `,${flag}`)
      .join(''),
  };
}
