/** Calls of the library of which the modules are loaded by the first of them; those say what each does. */
import type { ImportOptions, ImportResult } from './oci/import.ts';
import type { RepositoryReader } from './ostree/reader.ts';
import type { HostPath } from './session/checks.ts';
import type { Finding } from './session/doctor.ts';

/** As `oci/import.ts` has it. */
export async function importImage(options: ImportOptions): Promise<ImportResult> {
  const extras = await import('./extras.ts');
  return extras.importImage(options);
}

/** As `ostree/reader.ts` has it. */
export async function openRepository(path?: HostPath): Promise<RepositoryReader> {
  const extras = await import('./extras.ts');
  return extras.openRepository(path);
}

/** As `session/doctor.ts` has it. */
export async function doctor(): Promise<Finding[]> {
  const extras = await import('./extras.ts');
  return extras.doctor();
}
