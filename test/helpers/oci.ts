/** The real tools for images, and what they make of them. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';

/** Runs a program; its output. @throws with what it said. */
export function must(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? `${status}: ${stderr}`}`);
}

/** The tree that umoci unpacks an image of a layout to. */
export function unpack(layout: string, tag: string, bundle: string): string {
  must('umoci', 'unpack', '--image', `${layout}:${tag}`, bundle);
  return `${bundle}/rootfs`;
}

/** Makes an image of a tree with umoci: a layer of it on top of an empty image. Of a copy, since umoci changes times. */
export function umociImage(tree: string, layout: string, tag: string): void {
  must('umoci', 'init', '--layout', layout);
  must('umoci', 'new', '--image', `${layout}:${tag}`);
  const copy = `${layout}.tree`;
  must('cp', '-a', tree, copy);
  must('umoci', 'insert', '--image', `${layout}:${tag}`, copy, '/');
  rmSync(copy, { recursive: true });
}
