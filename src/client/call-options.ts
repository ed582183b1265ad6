import { APIEncoderError } from './api-encoder-error.ts';
import type { TextOptions, TimeoutOptions } from './client-options.ts';
import type { EncodeProgress } from './encode-call.ts';
import type { Head } from './read-encode-reply.ts';
import { checkText } from './split-texts.ts';

/** What any call takes. */
export interface CallOptions extends TimeoutOptions {
  /**
   * Ends the call, and on the server what it still waits for. The call rejects with the signal's
   * reason.
   */
  readonly signal?: AbortSignal | undefined;
}

/** What calls that encode take. */
export interface EncodeOptions extends CallOptions, TextOptions {
  /** Called after each request that has succeeded; what it throws ends the call. */
  readonly onProgress?: ((progress: EncodeProgress) => void) | undefined;
}

/** What calls for several heads take. */
export interface EncodeHeadsOptions extends EncodeOptions {
  /** Which heads to compute. Default: all three. A model that lacks one refuses. */
  readonly outputs?: readonly Head[] | undefined;
}

/** Texts one after the other; an array, a generator, the lines of a file. */
export type TextSource = AsyncIterable<string> | Iterable<string>;

const ALL_HEADS: readonly Head[] = ['dense', 'sparse', 'multi_vector'];

/**
 * The texts as an array, all looked at before the first is sent.
 *
 * @throws APIEncoderError of `checkText`.
 */
export function listOf(texts: string | readonly string[]): readonly string[] {
  if (Array.isArray(texts)) {
    for (let index = 0; index < texts.length; index++) checkText(texts[index], `texts[${index}]`);
    return texts;
  }
  checkText(texts, 'text');
  return [texts];
}

/**
 * Texts of which there must be one, all looked at before the first is sent.
 *
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID, or of `checkText`.
 */
export function someOf(texts: readonly string[]): readonly string[] {
  if (Array.isArray(texts) && texts.length > 0) return listOf(texts);
  const message = 'texts must be an array of at least one string.';
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'texts' });
}

/**
 * A string is iterable too, by characters, which nobody means.
 *
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID.
 */
export function sourceOf(texts: TextSource): TextSource {
  const isSource =
    typeof texts === 'object' &&
    texts !== null &&
    (Symbol.asyncIterator in texts || Symbol.iterator in texts);
  if (isSource) return texts;
  const message =
    'texts must be an iterable or async iterable of strings; for one text use encode.';
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'texts' });
}

/** @throws APIEncoderError CLIENT_ARGUMENT_INVALID unless they name heads that there are. */
export function headsOf(outputs: readonly Head[] = ALL_HEADS): readonly Head[] {
  const isKnown = outputs.length > 0 && outputs.every((head) => ALL_HEADS.includes(head));
  if (isKnown) return outputs;
  const message = `outputs must name one or more of ${ALL_HEADS.join(', ')}.`;
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'outputs' });
}
