/**
 * A rehearsal, then a session in memory that serves a channel of another kind: files made, written, read and removed. Run by
 * Node with --trace-deopt, which tells what V8 throws away; REHEARSED stands between the two.
 */
import { tmpdir } from 'node:os';
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

const programs = new Programs(native);
const rehearsal = new Rehearsal(native, undefined, programs);
rehearsal.prepare();
while (rehearsal.proceed());
console.log('REHEARSED');

const late = new LateStores(native);
const lower = new DirectoryLayer(native, native.open(tmpdir(), 0o10000000, 0), {
  links: 'shared',
});
const overlay = new Overlay(
  [lower],
  new MemoryUpper(native, native.memfd('rehearsed'), 2 ** 40, late),
);
const kernel = new Kernel((fd, into, offset) => native.pread(fd, into, offset));
const server = new Server({
  channel: kernel,
  filesystem: overlay,
  late,
  history: new History(programs, overlay, 256),
  log: (message) => console.log(message),
  onInterval: { requests: 256, look: () => overlay.usage() },
});
kernel.attach(server).init();
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
programs.close();
overlay.close();

function made(entry: { nodeid: number } | number): number {
  if (typeof entry === 'number') throw new Error(`errno ${-entry}`);
  return entry.nodeid;
}
