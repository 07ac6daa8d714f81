/** What every program of this package begins with: what was typed, and the library. */
import { readFileSync } from 'node:fs';
import { SessionError } from '../errors.ts';
import { decodeArguments } from './bytes.ts';

/** As `bytes.ts` has them. */
export function typedArguments(): string[] {
  const args = process.argv.slice(2);
  if (!args.some((arg) => arg.includes('\ufffd'))) return args;
  return decodeArguments(readFileSync('/proc/self/cmdline'), args.length);
}

export async function load(): Promise<typeof import('../index.ts')> {
  try {
    return await import('../index.ts');
  } catch (error) {
    // The addon does not fit this system; the loader says why, and what to do.
    throw new SessionError(error instanceof Error ? error.message : String(error), undefined, {
      cause: error,
    });
  }
}
