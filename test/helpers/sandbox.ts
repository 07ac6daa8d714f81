/**
 * A place where sessions of a test disturb nobody: mount and pid namespaces of their own, an empty /run and a work folder
 * on tmpfs. Whatever is left in it ends with it. The body runs in a process of its own, so it may use only its argument
 * and what it imports itself.
 */
import test, { type Macro } from 'ava';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type * as library from '../../src/index.ts';
import type * as tools from './sandbox-tools.ts';

export interface Inside {
  library: typeof library;
  tools: typeof tools;
  /** Where files may be made; on tmpfs, mode 1777. */
  work: string;
}

export interface SandboxOptions {
  /** Runs the body as this ordinary user, of USERS. */
  uid?: number;
  /** A directory of the machine, to be at /run/tree, read-only. */
  tree?: string;
  /** To be there in the work folder: contents by name. */
  files?: Record<string, string>;
  timeoutMs?: number;
}

/** Ordinary users that exist in a sandbox, each with a runtime directory /run/user/UID. */
export const USERS = [64_001, 64_002] as const;

/** The first subordinate id of the first of USERS; the second has none. */
const SUBORDINATE = 700_000;

const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** /dev/fuse is opened for everybody, as on most systems, through a node of our own: the machine's stays as it is. */
const PREPARE = `
set -e
for path in $(grep ' fuse.ostree-ts ' /proc/self/mounts | cut -d' ' -f2); do umount -l "$path"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/package /run/scratch /run/user
touch /run/node /run/passwd /run/subids
mount --bind "$PACKAGE" /run/package
mount --bind "$NODE" /run/node
if [ -n "$TREE" ]; then
  mkdir /run/tree
  mount --bind "$TREE" /run/tree
  mount -o remount,bind,ro /run/tree
fi
mount -t tmpfs -o mode=1777,dev tmpfs /run/scratch
mknod -m 666 /run/scratch/.fuse c 10 229
mount --bind /run/scratch/.fuse /dev/fuse
cp /etc/passwd /run/passwd
for uid in ${USERS.join(' ')}; do
  echo "user$uid:x:$uid:$uid::/run/user/$uid:/bin/sh" >> /run/passwd
  install -d -m 700 -o "$uid" -g "$uid" "/run/user/$uid"
done
mount --bind /run/passwd /etc/passwd
echo 'user${USERS[0]}:${SUBORDINATE}:65536' > /run/subids
mount --bind /run/subids /etc/subuid
mount --bind /run/subids /etc/subgid
cd /
exec 4<&0
if [ -n "$AS" ]; then
  export XDG_RUNTIME_DIR="/run/user/$AS"
  setpriv --reuid="$AS" --regid="$AS" --clear-groups /run/node --input-type=module -e "$SCRIPT"
else
  "$NODE" --input-type=module -e "$SCRIPT"
fi
`;

/**
 * Runs `body` in a sandbox, and gives what it returns (through JSON).
 *
 * @throws Error with the body's stack and what was printed, when it fails or takes longer than `timeoutMs`.
 */
export async function inSandbox<Result>(
  body: (inside: Inside) => Promise<Result>,
  { uid, tree, files = {}, timeoutMs = 120_000 }: SandboxOptions = {},
): Promise<Result> {
  const script = `
    import { writeFileSync, writeSync } from 'node:fs';
    const library = await import('/run/package/build/src/index.js');
    const tools = await import('/run/package/build/test/helpers/sandbox-tools.js');
    let outcome;
    for (const [name, content] of Object.entries(${JSON.stringify(files)})) {
      writeFileSync('/run/scratch/' + name, content);
    }
    try {
      const result = await (${body.toString()})({ library, tools, work: '/run/scratch' });
      outcome = { result: result ?? null };
    } catch (error) {
      outcome = { error: error?.stack ?? String(error), remedy: error?.remedy };
    }
    writeSync(3, JSON.stringify(outcome));
    process.exit(0);
  `;
  const flags = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const child = spawn('unshare', [...flags, '--propagation', 'private', 'sh', '-c', PREPARE], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      OSTREE_TS_COLD: process.env['OSTREE_TS_COLD'],
      PACKAGE,
      NODE: process.execPath,
      SCRIPT: script,
      TREE: tree ?? '',
      AS: uid === undefined ? '' : String(uid),
    },
  });
  const printed: Buffer[] = [];
  const told: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => printed.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => printed.push(chunk));
  child.stdio[3]?.on('data', (chunk: Buffer) => told.push(chunk));
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  const words = Buffer.concat(printed).toString().trim();
  const text = Buffer.concat(told).toString();
  if (text === '') {
    throw new Error(`the sandbox ${isLate ? `took over ${timeoutMs} ms` : 'failed'}: ${words}`);
  }
  const outcome = JSON.parse(text) as { result?: Result; error?: string; remedy?: string };
  if (outcome.error !== undefined) {
    throw new Error(`${outcome.error}\n${outcome.remedy ?? ''}\n${words}`);
  }
  return outcome.result as Result;
}

type Body = (inside: Inside) => Promise<void>;

/** A test that passes when its body does, in a sandbox of its own. @param uid  as in `SandboxOptions`. */
export const sandboxed: Macro<[body: Body, uid?: number]> = test.macro(async (t, body, uid) => {
  await inSandbox(body, uid === undefined ? {} : { uid });
  t.pass();
});

/** The same, by an ordinary user. */
export const sandboxedAs: Macro<[body: Body]> = test.macro(async (t, body) => {
  await inSandbox(body, { uid: USERS[0] });
  t.pass();
});

/** The same as root, for what takes minutes. */
export const sandboxedLong: Macro<[body: Body]> = test.macro(async (t, body) => {
  t.timeout(700_000);
  await inSandbox(body, { timeoutMs: 600_000 });
  t.pass();
});
