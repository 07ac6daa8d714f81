/**
 * The socket between commands and a daemon, both ends. One JSON object a line: the daemon greets, then answers each
 * question with its id. Unknown calls are refused and unknown keys ignored, so that old and new understand each other.
 *
 *   daemon   {"protocol":1,"name":"usr","pid":12}
 *   command  {"id":1,"call":"status","args":{}}
 *   daemon   {"id":1,"result":{...}}   or   {"id":1,"error":"why"}
 */
import { closeSync, constants, openSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { SessionError } from '../errors.ts';
import { type Answered, patience, Questions } from './questions.ts';

/** Raised when an older side would misunderstand; listing and ending sessions work whatever the number. */
export const PROTOCOL = 1;
/** Of the socket, in the session's folder. */
export const SOCKET_NAME = 'control';

/** A line of a command is a call's name and what it was typed with, of which execve(2) allows 2 MiB; what is longer is no command of ours. */
const QUESTION_BYTES = 16 * 1024 * 1024;
const CONNECTIONS = 256;

const SEE_STATUS = 'see what there is: ostree-ts status';
const DAEMON_GONE = 'the daemon has gone';

export interface Greeting {
  protocol: number;
  name: string;
  pid: number;
}

interface Question {
  id: number;
  call: string;
  args: unknown;
}

/** @param connection  emits `close` when its asker has gone. */
export type Answer = (call: string, args: unknown, connection: Socket) => Promise<unknown>;

/** The daemon's end. Rejects when it cannot listen; the socket is its maker's alone by the folder's mode and the umask. */
export function serve(path: string, greeting: Greeting, answer: Answer): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.write(`${JSON.stringify(greeting)}\n`);
    readLines(socket, QUESTION_BYTES, (line) => {
      const question = parse(line) as Question | undefined;
      if (typeof question?.id !== 'number' || typeof question.call !== 'string') {
        socket.destroy();
        return;
      }
      answer(question.call, question.args, socket).then(
        (result) => socket.write(`${JSON.stringify({ id: question.id, result })}\n`),
        (error: unknown) => {
          const message = error instanceof Error ? error.message : String(error);
          socket.write(`${JSON.stringify({ id: question.id, error: message })}\n`);
        },
      );
    });
  });
  server.maxConnections = CONNECTIONS;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}

/** The daemon has answered that it cannot. */
export class RefusedError extends SessionError {
  override readonly name: string = 'RefusedError';
}

/** A command's end of one connection. */
export class Control implements Disposable {
  readonly greeting: Greeting;
  readonly #socket: Socket;
  readonly #questions: Questions;
  /** Why nothing is answered any more. */
  #gone: SessionError | undefined;

  private constructor(socket: Socket, greeting: Greeting) {
    this.#socket = socket;
    this.greeting = greeting;
    this.#questions = new Questions((question) => socket.write(`${JSON.stringify(question)}\n`), {
      silence,
      refusal: (message) => new RefusedError(message),
    });
  }

  /**
   * Connects to the daemon of the session in `folder`.
   *
   * @throws SessionError nobody listens, or nobody greets within `timeoutMs`.
   */
  static async open(folder: string, timeoutMs: number): Promise<Control> {
    // Through the folder's descriptor, since the path of a socket may not be longer than 107 bytes.
    let fd: number;
    try {
      fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (error) {
      throw new SessionError('the session has ended', SEE_STATUS, { cause: error });
    }
    const socket = connect(join('/proc/self/fd', String(fd), SOCKET_NAME));
    let control: Control | undefined;
    try {
      return await new Promise<Control>((resolve, reject) => {
        const stop = patience(timeoutMs, () => reject(silence()));
        const fail = (why: string, cause?: Error) => {
          stop();
          reject(new SessionError(why, SEE_STATUS, { cause }));
          if (control !== undefined) control.#end();
        };
        socket.on('error', (error) =>
          fail(
            isDead(error) ? DAEMON_GONE : `the daemon cannot be reached: ${error.message}`,
            error,
          ),
        );
        socket.on('close', () => fail(DAEMON_GONE));
        // The daemon is our own, and a line of changes may be long.
        readLines(socket, Infinity, (line) => {
          const message = parse(line);
          if (control !== undefined) {
            if (message !== undefined) control.#questions.answered(message as Partial<Answered>);
            return;
          }
          stop();
          control = new Control(socket, message as Greeting);
          resolve(control);
        });
      });
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** @throws SessionError the daemon refuses, goes away, or does not answer within `timeoutMs`. */
  call<T>(call: string, args: unknown, timeoutMs: number): Promise<T> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    return this.#questions.ask(call, args, timeoutMs) as Promise<T>;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  /** Nobody is there any more, and whoever asks from now on is told at once. */
  #end(): void {
    this.#gone ??= daemonGone(this.greeting.name);
    this.#questions.end(this.#gone);
  }
}

/** Whether nobody is left to listen. */
function isDead({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ECONNREFUSED';
}

function silence(): SessionError {
  return new SessionError('the daemon does not answer', SEE_STATUS);
}

/** The daemon ended in the middle of what it was needed for. */
export function daemonGone(session: string): SessionError {
  return new SessionError(
    DAEMON_GONE,
    `see what is left of the session: ostree-ts status ${session}`,
  );
}

/** Calls `take` with each whole line of a socket; ends the connection when a line is longer than `limit`. */
export function readLines(socket: Socket, limit: number, take: (line: string) => void): void {
  const parts: string[] = [];
  let length = 0;
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    const [first = '', ...rest] = chunk.split('\n');
    const last = rest.pop();
    length += first.length;
    parts.push(first);
    if (length > limit || rest.some((line) => line.length > limit)) {
      socket.destroy();
      return;
    }
    if (last === undefined) return;
    const line = parts.join('');
    parts.splice(0, parts.length, last);
    length = last.length;
    take(line);
    for (const whole of rest) take(whole);
  });
}

function parse(line: string): unknown {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
