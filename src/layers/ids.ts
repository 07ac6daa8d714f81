/** Owners of a lower, as a session in a user namespace shows them. */

/** Numbers of the namespace from `inside` on are those of the host from `outside` on, as in /proc/PID/uid_map. */
export interface IdRange {
  inside: number;
  outside: number;
  count: number;
}

/** The ids that a user namespace has. Of one that has a single user and group, everything is theirs. */
export interface IdMaps {
  uids: IdRange[];
  gids: IdRange[];
}

/**
 * An id of a file of the host in the namespace: what is the namespace's own as the kernel shows it; what is another's under
 * its number, since a tree of an operating system means its root by 0, and its `games` by 60.
 */
export function idOnHost(ranges: readonly IdRange[], id: number): number {
  for (const { inside, outside, count } of ranges) {
    if (id >= outside && id < outside + count) return inside + id - outside;
  }
  return idOfImage(ranges, id);
}

/** An id that is a mere number, as commits have them, in the namespace. */
export function idOfImage(ranges: readonly IdRange[], id: number): number {
  const [first] = ranges;
  return first !== undefined && ranges.length === 1 && first.count === 1 ? first.inside : id;
}
