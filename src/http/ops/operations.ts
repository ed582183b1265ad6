import type { Elysia } from 'elysia';
import { type Config, shownConfig } from '../../config/config.ts';
import type { Parts } from '../../encode/encode.ts';
import type { DocumentFacts } from '../document-parts.ts';
import { HEALTH_DOCUMENT, infoDocument, READY_DOCUMENT } from '../native/documents.ts';
import { teiInfo } from '../tei/tei-info.ts';

/** What the operators' routes show. */
export interface OperationsDoor {
  readonly parts: Parts;
  readonly config: Config;
  /** Which of the server's processes this is, from 0. */
  readonly processIndex: number;
  readonly facts: DocumentFacts;
  readonly version: string;
}

const BACKEND_DOWN = 'The backend is down or still loading.';
const TOKENIZER_DOWN = 'No tokenizer is running.';

/**
 * Adds `GET /health` (the process lives), `GET /ready` (a text sent now would be answered) and `GET
 * /info`.
 *
 * Anybody may read `/ready`, so it only says what does not work. Why, with Triton's addresses and
 * words or the paths of files, is for the log and for `/info`.
 */
export function addOperationsRoutes(app: Elysia, door: OperationsDoor): void {
  const { parts, config, version } = door;
  const { manifest, backend, tokenizer, admission, batcher } = parts;

  app.get('/health', () => ({ status: 'ok' }), { detail: HEALTH_DOCUMENT });

  app.get(
    '/ready',
    ({ set }) => {
      const said = [
        ...(backend.state().reason === '' ? [] : [BACKEND_DOWN]),
        ...(tokenizer.reason === '' ? [] : [TOKENIZER_DOWN]),
      ];
      const isReady = said.length === 0;
      set.status = isReady ? 200 : 503;
      return { ready: isReady, model: manifest.id, ...(isReady ? {} : { reason: said.join(' ') }) };
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
      backend: {
        name: backend.name,
        ready: backend.state().isReady,
        reason: backend.state().reason,
        ...shown(backend.limits()),
      },
      tokenizer: {
        engine: tokenizer.ready?.engine ?? null,
        workers: config.tokenizerWorkers,
        reason: tokenizer.reason,
      },
      processes: { count: config.serverProcesses, index: door.processIndex },
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
