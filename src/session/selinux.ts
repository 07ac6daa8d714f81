/** SELinux labels of mounts: a FUSE filesystem has one for all its files, or the kernel's own, which no policy lets be /usr. */
import { readFileSync } from 'node:fs';
import { SessionError, UsageError } from '../errors.ts';

const ENFORCE = '/sys/fs/selinux/enforce';
/** user:role:type, and maybe a level, which may have commas in it. */
const CONTEXT = /^[\w.-]+:[\w.-]+:[\w.-]+(:[\w.,:-]+)?$/;

/**
 * @param isUsr  The mount covers /usr, which the host runs from.
 * @throws UsageError, SessionError.
 */
export function checkContext(context: string | undefined, isUsr: boolean): void {
  const mode = readMode();
  if (context !== undefined) {
    if (!CONTEXT.test(context)) {
      throw new UsageError(
        `'${context}' is no SELinux context`,
        'say user:role:type:level, as system_u:object_r:usr_t:s0',
      );
    }
    if (process.getuid?.() !== 0) {
      throw new SessionError('only root can label a mount', 'leave --context out');
    }
    if (mode === undefined) {
      throw new SessionError('there is no SELinux here to label for', 'leave --context out');
    }
    return;
  }
  if (!isUsr || mode !== 'enforcing') return;
  throw new SessionError(
    'SELinux is enforcing, and files of a session over /usr would have a label that services may not use',
    'give all of them one label: --context=system_u:object_r:usr_t:s0 (programs then do not enter domains of their own; untested)',
  );
}

/** `undefined` without SELinux. */
function readMode(): 'enforcing' | 'permissive' | undefined {
  try {
    return readFileSync(ENFORCE, 'utf8').trim() === '1' ? 'enforcing' : 'permissive';
  } catch {
    return undefined;
  }
}
