// Requests that need what is still being made ready: put off, and served when it is.
import test from 'ava';
import { FsError, NotYet } from '../src/errors.ts';
import * as abi from '../src/fuse/abi.ts';
import { Server } from '../src/fuse/server.ts';
import type { Filesystem } from '../src/overlay/filesystem.ts';
import { Kernel, readIn } from './helpers/kernel.ts';
import { stubFilesystem } from './helpers/stub-filesystem.ts';

/** Something that another thread makes. */
function job() {
  return { isOver: false, wait: () => {} };
}

function served(methods: Partial<Filesystem>, options: { onWake?: () => void } = {}) {
  const { filesystem, calls } = stubFilesystem(methods);
  const kernel = new Kernel();
  const { onWake = () => {} } = options;
  const wake = () => kernel.wake();
  const server = new Server({
    channel: kernel,
    filesystem,
    log: () => {},
    onBug: 'rethrow',
    onWake,
    wake,
  });
  kernel.attach(server);
  kernel.init();
  return { kernel, server, names: () => calls.map(([name]) => name) };
}

test('a request is put off, others are served, and it is when its data is ready', (t) => {
  const making = job();
  const { kernel, server, names } = served({
    read: (_ino, _offset, _length, into) => {
      if (!making.isOver) throw new NotYet(making);
      into.add(-1, 0, 5);
    },
    getattr: () => {
      making.isOver = true;
      kernel.wake();
    },
  });
  const behind = kernel.enqueue(abi.FUSE_GETATTR, 3, [0, 0, 0n]);
  const answer = kernel.call(abi.FUSE_READ, 2, readIn(0, 10));
  t.is(answer.body.byteLength, 5);
  t.is(kernel.answerTo(behind)?.error, 0);
  t.deepEqual(names(), ['read', 'getattr', 'read']);
  t.deepEqual(server.requests, { INIT: 1, GETATTR: 1, READ: 1 });
});

test('a wake-up for something else leaves it waiting', (t) => {
  const making = job();
  let wakes = 0;
  const { kernel, names } = served(
    {
      read: (_ino, _offset, _length, into) => {
        if (!making.isOver) throw new NotYet(making);
        into.add(-1, 0, 5);
      },
    },
    {
      onWake: () => {
        wakes++;
        if (wakes === 3) making.isOver = true;
        else kernel.wake();
      },
    },
  );
  kernel.wake();
  t.is(kernel.call(abi.FUSE_READ, 2, readIn(0, 10)).body.byteLength, 5);
  t.deepEqual(names(), ['read', 'read']);
  t.is(wakes, 3);
});

test('what fails in the end is answered as any other failure', (t) => {
  const making = job();
  const { kernel } = served({
    read: () => {
      if (making.isOver) throw new FsError('EIO');
      making.isOver = true;
      kernel.wake();
      throw new NotYet(making);
    },
  });
  t.is(kernel.call(abi.FUSE_READ, 2, readIn(0, 10)).error, -5);
});

test('several may wait, and a wake-up that the search for room met is not lost', (t) => {
  const making = job();
  let isFull = true;
  const { kernel, names } = served({
    read: (_ino, _offset, _length, into) => {
      if (!making.isOver) throw new NotYet(making);
      into.add(-1, 0, 5);
    },
    unlink: () => {
      making.isOver = true;
      kernel.wake();
      if (isFull) throw new FsError('ENOSPC');
    },
    forget: () => {
      isFull = false;
    },
  });
  const second = kernel.enqueue(abi.FUSE_READ, 3, readIn(0, 10));
  const unlink = kernel.enqueue(abi.FUSE_UNLINK, 1, ['f']);
  kernel.enqueue(abi.FUSE_FORGET, 7, [1n]);
  t.is(kernel.call(abi.FUSE_READ, 2, readIn(0, 10)).body.byteLength, 5);
  t.is(kernel.answerTo(second)?.body.byteLength, 5);
  t.is(kernel.answerTo(unlink)?.error, 0);
  t.deepEqual(names(), ['read', 'read', 'unlink', 'forget', 'unlink', 'read', 'read']);
});
