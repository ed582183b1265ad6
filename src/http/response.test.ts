import { expect, test } from 'bun:test';
import type { EncodeResult } from '../encode/contract.ts';
import { JSON_FORMAT, type ReplyFormat } from '../reply/reply-content.ts';
import { SMALL_BODY_BYTES_MAX } from '../reply/reply-memory.ts';
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

const REPLY_BUDGET: Pick<ReplyBudget, 'bodyOf'> = { bodyOf: (bytes) => bytes };
const CALL = { requestId: 'one', replyBudget: REPLY_BUDGET } as Call;

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
  const reply = vectorReply(CONTEXT, CALL, { result, format, dimension: 2, isSingle: false });
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

const DIMENSION = 1024;

/** A reply with so many rows, each full of `value`. */
function largeReply(
  format: ReplyFormat,
  { value, giveBack }: { value: number; giveBack?: (rows: Float32Array[]) => void },
): Response {
  const rows = Array.from({ length: 9 }, () => new Float32Array(DIMENSION).fill(value));
  const result: EncodeResult = {
    rows,
    tokenCounts: rows.map(() => 3),
    truncated: rows.map(() => false),
    servedBy: undefined,
    timings: { tokenizeMs: 0, queueMs: 0, inferMs: 0 },
    giveBack: () => giveBack?.(rows),
  };
  return vectorReply(CONTEXT, CALL, { result, format, dimension: DIMENSION, isSingle: false });
}

/** Caught, planted: memory given back before the body is read; rows given back twice. */
test.each(FORMATS)('large replies wait side by side until each is read: %p', async (format) => {
  let count = 0;
  const giveBack = (rows: Float32Array[]): void => {
    count++;
    for (const row of rows) row.fill(Number.NaN);
  };
  const right = await largeReply(format, { value: 0.5 }).bytes();
  const replies = [0.5, 0.25, 0.5].map((value) => largeReply(format, { value, giveBack }));
  const bodies: Uint8Array[] = [];
  for (const reply of replies) bodies.push(await reply.bytes());
  expect(count).toBe(3);
  expect(right.length).toBeGreaterThan(SMALL_BODY_BYTES_MAX);
  expect([bodies[0], bodies[2]]).toEqual([right, right]);
  expect(bodies[1]).not.toEqual(right);
});

/**
 * Bytes would be copied at once, and their rows given back: of those the runtime sends the head in
 * twenty pieces. Caught, planted: bytes in place of the stream; one that is written in two pieces.
 */
test.each(FORMATS)('a large reply is a stream that is written once: %p', async (format) => {
  let count = 0;
  const reply = largeReply(format, { value: 0.5, giveBack: () => count++ });
  await new Promise((resolve) => setImmediate(resolve));
  expect(count).toBe(0);
  const pieces: number[] = [];
  for await (const piece of reply.body ?? []) pieces.push(piece.length);
  expect(pieces).toEqual([(await largeReply(format, { value: 0.5 }).bytes()).length]);
  expect(count).toBe(1);
});

/** Caught, planted: a mark below the body's length, whose reply is chunked. */
test.each(['HTTP/1.1', 'HTTP/1.0'])('a large reply comes with its length: %s', async (version) => {
  const format = FORMATS[1];
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch() {
      await new Promise((resolve) => setImmediate(resolve));
      return largeReply(format, { value: 0.5 });
    },
  });
  const parts: Buffer[] = [];
  const { promise: closed, resolve: onClose } = Promise.withResolvers<void>();
  await Bun.connect({
    hostname: '127.0.0.1',
    port: server.port ?? 0,
    socket: {
      open: (socket) => {
        socket.write(`GET / ${version}\r\nHost: a\r\nConnection: close\r\n\r\n`);
      },
      data: (_socket, part) => {
        parts.push(part);
      },
      close: () => onClose(),
    },
  });
  await closed;
  await server.stop();
  const right = await largeReply(format, { value: 0.5 }).bytes();
  const all = Buffer.concat(parts);
  const end = all.indexOf('\r\n\r\n');
  expect(all.toString('latin1', 0, end)).toMatch(
    new RegExp(`content-length: ${right.length}`, 'i'),
  );
  expect(new Uint8Array(all.subarray(end + 4))).toEqual(right);
});
