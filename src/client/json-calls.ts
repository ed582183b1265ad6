import { APIEncoderError, replyInvalid, withCallersField } from './api-encoder-error.ts';
import type { Cancellation } from './cancellation.ts';
import { ALL_HEADS, type CallOptions, type ResolvedOptions } from './client-options.ts';
import { mapInOrder } from './map-in-order.ts';
import type { Head } from './read-encode-reply.ts';
import { type SplitLimits, splitTexts } from './split-texts.ts';
import type { HttpRequest } from './transport.ts';

/** One call about texts whose requests and replies are JSON. */
export interface TextRequests<Reply> {
  readonly options: ResolvedOptions;
  readonly cancellation: Cancellation;
  readonly send: (request: HttpRequest, cancellation: Cancellation) => Promise<Uint8Array>;
  readonly path: string;
  readonly limits: SplitLimits;
  /** What the route calls the texts. */
  readonly field: string;
  /** The caller gave one text and not an array. */
  readonly isSingle: boolean;
  /** Fields of the body beside the texts. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Checks a reply to so many texts. */
  readonly read: (reply: unknown, textCount: number) => Reply;
}

/** Sends texts in as many requests as it takes. @returns the replies, in the order of the texts. */
export async function sendTexts<Reply>(
  call: TextRequests<Reply>,
  texts: readonly string[],
): Promise<Reply[]> {
  const { options, cancellation, field, isSingle } = call;
  const headers = {
    ...options.headers,
    'content-type': 'application/json',
    accept: 'application/json',
  };
  const replies: Reply[] = [];
  const done = mapInOrder({
    source: splitTexts(texts, call.limits),
    concurrency: options.concurrency,
    windowMax: Number.POSITIVE_INFINITY,
    cancellation,
    async work(chunk) {
      const body = JSON.stringify({ ...call.fields, [field]: chunk.texts });
      try {
        const reply = await call.send(
          { method: 'POST', path: call.path, headers, body },
          cancellation,
        );
        return call.read(parseJson(reply), chunk.texts.length);
      } catch (error) {
        throw withCallersField(error, { field, start: chunk.start, isSingle });
      }
    },
  });
  for await (const reply of done) replies.push(reply);
  return replies;
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch (cause) {
    throw replyInvalid('it is not JSON', cause);
  }
}

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

/**
 * The heads of the model, from a reply of `/info`. A head that this client does not know is left
 * out.
 *
 * @param body borrowed.
 * @throws APIEncoderError CLIENT_REPLY_INVALID.
 */
export function readModelHeads(body: Uint8Array): readonly Head[] {
  const { model } = (parseJson(body) ?? {}) as { model?: { heads?: unknown } };
  const told = model?.heads;
  const heads = Array.isArray(told) ? ALL_HEADS.filter((head) => told.includes(head)) : [];
  if (heads.length > 0) return heads;
  throw replyInvalid('/info does not name the heads of the model');
}

interface TypeOf {
  readonly string: string;
  readonly number: number;
}

/**
 * One field of a JSON reply.
 *
 * @param body borrowed.
 * @throws APIEncoderError CLIENT_REPLY_INVALID unless it is there and has the type.
 */
export function fieldOfJson<Type extends keyof TypeOf>(
  body: Uint8Array,
  field: string,
  type: Type,
): TypeOf[Type] {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body))[field];
    if (typeof value === type) return value as TypeOf[Type];
  } catch {
    // What is no JSON, or null, has no field either.
  }
  throw new APIEncoderError('CLIENT_REPLY_INVALID', `The reply has no ${field}; is it JSON?`);
}
