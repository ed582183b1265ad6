import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ByteWriter } from '../../reply/encode-reply.ts';
import { headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf, TEXT_ROW } from '../document.ts';
import { type ErrorShape, reportError } from '../error-reply.ts';
import { type Field, invalid, oneOf, optional, someOf } from '../fields.ts';
import { modelField } from '../model-field.ts';
import { usedTokenCount, vectorReply } from '../response.ts';
import { ROW_FORMS, type RowForm, reserveRows, writeRow } from '../row-forms.ts';
import { dimensionField, shortRows } from '../short-rows.ts';
import { textList } from '../text-fields.ts';
import { tokenLimit } from '../vector-fields.ts';
import { rerankCall } from './rerank.ts';

/**
 * Cohere's API: `POST /v2/embed` and `/v1/embed`, and `POST /v2/rerank` and `/v1/rerank`, which
 * Jina, vLLM and Voyage have in nearly the same shape.
 */
export function cohereApi(context: ApiContext): Api {
  const routes = [embedRoute(context, 'v1'), embedRoute(context, 'v2'), rerankRoute(context)];
  return { tag: 'Cohere', errors: COHERE_ERRORS, routes };
}

function rerankRoute(context: ApiContext): Route {
  return post(context, ['/v1/rerank', '/v2/rerank'], rerankCall(context));
}

/** Both versions take the same fields here. The reply to a call without types differs. */
function embedRoute(context: ApiContext, version: 'v1' | 'v2'): Route {
  const { manifest, limits } = context;
  const fields = {
    model: optional(modelField(context)),
    // First, so that it is they who are named where the texts are missing for them.
    images: refused('texts: this model embeds no images'),
    inputs: refused('texts: this server takes no mixed inputs'),
    texts: textList(limits.requestTextsMax),
    input_type: INPUT_TYPE,
    embedding_types: optional(someOf(ROW_FORMS), 'Forms of the rows; float unless told.'),
    truncate: optional(
      oneOf(['NONE', 'START', 'END', 'LEFT', 'RIGHT']),
      'The side that is cut, in its words or the older ones; NONE refuses a text over the limit of tokens.',
    ),
    output_dimension: dimensionField(manifest),
    max_tokens: optional(
      tokenLimit(
        manifest,
        `Tokens that texts are cut to; ${manifest.tokenCountMax} unless told, as for more.`,
      ),
    ),
  };
  return post(context, `/${version}/embed`, {
    fields,
    formats: 'vectors',
    summary: `Embeddings, in the shape of Cohere (${version})`,
    description:
      'int8 rows are scaled by their own largest value: compare them by cosine. binary and ubinary ' +
      'pack the signs, the first dimension in the highest bit.',
    examples: {
      search: { model: manifest.id, texts: ['исковая давность'], input_type: 'search_query' },
      small: { texts: ['борщ'], input_type: 'search_document', embedding_types: ['ubinary'] },
    },
    reply: {
      description: 'Rows by form, each in the order of the texts.',
      schema: objectOf(
        {
          id: { type: 'string' },
          response_type: { type: 'string', enum: ['embeddings_floats', 'embeddings_by_type'] },
          embeddings: { oneOf: [{ type: 'object' }, listOf(TEXT_ROW)] },
          texts: listOf({ type: 'string' }),
          meta: { type: 'object' },
        },
        ['id', 'response_type', 'embeddings', 'texts', 'meta'],
      ),
    },
    statuses: limits.strictModel ? [404] : [],
    async answer(call, asked) {
      const { texts, input_type, embedding_types, truncate, output_dimension, max_tokens } = asked;
      const isCut = max_tokens !== undefined || limits.truncate;
      const result = await encodeTexts(context, call, {
        texts,
        heads: headSet(['dense']),
        inputType: input_type,
        truncate: truncate === undefined ? isCut : truncate !== 'NONE',
        truncationSide: truncate === 'START' || truncate === 'LEFT' ? 'left' : 'right',
        tokenCountMax: max_tokens,
        fieldOf: (index) => `texts[${index}]`,
      });
      const rows = shortRows(result.rows ?? [], output_dimension);
      const tokenCount = usedTokenCount(result.tokenCounts, max_tokens ?? manifest.tokenCountMax);
      const types = embedding_types ?? (version === 'v1' ? undefined : ['float' as const]);
      return vectorReply(context, call, {
        result: { ...result, rows },
        format: call.format,
        dimension: output_dimension,
        isSingle: false,
        writeBody: (writer) => writeReply(writer, { rows, types, texts, call, tokenCount }),
      });
    },
  });
}

/** Cohere's words for the side that a text is on. Those of other tasks count as queries. */
const INPUT_TYPE: Field<'query' | 'passage' | undefined> = (() => {
  const words = ['search_query', 'search_document', 'classification', 'clustering'] as const;
  const field = optional(
    oneOf(words),
    'For models with prefixes: search_document for texts that are searched.',
  );
  return {
    ...field,
    read(value, at) {
      const word = field.read(value, at);
      if (word === undefined) return undefined;
      return word === 'search_document' ? 'passage' : 'query';
    },
  };
})();

/** A field of Cohere's that would change what is embedded. */
function refused(instead: string): Field<undefined> {
  return {
    schema: { type: 'array', nullable: true, maxItems: 0, items: {} },
    isRequired: false,
    read(value, at) {
      const isEmpty = Array.isArray(value) && value.length === 0;
      if (value === undefined || value === null || isEmpty) return undefined;
      throw invalid(at, `left out in favour of ${instead}`, value);
    },
  };
}

function writeReply(
  writer: ByteWriter,
  reply: {
    readonly rows: readonly Float32Array[];
    /** Undefined for v1's list of numbers. */
    readonly types: readonly RowForm[] | undefined;
    readonly texts: readonly string[];
    readonly call: { readonly requestId: string };
    readonly tokenCount: number;
  },
): void {
  const { rows, types, texts, call, tokenCount } = reply;
  writer.ascii('{"id":');
  writer.json(call.requestId);
  if (types === undefined) {
    writer.ascii(',"response_type":"embeddings_floats","embeddings":');
    writeRows(writer, rows, 'float');
  } else {
    writer.ascii(',"response_type":"embeddings_by_type","embeddings":{');
    for (const [index, type] of [...new Set(types)].entries()) {
      writer.ascii(`${index > 0 ? ',' : ''}"${type}":`);
      writeRows(writer, rows, type);
    }
    writer.ascii('}');
  }
  writer.ascii(',"texts":');
  writer.json(texts);
  const units = { billed_units: { input_tokens: tokenCount }, api_version: { version: '2' } };
  writer.ascii(',"meta":');
  writer.json(units);
  writer.ascii('}');
}

function writeRows(writer: ByteWriter, rows: readonly Float32Array[], type: RowForm): void {
  reserveRows(writer, rows);
  writer.ascii('[');
  for (let index = 0; index < rows.length; index++) {
    if (index > 0) writer.ascii(',');
    writeRow(writer, rows[index], { form: type });
  }
  writer.ascii(']');
}

/** Cohere's API has no 422 for a wrong field: its clients know a 400. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/** `{"message"}`, which Cohere's clients show, with our fields beside it. */
const COHERE_ERRORS: ErrorShape = {
  reply(error: ServerError, requestId: string, log: Log): Response {
    const status = STATUSES[error.status] ?? error.status;
    const { details, headers } = reportError(error, status, requestId, log);
    // Voyage's and Jina's clients read `detail`.
    const body = { ...details, detail: details.message };
    return new Response(JSON.stringify(body), { status, headers });
  },
  schema: objectOf(
    { message: { type: 'string' }, detail: { type: 'string' }, code: { type: 'string' } },
    ['message', 'detail', 'code'],
  ),
  statuses: [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
};
