/** What an image is made of, as JSON: descriptors, indexes, manifests, configs; checked when they are read. */
import { arch } from 'node:process';
import { SessionError } from '../errors.ts';
import type { Compression } from './compression.ts';

export interface Descriptor {
  mediaType: string;
  digest: string;
  /** Bytes. */
  size: number;
  annotations?: Record<string, string>;
  platform?: { architecture: string; os: string };
}

export interface Index {
  schemaVersion: 2;
  manifests: Descriptor[];
}

export interface Manifest {
  schemaVersion: 2;
  mediaType?: string;
  config: Descriptor;
  /** The lowest first. */
  layers: Descriptor[];
  annotations?: Record<string, string>;
}

export interface Config {
  created?: string;
  architecture: string;
  os: string;
  /** How it is run; ours to pass on only. */
  config?: Record<string, unknown>;
  rootfs: { type: 'layers'; diff_ids: string[] };
  history?: { created?: string; created_by?: string; comment?: string; empty_layer?: boolean }[];
}

export const TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

/** As Go names it. */
const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm: 'arm',
  arm64: 'arm64',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
};

export const PLATFORM: { os: string; architecture: string } = {
  os: 'linux',
  architecture: ARCHITECTURES[arch] ?? arch,
};

export function layerType(compression: Compression): string {
  return compression === 'none' ? TYPES.layer : `${TYPES.layer}+${compression}`;
}

export function isIndexType(type: string): boolean {
  return (
    type === TYPES.index || type === 'application/vnd.docker.distribution.manifest.list.v2+json'
  );
}

export function isManifestType(type: string): boolean {
  return type === TYPES.manifest || type === 'application/vnd.docker.distribution.manifest.v2+json';
}

/** OCI's word for a layer's type, Docker's included; `undefined` for what is no file system. */
export function ociLayerType(type: string): string | undefined {
  const match =
    /^application\/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[.+](gzip|zstd))?$/.exec(
      type,
    );
  if (match === null) return undefined;
  return match[1] === undefined ? TYPES.layer : `${TYPES.layer}+${match[1]}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(name: string, what: string): SessionError {
  return new SessionError(
    `the image cannot be used: ${name} ${what}`,
    'copy it again from where it came',
  );
}

function asDescriptor(value: unknown, name: string): Descriptor {
  const isWhole =
    isRecord(value) &&
    typeof value['mediaType'] === 'string' &&
    typeof value['digest'] === 'string' &&
    Number.isSafeInteger(value['size']);
  if (!isWhole) throw wrong(name, 'has a descriptor without mediaType, digest or size');
  return value as unknown as Descriptor;
}

export function asIndex(value: unknown, name: string): Index {
  if (!isRecord(value) || !Array.isArray(value['manifests'])) throw wrong(name, 'is no index');
  for (const each of value['manifests']) asDescriptor(each, name);
  return value as unknown as Index;
}

export function asManifest(value: unknown, name: string): Manifest {
  if (!isRecord(value) || !Array.isArray(value['layers'])) throw wrong(name, 'is no manifest');
  asDescriptor(value['config'], name);
  for (const each of value['layers']) asDescriptor(each, name);
  return value as unknown as Manifest;
}

export function asConfig(value: unknown, name: string): Config {
  const rootfs = isRecord(value) ? value['rootfs'] : undefined;
  const ids: unknown = isRecord(rootfs) ? rootfs['diff_ids'] : undefined;
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string')) {
    throw wrong(name, 'is no config of an image: it has no rootfs.diff_ids');
  }
  return value as Config;
}
