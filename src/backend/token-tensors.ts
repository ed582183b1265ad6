import { invariant } from '../base/invariant.ts';
import type { TokenBatch } from './backend.ts';

/**
 * Writes the two input tensors of a batch, `[textCount, paddedLength]` each, as 32-bit words.
 *
 * An int64 is two words, low first, and a token id fits the low one: no BigInt is made for any
 * token.
 *
 * @param options.wordsPerValue 2 for INT64, 1 for INT32.
 * @param options.ids and `options.mask` are written whole; each holds `textCount × paddedLength ×
 * wordsPerValue` words.
 */
export function writeTokenTensors(
  batch: TokenBatch,
  options: { padId: number; wordsPerValue: 1 | 2; ids: Int32Array; mask: Int32Array },
): void {
  const { padId, wordsPerValue: step, ids, mask } = options;
  const { texts, paddedLength } = batch;
  const wordCount = texts.length * paddedLength * step;
  invariant(ids.length === wordCount && mask.length === wordCount, 'tensors have the batch shape');
  ids.fill(0);
  mask.fill(0);
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row];
    invariant(text.length > 0 && text.length <= paddedLength, 'a text fits its padded length');
    let at = row * paddedLength * step;
    for (let index = 0; index < text.length; index++, at += step) {
      ids[at] = text[index];
      mask[at] = 1;
    }
    for (let index = text.length; index < paddedLength; index++, at += step) ids[at] = padId;
  }
}
