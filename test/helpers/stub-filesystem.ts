/** A filesystem that answers what a test tells it to, and remembers what it was asked. */
import type { Filesystem } from '../../src/overlay/filesystem.ts';

export interface Stub {
  filesystem: Filesystem;
  /** Name and arguments of each call; records that are reused have been copied, sinks and buffers left out. */
  calls: unknown[][];
}

/** A call to a method that is not among `methods` is a bug of the transport's. */
export function stubFilesystem(methods: Partial<Filesystem>): Stub {
  const calls: unknown[][] = [];
  const filesystem = new Proxy(methods, {
    get(target, name) {
      const method = Reflect.get(target, name) as ((...args: unknown[]) => unknown) | undefined;
      return (...args: unknown[]): unknown => {
        if (method === undefined) throw new Error(`unexpected call of ${String(name)}`);
        calls.push([name, ...args.filter(isPlain).map((value) => structuredClone(value))]);
        return method.apply(target, args);
      };
    },
  });
  return { filesystem: filesystem as Filesystem, calls };
}

/** Callers, changes and scalars; not the records to be filled, which have methods or `attr`. */
function isPlain(value: unknown): boolean {
  if (typeof value === 'function' || value instanceof Uint8Array) return false;
  if (typeof value !== 'object' || value === null) return true;
  return !('attr' in value) && Object.getPrototypeOf(value) === Object.prototype;
}
