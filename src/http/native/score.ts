import type { Elysia } from 'elysia';
import { pack } from 'msgpackr';
import { ServerError, toServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { negotiateFormat } from '../../reply/reply-format.ts';
import { HEADS, type Head, headSet } from '../../vectors/head.ts';
import type { BodyIntake } from '../body-intake.ts';
import type { DocumentFacts } from '../document-parts.ts';
import { errorReply, REQUEST_ID_HEADER, requestIdOf } from '../error-reply.ts';
import {
  fieldsOf,
  optionalBoolean,
  optionalWords,
  requiredText,
  requiredTextList,
} from '../field-checks.ts';
import { readBody } from '../read-body.ts';
import { scoreDocument } from './documents.ts';
import { encodeAndScore, type ScoringDoor } from './encode-and-score.ts';
import { weightsOf } from './score-texts.ts';

/** What `POST /score` needs. */
export interface ScoreDoor extends ScoringDoor {
  /** What the running model can give. */
  readonly heads: () => readonly Head[];
  readonly limits: ScoringDoor['limits'] & {
    readonly bodyBytesMax: number;
    readonly bodyIntake: BodyIntake;
    readonly requestTextsMax: number;
    readonly truncate: boolean;
  };
  /** For the route's document. */
  readonly facts: DocumentFacts;
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
  const { limits, manifest } = door;
  const format = negotiateFormat(request.headers.get('accept'));
  if (format.kind === 'raw') throw rawRefused();
  const fields = fieldsOf(await readBody(request, limits));
  const heads = headSet(optionalWords(fields, 'outputs', HEADS) ?? door.heads());
  const weights = weightsOf(fields, heads);
  const { scores } = await encodeAndScore(door, request, {
    heads,
    weights,
    truncate: optionalBoolean(fields, 'truncate') ?? limits.truncate,
    query: { text: requiredText(fields.query, 'query'), field: 'query' },
    firstInputType: 'query',
    texts: {
      texts: requiredTextList(fields.texts, 'texts', limits.requestTextsMax),
      field: 'texts',
    },
    inputType: 'passage',
  });
  const reply = {
    model: manifest.id,
    scores: { weighted: scores.weighted, ...Object.fromEntries(scores.byHead) },
    weights: Object.fromEntries(heads.map((head, at) => [head, weights[at]])),
  };
  const isJson = format.kind === 'json';
  const body = isJson ? JSON.stringify(reply) : new Uint8Array(pack(reply));
  const type = isJson ? 'application/json' : 'application/msgpack';
  const headers = { 'content-type': type, [REQUEST_ID_HEADER]: requestId };
  return new Response(body, { headers });
}

function rawRefused(): ServerError {
  const message =
    'accept: application/octet-stream carries vectors; for scores accept application/json or ' +
    'application/msgpack.';
  const details = { field: 'accept', value: 'application/octet-stream' };
  return new ServerError('EMB_ACCEPT_UNSUPPORTED', message, details);
}
