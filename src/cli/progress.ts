/** A bar for work that takes longer than a second, on a terminal only. */
import { Presets, SingleBar } from 'cli-progress';
import { displayBytes } from './output.ts';

/** Work that is over sooner needs no bar. */
const DELAY_MS = 1000;

export class Progress implements Disposable {
  readonly #now: () => number;
  readonly #started: number;
  #bar: SingleBar | undefined;

  constructor({ now }: { now: () => number }) {
    this.#now = now;
    this.#started = now();
  }

  /** @param total  bytes; what was not foreseen makes it grow. */
  show(done: number, total: number): void {
    if (!process.stderr.isTTY) return;
    if (this.#bar === undefined) {
      if (this.#now() - this.#started < DELAY_MS) return;
      this.#bar = new SingleBar(
        {
          stream: process.stderr,
          clearOnComplete: true,
          hideCursor: true,
          formatValue: (value, _options, type) =>
            type === 'value' || type === 'total' ? displayBytes(value) : String(value),
        },
        Presets.shades_classic,
      );
      this.#bar.start(Math.max(total, done), done);
    }
    this.#bar.setTotal(Math.max(total, done));
    this.#bar.update(done);
  }

  /** Takes the bar away. */
  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
