import type { Fetch } from '../../client/api-encoder.ts';
import { type ClientClock, pause } from '../../client/cancellation.ts';
import type { ChunkedModel } from '../chunks/chunk-records.ts';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { ServerAddress } from './server-fleet.ts';

/** What a server says of the model that it serves. */
export interface ServerModel {
  readonly id: string;
  readonly dimension: number;
  readonly heads: readonly string[];
  /** Whatever else of the model changes vectors: prefixes, tokens, revision, graph or engine. */
  readonly identity: Readonly<Record<string, string | number>>;
}

/** Between two questions to a server that is not there yet, in ms. */
const ASK_AGAIN_MS = 200;

/**
 * Asks each server what it serves, and waits for those that are starting.
 *
 * @throws CorpusError CORPUS_SERVER_FAILED when one does not answer in time, CORPUS_MODEL_DIFFERS
 *   when two serve different models.
 */
export async function askModel(
  options: Asking & { servers: readonly ServerAddress[] },
): Promise<ServerModel> {
  let first: ServerModel | undefined;
  for (const server of options.servers) {
    const model = await waitForModel({ ...options, server });
    first ??= model;
    if (Bun.deepEquals(model, first)) continue;
    throw new CorpusError(
      'CORPUS_MODEL_DIFFERS',
      `${server.url} serves ${describe(model)}, ${options.servers[0]?.url} ${describe(first)}; ` +
        'their vectors do not mix.',
    );
  }
  return first as ServerModel;
}

interface Asking {
  readonly apiKey: string | undefined;
  readonly waitMs: number;
  readonly clock: ClientClock;
  readonly signal: AbortSignal;
  /** Told once of each server that does not answer yet. */
  readonly say: (words: string) => void;
}

async function waitForModel(options: Asking & { server: ServerAddress }): Promise<ServerModel> {
  const { server, apiKey, waitMs, clock, signal, say } = options;
  let isTold = false;
  const endMs = clock.now() + waitMs;
  const ask: Fetch = server.fetch ?? fetch;
  const headers: Record<string, string> =
    apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  for (;;) {
    signal.throwIfAborted();
    try {
      const reply = await ask(`${server.url}/info`, { headers, signal });
      if (reply.status === 401) throw refused(server.url, 'it wants a key: --api-key-file.');
      if (!reply.ok) throw new Error(`it answered ${reply.status}`);
      return modelOf(await reply.json(), server.url);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CorpusError) throw error;
      if (clock.now() >= endMs) throw refused(server.url, `${wordsOf(error)}.`, error);
      if (!isTold) say(`${server.url} does not answer yet (${wordsOf(error)}); waiting for it.`);
      isTold = true;
    }
    await pause({ clock, delayMs: ASK_AGAIN_MS, signal });
  }
}

/** What `/info` says, in the words of the fingerprint. */
function modelOf(info: unknown, url: string): ServerModel {
  const { model, model_sha, backend } = info as {
    model?: Record<string, unknown>;
    model_sha?: unknown;
    backend?: Record<string, unknown>;
  };
  if (typeof model?.id !== 'string' || typeof model.dim !== 'number') {
    throw refused(url, 'its /info names no model; is it this server?');
  }
  // What computes is not known before.
  if (backend?.ready === false) throw new Error(`it is not ready: ${backend.reason}`);
  const facts: Record<string, unknown> = {
    max_tokens: model.max_tokens,
    pooling: model.pooling,
    prefixes: JSON.stringify(model.prefixes ?? {}),
    revision: model_sha,
    engine: model.engine,
    backend: backend?.name,
  };
  const identity = Object.entries(facts).filter(
    (fact): fact is [string, string | number] =>
      typeof fact[1] === 'string' || typeof fact[1] === 'number',
  );
  const heads = Array.isArray(model.heads) ? model.heads.map(String) : ['dense'];
  return { id: model.id, dimension: model.dim, heads, identity: Object.fromEntries(identity) };
}

/** What decides where texts of this model are cut. */
export function chunkedModel(
  { id, identity }: ServerModel,
  { inputType }: { inputType: 'query' | 'passage' },
): ChunkedModel {
  const prefixes = JSON.parse(String(identity.prefixes ?? '{}')) as Record<string, unknown>;
  const { [inputType]: prefix } = prefixes;
  const { max_tokens } = identity;
  return {
    id,
    prefix: typeof prefix === 'string' ? prefix : '',
    tokenCountMax: typeof max_tokens === 'number' ? max_tokens : undefined,
  };
}

function describe({ id, identity }: ServerModel): string {
  return `${id} (${Object.entries(identity)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')})`;
}

function refused(url: string, why: string, cause?: unknown): CorpusError {
  return new CorpusError('CORPUS_SERVER_FAILED', `${url} cannot be used: ${why}`, cause);
}
