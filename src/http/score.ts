import type { Elysia } from 'elysia';
import { pack } from 'msgpackr';
import { HEADS, type Head, headSet } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import { createLifetime } from '../base/lifetime.ts';
import type { Log } from '../base/log.ts';
import type { Encode, EncodeRequest, EncodeResult } from '../encode.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { negotiateFormat } from '../reply/reply-format.ts';
import type { CallerOf } from './access.ts';
import type { BodyIntake } from './body-intake.ts';
import type { DocumentFacts } from './document-parts.ts';
import { scoreDocument } from './documents.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from './error-reply.ts';
import {
  type Fields,
  fieldsOf,
  optionalBoolean,
  optionalWords,
  requiredText,
  requiredTextList,
} from './field-checks.ts';
import { readBody } from './read-body.ts';
import { timeoutOf } from './request-timeout.ts';
import { scoreTexts, weightsOf } from './score-texts.ts';

/** What `POST /score` needs. */
export interface ScoreDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  /** What the running model can give. */
  readonly heads: () => readonly Head[];
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly bodyIntake: BodyIntake;
    readonly requestTextsMax: number;
    readonly replyBytesMax: number;
    readonly requestTimeoutMs: number;
    readonly truncate: boolean;
  };
  readonly callerOf: CallerOf;
  /** For the route's document. */
  readonly facts: DocumentFacts;
  readonly clock: Clock;
  readonly log: Log;
}

/** Adds `POST /score`: a query against texts by each head, and the weighted mean. */
export function addScoreRoute(app: Elysia, door: ScoreDoor): void {
  app.post(
    '/score',
    async ({ request }) => {
      const requestId = requestIdOf(request);
      try {
        return await answerScore(door, request, requestId);
      } catch (error) {
        return errorReply(toServerError(error), requestId, door.log);
      }
    },
    { parse: 'none', detail: scoreDocument(door.facts) },
  );
}

async function answerScore(
  door: ScoreDoor,
  request: Request,
  requestId: string,
): Promise<Response> {
  const { limits, manifest, clock } = door;
  const format = negotiateFormat(request.headers.get('accept'));
  if (format.kind === 'raw') throw rawRefused();
  const fields = fieldsOf(await readBody(request, limits));
  const heads = headSet(optionalWords(fields, 'outputs', HEADS) ?? door.heads());
  const weights = weightsOf(fields, heads);
  const timeoutMs = Math.min(timeoutOf(request) ?? Infinity, limits.requestTimeoutMs);
  // The journey has its own; this one is for what comes after it, of the same budget.
  const lifetime = createLifetime({ clock, timeoutMs, signal: request.signal });
  try {
    const work = await encodeBoth(door, request, { fields, heads, timeoutMs });
    const { byHead, weighted } = await scoreTexts({ ...work, heads, weights, lifetime }, clock);
    const reply = {
      model: manifest.id,
      scores: { weighted, ...Object.fromEntries(byHead) },
      weights: Object.fromEntries(heads.map((head, at) => [head, weights[at]])),
    };
    const isJson = format.kind === 'json';
    const body = isJson ? JSON.stringify(reply) : new Uint8Array(pack(reply));
    const type = isJson ? 'application/json' : 'application/msgpack';
    const headers = { 'content-type': type, [REQUEST_ID_HEADER]: requestId };
    return new Response(body, { headers });
  } finally {
    lifetime.release();
  }
}

/** The query and the texts side by side: they may share batches. */
async function encodeBoth(
  door: ScoreDoor,
  request: Request,
  asked: { readonly fields: Fields; readonly heads: readonly Head[]; readonly timeoutMs: number },
): Promise<{ query: EncodeResult; texts: EncodeResult }> {
  const { limits } = door;
  const { fields, heads, timeoutMs } = asked;
  const text = requiredText(fields.query, 'query');
  const texts = requiredTextList(fields.texts, 'texts', limits.requestTextsMax);
  const common = {
    heads,
    truncate: optionalBoolean(fields, 'truncate') ?? limits.truncate,
    batchTextsMax: undefined,
    valueCountMax: Math.floor(limits.replyBytesMax / 4),
    timeoutMs,
    signal: request.signal,
    caller: door.callerOf(request),
  } satisfies Partial<EncodeRequest>;
  const [query, passages] = await Promise.all([
    door.encode({ ...common, texts: [text], inputType: 'query', fieldOf: () => 'query' }),
    door.encode({ ...common, texts, inputType: 'passage', fieldOf: (at) => `texts[${at}]` }),
  ]);
  return { query, texts: passages };
}

function rawRefused(): ServerError {
  const message =
    'accept: application/octet-stream carries vectors; for scores accept application/json or ' +
    'application/msgpack.';
  const details = { field: 'accept', value: 'application/octet-stream' };
  return new ServerError('EMB_ACCEPT_UNSUPPORTED', message, details);
}
