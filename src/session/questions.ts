/** Questions and who waits for which answer: of a command to the daemon, of the daemon to its filesystem. */

/** Of the time that is given for an answer. */
const STEPS = 10;

/** What comes back: of a question by its number, a result or why there is none. */
export interface Answered {
  id: number;
  result: unknown;
  error: string;
}

/** What those who wait are told. */
interface Errors {
  /** Nothing came in time. */
  silence(): Error;
  refusal(message: string): Error;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class Questions {
  readonly #send: (question: object) => void;
  readonly #errors: Errors;
  readonly #waiting: Map<number, Waiting> = new Map();
  #nextId = 1;

  constructor(send: (question: object) => void, errors: Errors) {
    this.#send = send;
    this.#errors = errors;
  }

  /** @throws Error one of `errors`, or what `end` was told. */
  ask(call: string, args: unknown, timeoutMs: number): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const stop = patience(timeoutMs, () => {
        this.#waiting.delete(id);
        reject(this.#errors.silence());
      });
      const settle = (finish: () => void) => {
        stop();
        this.#waiting.delete(id);
        finish();
      };
      this.#waiting.set(id, {
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      });
      this.#send({ id, call, args });
    });
  }

  /** Drops what nobody waits for any more. */
  answered({ id = 0, result, error }: Partial<Answered>): void {
    const waiting = this.#waiting.get(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(this.#errors.refusal(error));
  }

  /** Nobody will answer. */
  end(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
  }
}

/**
 * Gives up on an answer after `timeoutMs`. While this process itself does something else, its event loop does not get to
 * what has been sent, and that is not the other's fault: the time counts in steps, of which such a while is one.
 *
 * @returns stops it.
 */
export function patience(timeoutMs: number, giveUp: () => void): () => void {
  let left = STEPS;
  const timer = setInterval(() => {
    if (--left > 0) return;
    clearInterval(timer);
    giveUp();
  }, timeoutMs / STEPS);
  return () => clearInterval(timer);
}
