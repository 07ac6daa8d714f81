/** What this kernel, this user and this system allow, feature by feature. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unlock } from './launcher.ts';
import * as probes from './probes.ts';
import type { Finding } from './probes.ts';

export type { Finding } from './probes.ts';

/** Tries everything, at last a small session over a folder in the temporary directory. Never throws, leaves nothing. */
export async function doctor(): Promise<Finding[]> {
  const isRoot = process.getuid?.() === 0;
  const findings = [
    probes.kernel(),
    probes.cLibrary(),
    probes.addon(),
    probes.keeper(),
    probes.device(),
    isRoot ? probes.capability() : probes.fusermount(),
    ...(isRoot ? [] : [probes.others()]),
    probes.lookup(),
    ...(isRoot ? [probes.readonlyBind()] : []),
    probes.registry(),
    probes.attributes(),
    probes.memory(),
    probes.files(),
    probes.userNamespaces(),
  ];
  if (findings.every(({ state }) => state !== 'missing')) findings.push(await trial());
  return findings;
}

/** All of it together: a session that starts, shows a file, takes one, and ends. */
async function trial(): Promise<Finding> {
  const feature = 'session';
  const begin = performance.now();
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), 'ostree-ts-doctor-'));
    const tree = join(folder, 'tree');
    mkdirSync(tree);
    writeFileSync(join(tree, 'file'), 'text');
    await using session = await unlock({
      source: [tree],
      name: `doctor-${process.pid}`,
      size: '1M',
    });
    const started = performance.now() - begin;
    const text = readFileSync(join(session.mountpoint, 'file'), 'utf8');
    if (text !== 'text') throw new Error('a file of the source reads differently in the session');
    writeFileSync(join(session.mountpoint, 'new'), 'text');
    return {
      feature,
      state: 'ok',
      detail: `starts in ${Math.round(started)} ms, reads and writes`,
    };
  } catch (error) {
    return { feature, state: 'missing', ...probes.explained(error) };
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}
