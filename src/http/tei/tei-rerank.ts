import { pack } from 'msgpackr';
import { ServerError } from '../../base/errors.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import { HEADS, headSet } from '../../vectors/head.ts';
import { REQUEST_ID_HEADER } from '../error-reply.ts';
import {
  fieldsOf,
  optionalBoolean,
  optionalWords,
  requiredText,
  requiredTextList,
} from '../field-checks.ts';
import { encodeAndScore } from '../native/encode-and-score.ts';
import { weightsOf } from '../native/score-texts.ts';
import type { DoorCall, VectorDoor } from '../vector-door.ts';
import { computeHeaders, promptOf, truncationOf } from './tei-call.ts';

/**
 * `POST /similarity`: cosines of one sentence with others, as an array of numbers.
 */
export async function answerSimilarity(door: VectorDoor, call: DoorCall): Promise<Response> {
  refuseRaw(call);
  const inputs = fieldsOf(call.fields.inputs ?? {}, 'inputs');
  const parameters = fieldsOf(call.fields.parameters ?? {}, 'parameters');
  const source = requiredText(inputs.source_sentence, 'inputs.source_sentence');
  const sentences = requiredTextList(
    inputs.sentences,
    'inputs.sentences',
    door.limits.requestTextsMax,
  );
  const inputType = promptOf(parameters);
  const heads = headSet(['dense']);
  const { scores, result } = await encodeAndScore(door, call.request, {
    heads,
    weights: [1],
    ...truncationOf(door, parameters),
    query: { text: source, field: 'inputs.source_sentence' },
    firstInputType: inputType,
    texts: { texts: sentences, field: 'inputs.sentences' },
    inputType,
  });
  return valueReply(door, call, scores.weighted, { texts: [source, ...sentences], result });
}

/**
 * `POST /rerank`: texts by their score against a query, best first. The score is the weighted mean
 * of the heads that the model has, as on `/score`, and takes its `outputs` and `weights` too. It is
 * a similarity already, so `raw_scores` changes nothing.
 */
export async function answerRerank(door: VectorDoor, call: DoorCall): Promise<Response> {
  refuseRaw(call);
  const { fields } = call;
  const query = requiredText(fields.query, 'query');
  const texts = requiredTextList(fields.texts, 'texts', door.limits.requestTextsMax);
  optionalBoolean(fields, 'raw_scores');
  const isTextWanted = optionalBoolean(fields, 'return_text') ?? false;
  const heads = headSet(optionalWords(fields, 'outputs', HEADS) ?? door.heads());
  const weights = weightsOf(fields, heads);
  const { scores, result } = await encodeAndScore(door, call.request, {
    heads,
    weights,
    ...truncationOf(door, fields),
    query: { text: query, field: 'query' },
    firstInputType: 'query',
    texts: { texts, field: 'texts' },
    inputType: 'passage',
  });
  const ranks = scores.weighted
    .map((score, index) => ({ index, ...(isTextWanted ? { text: texts[index] } : {}), score }))
    .sort((a, b) => b.score - a.score || a.index - b.index);
  return valueReply(door, call, ranks, { texts: [query, ...texts], result });
}

/** Scores have no raw form; said before any work. */
function refuseRaw({ format }: DoorCall): void {
  if (format.kind !== 'raw') return;
  const message =
    'accept: application/octet-stream carries vectors; for scores accept application/json or ' +
    'application/msgpack.';
  throw new ServerError('EMB_ACCEPT_UNSUPPORTED', message, {
    field: 'accept',
    value: 'application/octet-stream',
  });
}

function valueReply(
  door: VectorDoor,
  call: DoorCall,
  value: unknown,
  work: { readonly texts: readonly string[]; readonly result: EncodeResult },
): Response {
  const isJson = call.format.kind === 'json';
  return new Response(isJson ? JSON.stringify(value) : new Uint8Array(pack(value)), {
    headers: {
      'content-type': isJson ? 'application/json' : 'application/msgpack',
      [REQUEST_ID_HEADER]: call.requestId,
      ...computeHeaders(door, call, work),
    },
  });
}
