import type { StageTimings } from '../encode/contract.ts';

/** Every stage that a reply can tell of, in ms. */
export interface ReplyTimings extends StageTimings {
  /** Receiving, decoding and checking the request. */
  readonly readMs: number;
  /** Encoding the reply. */
  readonly replyMs: number;
}

/** A `Server-Timing` header (W3C): one entry a stage, durations in ms. */
export function serverTiming(timings: ReplyTimings): string {
  const { readMs, tokenizeMs, queueMs, inferMs, replyMs } = timings;
  const stages = { read: readMs, tokenize: tokenizeMs, queue: queueMs, infer: inferMs };
  return Object.entries({ ...stages, reply: replyMs })
    .map(([name, ms]) => `${name};dur=${ms.toFixed(3)}`)
    .join(', ');
}
