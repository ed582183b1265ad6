import type { CallOptions } from './call-options.ts';
import { replyInvalid } from './text-requests.ts';

/** What `tokenize` takes. */
export interface TokenizeOptions extends CallOptions {
  /** Whether `<s>` and `</s>` stand around each text, as the model sees it. Default: true. */
  readonly addSpecialTokens?: boolean | undefined;
}

/** One token of a text. */
export interface TextToken {
  readonly id: number;
  /** The part of the text that it stands for; of a special token, its piece. */
  readonly text: string;
  readonly special: boolean;
  /** From this character (code point) of the text on; null for a special token. */
  readonly start: number | null;
  /** To before this one. */
  readonly stop: number | null;
}

/** @throws APIEncoderError CLIENT_REPLY_INVALID. */
export function readTokens(reply: unknown, textCount: number): readonly TextToken[][] {
  const isWhole = Array.isArray(reply) && reply.length === textCount;
  if (!isWhole || !reply.every((row) => Array.isArray(row) && row.every(isToken))) {
    throw replyInvalid(`it has not the tokens of each of the ${textCount} texts`);
  }
  return reply;
}

function isToken(value: unknown): value is TextToken {
  const { id, text, special, start, stop } = (value ?? {}) as Record<string, unknown>;
  const isPlace = (place: unknown): boolean => place === null || typeof place === 'number';
  return (
    typeof id === 'number' &&
    typeof text === 'string' &&
    typeof special === 'boolean' &&
    isPlace(start) &&
    isPlace(stop)
  );
}
