/**
 * What only some commands need: loaded together, when any of it is first called, since each module of its own costs a start
 * more than it saves. `commit` alone is apart, whose start is a good part of it.
 */
export { importImage } from './oci/import.ts';
export { openRepository } from './ostree/reader.ts';
export { applyFile } from './session/apply.ts';
export { doctor } from './session/doctor.ts';
export { checkExport, exportTree } from './session/export.ts';
export { patchOf } from './session/patch.ts';
export { SnapshotReader } from './session/snapshot-reader.ts';
