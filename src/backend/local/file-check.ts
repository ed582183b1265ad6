import { closeSync, existsSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cosineOf } from '../../model/fidelity.ts';
import type { Head } from '../../vectors/output.ts';
import { type InferenceOutputs, joinTokenIds } from './inference-protocol.ts';

/**
 * What proves that a model's files are still those of its set-up: a hash of each file of the mapped
 * copy, and what one text came to. Disks and copies flip bytes without a word, and damaged weights
 * answer with rows of length one that mean something else.
 */
export interface FileRecord {
  /** Of each file beside the record, by name. */
  readonly hashes: Readonly<Record<string, string>>;
  /** What `CHECKED_TEXT` came to, for each head. */
  readonly rows: { readonly [H in Head]?: readonly number[] };
}

const RECORD = 'weights.check.json';

/** Tokens of the recorded text. Every vocabulary has ids from 0 to this. */
const TOKEN_COUNT = 16;

/** The text whose rows are recorded, as an engine takes it. */
export function checkedText(outputs: { readonly [H in Head]?: string }) {
  const ids = Array.from({ length: TOKEN_COUNT }, (_, id) => id);
  const heads = Object.keys(outputs) as Head[];
  return { messageId: 0, ...joinTokenIds([ids]), heads, isAlone: false };
}

/** Writes the record of a copy beside it. @param names of its files. */
export function writeRecord(
  folder: string,
  { names, rows }: { names: readonly string[]; rows: InferenceOutputs },
): void {
  const hashes = Object.fromEntries(names.map((name) => [name, hashOf(join(folder, name))]));
  const values = Object.entries(rows).map(([head, row]) => [head, [...row]] as const);
  const record: FileRecord = { hashes, rows: Object.fromEntries(values) };
  writeFileSync(join(folder, RECORD), JSON.stringify(record));
}

/**
 * Reads the record of a mapped copy and holds the copy's bytes against it: 25 ms for 100 MB, and no
 * memory to speak of.
 *
 * @throws Error with a sentence for the operator.
 */
export function readRecord(mappedPath: string): FileRecord {
  const folder = dirname(mappedPath);
  if (!existsSync(join(folder, RECORD))) {
    throw new Error(`${folder} has no ${RECORD}: it is of an earlier version`);
  }
  const record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as FileRecord;
  for (const [name, hash] of Object.entries(record.hashes)) {
    if (hashOf(join(folder, name)) !== hash) {
      throw new Error(`${join(folder, name)} is damaged: its bytes are not those of the set-up`);
    }
  }
  return record;
}

/**
 * The least cosine to the recorded rows, as for engines: another processor computes other last
 * bits.
 */
const COSINE_MIN = 0.9998;

/** What is wrong with the rows that the text came to now; undefined when nothing is. */
export function faultOfRows(found: InferenceOutputs, recorded: FileRecord['rows']) {
  for (const [head, row] of Object.entries(recorded) as [Head, readonly number[]][]) {
    const now = found[head];
    const isLikely = now !== undefined && now.length === row.length;
    const cosine = isLikely ? cosineOf(now, Float32Array.from(row)) : 0;
    if (!(cosine >= COSINE_MIN)) {
      return `its ${head} row is not the recorded one: cosine ${cosine.toFixed(4)}`;
    }
  }
  return undefined;
}

/**
 * Holds a model file against the manifest's hash: 70 ms for 70 MB.
 *
 * @throws Error with a sentence for the operator.
 */
export function checkSha256(path: string, sha256: string): void {
  const hasher = new Bun.CryptoHasher('sha256');
  eachChunk(path, (bytes) => hasher.update(bytes));
  if (hasher.digest('hex') === sha256) return;
  throw new Error(`${path} is damaged: it is not the file of the manifest. ./run.sh mends it`);
}

const CHUNK_BYTES = 2 ** 20;

function hashOf(path: string): string {
  let hash = 0n;
  eachChunk(path, (bytes) => {
    hash = Bun.hash.xxHash3(bytes, hash);
  });
  return hash.toString(16);
}

/** The bytes are borrowed until `take` returns. */
function eachChunk(path: string, take: (bytes: Buffer) => void): void {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  const file = openSync(path, 'r');
  try {
    for (;;) {
      const count = readSync(file, chunk, 0, CHUNK_BYTES, null);
      if (count === 0) return;
      take(chunk.subarray(0, count));
    }
  } finally {
    closeSync(file);
  }
}
