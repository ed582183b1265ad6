import { APIEncoderError } from './api-encoder-error.ts';
import type { CallScope } from './call-scope.ts';
import type { ResolvedOptions } from './client-options.ts';
import type { HttpRequest } from './http-try.ts';
import { inCallersWords } from './in-callers-words.ts';
import { mapInOrder } from './map-in-order.ts';
import { type SplitLimits, splitTexts } from './split-texts.ts';

/** One call about texts whose requests and replies are JSON. */
export interface TextRequests<Reply> {
  readonly options: ResolvedOptions;
  readonly scope: CallScope;
  readonly send: (request: HttpRequest, scope: CallScope) => Promise<Uint8Array>;
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
  const { options, scope, field, isSingle } = call;
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
    scope,
    async work(chunk) {
      const body = JSON.stringify({ ...call.fields, [field]: chunk.texts });
      const url = options.baseUrl + call.path;
      try {
        const reply = await call.send({ method: 'POST', url, headers, body }, scope);
        return call.read(parseJson(reply), chunk.texts.length);
      } catch (error) {
        throw inCallersWords(error, { field, start: chunk.start, isSingle });
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

/** A reply that is not what was asked for. */
export function replyInvalid(problem: string, cause?: unknown): APIEncoderError {
  const message = `The reply is not what was asked for: ${problem}.`;
  return new APIEncoderError('CLIENT_REPLY_INVALID', message, { cause });
}
