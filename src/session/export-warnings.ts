import { shown } from './checks.ts';
import type { ExportResult } from './export.ts';

/** What deserves a word about an export, one line each. */
export function exportWarnings({ format, deletions, skipped }: ExportResult): string[] {
  const lines = skipped.map((path) => `${shown(path)} is a socket: left out`);
  if (format === 'tar' && deletions > 0) {
    lines.push(
      `${deletions} removed ${deletions === 1 ? 'path is' : 'paths are'} not in the tar, which cannot say so; oci-layer can`,
    );
  }
  return lines;
}
