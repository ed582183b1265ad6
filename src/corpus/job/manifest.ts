import { CorpusError } from '../corpus-error.ts';
import type { Position } from '../sources/source.ts';
import type { ColumnKind } from './records.ts';

/**
 * Everything that changes a byte of the output, beside the texts themselves. Two jobs with the same
 * fingerprint and the same inputs write the same bytes.
 */
export type Fingerprint = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** An input as it was when the job was made. */
export interface PinnedInput {
  readonly name: string;
  readonly bytes: number;
  readonly version: string;
  readonly records: number;
  /** xxHash64 over what the job reads of its records, in hex. */
  readonly hash: string;
}

/**
 * Which records make up one part: the input and the place in it of the first, how many, and their
 * hash. Where the input ends before, the next inputs' records follow.
 */
export type ShardEntry = readonly [input: number, start: Position, count: number, hash: string];

/** A carried column, or the id. */
export interface PinnedColumn {
  readonly name: string;
  readonly kind: ColumnKind;
}

/**
 * What a job is. It is written once, before the first part, and never changed; with the parts that
 * are committed it is the whole truth about the job.
 */
export interface Manifest {
  /** Before 2 a part ended with its input; such a manifest reads the same way. */
  readonly manifestVersion: 1 | 2;
  readonly fingerprint: Fingerprint;
  readonly textCount: number;
  readonly inputs: readonly PinnedInput[];
  readonly id: PinnedColumn;
  readonly carried: readonly PinnedColumn[];
  readonly shards: readonly ShardEntry[];
}

/** JSON with a line for each shard, so that people can read it too. */
export function formatManifest(manifest: Manifest): string {
  const { shards, ...head } = manifest;
  const lines = shards.map((shard) => JSON.stringify(shard)).join(',\n');
  return `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "shards": [\n${lines}\n]}\n`;
}

/**
 * What a job is called on every machine: a hash of all that it is, and of where it goes. Two copies
 * of one corpus are two jobs: whoever saw the first one's end would take the other's messages away.
 */
export function jobIdOf(manifest: Manifest, address: string): string {
  const seed = Bun.hash.xxHash64(address);
  return Bun.hash.xxHash64(formatManifest(manifest), seed).toString(36);
}

/** @throws CorpusError CORPUS_JOB_DIFFERS when it is no manifest of ours. */
export function parseManifest(text: string, address: string): Manifest {
  let manifest: Partial<Manifest> | undefined;
  try {
    manifest = JSON.parse(text) as Partial<Manifest>;
  } catch {
    // Said below.
  }
  const version = manifest?.manifestVersion;
  if ((version === 1 || version === 2) && Array.isArray(manifest?.shards)) {
    return manifest as Manifest;
  }
  const message = `${address} has a manifest that this version cannot read; choose another --to.`;
  throw new CorpusError('CORPUS_JOB_DIFFERS', message);
}

/**
 * Holds a job against the one that is there already. As many inputs of other names may be the same
 * ones, from another folder; that is for whoever reads them to say.
 *
 * @throws CorpusError CORPUS_JOB_DIFFERS that names what differs, there and here.
 */
export function checkSameJob(options: {
  address: string;
  there: Manifest;
  fingerprint: Fingerprint;
  inputNames: readonly string[];
}): void {
  const { address, there, fingerprint, inputNames } = options;
  const names = new Set([...Object.keys(there.fingerprint), ...Object.keys(fingerprint)]);
  const differing = [...names]
    .map((name) => [name, there.fingerprint[name], fingerprint[name]] as const)
    .filter(([, before, now]) => JSON.stringify(before) !== JSON.stringify(now))
    .map(([name, before, now]) => `${name} was ${shown(before)} and is ${shown(now)}`);
  const isAsMany = inputNames.length === there.inputs.length;
  if (!isAsMany || differing.length > 0) differing.push(...describeNames(there, inputNames));
  if (differing.length > 0) throw anotherJob(address, differing);
}

/** @returns in what the names of the inputs differ. */
export function describeNames(there: Manifest, inputNames: readonly string[]): readonly string[] {
  const known = there.inputs.map(({ name }) => name);
  const added = inputNames.filter((name) => !known.includes(name));
  const gone = known.filter((name) => !inputNames.includes(name));
  const differing: string[] = [];
  if (added.length > 0) differing.push(`${someNames(added)} was not among the inputs`);
  if (gone.length > 0) differing.push(`${someNames(gone)} is no longer among the inputs`);
  if (differing.length === 0 && known.join('\n') !== inputNames.join('\n')) {
    differing.push('the inputs stand in another order');
  }
  return differing;
}

/** What is there was made in another way. */
export function anotherJob(address: string, differing: readonly string[]): CorpusError {
  return new CorpusError(
    'CORPUS_JOB_DIFFERS',
    `${address} holds another job: ${differing.join('; ')}. ` +
      'Go on as it was begun, or choose another --to.',
  );
}

function shown(value: Fingerprint[string] | undefined): string {
  if (value === undefined) return 'not given';
  return typeof value === 'object' ? value.join(',') || 'none' : String(value);
}

function someNames(names: readonly string[]): string {
  return names.length === 1 ? String(names[0]) : `${names[0]} and ${names.length - 1} more`;
}
