/** Puts the overlay of a session together, out of what the daemon was handed, for whichever transport serves it. */
import { AufsLayer } from '../layers/aufs-layer.ts';
import { CommitLayer } from '../layers/commit.ts';
import { DirectoryLayer, type DirectoryNode } from '../layers/directory.ts';
import { LateStores } from '../layers/late-stores.ts';
import type { LowerLayer } from '../layers/layer.ts';
import { MemoryUpper } from '../layers/memory.ts';
import type { MemoryNode } from '../layers/memory-node.ts';
import { OpenFiles, openLimits } from '../layers/open-files.ts';
import { DirectoryUpper } from '../layers/overlayfs-dir.ts';
import type { HostNode } from '../layers/overlayfs-node.ts';
import type { Native } from '../native.ts';
import type { Filesystem } from '../overlay/filesystem.ts';
import { Overlay } from '../overlay/overlay.ts';
import { present } from '../overlay/presentation.ts';
import type { LowerData, WorkerData } from './worker-data.ts';

export interface Assembled {
  overlay: Overlay<MemoryNode> | Overlay<HostNode>;
  /** What is to be served: the overlay, or what shows it otherwise. */
  filesystem: Filesystem;
  /** What the upper stores when a request has been answered. */
  late: LateStores;
  /** What is broken in the lowers, one line each. */
  problems: () => string[];
  /** What a lower is called, for people. */
  nameOf: (lower: object) => string;
}

type Lower = LowerLayer<object> & { problems?(): string[] };

/** @param log  told of what is broken in a lower, when it is met. */
export function assemble(
  native: Native,
  data: WorkerData,
  log: (message: string) => void,
): Assembled {
  const bottom = data.lowers.length - 1;
  const opened = new OpenFiles<DirectoryNode>(native, openLimits(native));
  const lowers = data.lowers.map((lower, index) =>
    open(native, data, { lower, above: index < bottom, opened, onProblem: log }),
  );
  const { presentation, upper, arenaFd, limitBytes } = data;
  const late = new LateStores(native);
  const overlay =
    upper === undefined
      ? new Overlay(lowers, new MemoryUpper(native, arenaFd, limitBytes, late), presentation)
      : new Overlay(
          lowers,
          new DirectoryUpper(native, upper.fd, {
            ...upper,
            isShared: data.io === 'passthrough',
          }),
          presentation,
        );
  return {
    overlay,
    late,
    filesystem: presentation === undefined ? overlay : present(overlay, presentation),
    problems: () => lowers.flatMap((lower) => lower.problems?.() ?? []),
    nameOf: (lower) => {
      const index = lowers.findIndex((each) => each === lower);
      return bottom === 0 ? 'the source' : `directory ${index + 1} of the source`;
    },
  };
}

function open(
  native: Native,
  { links, ids, wakeFd }: WorkerData,
  {
    lower,
    above,
    ...options
  }: {
    lower: LowerData;
    above: boolean;
    opened: OpenFiles<DirectoryNode>;
    onProblem: (message: string) => void;
  },
): Lower {
  if (lower.kind === 'directory') {
    const layer = new DirectoryLayer(native, lower.fd, { links, above, ids, ...options });
    return lower.hasAufsWhiteouts ? new AufsLayer(layer, above) : layer;
  }
  return CommitLayer.open(native, lower.fds, {
    ...lower,
    ids,
    onProblem: options.onProblem,
    wakeFd,
  });
}
