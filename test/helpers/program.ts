import { fileURLToPath } from 'node:url';

/** `ostree-ts`, as it is installed. */
export const PROGRAM: string = fileURLToPath(new URL('../../bundle/cli/main.cjs', import.meta.url));
