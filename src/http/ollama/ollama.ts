import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import type { ByteWriter } from '../../reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../../reply/float32-json.ts';
import { headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, type Route } from '../api.ts';
import type { ApiContext, Call } from '../context.ts';
import { listOf, objectOf, TEXT_ROW } from '../document.ts';
import { type ErrorShape, reportError } from '../error-reply.ts';
import { BOOLEAN, type Field, invalid, object, optional } from '../fields.ts';
import { usedTokenCount, valueReply, vectorReply } from '../response.ts';
import { dimensionField, shortRows } from '../short-rows.ts';
import { type Texts, textNameOf, texts } from '../text-fields.ts';
import { inputTypeOf, TASK_FIELDS, tokenLimit } from '../vector-fields.ts';
import { modelField, modelRoutes, ollamaPost } from './ollama-models.ts';

/**
 * Ollama's API for embeddings: `POST /api/embed`, the older `POST /api/embeddings`, and what its
 * clients ask of a server before they call it. Shapes are those of ollama's `server/routes.go` and
 * `api/types.go` (0.33).
 */
export function ollamaApi(context: ApiContext, version: string): Api {
  const routes = [embedRoute(context), embeddingsRoute(context), ...modelRoutes(context, version)];
  return {
    tag: 'Ollama',
    errors: OLLAMA_ERRORS,
    root: '/api',
    routes,
  };
}

function embedRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const fields = {
    ...commonFields(context),
    input: maybeTexts(limits.requestTextsMax),
    truncate: optional(BOOLEAN, 'false refuses a text over the limit of tokens.'),
    dimensions: ollamaDimensions(manifest),
  };
  return ollamaPost(context, '/api/embed', {
    fields,
    formats: 'vectors',
    summary: 'Embeddings, in the shape of Ollama',
    description:
      'An empty `input` answers no embeddings. Of `options`, num_ctx cuts texts; `keep_alive` does nothing.',
    examples: {
      one: { model: manifest.id, input: 'исковая давность' },
      several: { model: manifest.id, input: ['исковая давность', 'рецепт борща'] },
    },
    reply: {
      description: 'One embedding for each text, in order. Durations are in nanoseconds.',
      schema: objectOf(
        {
          model: { type: 'string' },
          embeddings: listOf(TEXT_ROW),
          total_duration: { type: 'integer' },
          prompt_eval_count: { type: 'integer' },
        },
        ['model', 'embeddings'],
      ),
      example: { model: manifest.id, embeddings: [[0.0123, -0.0456]], prompt_eval_count: 4 },
    },
    statuses: [404],
    async answer(call, { model = manifest.id, input, truncate, dimensions, options, ...asked }) {
      if (input === undefined) return valueReply(call, { model, embeddings: [] });
      const result = await encodeTexts(context, call, {
        texts: input.texts,
        heads: headSet(['dense']),
        inputType: inputTypeOf(asked),
        truncate: truncate ?? isCut(options, limits),
        tokenCountMax: options.num_ctx,
        fieldOf: textNameOf('input', input),
      });
      const rows = shortRows(result.rows ?? [], dimensions);
      const tokenCountMax = options.num_ctx ?? manifest.tokenCountMax;
      const tokenCount = usedTokenCount(result.tokenCounts, tokenCountMax);
      return vectorReply(context, call, {
        result: { ...result, rows },
        format: call.format,
        dimension: dimensions,
        isSingle: false,
        writeBody(writer) {
          writer.ascii('{"model":');
          writer.json(model);
          writer.ascii(',"embeddings":[');
          writeRows(writer, rows);
          const durationNs = nanosecondsSince(context, call);
          writer.ascii(`],"total_duration":${durationNs},"prompt_eval_count":${tokenCount}}`);
        },
      });
    },
  });
}

/** Whether texts are cut where a request has no word for it. */
function isCut(
  { num_ctx }: { readonly num_ctx?: number | undefined },
  { truncate }: ApiContext['limits'],
): boolean {
  return num_ctx !== undefined || truncate;
}

/** One text a call. */
function embeddingsRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const fields = { ...commonFields(context), prompt: maybeTexts(1) };
  return ollamaPost(context, '/api/embeddings', {
    fields,
    formats: 'vectors',
    summary: 'One embedding, in the older shape of Ollama',
    examples: { one: { model: manifest.id, prompt: 'исковая давность' } },
    reply: {
      description: 'The embedding; empty for an empty prompt.',
      schema: objectOf({ embedding: TEXT_ROW }, ['embedding']),
      example: { embedding: [0.0123, -0.0456] },
    },
    statuses: [404],
    async answer(call, { prompt, options, ...asked }) {
      if (prompt === undefined) return valueReply(call, { embedding: [] });
      const result = await encodeTexts(context, call, {
        texts: prompt.texts,
        heads: headSet(['dense']),
        inputType: inputTypeOf(asked),
        truncate: isCut(options, limits),
        tokenCountMax: options.num_ctx,
        fieldOf: () => 'prompt',
      });
      return vectorReply(context, call, {
        result,
        format: call.format,
        dimension: manifest.dimension,
        isSingle: true,
        writeBody(writer) {
          writer.ascii('{"embedding":');
          writeRows(writer, result.rows ?? []);
          writer.ascii('}');
        },
      });
    },
  });
}

/** What every call of Ollama may say, and what of it has a meaning here. */
function commonFields(context: ApiContext) {
  return {
    model: modelField(context),
    options: optionsField(context.manifest),
    keep_alive: KEEP_ALIVE,
    ...TASK_FIELDS,
  };
}

/**
 * Free-form in Ollama: clients send a dozen options of generation, most of them null. One of them
 * cuts texts.
 */
function optionsField(manifest: ModelManifest) {
  const tokens = `Tokens that texts are cut to; ${manifest.tokenCountMax} unless told, as for more.`;
  return object({ num_ctx: optional(tokenLimit(manifest, tokens)) });
}

/** The model is always loaded, so that any time that Ollama takes is kept. */
const KEEP_ALIVE: Field<unknown> = {
  schema: { oneOf: [{ type: 'number' }, { type: 'string' }], nullable: true },
  isRequired: false,
  read(value, at) {
    if (value === undefined || value === null) return undefined;
    if (typeof value === 'number' || typeof value === 'string') return value;
    throw invalid(at, 'a number of seconds or a duration such as "5m"', value);
  },
};

/** Texts, or undefined where Ollama answers no embeddings: nothing, null, "" and []. */
function maybeTexts(textCountMax: number): Field<Texts | undefined> {
  const field = texts(textCountMax);
  return {
    schema: {
      oneOf: [
        { type: 'string' },
        { type: 'array', items: { type: 'string' }, maxItems: textCountMax },
      ],
      nullable: true,
    },
    isRequired: false,
    read(value, at) {
      const isNone = value === undefined || value === null || value === '';
      if (isNone || (Array.isArray(value) && value.length === 0)) return undefined;
      return field.read(value, at);
    },
  };
}

/** Ollama ignores 0, negative numbers and what is no less than the model's own dimension. */
function ollamaDimensions(manifest: ModelManifest): Field<number> {
  const field = dimensionField(manifest);
  return {
    schema: { type: 'integer', nullable: true },
    isRequired: false,
    read(value, at) {
      const isIgnored = typeof value === 'number' && (value <= 0 || value >= manifest.dimension);
      return field.read(isIgnored ? undefined : value, at);
    },
  };
}

function writeRows(writer: ByteWriter, rows: readonly Float32Array[]): void {
  writer.reserve(rows.length * ((rows[0]?.length ?? 0) * FLOAT32_JSON_BYTES_MAX + 16));
  for (let index = 0; index < rows.length; index++) {
    if (index > 0) writer.ascii(',');
    writer.row(rows[index]);
  }
}

function nanosecondsSince({ clock }: ApiContext, { startMs }: Call): number {
  return Math.round((clock.now() - startMs) * 1e6);
}

/** Ollama has no 422: what a field has wrong is a 400 there. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/** `{"error": "words"}`: its clients print an object as `[object Object]`. The code is a header. */
const OLLAMA_ERRORS: ErrorShape = {
  reply(error: ServerError, requestId: string, log: Log): Response {
    const status = STATUSES[error.status] ?? error.status;
    const { details, headers } = reportError(error, status, requestId, log);
    return new Response(JSON.stringify({ error: details.message }), { status, headers });
  },
  schema: objectOf({ error: { type: 'string' } }, ['error']),
  statuses: [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
};
