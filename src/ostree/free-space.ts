/** The space that a repository leaves free: `min-free-space-size`, else `min-free-space-percent` (3), for content only. */
import { SessionError } from '../errors.ts';
import type { Native } from '../native.ts';
import { FormatError } from './gvariant.ts';
import type { KeyFile } from './keyfile.ts';
import { unwritable } from './lock.ts';

const DEFAULT_PERCENT = 3;
const UNITS: Record<string, number> = { MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };

export class FreeSpace {
  readonly #label: string;
  readonly #rule: string;
  readonly #blockBytes: number;
  /** Blocks that may still be taken. */
  #left: number;

  /** @throws FormatError for a rule that makes no sense; SessionError when the space that is there cannot be told. */
  constructor(native: Native, fd: number, label: string, config: KeyFile) {
    this.#label = label;
    const stat = new Float64Array(9);
    const result = native.fstatfs(fd, stat);
    if (result < 0) throw unwritable(label, result);
    const [, blockBytes = 4096, blocks = 0, free = 0, available = 0] = stat;
    this.#blockBytes = Math.max(blockBytes, 1);
    const core = config.get('core');
    const size = sizeOf(core?.get('min-free-space-size') ?? '0MB');
    const percent = Number(core?.get('min-free-space-percent') ?? DEFAULT_PERCENT);
    if (!Number.isInteger(percent) || percent < 0 || percent > 99) {
      throw new FormatError(`min-free-space-percent must be 0 to 99`);
    }
    this.#rule =
      size > 0
        ? `min-free-space-size=${core?.get('min-free-space-size')}`
        : `min-free-space-percent=${percent}`;
    // Without a rule the file system itself is the limit.
    if (size === 0 && percent === 0) {
      this.#left = Infinity;
      return;
    }
    const kept = size > 0 ? size / this.#blockBytes : (blocks * percent) / 100;
    this.#left = (process.getuid?.() === 0 ? free : available) - Math.ceil(kept);
  }

  /** Takes bytes, or gives them back when negative. @throws SessionError when the rule would be broken. */
  take(bytes: number): void {
    const blocks = Math.sign(bytes) * Math.ceil(Math.abs(bytes) / this.#blockBytes);
    if (blocks > 0 && blocks > this.#left) {
      throw new SessionError(
        `${this.#label} must keep more space free than this would leave (${this.#rule}): nothing was committed`,
        'make room there, or change the rule in its config',
      );
    }
    this.#left -= blocks;
  }
}

function sizeOf(text: string): number {
  const [, count, unit = ''] = /^(\d+)(MB|GB|TB)$/.exec(text) ?? [];
  if (count === undefined) throw new FormatError(`min-free-space-size '${text}' is no size`);
  return Number(count) * (UNITS[unit] ?? 0);
}
