/** A bar for work that takes longer than a second, on a terminal only. */
import type { SingleBar } from 'cli-progress';
import { displayBytes } from './output.ts';

/** Work that is over sooner needs no bar. */
const DELAY_MS = 1000;

export class Progress implements Disposable {
  readonly #now: () => number;
  readonly #started: number;
  #bar: SingleBar | undefined;
  #isAsked = false;
  #isOver = false;

  constructor({ now }: { now: () => number }) {
    this.#now = now;
    this.#started = now();
  }

  /** @param total  bytes; what was not foreseen makes it grow. */
  show(done: number, total: number): void {
    if (!process.stderr.isTTY || this.#now() - this.#started < DELAY_MS) return;
    if (!this.#isAsked) {
      this.#isAsked = true;
      // A bar that cannot be had is none.
      this.#begin(done, total).catch(() => {});
    }
    this.#bar?.setTotal(Math.max(total, done));
    this.#bar?.update(done);
  }

  /** Loads it only now: few commands need one. */
  async #begin(done: number, total: number): Promise<void> {
    const { default: progress } = await import('cli-progress');
    if (this.#isOver) return;
    this.#bar = new progress.SingleBar(
      {
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
        formatValue: (value, _options, type) =>
          type === 'value' || type === 'total' ? displayBytes(value) : String(value),
      },
      progress.Presets.shades_classic,
    );
    this.#bar.start(Math.max(total, done), done);
  }

  /** Takes the bar away. */
  end(): void {
    this.#isOver = true;
    this.#bar?.stop();
    this.#bar = undefined;
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
