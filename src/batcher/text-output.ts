import { type BatchOutput, type Head, type TokenBatch, valuesPerText } from '../backend/backend.ts';
import { invariant } from '../base/invariant.ts';
import type { FloatBlock } from '../vectors/float-block.ts';

/**
 * What one text got: the heads that were asked for, without padding. Views of its batch's output,
 * or small copies.
 */
export interface TextOutput {
  /** `[dimension]`. */
  readonly dense?: Float32Array;
  /** `[tokenCount]`, in the order of the text's ids. */
  readonly sparse?: Float32Array;
  /** `[tokenCount - 1, dimension]`. */
  readonly multi_vector?: Float32Array;
}

/** Cuts a batch's output into one for each text. */
export function outputsOfTexts(batch: TokenBatch, output: BatchOutput): TextOutput[] {
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
  part: { head: Head; index: number; tokenCount: number; batch: TokenBatch },
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
