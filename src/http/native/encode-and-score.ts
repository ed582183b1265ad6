import type { Clock } from '../../base/clock.ts';
import { invariant } from '../../base/invariant.ts';
import type { Encode, EncodeRequest, EncodeResult } from '../../encode/contract.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import { type Head, valuesPerText } from '../../vectors/head.ts';
import type { CallerOf } from '../access.ts';
import { timeoutOf } from '../request-timeout.ts';
import { scoreTexts, type TextScores } from './score-texts.ts';
import type { ScoringRoom, ScoringWork } from './scoring-room.ts';

/** What a route that scores needs. */
export interface ScoringDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  readonly scoringRoom: ScoringRoom;
  readonly limits: { readonly replyBytesMax: number; readonly requestTimeoutMs: number };
  readonly callerOf: CallerOf;
  readonly clock: Clock;
}

/** A query and what is held against it. */
export interface ScoringRequest
  extends Pick<EncodeRequest, 'heads' | 'truncate' | 'truncationSide' | 'inputType'> {
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
 * @throws ServerError as the journey and `ScoringRoom.take`.
 */
export async function encodeAndScore(
  door: ScoringDoor,
  request: Request,
  asked: ScoringRequest,
): Promise<{ readonly scores: TextScores; readonly result: EncodeResult }> {
  const { query, texts, weights, ...common } = asked;
  const { heads } = common;
  const { limits, manifest, clock } = door;
  const timeoutMs = Math.min(timeoutOf(request) ?? Infinity, limits.requestTimeoutMs);
  const held: { scores?: TextScores; release?: () => void } = {};
  try {
    const result = await door.encode({
      ...common,
      texts: [query.text, ...texts.texts],
      batchTextsMax: undefined,
      valueCountMax: Math.floor(limits.replyBytesMax / 4),
      timeoutMs,
      signal: request.signal,
      caller: door.callerOf(request),
      fieldOf: (index) => (index === 0 ? query.field : `${texts.field}[${index - 1}]`),
      followUp: {
        plan(keptCounts) {
          const { dimension } = manifest;
          const work = workOf(heads, { keptCounts, dimension, timeoutMs });
          held.release = door.scoringRoom.take(work);
        },
        async run(encoded, lifetime) {
          held.scores = await scoreTexts({ encoded, heads, weights, lifetime }, clock);
        },
      },
    });
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
