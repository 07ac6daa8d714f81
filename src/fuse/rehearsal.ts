/**
 * Requests that nobody sent, served before the first real one comes, or while none is there. V8 interprets what has not run
 * often, and compiles it when it has: a session that began cold spent three times as long on its first thousands of
 * requests, while the compiler took the other processor from the program that waited for them. What is served is a
 * filesystem of its own, over the folder of these very modules; nothing of it is left but the code.
 */
import { fileURLToPath } from 'node:url';
import { DirectoryLayer } from '../layers/directory.ts';
import { ListedEntries } from '../layers/entries.ts';
import { LateStores } from '../layers/late-stores.ts';
import type { Entries } from '../layers/layer.ts';
import { MemoryUpper } from '../layers/memory.ts';
import type { MemoryNode } from '../layers/memory-node.ts';
import { DirectoryUpper, type DirectoryUpperOptions } from '../layers/overlayfs-dir.ts';
import type { HostNode } from '../layers/overlayfs-node.ts';
import { UpperError } from '../errors.ts';
import type { Native } from '../native.ts';
import type { Channel } from '../native-channel.ts';
import { Overlay } from '../overlay/overlay.ts';
import { History } from './history.ts';
import type { Programs } from './programs.ts';
import { changed, REMOVED_FOLDER, LOOKED_AT, type Step } from './rehearsal-script.ts';
import { disguised, Stage } from './rehearsal-stage.ts';
import { Server } from './server.ts';

/** What is rehearsed: each filesystem anew, one after another, so that no code is compiled for the objects of one alone. */
interface Act {
  readonly filesystems: number;
  readonly script: (modules: () => readonly string[]) => readonly Step[];
  /** How much a function may run before V8 looks at it again. */
  readonly budget: number;
}

const SMALL_BUDGET = 2_000;
/** V8's own. */
const BUDGET = 132 * 1024;

/** What a session may wait for: compiling changes as well would cost its start more than it brings. */
const FIRST: Act = { filesystems: 3, script: () => LOOKED_AT, budget: SMALL_BUDGET };
/** What is made, changed and removed by who unpacks something; nobody waits for it. */
const SECOND: Act = { filesystems: 3, script: change, budget: SMALL_BUDGET };
/** Once more: what V8 has found hot it begins to compile when it is called again, and a session would be who does. */
const THIRD: Act = { filesystems: 1, script: change, budget: BUDGET };

function change(modules: () => readonly string[]): readonly Step[] {
  return changed(modules());
}

/** A limit of its own kind for V8, which keeps large numbers apart from small ones: sessions have large ones. */
const LIMIT_BYTES: number = 2 ** 40;
const HISTORY_ENTRIES = 256;
const NO_ENTRIES: Entries = new ListedEntries([], new Uint8Array(), new Float64Array());
/** Of the tmpfs that stands for a session's directory. */
const TMPFS_BYTES: number = 16 * 2 ** 20;

const O_PATH = 0o10000000;
const O_DIRECTORY = 0o200000;

/** The folder of modules, whether this one is in it or in a bundle. */
const SOURCES: URL = new URL('../../src/', import.meta.url);

/** Requests at a time, while real ones may come: they wait a tenth of a millisecond, seldom some milliseconds. */
const SLICE = 8;

/** Of the session's upper, when that is a directory: how it is kept. Where it is, nobody here is to know. */
export type RehearsedUpper = Pick<
  DirectoryUpperOptions,
  'isDurable' | 'redirects' | 'metacopy' | 'isUsers'
>;

type Rehearsed = Overlay<MemoryNode> | Overlay<HostNode>;

interface Scene {
  readonly stage: Stage;
  readonly server: Server;
  readonly overlay: Rehearsed;
  isOver: boolean;
}

export class Rehearsal implements Disposable {
  readonly #native: Native;
  readonly #programs: Programs | undefined;
  /** `undefined`: in memory. */
  #upper: RehearsedUpper | undefined;
  readonly #folder: number;
  readonly #memory: number;
  readonly #acts: Act[] = [FIRST, SECOND, THIRD];
  /** The one at hand, or the last, which stays: V8 throws code away when all objects are gone that it was compiled for. */
  #scene: Scene | undefined;
  /** One of each kind, for the same reason. */
  readonly #channels: Channel[] = [];
  /** Of the act at hand, and filesystems in it. */
  #script: readonly Step[] = [];
  #begun = 0;
  #isOver = false;
  /** Requests that were refused and should not be: none. */
  refused = 0;

  /**
   * Opens a folder by its path, so this must be before anything is mounted.
   *
   * @param upper  undefined: in memory.
   * @param programs  the session's; undefined when it keeps no history.
   */
  constructor(native: Native, upper: RehearsedUpper | undefined, programs: Programs | undefined) {
    this.#native = native;
    this.#programs = programs;
    if (upper !== undefined) {
      const { isDurable, redirects = true, metacopy = false, isUsers = false } = upper;
      this.#upper = { isDurable, redirects, metacopy, isUsers };
    }
    this.#folder = native.open(fileURLToPath(SOURCES), O_PATH, 0);
    this.#memory = native.memfd('rehearsal');
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Serves what a session may wait for. */
  prepare(): void {
    while (this.#acts[0] === FIRST) this.proceed();
  }

  /** Serves a few requests. @returns whether there are more. */
  proceed(): boolean {
    const [act] = this.#acts;
    if (this.#isOver || act === undefined) return false;
    if (this.#begun === 0) {
      setBudget(act.budget);
      this.#script = act.script(() => this.#modules());
    }
    if (this.#scene?.isOver !== false) this.#scene = this.#begin(this.#script);
    const { stage, server } = this.#scene;
    if (stage.extend(SLICE)) {
      server.run();
      return true;
    }
    this.#end(this.#scene);
    if (this.#begun < act.filesystems) return true;
    this.#begun = 0;
    this.#acts.shift();
    setBudget(BUDGET);
    if (this.#acts.length > 0) return true;
    this[Symbol.dispose]();
    return false;
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#scene?.isOver === false) this.#end(this.#scene);
    if (this.#begun > 0) setBudget(BUDGET);
    this.#native.close(this.#memory);
    this.#native.close(this.#folder);
  }

  #begin(script: readonly Step[]): Scene {
    this.#begun++;
    const late = new LateStores(this.#native);
    const overlay = this.#overlay(late);
    const stage = new Stage(script);
    const kind = this.#channels.length;
    const channel = disguised(stage, kind);
    this.#channels.push(channel);
    const server = new Server({
      channel,
      filesystem: overlay,
      late,
      begun: overlay.begun,
      history: this.#programs && new History(this.#programs, overlay, HISTORY_ENTRIES),
      // Whatever goes wrong here, goes wrong again where it matters.
      log: () => {},
      // In each slice, and by functions from two places, as the channel's are.
      onInterval: {
        requests: SLICE - 1,
        look: kind % 2 === 0 ? () => look(overlay) : look.bind(undefined, overlay),
      },
    });
    return { stage, server, overlay, isOver: false };
  }

  #end(scene: Scene): void {
    scene.overlay.close();
    this.refused += scene.stage.refused;
    scene.isOver = true;
  }

  /** Files of the folder that some are removed from. */
  #modules(): readonly string[] {
    const fd = this.#native.openBeneath(this.#folder, REMOVED_FOLDER, O_DIRECTORY, 0);
    if (fd < 0) return [];
    const listing = this.#native.listDirectory(fd);
    this.#native.close(fd);
    return typeof listing === 'number' ? [] : listing.names;
  }

  /** With an upper of the session's kind; in memory also where there is nothing that a directory could be on. */
  #overlay(late: LateStores): Rehearsed {
    const native = this.#native;
    const lower = new DirectoryLayer(native, native.dup(this.#folder), {
      links: this.#begun % 2 === 0 ? 'shared' : 'separate',
      devices: new Map<number, number>(),
    });
    const tmpfs = this.#upper === undefined ? -1 : native.detachedTmpfs(TMPFS_BYTES);
    if (this.#upper !== undefined && tmpfs >= 0) {
      try {
        return new Overlay([lower], new DirectoryUpper(native, tmpfs, this.#upper));
      } catch (error) {
        native.close(tmpfs);
        if (!(error instanceof UpperError)) throw error;
      }
    }
    this.#upper = undefined;
    return new Overlay([lower], new MemoryUpper(native, this.#memory, LIMIT_BYTES, late));
  }
}

/** What a session does now and then, and when a large directory has begun to be listed. */
function look(overlay: Rehearsed): void {
  overlay.usage();
  overlay.begun.begin(NO_ENTRIES, () => {});
}

/** How much a function may run before V8 looks at it. The module takes milliseconds to load; it is part of Node: no path is opened. */
function setBudget(budget: number): void {
  process.getBuiltinModule('node:v8').setFlagsFromString(`--interrupt-budget=${budget}`);
}
