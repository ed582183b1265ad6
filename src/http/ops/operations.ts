import { readContainerLimits } from '../../base/container-limits.ts';
import { shownConfig } from '../../config/read.ts';
import type { Config } from '../../config/settings.ts';
import type { Parts } from '../../encode/contract.ts';
import { type Api, get, type Route } from '../api.ts';
import type { Ending } from '../context.ts';
import { replyDocument, type Schema } from '../document.ts';
import { comeBackIn, NATIVE_ERRORS } from '../error-reply.ts';
import { playgroundRoutes } from '../playground/playground.ts';
import { metricsRoute, type Scraped } from './metrics.ts';

/** What the operators' routes show. */
export interface Operations extends Scraped {
  readonly config: Config;
  readonly ending: Ending;
  /** Which of the server's processes this is, from 0. */
  readonly processIndex: number;
}

const OBJECT: Schema = { type: 'object' };

const BACKEND_DOWN = 'The backend is down or still loading.';
const TOKENIZER_DOWN = 'No tokenizer is running.';
const ENDING = 'The server is shutting down.';

/**
 * The operators' API: `GET /health` (the process lives), `GET /ready` (a text sent now would be
 * answered), `GET /info`, `GET /metrics`, and the playground at `GET /`.
 */
export function operationsApi(shown: Operations): Api {
  const routes = [
    healthRoute(),
    readyRoute(shown),
    infoRoute(shown),
    metricsRoute(shown),
    ...playgroundRoutes(),
  ];
  return { tag: 'operations', errors: NATIVE_ERRORS, routes };
}

function healthRoute(): Route {
  const example = { status: 'ok' };
  const reply = replyDocument({ description: 'It does.', schema: OBJECT, example });
  const document = { summary: 'Whether the process lives', responses: { 200: reply } };
  return get('/health', document, () => ({ status: 'ok' }));
}

/**
 * Anybody may read `/ready`, so it only says what does not work. Why, with Triton's addresses and
 * words or the paths of files, is for the log and for `/info`.
 */
function readyRoute(shown: Operations): Route {
  const model = shown.parts.manifest.id;
  const document = {
    summary: 'Whether a text sent now would be answered',
    responses: {
      200: replyDocument({
        description: 'It would.',
        schema: OBJECT,
        example: { ready: true, model },
      }),
      503: replyDocument({
        description: 'It would not.',
        schema: OBJECT,
        example: { ready: false, model, reason: BACKEND_DOWN },
      }),
    },
  };
  return get('/ready', document, () => {
    const said = faultsOf(shown);
    if (said.length === 0) return { ready: true, model };
    const body = { ready: false, model, reason: said.join(' ') };
    return Response.json(body, { status: 503, headers: comeBackIn() });
  });
}

/** Why a text sent now would not be answered; empty when it would. */
export function faultsOf({ parts, ending }: Operations): readonly string[] {
  const { backend, tokenizer } = parts;
  return [
    ...(ending.isAnnounced ? [ENDING] : []),
    ...(backend.state().reason === '' ? [] : [BACKEND_DOWN]),
    ...(tokenizer.reason === '' ? [] : [TOKENIZER_DOWN]),
  ];
}

function infoRoute({ parts, config, version, processIndex }: Operations): Route {
  const { manifest, backend, tokenizer, admission, backgroundAdmission, batcher } = parts;
  const document = {
    summary: 'Model, backend, queue and settings',
    description: 'Holds the fields of text-embeddings-inference too.',
    responses: {
      200: replyDocument({
        description: 'What this server is.',
        schema: OBJECT,
        example: { version },
      }),
    },
  };
  return get('/info', document, () => ({
    version,
    ...teiInfo(parts, config),
    model: {
      id: manifest.id,
      title: manifest.title,
      dim: manifest.dimension,
      max_tokens: manifest.tokenCountMax,
      pooling: manifest.pooling,
      normalized: manifest.normalized,
      prefixes: manifest.prefixes,
      // What the backend has: a Triton may serve a model with fewer than its manifest names.
      heads: backend.capabilities().heads,
      license: manifest.license,
      engine: backend.engine ?? null,
    },
    backend: {
      name: backend.name,
      ready: backend.state().isReady,
      reason: backend.state().reason,
      ...shownLimits(backend.capabilities()),
      ...shownTransport(backend),
    },
    tokenizer: {
      engine: tokenizer.ready?.engine ?? null,
      workers: config.tokenizerWorkers,
      reason: tokenizer.reason,
    },
    processes: { count: config.serverProcesses, index: processIndex },
    container: shownContainer(),
    queue: {
      texts: admission.admittedTextCount,
      tokens: admission.admittedTokenCount,
      waiting_texts: batcher.foreground.waitingTextCount,
      batches_in_flight: batcher.batchesInFlight,
    },
    background_queue: {
      texts: backgroundAdmission.admittedTextCount,
      tokens: backgroundAdmission.admittedTokenCount,
      waiting_texts: batcher.background.waitingTextCount,
    },
    settings: shownConfig(config),
  }));
}

function shownLimits(limits: ReturnType<Parts['backend']['capabilities']>): Record<string, number> {
  return {
    slots: limits.slotCount,
    batch_texts_max: limits.batchTextsMax,
    batch_tokens_max: limits.batchTokensMax,
  };
}

/** What the container may use; null where nothing limits it. */
function shownContainer(): Record<string, number | null> {
  const { memoryBytes, cores } = readContainerLimits();
  return { memory_bytes: memoryBytes ?? null, cores: cores ?? null };
}

/** Of each Triton, why tensors travel over HTTP; null while they are in shared memory. */
function shownTransport({ endpoints }: Parts['backend']): Record<string, unknown> {
  if (endpoints === undefined) return {};
  const reasons = endpoints.list().map(({ url, overHttp }) => [url, overHttp || null] as const);
  return { over_http: Object.fromEntries(reasons) };
}

/**
 * The fields by which clients of text-embeddings-inference read `GET /info`. They stand beside our
 * own; `version` is one for both.
 */
function teiInfo({ manifest, backend }: Parts, config: Config) {
  const { source } = manifest;
  const limits = backend.capabilities();
  // Of a longer one there is no room in the memory for texts.
  const inputTokensMax = Math.min(manifest.tokenCountMax, limits.textTokensMax ?? Infinity);
  return {
    model_id: source.kind === 'hub' ? source.repository : manifest.id,
    model_sha: source.kind === 'hub' ? source.revision : null,
    // Of the rows that leave here, whatever the engine computes in.
    model_dtype: 'float32',
    served_model_name: manifest.id,
    model_type: { embedding: { pooling: manifest.pooling } },
    max_concurrent_requests: config.queueTextsMax,
    max_input_length: inputTokensMax,
    // The longest text goes alone, though it be over the limit of a batch. In the original, too,
    // this is never less than the other, and clients cut texts to the lesser of both.
    max_batch_tokens: Math.max(limits.batchTokensMax, inputTokensMax),
    max_batch_requests: limits.batchTextsMax,
    max_client_batch_size: config.requestTextsMax,
    auto_truncate: config.truncate,
    tokenization_workers: config.tokenizerWorkers,
    sha: null,
    docker_label: null,
  };
}
