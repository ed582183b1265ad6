import { invariant } from '../../base/invariant.ts';
import type { EncodedTexts } from './tokenizer-protocol.ts';

/** One text after tokenization. */
export interface TokenizedText {
  /** Kept ids, special tokens included; a view that its holder may keep. */
  readonly ids: Int32Array;
  /** Ids without truncation. */
  readonly tokenCount: number;
  readonly isTruncated: boolean;
}

/** Cuts what a tokenizer answers into texts, views of the same ids. */
export function textsOf(encoded: EncodedTexts, textCount: number): TokenizedText[] {
  const { ids, keptCounts, fullCounts } = encoded;
  const isWhole = keptCounts.length === textCount && fullCounts.length === textCount;
  invariant(isWhole, 'a tokenizer answers each text');
  const texts = new Array<TokenizedText>(textCount);
  let offset = 0;
  for (let index = 0; index < textCount; index++) {
    const [kept, tokenCount] = [keptCounts[index], fullCounts[index]];
    const end = offset + kept;
    invariant(kept > 0 && end <= ids.length, 'token counts match the ids sent');
    const isTruncated = tokenCount > kept;
    texts[index] = { ids: ids.subarray(offset, end), tokenCount, isTruncated };
    offset = end;
  }
  return texts;
}
