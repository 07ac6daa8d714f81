/**
 * A rehearsal, its second act after the first requests, then a session in memory that serves a channel of another kind: files made, written, read and removed, and others of the lower
 * looked for and removed. Run by
 * Node with --trace-deopt, which tells what V8 throws away, and --expose-gc; REHEARSED stands between the two.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as abi from '../../src/fuse/abi.ts';
import { History } from '../../src/fuse/history.ts';
import { Programs } from '../../src/fuse/programs.ts';
import { Rehearsal } from '../../src/fuse/rehearsal.ts';
import { Server } from '../../src/fuse/server.ts';
import { DirectoryLayer } from '../../src/layers/directory.ts';
import { LateStores } from '../../src/layers/late-stores.ts';
import { MemoryUpper } from '../../src/layers/memory.ts';
import { native } from '../../src/native.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { Kernel } from './kernel.ts';

const FILES = 300;

/** What is looked at, and removed in the session: its own modules. */
const FOLDER = fileURLToPath(new URL('../../src/', import.meta.url));

const programs = new Programs(native);
const late = new LateStores(native);
const lower = new DirectoryLayer(native, native.open(FOLDER, 0o10000000, 0), {
  links: 'shared',
});
const overlay = new Overlay(
  [lower],
  new MemoryUpper(native, native.memfd('rehearsed'), 2 ** 40, late),
);
const history = new History(programs, overlay, 256);
const rehearsal = new Rehearsal(native, undefined, programs);
rehearsal.prepare();
const kernel = new Kernel((fd, into, offset) => native.pread(fd, into, offset));
// As a worker gives them, so not as a rehearsal does.
const server = new Server({
  log: (message) => console.log(message),
  onWake: () => {},
  onInterval: { requests: 256, look: () => overlay.usage() },
  history,
  late,
  begun: overlay.begun,
  filesystem: overlay,
  channel: kernel,
});
kernel.attach(server).init();
kernel.getattr(1);
while (rehearsal.proceed());
console.log('REHEARSED');
// As a worker does.
const { gc } = globalThis as { gc?: () => void };
if (gc === undefined) throw new Error('run it with --expose-gc');
gc();

const from = { uid: 0, gid: 0, pid: process.pid };
const dir = made(kernel.making(abi.FUSE_MKDIR, 1, [0o755, 0o22, 'made'], from));
const data = Buffer.alloc(2048, 'x');
for (let index = 0; index < FILES; index++) {
  const name = `file-${index}`;
  kernel.lookup(dir, name);
  const words = [0o101, 0o100644, 0o22, 0];
  const file = made(kernel.making(abi.FUSE_CREATE, dir, [...words, name], from));
  kernel.call(abi.FUSE_GETXATTR, file, [4096, 0, 'security.capability']);
  kernel.write(file, 0, data);
  kernel.getattr(dir);
  kernel.getattr(file);
  kernel.read(file, 0, 4096);
}
for (let index = 0; index < FILES; index++) {
  kernel.call(abi.FUSE_UNLINK, dir, [`file-${index}`], from);
  kernel.getattr(dir);
}
for (const folder of ['layers', 'session', 'oci']) {
  const found = made(kernel.lookup(1, folder));
  kernel.readdir(found, 0);
  for (const name of readdirSync(FOLDER + folder)) {
    kernel.lookup(found, `${name}.absent`);
    const file = made(kernel.lookup(found, name));
    kernel.getattr(file);
    kernel.call(abi.FUSE_UNLINK, found, [name], from);
  }
}
programs.close();
overlay.close();

function made(entry: { nodeid: number } | number): number {
  if (typeof entry === 'number') throw new Error(`errno ${-entry}`);
  return entry.nodeid;
}
