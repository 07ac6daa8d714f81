/** Repositories to be shown without a checkout, each made when it is asked for first. */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './process.ts';

export const FILES_PER_DIR = 100;

export class Commits {
  readonly #folder: string;
  readonly #lower: string;
  readonly #work: string;

  /** @param lower  the inputs: the git repository is taken from there. */
  constructor(folder: string, lower: string, work: string) {
    this.#folder = folder;
    this.#lower = lower;
    this.#work = work;
  }

  /**
   * The git repository of the inputs: as a commit in `repo`, and as a checkout of it in `checkout`, so that one tree can
   * be seen both ways. All times are 0, as a commit has them, and git is told to look at nothing else.
   */
  ofRepository(): Promise<string> {
    return this.#once('git', async (folder) => {
      const tree = join(folder, 'tree');
      await run('cp', ['-r', join(this.#lower, 'repo'), tree]);
      await epoch(tree);
      const git = (...words: string[]) => run('git', words, { cwd: tree });
      await git('config', 'core.checkStat', 'minimal');
      await git('config', 'core.trustCtime', 'false');
      await git('-c', 'safe.directory=*', 'update-index', '--refresh', '--really-refresh');
      await commit(folder, tree);
      const checkout = join(folder, 'checkout');
      await run('ostree', ['checkout', '--force-copy', `--repo=${folder}/repo`, 'main', checkout]);
      await epoch(checkout);
    });
  }

  /** So many small files, as a commit in `repo`; whole folders of FILES_PER_DIR. */
  ofFiles(files: number): Promise<string> {
    return this.#once(String(files), async (folder) => {
      const tree = join(folder, 'tree');
      const words = [tree, files / FILES_PER_DIR, FILES_PER_DIR].map(String);
      await run(this.#work, ['grow-small', ...words]);
      await commit(folder, tree);
    });
  }

  async #once(name: string, make: (folder: string) => Promise<void>): Promise<string> {
    const folder = join(this.#folder, name);
    if (existsSync(folder)) return folder;
    const draft = `${folder}.draft`;
    mkdirSync(draft, { recursive: true });
    await make(draft);
    await run('rm', ['-rf', join(draft, 'tree')]);
    renameSync(draft, folder);
    return folder;
  }
}

async function commit(folder: string, tree: string): Promise<void> {
  const repo = `--repo=${folder}/repo`;
  await run('ostree', ['init', repo, '--mode=bare']);
  // What is made for a minute needs no fsync.
  await run('ostree', ['config', repo, 'set', 'core.fsync', 'false']);
  await run('ostree', ['commit', repo, '--branch=main', '--consume', `--tree=dir=${tree}`]);
}

async function epoch(tree: string): Promise<void> {
  await run('find', [tree, '-depth', '-exec', 'touch', '-h', '-d', '@0', '{}', '+']);
}
