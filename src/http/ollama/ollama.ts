import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type ModelManifest, modelNamesOf } from '../../model/manifest.ts';
import type { ByteWriter } from '../../reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../../reply/float32-json.ts';
import { headSet } from '../../vectors/output.ts';
import { type Api, encodeTexts, get, post, type Route } from '../api.ts';
import type { ApiContext, Call } from '../context.ts';
import { listOf, objectOf, replyDocument, TEXT_ROW } from '../document.ts';
import { type ErrorShape, REQUEST_ID_HEADER, reportError } from '../error-reply.ts';
import { BOOLEAN, type Field, invalid, object, optional, STRING } from '../fields.ts';
import { modelUnknown } from '../model-field.ts';
import { usedTokenCount, valueReply, vectorReply } from '../response.ts';
import { dimensionField, shortRows } from '../short-rows.ts';
import { type Texts, textNameOf, texts } from '../text-fields.ts';
import { inputTypeOf, TASK_FIELDS, tokenLimit } from '../vector-fields.ts';

/**
 * Ollama's API for embeddings: `POST /api/embed`, the older `POST /api/embeddings`, and what its
 * clients ask of a server before they call it. Shapes are those of ollama's `server/routes.go` and
 * `api/types.go` (0.33).
 */
export function ollamaApi(context: ApiContext, version: string): Api {
  const routes = [embedRoute(context), embeddingsRoute(context), showRoute(context)];
  return {
    tag: 'Ollama',
    errors: OLLAMA_ERRORS,
    root: '/api',
    routes: [...routes, ...listRoutes(context, version)],
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
  return post(context, '/api/embed', {
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
  return post(context, '/api/embeddings', {
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

/**
 * The model's name as it was asked for. With STRICT_MODEL it must be one of this model's.
 *
 * It may be refused with EMB_MODEL_UNKNOWN.
 */
function modelField({ manifest, limits }: ApiContext): Field<string | undefined> {
  const field = optional(STRING, `This server has ${manifest.id} alone; a tag may follow.`);
  return {
    ...field,
    read(value, at) {
      const name = field.read(value, at);
      if (name === undefined || !limits.strictModel || isServed(manifest, name)) return name;
      throw modelUnknown(manifest, name, `model '${name.slice(0, 100)}' not found`);
    },
  };
}

/** Without the tag, in any case, and with any name of a hub before it. */
function isServed(manifest: ModelManifest, name: string): boolean {
  const asked = withoutTag(name).toLowerCase();
  const names = modelNamesOf(manifest).map((known) => known.toLowerCase());
  return names.some((known) => asked === known || asked.endsWith(`/${known}`));
}

/** `bge-m3` of `bge-m3:latest`: in Ollama both are one model. */
function withoutTag(name: string): string {
  return name.replace(/:[^/:]*$/, '');
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

/** `POST /api/show`: what clients look up before they use a model. */
function showRoute(context: ApiContext): Route {
  const { manifest } = context;
  const fields = { model: modelField(context), name: modelField(context) };
  const architecture = 'bert';
  return post(context, '/api/show', {
    fields,
    formats: 'json',
    summary: 'What the model is, in the shape of Ollama',
    examples: { one: { model: manifest.id } },
    reply: {
      description: 'Sizes and capabilities.',
      schema: objectOf(
        {
          details: { type: 'object' },
          model_info: { type: 'object' },
          capabilities: listOf({ type: 'string' }),
          license: { type: 'string' },
          modified_at: { type: 'string' },
        },
        ['details', 'model_info', 'capabilities'],
      ),
    },
    statuses: [404],
    async answer(call) {
      return valueReply(call, {
        details: detailsOf(context),
        model_info: {
          'general.architecture': architecture,
          [`${architecture}.context_length`]: manifest.tokenCountMax,
          [`${architecture}.embedding_length`]: manifest.dimension,
        },
        capabilities: ['embedding'],
        license: manifest.license,
        modified_at: STARTED_AT,
      });
    },
  });
}

/** Ollama tells when a model was pulled; ours has been there since the start. */
const STARTED_AT = new Date().toISOString();

function detailsOf({ computeType, manifest }: ApiContext) {
  return {
    parent_model: '',
    format: computeType === 'cpu' ? 'onnx' : 'tensorrt',
    family: 'bert',
    families: ['bert'],
    parameter_size: '',
    quantization_level: '',
    context_length: manifest.tokenCountMax,
    embedding_length: manifest.dimension,
  };
}

function listRoutes(context: ApiContext, version: string): readonly Route[] {
  const { manifest } = context;
  const { files } = manifest;
  const size = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const name = `${manifest.id}:latest`;
  const common = {
    name,
    model: name,
    size,
    digest: files.find(({ role }) => role === 'model')?.sha256 ?? '',
  };
  const details = detailsOf(context);
  // Nothing unloads it; Ollama says for ever by a far date.
  const running = { expires_at: '2318-01-01T00:00:00Z', size_vram: 0 };
  const models = listOf({ type: 'object' });
  const routes = [
    {
      path: '/api/tags',
      summary: 'The one model that is served, in the shape of Ollama',
      schema: objectOf({ models }, ['models']),
      value: { models: [{ ...common, modified_at: STARTED_AT, details }] },
    },
    {
      path: '/api/ps',
      summary: 'The model that is loaded, in the shape of Ollama',
      schema: objectOf({ models }, ['models']),
      value: {
        models: [{ ...common, details, ...running, context_length: manifest.tokenCountMax }],
      },
    },
    {
      path: '/api/version',
      summary: 'The version of this server, in the shape of Ollama',
      schema: objectOf({ version: { type: 'string' } }, ['version']),
      value: { version },
    },
  ];
  return routes.map(({ path, summary, schema, value }) =>
    get(
      path,
      { summary, responses: { 200: replyDocument({ description: summary, schema }) } },
      (_, requestId) => Response.json(value, { headers: { [REQUEST_ID_HEADER]: requestId } }),
    ),
  );
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
