import type { Head } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import type { EncodeResult } from '../encode.ts';
import { denseScore, multiVectorScore, sparseScore, weightedScore } from '../model/score.ts';
import { type Fields, fieldsOf } from './field-checks.ts';

/**
 * Multiplications done in one turn of the event loop: about a ms, so that scoring never holds up a
 * short query.
 */
const PRODUCTS_PER_TURN = 1_000_000;

/** Scores of texts against a query: of each head, one a text, in the order of the texts. */
export interface TextScores {
  readonly byHead: ReadonlyMap<Head, readonly number[]>;
  /** The weighted mean of the heads. */
  readonly weighted: readonly number[];
}

/**
 * Scores by each head, as FlagEmbedding defines them, in slices between which others get a turn.
 *
 * @param work.query one text, and `work.texts` several, both with all of `heads`; borrowed.
 */
export async function scoreTexts(
  work: {
    readonly query: EncodeResult;
    readonly texts: EncodeResult;
    readonly heads: readonly Head[];
    /** One for each head. */
    readonly weights: readonly number[];
  },
  clock: Clock,
): Promise<TextScores> {
  const { query, texts, heads, weights } = work;
  const byHead = new Map<Head, number[]>(heads.map((head) => [head, []]));
  const weighted: number[] = [];
  const pace = createPace(clock);
  for (let index = 0; index < texts.tokenCounts.length; index++) {
    const each = heads.map((head) => scoreBy(head, query, texts, index));
    for (let at = 0; at < heads.length; at++) byHead.get(heads[at])?.push(each[at]);
    weighted.push(weightedScore(each, weights));
    await pace(
      (texts.multiVectors?.[index].data.length ?? 0) * (query.multiVectors?.[0].tokenCount ?? 0),
    );
  }
  return { byHead, weighted };
}

function scoreBy(head: Head, asked: EncodeResult, given: EncodeResult, index: number): number {
  if (head === 'dense' && asked.rows && given.rows) {
    return denseScore(asked.rows[0], given.rows[index]);
  }
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
 * One weight for each head that is asked: 1, unless the request gives `weights: {dense: 0.4, …}`.
 *
 * @throws ServerError EMB_FIELD_INVALID.
 */
export function weightsOf(fields: Fields, heads: readonly Head[]): number[] {
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
