import { Elysia } from 'elysia';
import type { Clock } from '../base/clock.ts';
import { toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/settings.ts';
import type { Parts } from '../encode/contract.ts';
import { createEncode } from '../encode/encode.ts';
import { addAccess } from '../http/access.ts';
import {
  type Api,
  addApi,
  addPathCheck,
  noSuchRoute,
  pathOptions,
  unansweredReply,
  withoutRepeatedSlashes,
} from '../http/api.ts';
import { type BodyIntake, createBodyIntake } from '../http/body-intake.ts';
import { cohereApi } from '../http/cohere/cohere.ts';
import type { ApiContext, Ending } from '../http/context.ts';
import { nativeApi } from '../http/native/native.ts';
import { createObserver } from '../http/observer.ts';
import { ollamaApi } from '../http/ollama/ollama.ts';
import { openaiApi } from '../http/openai/openai.ts';
import { faultsOf, type Operations, operationsApi } from '../http/ops/operations.ts';
import { addSwagger } from '../http/ops/swagger.ts';
import { createReplyBudget, type ReplyBudget } from '../http/reply-budget.ts';
import { createScoringBudget } from '../http/scoring-budget.ts';
import { sieApi } from '../http/sie/sie.ts';
import { teiApi } from '../http/tei/tei.ts';
import { weaviateApi } from '../http/weaviate/weaviate.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Tracing } from '../observe/tracing.ts';

/** The other processes of the same server, as this one knows them. */
export interface Siblings {
  /** Which of them this one is, from 0. */
  readonly index: number;
  /** The text for Prometheus, over all of them. */
  scrape(): Promise<string>;
}

/**
 * Parts in, application out; it never listens. A test calls `handle` on it, with absolute URLs of
 * `http://localhost/`.
 *
 * @param options.siblings undefined when this process is the whole server.
 * @param options.ending changed by whoever ends the server; without it the server never ends.
 */
export function createApp(options: {
  parts: Parts & { readonly metrics: Metrics; readonly tracing: Tracing | undefined };
  config: Config;
  version: string;
  log: Log;
  siblings?: Siblings | undefined;
  ending?: Ending;
}): Elysia {
  const { parts, config, version, log, siblings } = options;
  const { ending = { isAnnounced: false, isCut: false } } = options;
  const { metrics, clock } = parts;
  const apis: Api[] = [];
  const writeAccess = accessLogOf(config, log);
  const observer = createObserver({ ...parts, writeAccess });
  const isTls = config.tlsCert !== '';
  const bodyIntake = bodyIntakeOf(config, parts);
  const app = new Elysia({ handler: pathOptions({ isTls }) });
  const replyBudget = replyBudgetOf(app, { config, parts, log });
  observer.addTo(app);
  app.onError(({ code, error, request, set }) => {
    const isUnknown = code === 'NOT_FOUND';
    const meant = isUnknown ? withoutRepeatedSlashes(request) : undefined;
    if (meant !== undefined) {
      access.standsFor(meant, request);
      return app.handle(meant);
    }
    if (ending.isAnnounced) set.headers.connection = 'close';
    const refusal = isUnknown ? access.refusalOf(request) : undefined;
    const known = refusal ?? (isUnknown ? noSuchRoute(app, request) : toServerError(error));
    const reply = unansweredReply(known, { apis, request, log });
    observer.ended(request, reply);
    return bodyIntake.refuse(request, reply);
  });
  const access = addAccess(app, config);
  addPathCheck(app, { isTls });
  const { admission, backend, manifest, tokenizer, vocabulary } = parts;
  const context: ApiContext = {
    encode: observer.watching(createEncode(parts)),
    admission,
    manifest,
    tokenizer,
    vocabulary,
    heads: () => backend.capabilities().heads,
    computeType: COMPUTE_TYPES[config.backend],
    limits: { ...config, bodyIntake },
    scoringBudget: createScoringBudget(config),
    replyBudget,
    access,
    clock,
    log,
  };
  const processIndex = siblings?.index ?? 0;
  const shown = { parts, ending, metrics, scrape: siblings?.scrape, config, processIndex, version };
  apis.push(...apisOf(context, shown));
  for (const api of apis) addApi(app, api, { access, bodyIntake, replyBudget, ending, log });
  addSwagger(app, { version, isKeyNeeded: access.needsKey('POST', '/') });
  return app;
}

/** The access log is at `debug` unless it was asked for; undefined where nobody would read it. */
function accessLogOf({ accessLog, logLevel }: Config, log: Log): Log['info'] | undefined {
  if (accessLog) return log.info;
  return logLevel === 'debug' ? log.debug : undefined;
}

function bodyIntakeOf(
  config: Config,
  { metrics, clock }: { metrics: Metrics; clock: Clock },
): BodyIntake {
  const intake = createBodyIntake({ clock, ...config });
  const help = 'Memory that bodies being received or decoded count as.';
  metrics.gauge({ name: 'bge_encoder_bodies_bytes', help }, () => intake.byteCount);
  metrics.gauge(
    { name: 'bge_encoder_bodies_waiting', help: 'Large bodies that wait unread for room.' },
    () => intake.waitingCount,
  );
  return intake;
}

function replyBudgetOf(
  app: Elysia,
  { config, parts, log }: Pick<Parameters<typeof createApp>[0], 'config' | 'parts' | 'log'>,
): ReplyBudget {
  const { metrics, clock } = parts;
  const pendingCount = (): number => app.server?.pendingRequests ?? 0;
  const budget = createReplyBudget({ ...config, clock, pendingCount, log });
  const help = 'Large replies that callers have not read yet.';
  metrics.gauge({ name: 'bge_encoder_replies_bytes', help }, () => budget.byteCount);
  return budget;
}

/** Where two have the same path, errors outside of a route have the shape of the first. */
function apisOf(context: ApiContext, shown: Operations): readonly Api[] {
  return [
    nativeApi(context),
    openaiApi(context),
    teiApi(context),
    ollamaApi(context, shown.version),
    cohereApi(context),
    sieApi(context),
    operationsApi(shown),
    weaviateApi(context, () => faultsOf(shown).length === 0),
  ];
}

/** What computes on each backend, in the words of text-embeddings-inference. */
const COMPUTE_TYPES = { triton: 'gpu+optimized', embedded: 'cpu', auto: 'cpu' } as const;
