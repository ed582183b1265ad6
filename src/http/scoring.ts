import { type Cancellation, type Clock, nextTurn } from '../base/clock.ts';
import { invariant, ServerError } from '../base/errors.ts';
import type { EncodeRequest, EncodeResult } from '../encode/contract.ts';
import { HEADS, type Head, headSet, valuesPerText } from '../vectors/output.ts';
import { denseScore, multiVectorScore, sparseScore, weightedScore } from '../vectors/score.ts';
import type { ApiContext, Call } from './context.ts';
import { type Field, invalidWord, mapOf, optional, someOf } from './fields.ts';
import { timeoutOf } from './request.ts';
import { PRODUCTS_PER_MS, type ScoringWork } from './scoring-budget.ts';

/** What a route that scores needs. */
export type ScoringContext = Pick<
  ApiContext,
  'encode' | 'manifest' | 'scoringBudget' | 'limits' | 'access' | 'clock'
>;

/** A query and what is held against it. */
export interface ScoringRequest
  extends Pick<
    EncodeRequest,
    | 'heads'
    | 'truncate'
    | 'firstTruncate'
    | 'truncationSide'
    | 'inputType'
    | 'tokenCountMax'
    | 'firstTokenCountMax'
  > {
  /** One for each head. */
  readonly weights: readonly number[];
  readonly query: { readonly text: string; readonly field: string };
  /** The prefix in front of the query; `inputType` is that of the texts. */
  readonly firstInputType: 'query' | 'passage';
  readonly texts: { readonly texts: readonly string[]; readonly field: string };
}

/**
 * Encodes a query and texts, and scores them. It is one journey: they share batches and a deadline,
 * one bad text stops the work for all, and their place in the queue is held until the scores are
 * there.
 *
 * The vectors are held to `replyBytesMax` at four bytes a number, whatever the reply's format: they
 * are memory, and no part of it.
 *
 * @returns the scores, and what the journey answered: the query first.
 * @throws ServerError as the journey and `ScoringBudget.take`.
 */
export async function encodeAndScore(
  context: ScoringContext,
  { request, isBackground }: Pick<Call, 'request' | 'isBackground'>,
  asked: ScoringRequest,
): Promise<{ readonly scores: TextScores; readonly result: EncodeResult }> {
  const { query, texts, weights, ...common } = asked;
  const { heads } = common;
  const { limits, manifest, clock } = context;
  const timeoutMs = Math.min(timeoutOf(request) ?? Infinity, limits.requestTimeoutMs);
  const held: { scores?: TextScores; release?: () => void } = {};
  try {
    const journey: EncodeRequest = {
      ...common,
      texts: [query.text, ...texts.texts],
      batchTextsMax: undefined,
      needsEveryRow: true,
      valueCountMax: Math.floor(limits.replyBytesMax / 4),
      timeoutMs,
      isBackground,
      signal: request.signal,
      caller: context.access.callerOf(request),
      fieldOf: (index) => (index === 0 ? query.field : `${texts.field}[${index - 1}]`),
      followUp: {
        plan(keptCounts) {
          const { dimension } = manifest;
          const work = workOf(heads, { keptCounts, dimension, timeoutMs });
          held.release = context.scoringBudget.take(work);
        },
        async run(encoded, cancellation) {
          held.scores = await scoreTexts({ encoded, heads, weights, cancellation }, clock);
        },
      },
    };
    const result = await context.encode(journey, request);
    invariant(held.scores !== undefined, 'the journey does its follow-up');
    return { scores: held.scores, result };
  } finally {
    held.release?.();
  }
}

/** What scoring takes, once the tokens of the query and of the texts are known. */
function workOf(
  heads: readonly Head[],
  known: { keptCounts: readonly number[]; dimension: number; timeoutMs: number },
): ScoringWork {
  const { keptCounts, dimension, timeoutMs } = known;
  let valueCount = 0;
  let textValueCount = 0;
  for (const [index, paddedLength] of keptCounts.entries()) {
    for (const head of heads) valueCount += valuesPerText(head, { dimension, paddedLength });
    if (index > 0) textValueCount += valuesPerText('multi_vector', { dimension, paddedLength });
  }
  // Each row of the query, of which the first token has none, meets each number of the texts.
  const queryRows = heads.includes('multi_vector') ? keptCounts[0] - 1 : 0;
  return { valueCount, productCount: queryRows * textValueCount, timeoutMs };
}

/**
 * Multiplications done in one turn of the event loop, so that scoring never holds up a short query:
 * a ms's.
 */
const PRODUCTS_PER_TURN = PRODUCTS_PER_MS;

/** Texts scored in one turn, however short: by sparse weights 64 of them take about a ms. */
const TEXTS_PER_TURN = 64;

/** Scores of texts against a query: of each head, one a text, in the order of the texts. */
export interface TextScores {
  readonly byHead: ReadonlyMap<Head, readonly number[]>;
  /** The weighted mean of the heads. */
  readonly weighted: readonly number[];
}

/**
 * Scores by each head, as FlagEmbedding defines them, in slices between which others get a turn.
 *
 * @param work.encoded the query first and the texts after it, with all of `heads`; borrowed.
 * @throws ServerError EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED, when the request ends first.
 */
export async function scoreTexts(
  work: {
    readonly encoded: EncodeResult;
    readonly heads: readonly Head[];
    /** One for each head. */
    readonly weights: readonly number[];
    /** Who waits for it; unless told, somebody always does. */
    readonly cancellation?: Cancellation;
  },
  clock: Clock,
): Promise<TextScores> {
  const { encoded, heads, weights, cancellation } = work;
  const byHead = new Map<Head, number[]>(heads.map((head) => [head, []]));
  const weighted: number[] = [];
  const nextTurn = async (): Promise<void> => {
    await turnOf(clock);
    if (cancellation?.ended !== undefined) throw cancellation.ended;
  };
  for (let index = 1; index < encoded.tokenCounts.length; index++) {
    const each: number[] = [];
    for (const head of heads) {
      const steps = scoreBy(head, encoded, index);
      let step = steps.next();
      for (; !step.done; step = steps.next()) await nextTurn();
      each.push(step.value);
      byHead.get(head)?.push(step.value);
    }
    weighted.push(weightedScore(each, weights));
    if (index % TEXTS_PER_TURN === 0) await nextTurn();
  }
  return { byHead, weighted };
}

/** The score of one text against the first. Yields when it has held the thread for long enough. */
function* scoreBy(
  head: Head,
  { rows, sparse, multiVectors }: EncodeResult,
  index: number,
): Generator<void, number> {
  if (head === 'dense' && rows) return denseScore(rows[0], rows[index]);
  if (head === 'sparse' && sparse) return sparseScore(sparse[0], sparse[index]);
  if (head === 'multi_vector' && multiVectors) {
    const { data, tokenCount } = multiVectors[0];
    const vectors = { query: data, text: multiVectors[index].data };
    const dimension = data.length / tokenCount;
    return yield* multiVectorScore({ ...vectors, dimension }, PRODUCTS_PER_TURN);
  }
  throw new Error(`the journey gave no ${head} output`);
}

/** The last turn that was promised to anybody. */
const turns = new WeakMap<Clock, Promise<void>>();

/**
 * Resolves when it is the caller's turn to go on: after what has arrived was handled, and one
 * caller a turn, so that ten requests that are scored hold up a short query no longer than one.
 */
function turnOf(clock: Clock): Promise<void> {
  const before = turns.get(clock) ?? Promise.resolve();
  const turn = before.then(() => nextTurn(clock));
  turns.set(clock, turn);
  return turn;
}

/** The fields by which a request says how it is scored: heads, and the weight of each. */
export function scoringFields({ manifest }: Pick<ApiContext, 'manifest'>) {
  return {
    outputs: optional(
      someOf(HEADS, manifest.heads),
      'Heads to score by; all that the model has unless told.',
    ),
    weights: weightsField(manifest.heads),
  };
}

/** Weights as a request gives them; undefined when it gives none. */
type GivenWeights = Readonly<Partial<Record<Head, number>>> | undefined;

/** @param offered the heads that the document shows. */
function weightsField(offered: readonly Head[]): Field<GivenWeights> {
  const weight = { type: 'number', minimum: 0, maximum: WEIGHT_MAX } as const;
  const description =
    'Weight of each output in the weighted mean, not all 0; 1 each unless told. One that is not ' +
    'named has none.';
  return {
    schema: {
      type: 'object',
      nullable: true,
      properties: Object.fromEntries(offered.map((head) => [head, weight])),
      additionalProperties: false,
      minProperties: 1,
      description,
    },
    isRequired: false,
    read(value, at) {
      if (value === undefined || value === null) return undefined;
      const map = mapOf(value, at);
      const unknown = Object.keys(map).find((name) => !HEADS.some((head) => head === name));
      if (unknown !== undefined) {
        throw invalidWord(at, `an object that names only ${HEADS.join(', ')}`, unknown);
      }
      for (const [name, given] of Object.entries(map)) {
        const isRight = typeof given === 'number' && given >= 0 && given <= WEIGHT_MAX;
        if (isRight) continue;
        throw invalidWord(`${at}.${name}`, `a number from 0 to ${WEIGHT_MAX}`, given, WEIGHT_MAX);
      }
      return map as GivenWeights;
    },
  };
}

const WEIGHT_MAX = 1e6;

/**
 * The heads that a request is scored by, and one weight for each.
 *
 * @param heads what the model gives; used where the request names none.
 * @throws ServerError EMB_FIELD_INVALID when no head that is scored has a weight.
 */
export function headsAndWeights(
  given: { readonly outputs: readonly Head[] | undefined; readonly weights: GivenWeights },
  heads: readonly Head[],
): { readonly heads: readonly Head[]; readonly weights: readonly number[] } {
  const asked = headSet(given.outputs ?? heads);
  const { weights: named } = given;
  if (named === undefined) return { heads: asked, weights: asked.map(() => 1) };
  const weights = asked.map((head) => named[head] ?? 0);
  if (weights.some((weight) => weight > 0)) return { heads: asked, weights };
  throw wrongWeights();
}

function wrongWeights(): ServerError {
  return new ServerError(
    'EMB_FIELD_INVALID',
    'weights must be an object of numbers from 0 to 1000000, one for each output, not all 0.',
    { field: 'weights', limit: WEIGHT_MAX },
  );
}
