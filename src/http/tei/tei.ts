import type { ErrorCode, ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import type { ByteWriter } from '../../reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../../reply/float32-json.ts';
import type { MultiVector, ReplyFormat, SparseRow } from '../../reply/reply-content.ts';
import { type Head, headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, type OtherCall, type PostRoute, post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import {
  ERROR_FIELDS,
  listOf,
  objectOf,
  type ReplyDocument,
  type ReplyFormats,
  ROW_OR_BASE64,
  type Schema,
} from '../document.ts';
import { type ErrorShape, reportError } from '../error-reply.ts';
import { vectorReply } from '../response.ts';
import { dimensionField, shortRows } from '../short-rows.ts';
import { inputs, textNameOf } from '../text-fields.ts';
import { computeHeaders, PROMPT_NAME, truncationFields, truncationOf } from './tei-request.ts';
import { scoreRoutes, similarityCall } from './tei-scores.ts';
import { tokenRoutes } from './tei-tokens.ts';

/**
 * The API of text-embeddings-inference: `POST /embed` (also `POST /`), `/embed_all`,
 * `/embed_sparse`, `/similarity`, `/rerank`, `/tokenize` and `/decode`.
 *
 * Vectors always have unit norm, since the engine gives no others: `normalize: false` is refused.
 * `/embed_all` answers the multi-vector head, one row for each token but the first; the original
 * answers raw token states, which nobody should compare.
 */
export function teiApi(context: ApiContext): Api {
  const routes = [
    vectorRoute(context, '/embed', DENSE),
    vectorRoute(context, '/', DENSE, { isAsked: isSimilarity, route: similarityCall(context) }),
    vectorRoute(context, '/embed_all', MULTI_VECTOR),
    vectorRoute(context, '/embed_sparse', SPARSE),
    ...scoreRoutes(context),
    ...tokenRoutes(context),
  ];
  return { tag: 'text-embeddings-inference', errors: TEI_ERRORS, routes };
}

/** One head of the model: its field, its JSON, and what the document says of it. */
interface TeiHead {
  readonly head: Head;
  readonly formats: ReplyFormats;
  readonly summary: string;
  readonly description?: string;
  readonly reply: ReplyDocument;
  writeBody(writer: ByteWriter, result: EncodeResult, format: ReplyFormat): void;
}

const DENSE: TeiHead = {
  head: 'dense',
  formats: 'vectors',
  summary: 'Dense vectors, one for each input',
  description: 'Rows have unit norm: `normalize: false` is refused.',
  reply: {
    description: 'One row for each input, in order.',
    schema: listOf(ROW_OR_BASE64),
    example: [[0.0123, -0.0456]],
  },
  writeBody(writer, { rows = [] }, format) {
    writer.reserve(rows.length * ((rows[0]?.length ?? 0) * FLOAT32_JSON_BYTES_MAX + 3));
    writeList(writer, rows, (row) => writeVector(writer, row, format));
  },
};

const SPARSE: TeiHead = {
  head: 'sparse',
  formats: 'values',
  summary: 'Lexical weights: token ids and the weight of each',
  reply: {
    description: 'The weights of each input, in order.',
    schema: listOf(
      listOf(
        objectOf({ index: { type: 'integer' }, value: { type: 'number' } }, ['index', 'value']),
      ),
    ),
    example: [[{ index: 4865, value: 0.21 }]],
  },
  writeBody: (writer, { sparse = [] }) => writeList(writer, sparse, writeWeights),
};

const MULTI_VECTOR: TeiHead = {
  head: 'multi_vector',
  formats: 'values',
  summary: 'The multi-vector head: one row for each token but the first',
  reply: {
    description: 'The rows of each input, in order.',
    schema: listOf(listOf(ROW_OR_BASE64)),
    example: [[[0.0123, -0.0456]]],
  },
  writeBody: (writer, { multiVectors = [] }, format) =>
    writeList(writer, multiVectors, (vectors) => {
      writeList(writer, rowsOf(vectors), (row) => writeVector(writer, row, format));
    }),
};

/** The hub's `sentence_similarity` is asked of the base address, with an object as its inputs. */
function isSimilarity(body: unknown): boolean {
  const inputs = (body as { inputs?: unknown } | null)?.inputs;
  return typeof inputs === 'object' && inputs !== null && 'source_sentence' in inputs;
}

function vectorRoute(
  context: ApiContext,
  path: string,
  teiHead: TeiHead,
  other?: OtherCall,
): Route {
  const { manifest, limits, vocabulary } = context;
  const { head, writeBody, formats, summary, description, reply } = teiHead;
  const common = {
    inputs: inputs(limits.requestTextsMax, { isAllowed: limits.allowTokenIds, vocabulary }),
    ...truncationFields(context),
    prompt_name: PROMPT_NAME,
  };
  const isDense = head === 'dense';
  // The fields of dense rows are ignored where there are none, as unknown fields are.
  const dense = { dimensions: dimensionField(manifest) };
  const fields: typeof common & Partial<typeof dense> = isDense ? { ...dense, ...common } : common;
  const route: PostRoute<typeof fields> = {
    fields,
    formats,
    summary,
    ...(description === undefined ? {} : { description }),
    examples: {
      one: { inputs: 'исковая давность' },
      several: { inputs: ['исковая давность', 'борщ'] },
    },
    reply: manifest.heads.includes(head) ? reply : undefined,
    async answer(call, { inputs: asked, prompt_name, dimensions, ...truncation }) {
      const encoded = await encodeTexts(context, call, {
        texts: asked.texts,
        heads: headSet([head]),
        inputType: prompt_name,
        ...truncationOf(truncation),
        fieldOf: textNameOf('inputs', asked),
      });
      const dimension = dimensions ?? manifest.dimension;
      const rows = encoded.rows === undefined ? undefined : shortRows(encoded.rows, dimension);
      const result = rows === undefined ? encoded : { ...encoded, rows };
      return vectorReply(context, call, {
        result,
        format: call.format,
        dimension,
        isSingle: false,
        writeBody: (writer) => writeBody(writer, result, call.format),
        headers: computeHeaders(context, call, { texts: asked.texts, result }),
      });
    },
  };
  return post(context, path, route, other);
}

function writeList<Item>(
  writer: ByteWriter,
  items: Iterable<Item>,
  write: (item: Item, writer: ByteWriter) => void,
): void {
  writer.ascii('[');
  let isFirst = true;
  for (const item of items) {
    if (!isFirst) writer.ascii(',');
    isFirst = false;
    write(item, writer);
  }
  writer.ascii(']');
}

function writeVector(writer: ByteWriter, row: Float32Array, format: ReplyFormat): void {
  writer.row(row, format.kind === 'json' ? format.encoding : 'float');
}

function writeWeights({ indices, values }: SparseRow, writer: ByteWriter): void {
  writeList(writer, indices.keys(), (at) => {
    writer.ascii(`{"index":${indices[at]},"value":`);
    writer.numbers(values.subarray(at, at + 1));
    writer.ascii('}');
  });
}

function* rowsOf({ tokenCount, data }: MultiVector): Iterable<Float32Array> {
  const dimension = data.length / tokenCount;
  for (let token = 0; token < tokenCount; token++) {
    yield data.subarray(token * dimension, (token + 1) * dimension);
  }
}

const ERROR_SCHEMA: Schema = {
  type: 'object',
  required: ['error', 'error_type'],
  properties: { ...ERROR_FIELDS, error: { type: 'string' }, error_type: { type: 'string' } },
};

/** Errors as clients of text-embeddings-inference read them. */
const TEI_ERRORS: ErrorShape = {
  reply: teiErrorReply,
  schema: ERROR_SCHEMA,
  statuses: [400, 406, 408, 413, 415, 422, 424, 429, 503],
};

/** What text-embeddings-inference calls a kind of error, and the status it answers with. */
interface TeiKind {
  readonly type: 'Empty' | 'Validation' | 'Tokenizer' | 'Backend' | 'Overloaded' | 'Unhealthy';
  readonly status: number;
}

const VALIDATION: TeiKind = { type: 'Validation', status: 422 };

/** Codes that are no plain validation errors there. Source: `router/src/http/server.rs`. */
const KINDS: { readonly [Code in ErrorCode]?: TeiKind } = {
  EMB_TEXT_EMPTY: { type: 'Empty', status: 400 },
  EMB_TOKENIZER_FAILED: { type: 'Tokenizer', status: 422 },
  EMB_TOKENIZER_UNSUPPORTED: { type: 'Tokenizer', status: 422 },
  EMB_HEAD_UNAVAILABLE: { type: 'Backend', status: 424 },
  EMB_BACKEND_FAILED: { type: 'Backend', status: 424 },
  EMB_BACKEND_TIMEOUT: { type: 'Backend', status: 424 },
  EMB_OUTPUT_INVALID: { type: 'Backend', status: 424 },
  EMB_INTERNAL: { type: 'Backend', status: 424 },
  EMB_QUEUE_FULL: { type: 'Overloaded', status: 429 },
  EMB_BACKEND_UNAVAILABLE: { type: 'Unhealthy', status: 503 },
  EMB_SHUTTING_DOWN: { type: 'Unhealthy', status: 503 },
  EMB_DEADLINE_EXCEEDED: { type: 'Overloaded', status: 429 },
};

/** Codes whose status is that of HTTP itself, on every route. */
const HTTP_STATUSES: ReadonlySet<number> = new Set([400, 401, 404, 405, 406, 408, 413, 415, 499]);

/**
 * An error in the shape of text-embeddings-inference, `{"error", "error_type"}`, with our own
 * fields (`code`, `field`, `limit`, `value`, `request_id`) beside them.
 */
function teiErrorReply(error: ServerError, requestId: string, log: Log): Response {
  const kind = KINDS[error.code] ?? VALIDATION;
  const isHttp = kind === VALIDATION && HTTP_STATUSES.has(error.status);
  const status = isHttp ? error.status : kind.status;
  const { details, headers } = reportError(error, status, requestId, log);
  const { message, ...rest } = details;
  const body = JSON.stringify({ error: message, error_type: kind.type, ...rest });
  return new Response(body, { status, headers });
}
