/** The library. Everything that the command does, it does through these. */
export { FsError, SessionError, UsageError } from './errors.ts';
export type { ErrnoName } from './errors.ts';
export type { ImportOptions, ImportResult } from './oci/import.ts';
export { doctor, importImage, openRepository } from './on-demand.ts';
export { formatEntry } from './ostree/entry-line.ts';
export type { ListOptions, RepositoryReader, TreeEntry, Xattr } from './ostree/reader.ts';
export type { ApplyOptions, ApplyResult } from './session/apply.ts';
export { ConflictError } from './session/conflict.ts';
export type { CommitOptions, CommitProgress, CommitResult } from './session/commit.ts';
export { exportWarnings } from './session/export-warnings.ts';
export type { ExportFormat, ExportOptions, ExportResult } from './session/export.ts';
export type { Finding } from './session/doctor.ts';
export type { UnlockedState } from './ostree/deployment-state.ts';
export { lockBooted } from './session/deployment-lock.ts';
export type { BootedLockOptions } from './session/deployment-lock.ts';
export { listDeployments } from './session/deployment-status.ts';
export type { DeploymentStatus } from './session/deployment-status.ts';
export type { Holder } from './session/holders.ts';
export { unlock } from './session/launcher.ts';
export type { HostPath, OverlayDirs, UnlockOptions, UpperOption } from './session/options.ts';
export { isMountFlag } from './session/mount-flags.ts';
export { remount } from './session/remount.ts';
export type { IdRange, Presentation } from './overlay/presentation.ts';
export { BusyError } from './session/lock.ts';
export type { LockResult } from './session/lock.ts';
export { findSession, listSessions } from './session/registry.ts';
export { CommandError, run } from './session/run.ts';
export type { RunOptions } from './session/run.ts';
export { Session } from './session/session.ts';
export type { PatchOptions } from './session/patch.ts';
export type {
  By,
  Change,
  ChangeOptions,
  DiffOptions,
  Difference,
  LockOptions,
  SessionStatus,
  Undone,
  WarningOptions,
} from './session/session.ts';
export type { OperationRate, SessionStatistics } from './session/statistics.ts';
export type { Health } from './session/status.ts';
export { notifyManager } from './session/systemd.ts';
