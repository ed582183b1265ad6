import { APIEncoderError } from './api-encoder-error.ts';

/** What one request may carry. */
export interface SplitLimits {
  /** Texts. */
  readonly requestTextsMax: number;
  /** UTF-16 units of all texts. A single text may exceed it. */
  readonly requestCharactersMax: number;
}

/** Neighbouring texts that travel in one request. */
export interface TextChunk {
  /** Place of the first of them among all texts of the call. */
  readonly start: number;
  readonly texts: readonly string[];
}

/**
 * Splits texts into requests, in order, each as full as the limits allow. It pulls texts only when
 * it is asked for a chunk, and yields a chunk as soon as the next text does not fit.
 *
 * @throws APIEncoderError of `checkText`, when it comes to a text that is none.
 */
export async function* splitTexts(
  source: AsyncIterable<string> | Iterable<string>,
  limits: SplitLimits,
): AsyncGenerator<TextChunk, void, undefined> {
  let start = 0;
  let texts: string[] = [];
  let characterCount = 0;
  for await (const text of source) {
    checkText(text, `texts[${start + texts.length}]`);
    const isFull =
      texts.length === limits.requestTextsMax ||
      characterCount + text.length > limits.requestCharactersMax;
    if (isFull && texts.length > 0) {
      yield { start, texts };
      start += texts.length;
      texts = [];
      characterCount = 0;
    }
    texts.push(text);
    characterCount += text.length;
  }
  if (texts.length > 0) yield { start, texts };
}

/**
 * Refuses what the server would refuse, with the server's codes, before anything is sent: the last
 * text of a hundred thousand must not fail the call after the others have been computed.
 *
 * @param field what the caller knows the text as.
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID or EMB_TEXT_NOT_UNICODE.
 */
export function checkText(text: unknown, field: string): asserts text is string {
  if (typeof text !== 'string') {
    const message = `${field} must be a string, not ${text === null ? 'null' : typeof text}.`;
    throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field });
  }
  if (!text.isWellFormed()) {
    const message = `${field} has half of a surrogate pair; it is no Unicode text.`;
    throw new APIEncoderError('EMB_TEXT_NOT_UNICODE', message, { field });
  }
}
