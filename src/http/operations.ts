import type { Elysia } from 'elysia';
import { type Config, shownConfig } from '../config.ts';
import type { Parts } from '../encode.ts';
import type { DocumentFacts } from './document-parts.ts';
import { HEALTH_DOCUMENT, infoDocument, READY_DOCUMENT } from './documents.ts';
import { teiInfo } from './tei-info.ts';

/** What the operators' routes show. */
export interface OperationsDoor {
  readonly parts: Parts;
  readonly config: Config;
  readonly facts: DocumentFacts;
  readonly version: string;
}

/**
 * Adds `GET /health` (the process lives), `GET /ready` (a text sent now would be answered) and `GET
 * /info`.
 */
export function addOperationsRoutes(app: Elysia, door: OperationsDoor): void {
  const { parts, config, version } = door;
  const { manifest, backend, tokenizer, admission, batcher } = parts;

  app.get('/health', () => ({ status: 'ok' }), { detail: HEALTH_DOCUMENT });

  app.get(
    '/ready',
    ({ set }) => {
      const { reason } = backend.state();
      const isReady = reason === '' && tokenizer.reason === '';
      set.status = isReady ? 200 : 503;
      const because = [reason, tokenizer.reason].filter((part) => part !== '').join(' ');
      return { ready: isReady, model: manifest.id, ...(isReady ? {} : { reason: because }) };
    },
    { detail: READY_DOCUMENT },
  );

  app.get(
    '/info',
    () => ({
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
        heads: manifest.heads,
        license: manifest.license,
      },
      backend: { name: backend.name, ready: backend.state().isReady, ...shown(backend.limits()) },
      tokenizer: { engine: tokenizer.facts?.engine ?? null, workers: config.tokenizerWorkers },
      queue: {
        texts: admission.admittedTextCount,
        tokens: admission.admittedTokenCount,
        waiting_texts: batcher.waitingTextCount,
        batches_in_flight: batcher.batchesInFlight,
      },
      settings: shownConfig(config),
    }),
    { detail: infoDocument(door.facts) },
  );
}

function shown(limits: ReturnType<Parts['backend']['limits']>): Record<string, number> {
  return {
    slots: limits.slotCount,
    batch_texts_max: limits.batchTextsMax,
    batch_tokens_max: limits.batchTokensMax,
  };
}
