import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HEADS, type Head } from '../vectors/head.ts';
import { FieldReader, ManifestError } from './manifest-field.ts';
import { type ModelSource, parsePath, parseSha256, parseSource } from './manifest-source.ts';

/** How token states become one vector: their mean, or the state of the first token. */
export type Pooling = 'mean' | 'cls';

/** What a file is for; set-up can be asked for the tokenizer alone. */
export type FileRole = 'tokenizer' | 'config' | 'model' | 'data' | 'head';

/** One file of a model, as it lies in the model's folder after set-up. */
export interface ManifestFile {
  /** Relative to `models/<id>/`, with forward slashes; never leaves that folder. */
  readonly path: string;
  readonly bytes: number;
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  readonly role: FileRole;
  /** What the processor must be able to do for this file to be the one that is used. */
  readonly processor?: 'int8-dot-product';
}

/** Everything the server knows of a model: a further model is a file, not code. */
export interface ModelManifest {
  /** Also the name of the manifest's file and of the model's folder. */
  readonly id: string;
  readonly title: string;
  /** Values in a dense row. */
  readonly dimension: number;
  /**
   * Dimensions that a row may be cut to, for a model that was trained for it (Matryoshka); none
   * unless told.
   */
  readonly shortDimensions: readonly number[];
  /** The longest text in tokens, special tokens included. */
  readonly tokenCountMax: number;
  readonly pooling: Pooling;
  /** Dense rows have length one. */
  readonly normalized: true;
  /** What the model wants in front of a text; empty for none. */
  readonly prefixes: { readonly query: string; readonly passage: string };
  readonly padId: number;
  readonly heads: readonly Head[];
  /** The model's name in Triton's repository, for those that run there. */
  readonly tritonModel?: string;
  /** Names of the graph's outputs; a head without one is found by the backend's own search. */
  readonly outputs: { readonly [Name in Head]?: string };
  readonly files: readonly ManifestFile[];
  readonly source: ModelSource;
  /**
   * Another model whose tokenizer is the same file: where the tokenizer alone is had without the
   * rest of `source`.
   */
  readonly tokenizerFrom?: string;
  readonly license: string;
  readonly attribution: readonly string[];
}

const ROLES = [
  'tokenizer',
  'config',
  'model',
  'data',
  'head',
] as const satisfies readonly FileRole[];
const MANIFEST_NAME = /^[a-z0-9][a-z0-9._-]*$/;

/**
 * Reads `<modelsDir>/<name>.json`.
 *
 * @throws ManifestError when there is no such model (naming those there are), or a field is wrong
 *   (naming it).
 */
export async function loadManifest(options: {
  readonly modelsDir: string;
  readonly name: string;
}): Promise<ModelManifest> {
  const { modelsDir, name } = options;
  const path = join(modelsDir, `${name}.json`);
  // The name becomes part of a path: a slash in it must not reach the file system.
  const text = MANIFEST_NAME.test(name) ? await readFile(path, 'utf8').catch(() => null) : null;
  if (text === null) {
    const known = await listManifests(modelsDir);
    throw new ManifestError(
      `unknown model "${name}": ${modelsDir} describes ${known.join(', ') || 'none'}.`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ManifestError(`${path} is not valid JSON: ${(error as Error).message}`);
  }
  const manifest = parseManifest(value, path);
  if (manifest.id !== name) {
    throw new ManifestError(
      `${path}: "id" must be "${name}" as the file is, not "${manifest.id}".`,
    );
  }
  return manifest;
}

/** What a request may call the model: its id, and its name on its hub. */
export function modelNamesOf({ id, source }: ModelManifest): readonly string[] {
  return source.kind === 'hub' ? [id, source.repository] : [id];
}

/** Names of the models that `modelsDir` describes, sorted. */
export async function listManifests(modelsDir: string): Promise<string[]> {
  const entries = await readdir(modelsDir).catch(() => [] as string[]);
  return entries
    .filter((entry) => entry.endsWith('.json'))
    .map((entry) => entry.slice(0, -'.json'.length))
    .sort();
}

/**
 * Turns the content of a manifest file into a checked value.
 *
 * @param name said in errors; usually the file's path.
 * @throws ManifestError naming the first field that is missing or wrong.
 */
export function parseManifest(value: unknown, name: string): ModelManifest {
  const root = new FieldReader(value, name);
  const tritonModel = root.optional('tritonModel')?.text();
  const tokenizerFrom = root
    .optional('tokenizerFrom')
    ?.matching(MANIFEST_NAME, 'a lower-case name');
  const normalized = root.field('normalized');
  if (normalized.boolean() !== true) throw normalized.wrong('true');
  const prefixes = root.field('prefixes');
  return {
    id: root.field('id').matching(MANIFEST_NAME, 'a lower-case name'),
    title: root.field('title').text(),
    dimension: root.field('dimension').integer(1),
    shortDimensions: root.optional('shortDimensions')?.list(1, (size) => size.integer(1)) ?? [],
    tokenCountMax: root.field('tokenCountMax').integer(3),
    pooling: root.field('pooling').oneOf(['mean', 'cls']),
    normalized: true,
    prefixes: {
      query: prefixes.field('query').string(),
      passage: prefixes.field('passage').string(),
    },
    padId: root.field('padId').integer(0),
    heads: root.field('heads').list(1, (head) => head.oneOf(HEADS)),
    ...(tritonModel === undefined ? {} : { tritonModel }),
    outputs: parseOutputs(root.optional('outputs')),
    files: root.field('files').list(1, parseFile),
    source: parseSource(root.field('source')),
    ...(tokenizerFrom === undefined ? {} : { tokenizerFrom }),
    license: root.field('license').text(),
    attribution: root.field('attribution').list(1, (line) => line.text()),
  };
}

function parseOutputs(field: FieldReader | undefined): ModelManifest['outputs'] {
  const outputs: { [Name in Head]?: string } = {};
  for (const head of HEADS) {
    const output = field?.optional(head);
    if (output !== undefined) outputs[head] = output.text();
  }
  return outputs;
}

function parseFile(field: FieldReader): ManifestFile {
  const processor = field.optional('processor')?.oneOf(['int8-dot-product']);
  return {
    ...(processor === undefined ? {} : { processor }),
    path: parsePath(field.field('path')),
    bytes: field.field('bytes').integer(1),
    sha256: parseSha256(field.field('sha256')),
    role: field.field('role').oneOf(ROLES),
  };
}
