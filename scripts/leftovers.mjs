/**
 * What a test run left behind. Everything that the run starts inherits a temp folder of its own and a mark in its
 * environment, and only what has one of them is ended. Keepers and daemons of sessions start with an empty environment:
 * those of this checkout that were not there before are told, but not touched, since another run may own them.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from './setup.mjs';

const MARK = 'OSTREE_TS_TEST_RUN';

const SESSION_PROGRAMS = [
  join(ROOT, 'native/build/Release/keeper'),
  // What daemons call themselves.
  'ostree-ts: session ',
];

export class Leftovers {
  constructor() {
    // Short, since the path of a Unix socket may have 107 bytes; in /tmp, since overlay and tmpfs tests expect a real one.
    this.folder = mkdtempSync(join(tmpdir(), 'ots-'));
    this.mark = basename(this.folder);
    this.before = new Set(this.#processes().map(({ pid }) => pid));
  }

  /** The environment that makes everything below findable. @returns {NodeJS.ProcessEnv} */
  get env() {
    return { ...process.env, [MARK]: this.mark, TMPDIR: this.folder };
  }

  /**
   * Says what is still there, and ends or removes it.
   *
   * @returns {Promise<string[]>} one line each; none when all is well.
   */
  async clean() {
    const found = [];
    // What has been told to end may need a moment.
    for (let round = 0; this.#processes().length > 0 && round < 50; round++) await sleep(100);
    for (const { pid, command } of this.#processes()) found.push(`process ${pid}: ${command}`);
    for (const signal of /** @type {const} */ (['SIGTERM', 'SIGKILL'])) {
      for (const { pid, isOurs } of this.#processes()) if (isOurs) kill(pid, signal);
      await sleep(found.length > 0 ? 2000 : 0);
    }
    const mounts = this.#mounts();
    for (const { point, type } of mounts) found.push(`mount (${type}): ${point}`);
    for (const { point } of mounts.toReversed()) {
      spawnSync('umount', ['-l', point], { stdio: 'ignore', timeout: 10_000 });
    }
    for (const name of readdirSync(this.folder)) {
      // Node's own, for npm.
      if (name !== 'node-compile-cache') found.push(`in the temp folder: ${name}`);
    }
    if (this.#mounts().length === 0) rmSync(this.folder, { recursive: true, force: true });
    return found;
  }

  /**
   * Processes of this run, and sessions of this checkout that were not there when it began.
   *
   * @returns {{ pid: number, command: string, isOurs: boolean }[]}
   */
  #processes() {
    const found = [];
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid === process.pid || this.before?.has(pid)) continue;
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        const environment = readFileSync(`/proc/${pid}/environ`, 'latin1');
        const isOurs =
          command.includes(this.folder) || environment.split('\0').includes(`${MARK}=${this.mark}`);
        const isSession = SESSION_PROGRAMS.some((path) => command.includes(path));
        // A zombie has no command line, and nothing that can be ended.
        if (command !== '' && (isOurs || isSession)) found.push({ pid, command, isOurs });
      } catch {
        // Gone meanwhile, or another user's.
      }
    }
    return found;
  }

  /** Mounts at or below the temp folder, in the order in which they were made. */
  #mounts() {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const point = (line.split(' ')[4] ?? '').replaceAll(/\\(\d{3})/g, (_, octal) =>
          String.fromCharCode(Number.parseInt(octal, 8)),
        );
        return { point, type: line.split(' - ')[1]?.split(' ')[0] ?? '' };
      })
      .filter(({ point }) => point === this.folder || point.startsWith(`${this.folder}/`));
  }
}

/** @param {number} pid @param {NodeJS.Signals} signal */
function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone meanwhile.
  }
}
