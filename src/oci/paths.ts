/** Paths in archives of others. */
import { SessionError } from '../errors.ts';
import type { ByteString } from '../native.ts';

const NAME_MAX = 255;

/**
 * The names that a path is made of; none for the root.
 *
 * @param where  whose path it is, for the message.
 * @throws SessionError it is absolute, leads upwards, or has a name that no file can have.
 */
export function pathParts(path: ByteString, where: string): ByteString[] {
  // umoci's name for the root.
  if (path === '/') return [];
  const why = wrongWith(path);
  if (why !== undefined) {
    throw new SessionError(
      `${where} has the path '${Buffer.from(path, 'latin1').toString()}', which ${why}`,
      'nothing was changed; find out who made it',
    );
  }
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

function wrongWith(path: ByteString): string | undefined {
  if (path === '') return 'is empty';
  if (path.startsWith('/')) return 'is absolute';
  const parts = path.split('/');
  if (parts.includes('..')) return 'leads upwards';
  if (path.includes('\0')) return 'has a NUL in it';
  if (parts.some((part) => part.length > NAME_MAX)) return 'has a name over 255 bytes';
  return undefined;
}
