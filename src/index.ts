/** The library. Everything that the command does, it does through these. */
export { FsError, SessionError, UsageError } from './errors.ts';
export type { ErrnoName } from './errors.ts';
export { formatEntry, openRepository, RepositoryReader } from './ostree/reader.ts';
export type { ListOptions, TreeEntry, Xattr } from './ostree/reader.ts';
export { doctor } from './session/doctor.ts';
export type { Finding } from './session/doctor.ts';
export type { Holder } from './session/holders.ts';
export { unlock } from './session/launcher.ts';
export type { HostPath, UnlockOptions, UpperOption } from './session/launcher.ts';
export { BusyError } from './session/lock.ts';
export type { LockResult } from './session/lock.ts';
export { findSession, listSessions } from './session/registry.ts';
export { CommandError, run } from './session/run.ts';
export type { RunOptions } from './session/run.ts';
export { Session } from './session/session.ts';
export type { Change, LockOptions, SessionStatus } from './session/session.ts';
export type { Health } from './session/status.ts';
