/** A file or directory of the memory upper. */
import type { ByteString } from '../native.ts';
import type { Attr, Name } from './layer.ts';
import type { FileContents } from './memory-file.ts';
import type { Names } from './names.ts';
import type { LowerRef } from './upper.ts';

const NO_ORIGIN: readonly LowerRef[] = [];

export class MemoryNode {
  ino = 0;
  mode = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  rdevMajor = 0;
  rdevMinor = 0;
  size = 0;
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  btimeSec = 0;
  btimeNsec = 0;
  origin: readonly LowerRef[] = NO_ORIGIN;
  /** What the origin occupies, in 512-byte units. */
  originBlocks = 0;
  target: Name | undefined = undefined;
  directory: Names<MemoryNode> | undefined = undefined;
  contents: FileContents | undefined = undefined;
  /** `undefined` while they are still the origin's. */
  xattrs: Map<ByteString, Uint8Array> | undefined = undefined;
  /** Bytes charged for the extended attributes. */
  xattrBytes = 0;

  /** Shows what is kept. */
  fill(attr: Attr): void {
    attr.ino = this.ino;
    attr.mode = this.mode;
    attr.nlink = this.nlink;
    attr.uid = this.uid;
    attr.gid = this.gid;
    attr.rdevMajor = this.rdevMajor;
    attr.rdevMinor = this.rdevMinor;
    attr.size = this.directory === undefined ? this.size : 4096;
    if (this.directory !== undefined) attr.blocks = 8;
    else attr.blocks = this.contents?.blocks(this.size, this.originBlocks) ?? this.originBlocks;
    attr.atimeSec = this.atimeSec;
    attr.atimeNsec = this.atimeNsec;
    attr.mtimeSec = this.mtimeSec;
    attr.mtimeNsec = this.mtimeNsec;
    attr.ctimeSec = this.ctimeSec;
    attr.ctimeNsec = this.ctimeNsec;
    attr.btimeSec = this.btimeSec;
    attr.btimeNsec = this.btimeNsec;
  }

  /** Keeps what can be set at any time. */
  take(attr: Attr): void {
    this.mode = attr.mode;
    this.uid = attr.uid;
    this.gid = attr.gid;
    this.atimeSec = attr.atimeSec;
    this.atimeNsec = attr.atimeNsec;
    this.mtimeSec = attr.mtimeSec;
    this.mtimeNsec = attr.mtimeNsec;
    this.ctimeSec = attr.ctimeSec;
    this.ctimeNsec = attr.ctimeNsec;
  }
}
