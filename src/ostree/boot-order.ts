/** Which deployments the boot loader offers, in its order: its entries name them in the kernel argument `ostree=`. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ENTRIES = 'boot/loader/entries';

/**
 * The `ostree=` arguments of all entries below `sysroot`, the default first. Entries of other systems have none.
 *
 * @throws the system's error when the entries cannot be read; no entries at all are no error.
 */
export function bootOrder(sysroot: string): string[] {
  let names: string[];
  try {
    names = readdirSync(join(sysroot, ENTRIES));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .filter((name) => name.startsWith('ostree-') && name.endsWith('.conf'))
    .map((name) => parseEntry(readFileSync(join(sysroot, ENTRIES, name), 'utf8')))
    .sort((a, b) => b.version - a.version)
    .flatMap(({ argument }) => (argument === undefined ? [] : [argument]));
}

/** Lines of `key value`, as the Boot Loader Specification has them. */
export function parseEntry(text: string): { version: number; argument: string | undefined } {
  const keys = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key, value] = /^\s*([^\s#]\S*)\s+(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) keys.set(key, value);
  }
  const options = keys.get('options')?.split(/\s+/) ?? [];
  return {
    version: Number(keys.get('version') ?? 0),
    argument: options.find((option) => option.startsWith('ostree='))?.slice('ostree='.length),
  };
}
