import type { Elysia } from 'elysia';
import { toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Encode } from '../encode.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { encodeReply } from '../reply/encode-reply.ts';
import { negotiateFormat } from '../reply/reply-format.ts';
import { ENCODE_DOCUMENT, VECTOR_DIM_DOCUMENT } from './documents.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from './error-reply.ts';
import {
  fieldsOf,
  optionalBoolean,
  optionalInteger,
  optionalWord,
  requiredTexts,
} from './field-checks.ts';
import { readBody } from './read-body.ts';

/** What the native routes need. */
export interface NativeDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly requestTextsMax: number;
    readonly truncate: boolean;
  };
  readonly log: Log;
}

/** Adds `POST /encode` and `GET /get_vector_dim`, the routes of the service that this one replaces. */
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
    { parse: 'none', detail: ENCODE_DOCUMENT },
  );
  app.get('/get_vector_dim', () => ({ vector_dim: manifest.dimension, model: manifest.id }), {
    detail: VECTOR_DIM_DOCUMENT,
  });
}

async function answerEncode(
  door: NativeDoor,
  request: Request,
  requestId: string,
): Promise<Response> {
  const { limits, manifest } = door;
  const format = negotiateFormat(request.headers.get('accept'));
  const fields = fieldsOf(await readBody(request, limits.bodyBytesMax));
  const { texts, isSingle } = requiredTexts(fields, 'query', limits.requestTextsMax);
  const range = { min: 1, max: limits.requestTextsMax };
  const result = await door.encode({
    texts,
    inputType: optionalWord(fields, 'input_type', ['query', 'passage']) ?? 'query',
    truncate: optionalBoolean(fields, 'truncate') ?? limits.truncate,
    batchTextsMax: optionalInteger(fields, 'batch_size', range),
    signal: request.signal,
    fieldOf: (index) => (isSingle ? 'query' : `query[${index}]`),
  });
  const reply = encodeReply(
    { ...result, model: manifest.id, dimension: manifest.dimension, single: isSingle },
    format,
  );
  const headers = { 'content-type': reply.contentType, [REQUEST_ID_HEADER]: requestId };
  return new Response(reply.body, { headers: { ...headers, ...reply.headers } });
}
