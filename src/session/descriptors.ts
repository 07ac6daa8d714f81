/** Where the daemon finds what it was given: in fixed places or, when it was started before that was known, in messages. */
import { native } from '../native.ts';
import type { DaemonOptions } from './daemon-options.ts';

/** Descriptors as the keeper hands them on, or as they are put. */
export const LOG = 2;
export const KEEPER = 3;
export const PACKETS = 4;
export const ARENA = 5;
const FOLDER = 6;

/** Of one session. */
export interface Descriptors {
  folder: number;
  lowers: number[];
  /** Of the upper's folder, or of the upper itself. */
  upper?: number;
  /** Of its work directory. */
  work?: number;
}

/** In their places. */
export function inherited(options: DaemonOptions): Descriptors {
  let next = FOLDER;
  return take(options, () => next++);
}

/** Waits to be told for what this daemon is; the thread loads meanwhile. `undefined`: for nothing. */
export function receive(): { options: DaemonOptions; descriptors: Descriptors } | undefined {
  const told = native.receiveMessage(PACKETS);
  if (typeof told === 'number' || told.data.length === 0) return undefined;
  const options = JSON.parse(Buffer.from(told.data).toString('utf8')) as DaemonOptions;
  const next = () => {
    const message = native.receiveMessage(PACKETS);
    if (typeof message === 'number' || message.fd < 0) throw new Error('the keeper has gone');
    return message.fd;
  };
  const log = next();
  native.dup2(log, LOG);
  native.close(log);
  return { options, descriptors: take(options, next) };
}

function take({ lowers, upper, hasWork }: DaemonOptions, next: () => number): Descriptors {
  return {
    folder: next(),
    lowers: Array.from({ length: lowers }, next),
    ...(upper !== undefined && { upper: next() }),
    ...(hasWork === true && { work: next() }),
  };
}
