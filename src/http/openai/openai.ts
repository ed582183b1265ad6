import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import type { ByteWriter } from '../../reply/encode-reply.ts';
import { headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, get, post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import {
  ERROR_FIELDS,
  errorDocuments,
  listOf,
  objectOf,
  ROW_OR_BASE64,
  replyDocument,
} from '../document.ts';
import { type ErrorShape, REQUEST_ID_HEADER, reportError } from '../error-reply.ts';
import { optional } from '../fields.ts';
import { modelField, refuseForeignModel } from '../model-field.ts';
import { segmentsOf } from '../request.ts';
import { usedTokenCount, vectorReply } from '../response.ts';
import { FORM_FIELDS, type RowForm, reserveRows, rowFormatOf, writeRow } from '../row-forms.ts';
import { askedDimension, dimensionField, shortRows } from '../short-rows.ts';
import { inputs, textNameOf } from '../text-fields.ts';
import { cutFields, cutOf, inputTypeOf, TASK_FIELDS } from '../vector-fields.ts';

/**
 * OpenAI's API: `POST /v1/embeddings` (also at `/embeddings` and at Azure's path), `GET /v1/models`
 * (also at `/models`) and `GET /v1/models/:model`.
 */
export function openaiApi(context: ApiContext): Api {
  const embeddings = embeddingsRoute(context);
  const routes = [embeddings, azureRoute(context, embeddings), ...modelRoutes(context)];
  return { tag: 'OpenAI', errors: OPENAI_ERRORS, root: '/v1', routes };
}

/** Azure's path to the same call: the deployment stands for the model. */
function azureRoute({ manifest, limits }: ApiContext, embeddings: Route): Route {
  return {
    ...embeddings,
    paths: ['/openai/deployments/:deployment/embeddings'],
    document: undefined,
    answer(request, requestId) {
      if (limits.strictModel) refuseForeignModel(manifest, segmentsOf(request)[2]);
      return embeddings.answer(request, requestId);
    },
  };
}

function embeddingsRoute(context: ApiContext): Route {
  const { manifest, limits, vocabulary } = context;
  const fields = {
    model: optional(modelField(context)),
    ...FORM_FIELDS,
    dimensions: dimensionField(manifest),
    output_dimension: dimensionField(manifest),
    input: inputs(limits.requestTextsMax, { isAllowed: limits.allowTokenIds, vocabulary }),
    ...TASK_FIELDS,
    ...cutFields(manifest),
  };
  return post(context, ['/v1/embeddings', '/embeddings'], {
    fields,
    formats: 'vectors',
    summary: 'Embeddings, in the shape of OpenAI',
    description:
      'base64 is that of little-endian float32, or of the integers of output_dtype. Fields that ' +
      'are not named here are ignored, `user` among them, unless they would change vectors. A ' +
      'binary `Accept` answers what /encode answers.',
    examples: {
      one: { input: 'исковая давность', model: manifest.id },
      several: { input: ['исковая давность', 'рецепт борща'], encoding_format: 'base64' },
    },
    reply: {
      description: 'One embedding for each input, in order.',
      schema: EMBEDDINGS_REPLY,
      example: {
        object: 'list',
        data: [{ object: 'embedding', index: 0, embedding: [0.0123, -0.0456] }],
        model: manifest.id,
        usage: { prompt_tokens: 4, total_tokens: 4 },
      },
    },
    statuses: limits.strictModel ? [404] : [],
    async answer(call, { input, dimensions, output_dimension, ...asked }) {
      const { format, form, isBase64 } = rowFormatOf(call.format, asked);
      const dimension = askedDimension(manifest, { dimensions, output_dimension });
      const encoded = await encodeTexts(context, call, {
        texts: input.texts,
        heads: headSet(['dense']),
        inputType: inputTypeOf(asked),
        ...cutOf(asked, limits.truncate),
        format,
        fieldOf: textNameOf('input', input),
      });
      const rows = shortRows(encoded.rows ?? [], dimension);
      const tokenCount = usedTokenCount(
        encoded.tokenCounts,
        asked.truncate_prompt_tokens ?? manifest.tokenCountMax,
      );
      return vectorReply(context, call, {
        result: { ...encoded, rows },
        format,
        dimension,
        isSingle: false,
        writeBody: (writer) =>
          writeEmbeddings(writer, { rows, form, isBase64, model: manifest.id, tokenCount }),
      });
    },
  });
}

function writeEmbeddings(
  writer: ByteWriter,
  reply: {
    readonly rows: readonly Float32Array[];
    readonly form: RowForm;
    readonly isBase64: boolean;
    readonly model: string;
    readonly tokenCount: number;
  },
): void {
  const { rows, model, tokenCount } = reply;
  reserveRows(writer, rows);
  writer.ascii('{"object":"list","data":[');
  for (let index = 0; index < rows.length; index++) {
    if (index > 0) writer.ascii(',');
    writer.ascii(`{"object":"embedding","index":${index},"embedding":`);
    writeRow(writer, rows[index], reply);
    writer.ascii('}');
  }
  writer.ascii('],"model":');
  writer.json(model);
  writer.ascii(`,"usage":{"prompt_tokens":${tokenCount},"total_tokens":${tokenCount}}}`);
}

const COUNT = { type: 'integer', minimum: 1 } as const;

const EMBEDDINGS_REPLY = objectOf(
  {
    object: { type: 'string', enum: ['list'] },
    data: listOf(
      objectOf(
        {
          object: { type: 'string', enum: ['embedding'] },
          index: { type: 'integer', minimum: 0 },
          embedding: ROW_OR_BASE64,
        },
        ['object', 'index', 'embedding'],
      ),
    ),
    model: { type: 'string' },
    usage: objectOf({ prompt_tokens: COUNT, total_tokens: COUNT }, [
      'prompt_tokens',
      'total_tokens',
    ]),
  },
  ['object', 'data', 'model', 'usage'],
);

function modelRoutes({ manifest, heads }: ApiContext): readonly Route[] {
  const model = shownModel(manifest);
  // What SIE's SDK reads of the same reply.
  const forSie = () => ({
    name: manifest.id,
    loaded: true,
    inputs: ['text'],
    outputs: heads().map((head) => (head === 'multi_vector' ? 'multivector' : head)),
    dims: { dense: manifest.dimension },
    max_sequence_length: manifest.tokenCountMax,
  });
  const json = (value: unknown, requestId: string): Response =>
    Response.json(value, { headers: { [REQUEST_ID_HEADER]: requestId } });
  const list = {
    summary: 'The one model that is served',
    responses: { 200: replyDocument({ description: 'A list of one.', schema: MODELS }) },
  };
  const one = {
    summary: 'The model, by its id or its name on its hub',
    parameters: [
      {
        name: 'model',
        in: 'path' as const,
        required: true,
        schema: { type: 'string', minLength: 1 } as const,
        example: manifest.id,
      },
    ],
    responses: {
      200: replyDocument({ description: 'The model.', schema: MODEL }),
      ...errorDocuments(OPENAI_ERRORS.schema, [404]),
    },
  };
  const answerOne: Route['answer'] = (request, id) => {
    refuseForeignModel(manifest, segmentsOf(request).slice(2).join('/'));
    return json(model, id);
  };
  return [
    get(['/v1/models', '/models'], list, (_, id) =>
      json({ object: 'list', data: [model], models: [forSie()] }, id),
    ),
    get('/v1/models/:model', one, answerOne),
    // A name on a hub, its slash as it is: OpenAI's clients encode it, others do not.
    get('/v1/models/:model/:name', undefined, answerOne),
  ];
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

const MODEL = objectOf(
  {
    id: { type: 'string' },
    object: { type: 'string', enum: ['model'] },
    created: { type: 'integer' },
    owned_by: { type: 'string' },
    max_model_len: { type: 'integer' },
  },
  ['id', 'object', 'created', 'owned_by'],
);

const MODELS = objectOf({ object: { type: 'string', enum: ['list'] }, data: listOf(MODEL) }, [
  'object',
  'data',
]);

/** Errors as OpenAI's clients turn them into typed exceptions, by status. */
const OPENAI_ERRORS: ErrorShape = {
  reply: openaiErrorReply,
  schema: objectOf(
    {
      error: objectOf(
        {
          ...ERROR_FIELDS,
          message: { type: 'string' },
          type: { type: 'string' },
          param: { type: 'string', nullable: true },
        },
        ['message', 'type', 'param', 'code'],
      ),
    },
    ['error'],
  ),
  statuses: [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
};

/** OpenAI's API has no 422: what a field has wrong is a 400 there. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/**
 * `{"error": {"message", "type", "param", "code"}}`. Our own fields stand beside theirs; `code` is
 * ours. OpenAI's clients retry every 5xx by themselves; `x-should-retry` tells them what may help.
 */
function openaiErrorReply(error: ServerError, requestId: string, log: Log): Response {
  const status = STATUSES[error.status] ?? error.status;
  const { details, headers } = reportError(error, status, requestId, log);
  const { message, code, field, ...rest } = details;
  headers.set('x-should-retry', String(details.retryable));
  const theirs = { message, type: typeOf(status), param: field ?? null, code };
  return new Response(JSON.stringify({ error: { ...theirs, ...rest } }), { status, headers });
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
