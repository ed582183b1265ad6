import type { Elysia } from 'elysia';
import { pack } from 'msgpackr';
import { type Head, headSet } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Encode, EncodeRequest } from '../encode.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { negotiateFormat } from '../reply/reply-format.ts';
import type { CallerOf } from './access.ts';
import { SCORE_DOCUMENT } from './documents.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from './error-reply.ts';
import { fieldsOf, optionalBoolean, optionalWords, requiredTexts } from './field-checks.ts';
import type { BodyIntake } from './body-intake.ts';
import { readBody } from './read-body.ts';
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
    readonly truncate: boolean;
  };
  readonly callerOf: CallerOf;
  readonly clock: Clock;
  readonly log: Log;
}

const HEADS = ['dense', 'sparse', 'multi_vector'] as const;

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
    { parse: 'none', detail: SCORE_DOCUMENT },
  );
}

async function answerScore(
  door: ScoreDoor,
  request: Request,
  requestId: string,
): Promise<Response> {
  const { limits, manifest } = door;
  const format = negotiateFormat(request.headers.get('accept'));
  const fields = fieldsOf(await readBody(request, limits));
  const query = requiredTexts(fields, 'query', 1);
  const { texts } = requiredTexts(fields, 'texts', limits.requestTextsMax);
  const heads = headSet(optionalWords(fields, 'outputs', HEADS) ?? door.heads());
  const weights = weightsOf(fields, heads);
  const common = {
    heads,
    truncate: optionalBoolean(fields, 'truncate') ?? limits.truncate,
    batchTextsMax: undefined,
    valueCountMax: Math.floor(limits.replyBytesMax / 4),
    signal: request.signal,
    caller: door.callerOf(request),
  } satisfies Partial<EncodeRequest>;
  const [asked, given] = await Promise.all([
    door.encode({ ...common, texts: query.texts, inputType: 'query', fieldOf: () => 'query' }),
    door.encode({ ...common, texts, inputType: 'passage', fieldOf: (at) => `texts[${at}]` }),
  ]);
  const { byHead, weighted } = await scoreTexts(
    { query: asked, texts: given, heads, weights },
    door.clock,
  );
  const scores = { weighted, ...Object.fromEntries(byHead) };
  const reply = {
    model: manifest.id,
    scores,
    weights: Object.fromEntries(heads.map((head, at) => [head, weights[at]])),
  };
  const isJson = format.kind === 'json';
  const body = isJson ? JSON.stringify(reply) : new Uint8Array(pack(reply));
  const type = isJson ? 'application/json' : 'application/msgpack';
  return new Response(body, { headers: { 'content-type': type, [REQUEST_ID_HEADER]: requestId } });
}
