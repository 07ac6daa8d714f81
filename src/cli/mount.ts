#!/usr/bin/env node
/** The programs `mount.fuse.ostree-ts`, which mount(8) runs, and `ostree-ts-mount`, which stands in for fuse-overlayfs. */
import { basename } from 'node:path';
import { mount } from './mount-program.ts';
import { typedArguments } from './startup.ts';

const isHelper = basename(process.argv[1] ?? '') === 'mount.fuse.ostree-ts';
void mount(typedArguments(), isHelper ? 'helper' : 'program', {
  out: (line) => console.log(line),
  err: (line) => console.error(line),
}).then((code) => (process.exitCode = code));
