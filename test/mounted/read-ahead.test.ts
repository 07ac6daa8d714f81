/** Reading what a disk holds, of a session's lower. */
import test from 'ava';
import { inSandbox } from '../helpers/sandbox.ts';

test('files that a disk holds are read ahead of who takes them one after another, and are what they are', async (t) => {
  const seen = await inSandbox(async ({ library, tools, work }) => {
    const fs = await import('node:fs');
    const names = Array.from({ length: 300 }, (_, i) => `f${String(i).padStart(3, '0')}`);
    const texts = names.map((_, i) => `${i} `.repeat(1 + ((i * 7919) % 3000)));
    const files = Object.fromEntries(names.map((name, i) => [name, texts[i] ?? '']));
    const disk = tools.plant(`${work}/disk`, {});
    tools.run('sh', ['-c', `truncate -s 64M ${work}/image && mkfs.ext4 -q ${work}/image`]);
    tools.run('mount', ['-o', 'loop', `${work}/image`, disk]);
    const tree = tools.plant(`${disk}/tree`, files);
    const mnt = tools.plant(`${work}/mnt`, {});
    tools.run('sync', ['-f', tree]);
    const forget = 'for file in $0/*; do dd if=$file iflag=nocache count=0 status=none; done';
    tools.run('sh', ['-c', forget, tree]);
    const session = await library.unlock({ source: [tree], mountpoint: mnt });
    const { daemon } = await tools.pids(session);
    tools.equal(fs.readdirSync(mnt).length, names.length);
    const wrong: string[] = [];
    for (const [i, name] of names.entries()) {
      // What is read ahead is the lower's; this is a little later no longer what is to be read.
      const later = names[i + 3];
      if (i % 10 === 0 && later !== undefined) fs.writeFileSync(`${mnt}/${later}`, 'changed');
      const expected = i % 10 === 3 ? 'changed' : texts[i];
      if (fs.readFileSync(`${mnt}/${name}`, 'utf8') !== expected) wrong.push(name);
    }
    const tasks = `/proc/${daemon}/task`;
    const threads = fs
      .readdirSync(tasks)
      .map((thread) => fs.readFileSync(`${tasks}/${thread}/comm`, 'utf8').trim());
    await session.lock();
    for (const [i, name] of names.entries()) {
      tools.equal(fs.readFileSync(`${tree}/${name}`, 'utf8'), texts[i]);
    }
    await tools.nothingIsLeft();
    tools.run('umount', [disk]);
    return { threads, wrong };
  });
  t.deepEqual(seen.wrong, []);
  t.true(seen.threads.includes('read-ahead'), seen.threads.join(' '));
});
