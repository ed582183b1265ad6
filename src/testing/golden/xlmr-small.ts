import { join } from 'node:path';

/**
 * The folder of the small XLM-RoBERTa: `hub/` as published models lie on the hub, `bare/` without
 * pooling or heads.
 */
export const SMALL_MODEL_FOLDER = join(import.meta.dir, 'xlmr-small');

/** What PyTorch answered for one text. */
export interface GoldenText {
  readonly text: string;
  readonly ids: readonly number[];
  /** `[hidden]`, length one. */
  readonly dense: Float32Array;
  /** `[ids.length]`, the sparse head before ids are joined. */
  readonly tokenWeights: Float32Array;
  /**
   * The largest weight of each id, special ids and non-positive weights dropped; in order of first
   * occurrence.
   */
  readonly sparse: { readonly indices: readonly number[]; readonly values: readonly number[] };
  /** `[ids.length - 1, hidden]`, each row of length one. */
  readonly multiVector: Float32Array;
}

/** Answers for texts of different lengths in one batch, padding rows and weights zero. */
export interface GoldenBatch {
  /** Indices into the texts. */
  readonly texts: readonly number[];
  readonly tokenCount: number;
  readonly dense: Float32Array;
  readonly tokenWeights: Float32Array;
  readonly multiVector: Float32Array;
}

/** The published scores of one pair of texts; `query` and `text` are indices. */
export interface GoldenScore {
  readonly query: number;
  readonly text: number;
  readonly dense: number;
  readonly sparse: number;
  readonly multi_vector: number;
  readonly weighted: number;
}

export interface Golden {
  readonly model: { readonly hidden: number; readonly tokensMax: number };
  readonly texts: readonly GoldenText[];
  readonly paddedBatch: GoldenBatch;
  /** `weights` of dense, sparse and multi-vector in `weighted`. */
  readonly scores: { readonly weights: readonly number[]; readonly pairs: readonly GoldenScore[] };
}

/** Reads the answers of the reference; `xlmr-small/make-golden.py` says how they were made. */
export async function loadGolden(): Promise<Golden> {
  const file = await Bun.file(join(SMALL_MODEL_FOLDER, 'golden.golden.json')).json();
  const unpack = (row: Record<string, unknown>) => ({
    ...row,
    dense: floats(row.dense),
    tokenWeights: floats(row.tokenWeights),
    multiVector: floats(row.multiVector),
  });
  return { ...file, texts: file.texts.map(unpack), paddedBatch: unpack(file.paddedBatch) };
}

function floats(text: unknown): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(String(text), 'base64')).buffer);
}
