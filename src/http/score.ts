import type { Elysia } from 'elysia';
import { pack } from 'msgpackr';
import { type Head, headSet } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Encode, EncodeRequest, EncodeResult } from '../encode.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { denseScore, multiVectorScore, sparseScore, weightedScore } from '../model/score.ts';
import { negotiateFormat } from '../reply/reply-format.ts';
import { SCORE_DOCUMENT } from './documents.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from './error-reply.ts';
import {
  type Fields,
  fieldsOf,
  optionalBoolean,
  optionalWords,
  requiredTexts,
} from './field-checks.ts';
import { readBody } from './read-body.ts';

/** What `POST /score` needs. */
export interface ScoreDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  /** What the running model can give. */
  readonly heads: () => readonly Head[];
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly requestTextsMax: number;
    readonly replyBytesMax: number;
    readonly truncate: boolean;
  };
  readonly clock: Clock;
  readonly log: Log;
}

const HEADS = ['dense', 'sparse', 'multi_vector'] as const;

/**
 * Multiplications done in one turn of the event loop: about a ms, so that scoring never holds up a
 * short query.
 */
const PRODUCTS_PER_TURN = 1_000_000;

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
  const fields = fieldsOf(await readBody(request, limits.bodyBytesMax));
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
  } satisfies Partial<EncodeRequest>;
  const [asked, given] = await Promise.all([
    door.encode({ ...common, texts: query.texts, inputType: 'query', fieldOf: () => 'query' }),
    door.encode({ ...common, texts, inputType: 'passage', fieldOf: (at) => `texts[${at}]` }),
  ]);
  const scores: Record<string, number[]> = { weighted: [] };
  for (const head of heads) scores[head] = [];
  const pace = createPace(door.clock);
  for (let index = 0; index < texts.length; index++) {
    const each = heads.map((head) => scoreBy(head, asked, given, index));
    for (let at = 0; at < heads.length; at++) scores[heads[at]].push(each[at]);
    scores.weighted.push(weightedScore(each, weights));
    await pace(
      (given.multiVectors?.[index].data.length ?? 0) * (asked.multiVectors?.[0].tokenCount ?? 0),
    );
  }
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

function scoreBy(head: Head, asked: EncodeResult, given: EncodeResult, index: number): number {
  if (head === 'dense' && asked.rows && given.rows)
    return denseScore(asked.rows[0], given.rows[index]);
  if (head === 'sparse' && asked.sparse && given.sparse) {
    return sparseScore(asked.sparse[0], given.sparse[index]);
  }
  if (head === 'multi_vector' && asked.multiVectors && given.multiVectors) {
    const [query, text] = [asked.multiVectors[0], given.multiVectors[index]];
    return multiVectorScore(query.data, text.data, query.data.length / query.tokenCount);
  }
  throw new Error(`the journey gave no ${head} output`);
}

/** Hands the thread back once enough was multiplied. */
function createPace(clock: Clock): (products: number) => Promise<void> {
  let done = 0;
  return async (products) => {
    done += products;
    if (done < PRODUCTS_PER_TURN) return;
    done = 0;
    await new Promise<void>((resolve) => clock.afterTurn(resolve));
  };
}

/**
 * One weight for each head that is asked, all 1 unless the request gives `weights: {dense: 0.4,
 * …}`.
 */
function weightsOf(fields: Fields, heads: readonly Head[]): number[] {
  const given = fields.weights;
  if (given === undefined || given === null) return heads.map(() => 1);
  const map = fieldsOf(given, 'weights');
  const weights = heads.map((head) => map[head] ?? 0);
  const isRight = weights.every(
    (weight) => typeof weight === 'number' && weight >= 0 && weight <= 1e6,
  );
  const sum = weights.reduce<number>((total, weight) => total + Number(weight), 0);
  if (isRight && sum > 0) return weights as number[];
  throw new ServerError(
    'EMB_FIELD_INVALID',
    'weights must be an object of numbers from 0 to 1000000, one for each output, not all 0.',
    { field: 'weights', limit: 1e6 },
  );
}
