import type { Elysia } from 'elysia';
import { ServerError, toServerError } from '../../base/errors.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import { type ModelManifest, modelNamesOf } from '../../model/manifest.ts';
import type { ByteWriter } from '../../reply/byte-writer.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../../reply/float32-json.ts';
import { JSON_BASE64_FORMAT, JSON_FORMAT, type ReplyFormat } from '../../reply/reply-format.ts';
import { headSet } from '../../vectors/head.ts';
import { REQUEST_ID_HEADER, requestIdOf } from '../error-reply.ts';
import { type Fields, optionalText, optionalWord } from '../field-checks.ts';
import { requiredInputs } from '../input-texts.ts';
import { valueCountMaxOf } from '../reply-bounds.ts';
import { pathOf } from '../request-path.ts';
import { timeoutOf } from '../request-timeout.ts';
import { dimensionOf, shortRows } from '../short-rows.ts';
import {
  readCall,
  tokenIdPolicyOf,
  usedTokenCount,
  type VectorDoor,
  vectorReply,
} from '../vector-door.ts';
import { embeddingsDocument, modelDocument, modelsDocument } from './openai-documents.ts';
import { openaiErrorReply } from './openai-error.ts';

/**
 * Adds OpenAI's `POST /v1/embeddings` (also at `/embeddings`), `GET /v1/models` and
 * `GET /v1/models/:model`.
 */
export function addOpenaiRoutes(app: Elysia, door: VectorDoor): void {
  const embeddings = answering(door, answerEmbeddings);
  const options = { parse: 'none', detail: embeddingsDocument(door.facts) } as const;
  app.post('/v1/embeddings', embeddings, options);
  app.post('/embeddings', embeddings, options);
  const model = shownModel(door.manifest);
  const models = { object: 'list', data: [model] };
  const detail = modelsDocument(door.facts);
  app.get(
    '/v1/models',
    answering(door, () => models),
    { detail },
  );
  app.get(
    '/v1/models/:model',
    answering(door, (_door, request) => {
      refuseForeignModel(door.manifest, nameIn(request));
      return model;
    }),
    { detail: modelDocument(door.facts) },
  );
}

type Answer = (door: VectorDoor, request: Request, requestId: string) => unknown;

/** A handler whose errors have OpenAI's shape; what is no Response is sent as JSON. */
function answering(door: VectorDoor, answer: Answer) {
  return async ({ request }: { request: Request }): Promise<Response> => {
    const requestId = requestIdOf(request);
    try {
      const answered = await answer(door, request, requestId);
      if (answered instanceof Response) return answered;
      return Response.json(answered, { headers: { [REQUEST_ID_HEADER]: requestId } });
    } catch (error) {
      return openaiErrorReply(toServerError(error), requestId, door.log);
    }
  };
}

async function answerEmbeddings(
  door: VectorDoor,
  request: Request,
  requestId: string,
): Promise<Response> {
  const { limits, manifest } = door;
  const call = await readCall(door, request, requestId);
  const { fields } = call;
  const model = optionalText(fields, 'model');
  if (limits.strictModel && model !== undefined) refuseForeignModel(manifest, model);
  const format = formatOf(call.format, fields);
  const dimension = dimensionOf(fields, manifest);
  const { texts, isSingle } = requiredInputs(fields, 'input', {
    textCountMax: limits.requestTextsMax,
    tokenIds: tokenIdPolicyOf(door),
  });
  const result = await door.encode({
    texts,
    heads: headSet(['dense']),
    inputType: inputTypeOf(fields),
    truncate: limits.truncate,
    batchTextsMax: undefined,
    valueCountMax: valueCountMaxOf(limits.replyBytesMax, format),
    timeoutMs: timeoutOf(request),
    signal: request.signal,
    caller: door.callerOf(request),
    fieldOf: (index) => (isSingle ? 'input' : `input[${index}]`),
  });
  const rows = shortRows(result.rows ?? [], dimension);
  return vectorReply(door, call, {
    result: { ...result, rows },
    format,
    dimension,
    writeBody: (writer) => writeEmbeddings(writer, door, { ...result, rows }, format),
  });
}

/** `Accept` chooses a binary format; among the JSON ones `encoding_format` does. */
function formatOf(accepted: ReplyFormat, fields: Fields): ReplyFormat {
  const encoding = optionalWord(fields, 'encoding_format', ['float', 'base64']);
  if (accepted.kind !== 'json' || encoding === undefined) return accepted;
  return encoding === 'base64' ? JSON_BASE64_FORMAT : JSON_FORMAT;
}

/**
 * OpenAI has no such field, but other servers and the gateways before them do, each with its own
 * words. What is none of these is ignored, as every unknown field is.
 */
function inputTypeOf({ input_type: word }: Fields): 'query' | 'passage' {
  return word === 'passage' || word === 'document' || word === 'search_document'
    ? 'passage'
    : 'query';
}

function writeEmbeddings(
  writer: ByteWriter,
  door: VectorDoor,
  result: EncodeResult,
  format: ReplyFormat,
): void {
  const rows = result.rows ?? [];
  const isBase64 = format.kind === 'json' && format.encoding === 'base64';
  writer.reserve(rows.length * ((rows[0]?.length ?? 0) * FLOAT32_JSON_BYTES_MAX + 64));
  writer.ascii('{"object":"list","data":[');
  for (let index = 0; index < rows.length; index++) {
    if (index > 0) writer.ascii(',');
    writer.ascii(`{"object":"embedding","index":${index},"embedding":`);
    if (isBase64) writer.base64(rows[index]);
    else writer.floats(rows[index]);
    writer.ascii('}');
  }
  writer.ascii('],"model":');
  writer.json(door.manifest.id);
  const count = usedTokenCount(door, result);
  writer.ascii(`,"usage":{"prompt_tokens":${count},"total_tokens":${count}}}`);
}

/** @throws ServerError EMB_MODEL_UNKNOWN unless it is the model's id, or its name on its hub. */
function refuseForeignModel(manifest: ModelManifest, name: string): void {
  const names = modelNamesOf(manifest);
  if (names.includes(name)) return;
  const said = `"${name.slice(0, 100)}"`;
  const message = `model must be ${names.map((one) => `"${one}"`).join(' or ')}, not ${said}.`;
  throw new ServerError('EMB_MODEL_UNKNOWN', message, {
    field: 'model',
    limit: names.join(' or '),
    value: said,
  });
}

function nameIn(request: Request): string {
  const last = pathOf(request).slice('/v1/models/'.length);
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

function shownModel({ id, source, tokenCountMax }: ModelManifest) {
  return {
    id,
    object: 'model',
    // OpenAI's clients want seconds since 1970; a manifest has no date, so it is this start's.
    created: Math.floor(Date.now() / 1000),
    owned_by: source.kind === 'hub' ? source.repository.split('/')[0] : 'bge-m3-encoder',
    max_model_len: tokenCountMax,
  };
}
