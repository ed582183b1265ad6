import type { EncodedText } from '../../client/api-encoder.ts';
import { CorpusError } from '../corpus-error.ts';
import { type ServerFleet, TextsRefused } from '../servers/server-fleet.ts';
import type { EncodedRow } from '../sinks/sink.ts';

/** What a text came to: its vectors, or why it has none, as `CODE: words`. */
export type TextResult = EncodedRow | string;

/**
 * Encodes the texts of one request, each by itself: when they are refused, the request is halved
 * until the text that is to blame stands alone. Its words come from a request of its own, so they
 * are the same whatever it travelled with first.
 */
export async function encodeTexts(options: {
  fleet: ServerFleet;
  texts: readonly string[];
  expected: { model: string; dtype: 'float32' | 'float16' };
}): Promise<readonly TextResult[]> {
  const { fleet, texts, expected } = options;
  try {
    const encoded = await fleet.encode(texts);
    return encoded.map((text) => {
      checkModel(text, expected.model);
      return guarded(text, expected.dtype);
    });
  } catch (error) {
    if (!(error instanceof TextsRefused)) throw error;
    if (texts.length === 1) return [`${error.code}: ${error.message}`];
    const middle = texts.length >> 1;
    return [
      ...(await encodeTexts({ ...options, texts: texts.slice(0, middle) })),
      ...(await encodeTexts({ ...options, texts: texts.slice(middle) })),
    ];
  }
}

function checkModel({ model }: EncodedText, expected: string): void {
  if (model === expected) return;
  const message = `A server answers with ${model} now, the job was begun with ${expected}.`;
  throw new CorpusError('CORPUS_MODEL_DIFFERS', message);
}

/** The largest number that a float16 holds. */
const FLOAT16_MAX = 65_504;

/** A row in which a number is not finite, or would not be in the output, is an error. */
function guarded(text: EncodedText, dtype: 'float32' | 'float16'): TextResult {
  const limit = dtype === 'float16' ? FLOAT16_MAX : Number.MAX_VALUE;
  const arrays = [text.dense, text.sparse?.values, text.multiVector?.data];
  const isGood = arrays.every((values) => values === undefined || isWithin(values, limit));
  return isGood ? text : 'EMB_OUTPUT_INVALID: a number of the vector is not finite';
}

function isWithin(values: Float32Array, limit: number): boolean {
  for (let index = 0; index < values.length; index++) {
    // Not `> limit`: that is false for NaN.
    if (!(Math.abs(values[index] as number) <= limit)) return false;
  }
  return true;
}
