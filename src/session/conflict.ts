import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';
import { shown } from './checks.ts';

/** Both sides have changed something, and nothing was done. */
export class ConflictError extends SessionError {
  override readonly name: string = 'ConflictError';
  /** As in `Change.path`. */
  readonly conflicts: ByteString[];

  constructor(conflicts: ByteString[]) {
    const some = conflicts.slice(0, 5).map(shown).join(', ');
    const count = conflicts.length === 1 ? '1 path is' : `${conflicts.length} paths are`;
    super(
      `${count} changed on both sides, and nothing was done: ${some}${conflicts.length > 5 ? ', ...' : ''}`,
      'say which side wins: --ours is the session, --theirs the file',
    );
    this.conflicts = conflicts;
  }
}
