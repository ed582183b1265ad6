import { ServerError } from '../../base/errors.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import type { SparseRow } from '../../reply/reply-content.ts';
import type { CompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import type { Head } from '../../vectors/head.ts';
import { type Fields, optionalBoolean } from '../field-checks.ts';

/**
 * Where the pieces of sparse weights come from, when a request wants them (`sparse_tokens`);
 * undefined when it does not. To be asked before the work.
 *
 * @throws ServerError EMB_FIELD_INVALID when it does not want the weights themselves, and
 * EMB_TOKENIZER_UNSUPPORTED.
 */
export function sparsePiecesOf(
  door: { readonly vocabulary: CompiledTokenizer | undefined },
  fields: Fields,
  heads: readonly Head[],
): CompiledTokenizer | undefined {
  if (optionalBoolean(fields, 'sparse_tokens') !== true) return undefined;
  const field = 'sparse_tokens';
  if (!heads.includes('sparse')) {
    const message = 'sparse_tokens is true, but outputs does not have "sparse".';
    throw new ServerError('EMB_FIELD_INVALID', message, { field, limit: 'sparse' });
  }
  if (door.vocabulary !== undefined) return door.vocabulary;
  const message = "This model's tokenizer gives no pieces; GET /info names its engine.";
  throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message, { field });
}

/** The same result with the piece of each sparse id, `▁` for a space as the vocabulary has it. */
export function withPieces(
  result: EncodeResult,
  vocabulary: CompiledTokenizer,
): EncodeResult & { readonly sparse: readonly SparseRow[] } {
  const sparse = (result.sparse ?? []).map((weights) => ({
    ...weights,
    tokens: Array.from(weights.indices, (id) => vocabulary.pieceOf(id) ?? ''),
  }));
  return { ...result, sparse };
}
