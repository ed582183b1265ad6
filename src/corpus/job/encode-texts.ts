import { CorpusError } from '../corpus-error.ts';
import { RequestTooSlow, type ServerFleet, TextsRefused } from '../servers/server-fleet.ts';
import type { EncodedRow } from '../sinks/sink.ts';

/** What a text came to: its vectors, or why it has none, as `CODE: words`. */
export type TextResult = EncodedRow | string;

/**
 * A blank text. All have one vector, which a search would find for whatever is short: a corpus
 * keeps none of them, whatever EMPTY_TEXTS says on its servers. Its bytes do not depend on that.
 */
const EMPTY = 'EMB_TEXT_EMPTY: the text is blank';

/** What the rows of a job are. */
export interface ExpectedRows {
  readonly model: string;
  readonly dtype: 'float32' | 'float16';
  /** Tokens of a text at most, where texts are cut into chunks. */
  readonly tokensMax?: number | undefined;
}

/**
 * Encodes the texts of one request, each by itself: when they are refused, the request is halved
 * until the text that is to blame stands alone. Its words come from a request of its own, so they
 * are the same whatever it travelled with first. A request that takes its server too long is halved
 * as well: a processor may need minutes for what a GPU does at once.
 */
export async function encodeTexts(options: {
  fleet: Pick<ServerFleet, 'encode'>;
  texts: readonly string[];
  expected: ExpectedRows;
}): Promise<readonly TextResult[]> {
  const { fleet, texts, expected } = options;
  try {
    const { model, rows, empty } = await fleet.encode(texts);
    checkModel(model, expected.model);
    checkLengths(rows, expected);
    return rows.map((row, index) => (empty[index] ? EMPTY : guarded(row, expected.dtype)));
  } catch (error) {
    const isRefused = error instanceof TextsRefused;
    if (!isRefused && !(error instanceof RequestTooSlow)) throw error;
    if (isRefused && texts.length === 1) {
      return [error.code === 'EMB_TEXT_EMPTY' ? EMPTY : `${error.code}: ${error.message}`];
    }
    const middle = texts.length >> 1;
    return [
      ...(await encodeTexts({ ...options, texts: texts.slice(0, middle) })),
      ...(await encodeTexts({ ...options, texts: texts.slice(middle) })),
    ];
  }
}

function checkModel(model: string, expected: string): void {
  if (model === expected) return;
  const message = `A server answers with ${model} now, the job was begun with ${expected}.`;
  throw new CorpusError('CORPUS_MODEL_DIFFERS', message);
}

/** Chunks fit by the tokenizer that is here: whether the server has the same shows now. */
function checkLengths(rows: readonly EncodedRow[], { model, tokensMax }: ExpectedRows): void {
  const limit = tokensMax ?? Number.POSITIVE_INFINITY;
  const longer = rows.find(({ tokenCount }) => tokenCount > limit);
  if (longer === undefined) return;
  const message =
    `A server counts ${longer.tokenCount} tokens in a chunk of at most ${limit}: its tokenizer ` +
    `of ${model} is not the one that is set up here.`;
  throw new CorpusError('CORPUS_MODEL_DIFFERS', message);
}

/** The largest number that a float16 holds. */
const FLOAT16_MAX = 65_504;

/** A row in which a number is not finite, or would not be in the output, is an error. */
function guarded(row: EncodedRow, dtype: 'float32' | 'float16'): TextResult {
  const limit = dtype === 'float16' ? FLOAT16_MAX : Number.MAX_VALUE;
  const { dense, sparse, multiVector } = row;
  const isGood =
    isWithin(dense, limit) && isWithin(sparse?.values, limit) && isWithin(multiVector?.data, limit);
  return isGood ? row : 'EMB_OUTPUT_INVALID: a number of the vector is not finite';
}

/**
 * Eight sums side by side: one would wait for itself at each step. Doubles hold any sum of floats,
 * so one that is not finite has met a number that is not. A quarter of the time of a look at each.
 */
function isWithin(values: Float32Array | undefined, limit: number): boolean {
  if (values === undefined) return true;
  // One by one: the engine makes slow code of a sum that was declared in brackets.
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let e = 0;
  let f = 0;
  let g = 0;
  let h = 0;
  const even = values.length & ~7;
  for (let index = 0; index < even; index += 8) {
    a += values[index] as number;
    b += values[index + 1] as number;
    c += values[index + 2] as number;
    d += values[index + 3] as number;
    e += values[index + 4] as number;
    f += values[index + 5] as number;
    g += values[index + 6] as number;
    h += values[index + 7] as number;
  }
  for (let index = even; index < values.length; index++) a += values[index] as number;
  if (!Number.isFinite(a + b + c + d + e + f + g + h)) return false;
  return limit === Number.MAX_VALUE || values.every((value) => Math.abs(value) <= limit);
}
