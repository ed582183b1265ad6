import type { ByteWriter } from '../../reply/encode-reply.ts';
import { headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, get, type PostRoute, post, type Route } from '../api.ts';
import type { ApiContext, Call } from '../context.ts';
import { ERROR_FIELDS, listOf, objectOf, type ReplyDocument, TEXT_ROW } from '../document.ts';
import { comeBackIn, type ErrorShape, reportError } from '../error-reply.ts';
import {
  type Field,
  type FieldTable,
  invalid,
  object,
  oneOf,
  optional,
  STRING,
} from '../fields.ts';
import { vectorReply } from '../response.ts';
import { dimensionField, shortRows } from '../short-rows.ts';
import { TEXT, textList } from '../text-fields.ts';

/**
 * What Weaviate's module text2vec-transformers asks of its container: `POST /vectors` with one text
 * or several, `GET /meta`, and whether it lives and is ready.
 */
export function weaviateApi(context: ApiContext, isReady: () => boolean): Api {
  const { manifest } = context;
  const empty = (status: number, headers = {}): Response => new Response(null, { status, headers });
  const living = { 204: { description: 'It does.' } };
  const ready = { 204: { description: 'It would.' }, 503: { description: 'It would not.' } };
  const routes = [
    vectorsRoute(context),
    get(
      '/meta',
      {
        summary: 'The model, as Weaviate asks for it',
        responses: { 200: { description: 'What is known of it.' } },
      },
      () => ({ model: { name: manifest.id, dim: manifest.dimension }, model_path: manifest.id }),
    ),
    get(
      '/.well-known/live',
      { summary: 'Whether the process lives, for Weaviate', responses: living },
      () => empty(204),
    ),
    get(
      '/.well-known/ready',
      { summary: 'Whether a text sent now would be answered, for Weaviate', responses: ready },
      () => (isReady() ? empty(204) : empty(503, comeBackIn())),
    ),
  ];
  return { tag: 'Weaviate', errors: WEAVIATE_ERRORS, routes };
}

const VECTORS: ReplyDocument = {
  description: '`vector` for `text`, `vectors` for `texts`.',
  schema: objectOf(
    {
      text: { type: 'string' },
      vector: TEXT_ROW,
      vectors: listOf(TEXT_ROW),
      dim: { type: 'integer' },
      dims: { type: 'integer' },
    },
    ['dim', 'dims'],
  ),
};

/** One text, or several in another call at the same path. */
function vectorsRoute(context: ApiContext): Route {
  const { limits } = context;
  const config = configField(context);
  const about = {
    formats: 'vectors',
    summary: 'Vectors, as Weaviate asks for them',
    description: 'One `text`, or several in `texts`. Weaviate reads `dims`; others read `dim`.',
    reply: VECTORS,
  } as const;
  const one = {
    ...about,
    fields: { text: TEXT, config, texts: NO_TEXTS },
    examples: { one: { text: 'исковая давность', config: { task_type: 'query' } } },
    answer: (call: Call, { text, config }: { text: string; config: AskedConfig }) =>
      answerVectors(context, call, { texts: [text], text, config }),
  };
  const several = {
    ...about,
    fields: { texts: textList(limits.requestTextsMax), config, text: LEFT_OUT },
    examples: { several: { texts: ['исковая давность'], config: { task_type: 'passage' } } },
    answer: (call: Call, asked: { texts: readonly string[]; config: AskedConfig }) =>
      answerVectors(context, call, { texts: asked.texts, text: undefined, config: asked.config }),
  };
  const isAsked = (body: unknown): boolean =>
    typeof body === 'object' && body !== null && 'texts' in body && body.texts !== null;
  return post(context, '/vectors', one, { isAsked, route: several as PostRoute<FieldTable> });
}

function configField({ manifest }: ApiContext) {
  return object({
    task_type: optional(
      oneOf(['query', 'passage']),
      'For models with prefixes; a query unless told.',
    ),
    pooling_strategy: optional(STRING, 'Taken and ignored: the pooling is part of the model.'),
    dimensions: dimensionField(manifest),
  });
}

/** Beside several texts; which of the two is meant would be a guess. */
const LEFT_OUT: Field<undefined> = {
  schema: { type: 'string', nullable: true, maxLength: 0 },
  isRequired: false,
  read(value, at) {
    if (value === undefined || value === null || value === '') return undefined;
    throw invalid(at, 'left out beside texts', value);
  },
};

/** Beside one text; any others are another call. */
const NO_TEXTS: Field<undefined> = {
  schema: { nullable: true, enum: [null] },
  isRequired: false,
  read: () => undefined,
};

interface AskedConfig {
  readonly task_type: 'query' | 'passage' | undefined;
  readonly dimensions: number;
}

async function answerVectors(
  context: ApiContext,
  call: Call,
  asked: {
    readonly texts: readonly string[];
    /** Undefined where several were sent. */
    readonly text: string | undefined;
    readonly config: AskedConfig;
  },
): Promise<Response> {
  const { texts, text, config } = asked;
  const { dimensions: dimension } = config;
  const result = await encodeTexts(context, call, {
    texts,
    heads: headSet(['dense']),
    inputType: config.task_type,
    truncate: context.limits.truncate,
    fieldOf: (index) => (text === undefined ? `texts[${index}]` : 'text'),
  });
  const rows = shortRows(result.rows ?? [], dimension);
  return vectorReply(context, call, {
    result: { ...result, rows },
    format: call.format,
    dimension,
    isSingle: text !== undefined,
    writeBody: (writer) => writeVectors(writer, { text, rows, dimension }),
  });
}

function writeVectors(
  writer: ByteWriter,
  reply: {
    /** Undefined where several were sent. */
    readonly text: string | undefined;
    readonly rows: readonly Float32Array[];
    readonly dimension: number;
  },
): void {
  const { text, rows, dimension } = reply;
  writer.ascii('{');
  if (text !== undefined) {
    writer.ascii('"text":');
    writer.json(text);
    writer.ascii(',"vector":');
    writer.row(rows[0]);
  } else {
    writer.ascii('"vectors":[');
    rows.forEach((row, index) => {
      if (index > 0) writer.ascii(',');
      writer.row(row);
    });
    writer.ascii(']');
  }
  writer.ascii(`,"dim":${dimension},"dims":${dimension}}`);
}

/** `{"error": "text"}`, which Weaviate shows, with our fields beside it. */
const WEAVIATE_ERRORS: ErrorShape = {
  reply(error, requestId, log) {
    const { details, headers } = reportError(error, error.status, requestId, log);
    const body = JSON.stringify({ ...details, error: details.message });
    return new Response(body, { status: error.status, headers });
  },
  schema: objectOf({ ...ERROR_FIELDS, error: { type: 'string' } }, ['error', 'code']),
  statuses: [400, 406, 408, 413, 415, 422, 429, 500, 501, 502, 503, 504],
};
