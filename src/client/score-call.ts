import { APIEncoderError } from './api-encoder-error.ts';
import type { CallOptions } from './call-options.ts';
import type { Head } from './read-encode-reply.ts';
import { replyInvalid } from './text-requests.ts';

/** What `score` takes. */
export interface ScoreOptions extends CallOptions {
  /** Heads to score by. Default: all that the model has. */
  readonly outputs?: readonly Head[] | undefined;
  /** Weight of each head in the weighted mean, at least 0. Default: 1 each; one left out: 0. */
  readonly weights?: { readonly [Each in Head]?: number } | undefined;
  /** Cut texts that are too long (true), or refuse them (false). Left out: as the server is set. */
  readonly truncate?: boolean | undefined;
}

/** Scores of texts against a query: one number a text, in the order of the texts. */
export interface TextScores {
  readonly model: string;
  /** Mean of the heads by their weights. */
  readonly weighted: readonly number[];
  readonly dense?: readonly number[];
  readonly sparse?: readonly number[];
  readonly multiVector?: readonly number[];
}

/** @throws APIEncoderError CLIENT_REPLY_INVALID. */
export function readScores(reply: unknown, textCount: number): TextScores {
  const { model, scores } = (reply ?? {}) as { model?: unknown; scores?: Record<string, unknown> };
  if (typeof model !== 'string') throw replyInvalid('it names no model');
  const each = (name: string): readonly number[] => {
    const found = scores?.[name];
    const isWhole = Array.isArray(found) && found.length === textCount;
    if (isWhole && found.every((score) => typeof score === 'number')) return found;
    throw replyInvalid(`its ${name} scores are not one for each of the ${textCount} texts`);
  };
  const has = (name: string): boolean => scores?.[name] !== undefined;
  return {
    model,
    weighted: each('weighted'),
    ...(has('dense') ? { dense: each('dense') } : {}),
    ...(has('sparse') ? { sparse: each('sparse') } : {}),
    ...(has('multi_vector') ? { multiVector: each('multi_vector') } : {}),
  };
}

/**
 * Joins the scores of several requests; at least one.
 *
 * @throws APIEncoderError CLIENT_REPLY_INVALID when they come from models that differ.
 */
export function joinScores(parts: readonly TextScores[]): TextScores {
  const [first] = parts;
  const keysOf = (part: TextScores): string => Object.keys(part).join();
  const other = parts.find((part) => part.model !== first.model || keysOf(part) !== keysOf(first));
  if (other !== undefined) {
    const message = `The replies come from two models, ${first.model} and ${other.model}, or differ in their heads.`;
    throw new APIEncoderError('CLIENT_REPLY_INVALID', message);
  }
  const all = (head: 'weighted' | 'dense' | 'sparse' | 'multiVector'): number[] =>
    parts.flatMap((part) => part[head] ?? []);
  return {
    model: first.model,
    weighted: all('weighted'),
    ...(first.dense ? { dense: all('dense') } : {}),
    ...(first.sparse ? { sparse: all('sparse') } : {}),
    ...(first.multiVector ? { multiVector: all('multiVector') } : {}),
  };
}
