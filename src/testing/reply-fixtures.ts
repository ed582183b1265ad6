import type { EncodeReply } from '../reply/reply-content.ts';
import { seededRandom } from './seeded-random.ts';

const random = seededRandom(5);

/** A reply with all heads. */
type Whole = Omit<EncodeReply, 'rows' | 'sparse' | 'multiVectors'> &
  Required<{ [Key in 'rows' | 'sparse' | 'multiVectors']: NonNullable<EncodeReply[Key]> }>;

/** Components as a unit vector has them. */
export function vectorOf(length: number): Float32Array {
  const values = Float32Array.from(
    { length: length + 1 },
    () => (random.below(2_000_001) - 1_000_000) / 9_999_999,
  );
  return values.subarray(1);
}

/**
 * `textCount` texts with the dense head. The rows of an even number of texts lie one after the
 * other inside one buffer, as a backend leaves them; otherwise each has its own. No view begins
 * where its buffer does.
 */
export function denseOf(textCount: number, dimension: number): EncodeReply {
  const matrix = vectorOf(textCount * dimension);
  const rows = Array.from({ length: textCount }, (_, index) => {
    const row = matrix.subarray(index * dimension, (index + 1) * dimension);
    return textCount % 2 === 0 ? row : Float32Array.of(0, ...row).subarray(1);
  });
  return {
    model: 'BAAI/bge-m3',
    dimension,
    single: false,
    rows,
    tokenCounts: rows.map((_, index) => 7 + index * 1_000),
    truncated: rows.map((_, index) => index % 3 === 1),
  };
}

/**
 * The same with three heads; the text at an index has as many sparse weights, and as many token
 * vectors.
 */
export function replyOf(textCount: number, dimension: number): Whole {
  const dense = denseOf(textCount, dimension);
  return {
    ...dense,
    rows: dense.rows ?? [],
    sparse: dense.tokenCounts.map((_, index) => ({
      indices: Int32Array.from({ length: index }, (__, place) => place * 50_000),
      values: vectorOf(index),
    })),
    multiVectors: dense.tokenCounts.map((_, index) => ({
      tokenCount: index,
      data: vectorOf(index * dimension),
    })),
  };
}

/** A reply to one string. */
export function singleOf(dimension: number): EncodeReply {
  return { ...denseOf(1, dimension), single: true };
}

/** The float32 in some bytes, wherever these stand. */
export function floatsIn(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer);
}

/** The float16 in some bytes, wherever these stand. */
export function halvesIn(bytes: Uint8Array): Float16Array {
  return new Float16Array(Uint8Array.from(bytes).buffer);
}

/** Rows one after the other. */
export function joined(rows: readonly Float32Array[] = []): Float32Array {
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let offset = 0;
  for (const row of rows) {
    all.set(row, offset);
    offset += row.length;
  }
  return all;
}

/** Rows as plain arrays of numbers. */
export function rowsOf({ rows = [] }: EncodeReply): number[][] {
  return rows.map((row) => Array.from(row));
}
