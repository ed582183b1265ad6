import { type ModelManifest, modelNamesOf } from '../../model/manifest.ts';
import { get, type PostRoute, post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf, replyDocument } from '../document.ts';
import { REQUEST_ID_HEADER } from '../error-reply.ts';
import { type Field, type FieldTable, optional, STRING } from '../fields.ts';
import { modelUnknown } from '../model-field.ts';
import { valueReply } from '../response.ts';

/** What Ollama's clients ask about the model before they use it. */
export function modelRoutes(context: ApiContext, version: string): readonly Route[] {
  return [showRoute(context), pullRoute(context), ...listRoutes(context, version)];
}

/** Ollama looks at no Content-Type: the calls in its documents are curl's, which says form. */
export function ollamaPost<Table extends FieldTable>(
  context: ApiContext,
  path: string,
  route: PostRoute<Table>,
): Route {
  return post(context, path, { ...route, isJsonUnlessTold: true });
}

/**
 * The model's name as it was asked for. With STRICT_MODEL it must be one of this model's.
 *
 * It may be refused with EMB_MODEL_UNKNOWN.
 */
export function modelField({ manifest, limits }: ApiContext): Field<string | undefined> {
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

/** `POST /api/show`: what clients look up before they use a model. */
function showRoute(context: ApiContext): Route {
  const { manifest } = context;
  const fields = { model: modelField(context), name: modelField(context) };
  const architecture = 'bert';
  return ollamaPost(context, '/api/show', {
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

/**
 * `POST /api/pull`: a client whose model is not in the list has it pulled before it calls. Any name
 * is served here, so that it has come already; one that STRICT_MODEL refuses has not. The one line
 * is a whole JSON body, too, whether the client asked for `stream` or not.
 */
function pullRoute(context: ApiContext): Route {
  const { manifest } = context;
  const fields = { model: modelField(context), name: modelField(context) };
  return ollamaPost(context, '/api/pull', {
    fields,
    formats: 'json',
    summary: 'Says that the model is there, in the shape of Ollama',
    examples: { one: { model: manifest.id } },
    reply: {
      description: 'One line: success.',
      schema: objectOf({ status: { type: 'string' } }, ['status']),
      example: { status: 'success' },
    },
    statuses: [404],
    async answer({ requestId }) {
      const headers = { 'content-type': 'application/json', [REQUEST_ID_HEADER]: requestId };
      return new Response('{"status":"success"}\n', { headers });
    },
  });
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
