/**
 * Room for another entry of a map that holds few: the oldest goes. (Where it matters which has been used last, lru-cache
 * knows; but it keeps up to 256 entries in arrays of another kind than more of them, and V8, where it had met both, was seen to store
 * into all of its caches through its runtime.)
 */
export function makeRoom(map: Map<unknown, unknown>, max: number): void {
  for (const oldest of map.keys()) {
    if (map.size < max) return;
    map.delete(oldest);
  }
}
