/** What the daemon's main thread asks the filesystem's, and waits for. */

/** How long a question may take before its asker is told so. */
const ANSWER_MS = 30_000;

export interface Answer {
  id: number;
  result: unknown;
  /** Instead of a result. */
  error: string;
}

/** Whom a question goes to. */
interface Asked {
  postMessage(message: object): void;
}

export class Questions {
  readonly #asked: Asked;
  readonly #open = new Map<
    number,
    { resolve(result: unknown): void; reject(error: Error): void }
  >();
  #nextId = 1;

  constructor(asked: Asked) {
    this.#asked = asked;
  }

  /** @throws Error the one that the answer tells, or that there was none in `limitMs`. */
  ask(call: string, args: unknown, limitMs: number = ANSWER_MS): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#open.delete(id);
        reject(new Error('the filesystem does not answer'));
      }, limitMs);
      const settle = (finish: () => void) => {
        clearTimeout(timer);
        finish();
      };
      this.#open.set(id, {
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      this.#asked.postMessage({ id, call, args });
    });
  }

  /** Of a question that nobody waits for any more, it is dropped. */
  answered({ id = 0, result, error }: Partial<Answer>): void {
    const asker = this.#open.get(id);
    if (asker === undefined) return;
    this.#open.delete(id);
    if (error === undefined) asker.resolve(result);
    else asker.reject(new Error(error));
  }
}
