import type { Elysia } from 'elysia';
import type { Clock } from '../../base/clock.ts';
import { toServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Encode } from '../../encode/contract.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import { checkFormatCarries, encodeReply } from '../../reply/encode-reply.ts';
import { negotiateFormat } from '../../reply/reply-format.ts';
import type { CompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import { HEADS, headSet } from '../../vectors/head.ts';
import type { CallerOf } from '../access.ts';
import type { BodyIntake } from '../body-intake.ts';
import type { DocumentFacts } from '../document-parts.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from '../error-reply.ts';
import {
  fieldsOf,
  optionalBoolean,
  optionalInteger,
  optionalWord,
  optionalWords,
  requiredTexts,
} from '../field-checks.ts';
import { readBody } from '../read-body.ts';
import { valueCountMaxOf } from '../reply-bounds.ts';
import { timeoutOf } from '../request-timeout.ts';
import { SERVED_BY_HEADER } from '../served-by.ts';
import { serverTiming } from '../server-timing.ts';
import { encodeDocument, vectorDimDocument } from './documents.ts';
import { sparsePiecesOf, withPieces } from './sparse-pieces.ts';

/** What the native routes need. */
export interface NativeDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  /** Undefined for a tokenizer that gives no pieces. */
  readonly vocabulary: CompiledTokenizer | undefined;
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly bodyIntake: BodyIntake;
    readonly requestTextsMax: number;
    readonly replyBytesMax: number;
    readonly truncate: boolean;
    readonly serverTiming: boolean;
  };
  readonly callerOf: CallerOf;
  /** For the route's document. */
  readonly facts: DocumentFacts;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Adds `POST /encode` and `GET /get_vector_dim`, the routes of the service that this one replaces.
 */
export function addNativeRoutes(app: Elysia, door: NativeDoor): void {
  const { manifest, log } = door;
  app.post(
    '/encode',
    async ({ request }) => {
      const requestId = requestIdOf(request);
      try {
        return await answerEncode(door, request, requestId);
      } catch (error) {
        return errorReply(toServerError(error), requestId, log);
      }
    },
    { parse: 'none', detail: encodeDocument(door.facts) },
  );
  app.get('/get_vector_dim', () => ({ vector_dim: manifest.dimension, model: manifest.id }), {
    detail: vectorDimDocument(door.facts),
  });
}

async function answerEncode(
  door: NativeDoor,
  request: Request,
  requestId: string,
): Promise<Response> {
  const { limits, manifest, clock } = door;
  const startMs = clock.now();
  const format = negotiateFormat(request.headers.get('accept'));
  const fields = fieldsOf(await readBody(request, limits));
  const readMs = clock.now() - startMs;
  const { texts, isSingle } = requiredTexts(fields, 'query', limits.requestTextsMax);
  const heads = headSet(optionalWords(fields, 'outputs', HEADS) ?? ['dense']);
  checkFormatCarries(format, {
    dense: heads.includes('dense'),
    sparse: heads.includes('sparse'),
    multiVectors: heads.includes('multi_vector'),
  });
  const pieces = sparsePiecesOf(door, fields, heads);
  const range = { min: 1, max: limits.requestTextsMax };
  const result = await door.encode({
    texts,
    heads,
    inputType: optionalWord(fields, 'input_type', ['query', 'passage']) ?? 'query',
    truncate: optionalBoolean(fields, 'truncate') ?? limits.truncate,
    batchTextsMax: optionalInteger(fields, 'batch_size', range),
    valueCountMax: valueCountMaxOf(limits.replyBytesMax, format),
    timeoutMs: timeoutOf(request),
    signal: request.signal,
    caller: door.callerOf(request),
    fieldOf: (index) => (isSingle ? 'query' : `query[${index}]`),
  });
  const encodedMs = clock.now();
  const content = {
    ...(pieces === undefined ? result : withPieces(result, pieces)),
    model: manifest.id,
    dimension: manifest.dimension,
    single: isSingle,
  };
  const reply = encodeReply(content, format);
  const headers: Record<string, string> = { ...reply.headers, [REQUEST_ID_HEADER]: requestId };
  headers['content-type'] = reply.contentType;
  if (result.standIn !== undefined) headers[SERVED_BY_HEADER] = result.standIn;
  if (limits.serverTiming) {
    const replyMs = clock.now() - encodedMs;
    headers['server-timing'] = serverTiming({ readMs, ...result.timings, replyMs });
  }
  return new Response(reply.body, { headers });
}
