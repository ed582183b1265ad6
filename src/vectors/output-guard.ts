import { invariant } from '../base/errors.ts';
import { type FloatBlock, type Head, valuesPerText } from './head.ts';

/**
 * How far from 1 a normalised row's length may lie: float16 engines round each component by 2^-11.
 */
const NORM_TOLERANCE = 2e-3;

/** What the model promises of each row. */
export interface ExpectedRows {
  readonly dimension: number;
  /** Whether each row has length one (unit norm). */
  readonly isNormalized: boolean;
}

/**
 * Says what is wrong with what one text got, or nothing.
 *
 * A backend can answer 200 with NaN, zeros or rows of another model's length, and a vector store
 * keeps those for weeks. So every number is checked before it leaves, at a µs for each thousand.
 */
export function faultOfOutput(
  output: TextOutput,
  tokenCount: number,
  expected: ExpectedRows,
): string | undefined {
  const { dense, sparse, multi_vector: multiVector } = output;
  const denseFault = dense && faultOfRow(dense, expected);
  if (denseFault !== undefined) return denseFault;
  const sparseFault = sparse && faultOfWeights(sparse);
  if (sparseFault !== undefined) return sparseFault;
  return multiVector && faultOfRows(multiVector, tokenCount - 1, expected);
}

/**
 * Says what is wrong with a row, or nothing.
 *
 * @param row `[dimension]` float32; borrowed.
 */
export function faultOfRow(row: Float32Array, expected: ExpectedRows): string | undefined {
  if (row.length !== expected.dimension) {
    return `has ${row.length} components instead of ${expected.dimension}`;
  }
  const sum = squaredLength(row);
  if (!Number.isFinite(sum)) return 'has a component that is not finite';
  if (sum === 0) return 'is all zeros';
  const norm = Math.sqrt(sum);
  if (expected.isNormalized && Math.abs(norm - 1) > NORM_TOLERANCE) {
    return `has length ${norm.toPrecision(6)} instead of 1`;
  }
  return undefined;
}

/**
 * Four sums side by side. With one sum each addition waits for the one before: three times as long.
 */
function squaredLength(row: Float32Array): number {
  const whole = row.length & ~3;
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let index = 0; index < whole; index += 4) {
    a += row[index] * row[index];
    b += row[index + 1] * row[index + 1];
    c += row[index + 2] * row[index + 2];
    d += row[index + 3] * row[index + 3];
  }
  for (let index = whole; index < row.length; index++) a += row[index] * row[index];
  return a + b + c + d;
}

/**
 * Says what is wrong with the weights of a text's tokens, or nothing. The graph ends in a ReLU:
 * none is negative.
 */
export function faultOfWeights(weights: Float32Array): string | undefined {
  for (let index = 0; index < weights.length; index++) {
    if (!(weights[index] >= 0 && weights[index] < Number.POSITIVE_INFINITY)) {
      return 'has a token weight that is negative or not finite';
    }
  }
  return undefined;
}

/** Says what is wrong with the first bad vector of a text's tokens, or nothing. */
export function faultOfRows(
  rows: Float32Array,
  rowCount: number,
  expected: ExpectedRows,
): string | undefined {
  const { dimension } = expected;
  if (rows.length !== rowCount * dimension) {
    return `has ${rows.length} values for ${rowCount} tokens of ${dimension} dimensions`;
  }
  for (let at = 0; at < rows.length; at += dimension) {
    const fault = faultOfRow(rows.subarray(at, at + dimension), expected);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** What one text got: the heads that were asked for, without padding. */
export interface TextOutput {
  /** `[dimension]`. */
  readonly dense?: Float32Array;
  /** `[tokenCount]`, in the order of the text's token ids. */
  readonly sparse?: Float32Array;
  /** `[tokenCount - 1, dimension]`. */
  readonly multi_vector?: Float32Array;
}

/** What the cut must know of a batch; the backend's `TokenBatch` has it. */
interface Batch {
  readonly texts: readonly Int32Array[];
  readonly paddedLength: number;
  readonly heads: readonly Head[];
}

/**
 * Cuts a batch's output into one for each text.
 *
 * @param output row-major, one block for each head of the batch; borrowed.
 * @returns views of the blocks, or small copies where a block is not aligned to four bytes.
 */
export function outputsOfTexts(
  batch: Batch,
  output: { readonly [H in Head]?: FloatBlock },
): TextOutput[] {
  return batch.texts.map((ids, index) => {
    const text: { -readonly [H in Head]?: Float32Array } = {};
    for (const head of batch.heads) {
      const block = output[head];
      invariant(block !== undefined, 'a backend answers each head that was asked for');
      text[head] = partOf(block, { head, index, tokenCount: ids.length, batch });
    }
    return text;
  });
}

function partOf(
  block: FloatBlock,
  part: { head: Head; index: number; tokenCount: number; batch: Batch },
): Float32Array {
  const { head, index, tokenCount, batch } = part;
  const stride = block.length / batch.texts.length;
  invariant(Number.isInteger(stride) && stride > 0, 'a batch output has as much for each text');
  if (head === 'dense') return block.values(index * stride, stride);
  const perToken = head === 'sparse' ? 1 : stride / (batch.paddedLength - 1);
  const size = { dimension: perToken, paddedLength: batch.paddedLength };
  invariant(stride === valuesPerText(head, size), 'a batch output has a share for each token');
  const shareCount = head === 'sparse' ? tokenCount : tokenCount - 1;
  return block.values(index * stride, shareCount * perToken);
}
