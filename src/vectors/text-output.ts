import { invariant } from '../base/invariant.ts';
import type { FloatBlock } from './float-block.ts';
import { type Head, valuesPerText } from './head.ts';

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
