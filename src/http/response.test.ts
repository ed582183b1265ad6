import { expect, test } from 'bun:test';
import type { EncodeResult } from '../encode/contract.ts';
import { JSON_FORMAT, type ReplyFormat } from '../reply/reply-content.ts';
import type { ApiContext, Call } from './context.ts';
import type { ReplyBudget } from './reply-budget.ts';
import { vectorReply } from './response.ts';

const CONTEXT = {
  manifest: { id: 'bge-m3' },
  clock: { now: () => 0 },
  limits: { serverTiming: false },
} as ApiContext;

const FORMATS: readonly ReplyFormat[] = [
  JSON_FORMAT,
  { kind: 'msgpack', layout: 'plain', dtype: 'float32' },
  { kind: 'msgpack', layout: 'plain', dtype: 'float16' },
  { kind: 'raw', dtype: 'float32' },
];

/** The body of a reply with two rows. */
async function bodyOf(format: ReplyFormat, onGivenBack: (rows: Float32Array[]) => void) {
  const rows = [Float32Array.of(0.6, 0.8), Float32Array.of(1, 0)];
  const result: EncodeResult = {
    rows,
    tokenCounts: [3, 4],
    truncated: [false, false],
    servedBy: undefined,
    timings: { tokenizeMs: 0, queueMs: 0, inferMs: 0 },
    giveBack: () => onGivenBack(rows),
  };
  const replyBudget: Pick<ReplyBudget, 'bodyOf'> = { bodyOf: (bytes) => bytes };
  const call = { requestId: 'one', replyBudget } as Call;
  const reply = vectorReply(CONTEXT, call, { result, format, dimension: 2, isSingle: false });
  return await reply.bytes();
}

/** Caught, planted: given back before the reply is encoded; never given back. */
test.each(FORMATS)(
  'rows are given back once, when the reply no longer needs them: %p',
  async (format) => {
    let count = 0;
    const right = await bodyOf(format, () => undefined);
    const body = await bodyOf(format, (rows) => {
      count++;
      for (const row of rows) row.fill(Number.NaN);
    });
    expect(count).toBe(1);
    expect(body).toEqual(right);
  },
);
