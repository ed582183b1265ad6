import type { Cancellation } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import { HEADS, type Head } from '../../vectors/head.ts';
import { denseScore, multiVectorScore, sparseScore, weightedScore } from '../../vectors/score.ts';
import { type Fields, fieldsOf } from '../field-checks.ts';
import { PRODUCTS_PER_MS } from './scoring-room.ts';

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
 * @throws ServerError EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED, when the lifetime ends first.
 */
export async function scoreTexts(
  work: {
    readonly encoded: EncodeResult;
    readonly heads: readonly Head[];
    /** One for each head. */
    readonly weights: readonly number[];
    /** Who waits for it; unless told, somebody always does. */
    readonly lifetime?: Cancellation;
  },
  clock: Clock,
): Promise<TextScores> {
  const { encoded, heads, weights, lifetime } = work;
  const byHead = new Map<Head, number[]>(heads.map((head) => [head, []]));
  const weighted: number[] = [];
  const nextTurn = async (): Promise<void> => {
    await turnOf(clock);
    if (lifetime?.ended !== undefined) throw lifetime.ended;
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
  const turn = before.then(() => new Promise<void>((resolve) => clock.afterTurn(resolve)));
  turns.set(clock, turn);
  return turn;
}

/**
 * One weight for each head that is asked: 1, unless the request gives `weights: {dense: 0.4, …}`.
 *
 * @throws ServerError EMB_FIELD_INVALID.
 */
export function weightsOf(fields: Fields, heads: readonly Head[]): number[] {
  const given = fields.weights;
  if (given === undefined || given === null) return heads.map(() => 1);
  const map = fieldsOf(given, 'weights');
  const unknown = Object.keys(map).find((name) => !HEADS.some((head) => head === name));
  if (unknown !== undefined) {
    throw new ServerError(
      'EMB_FIELD_INVALID',
      `weights names ${HEADS.join(', ')}, and nothing else.`,
      { field: 'weights', limit: HEADS.join(', ') },
    );
  }
  const weights = heads.map((head) => map[head] ?? 0);
  const isRight = Object.values(map).every(
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
