import { afterEach, expect, test } from 'bun:test';
import { measureLoad, WrongReplyError } from './measure.ts';
import type { BenchTarget } from './target/bench-target.ts';

const RIGHT = JSON.stringify({ embedding: [0.5, 0.25] });
const WRONG = JSON.stringify({ embedding: [0.5, 0.26] });

let stop: () => void = () => undefined;
afterEach(() => stop());

/**
 * A load in a process of its own, on a server whose reply number `at` is another than it should be.
 */
function measure(at: number, other: () => Response) {
  let count = 0;
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    fetch: () => (++count === at ? other() : new Response(RIGHT)),
  });
  stop = () => void server.stop(true);
  const target: BenchTarget = {
    kind: 'url',
    url: `http://127.0.0.1:${server.port}`,
    modelId: 'any',
    prefix: '',
    tokenCountMax: 8,
    expected: { rowOf: 'server', tolerance: 0 },
    pids: {},
    statistics: async () => undefined,
    log: () => '',
    stop: async () => undefined,
  };
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  const request = {
    bytes: encode('GET /encode HTTP/1.1\r\nHost: x\r\n\r\n'),
    replyBody: encode(RIGHT),
    kind: 'short',
    textCount: 1,
    tokenCount: 1,
  };
  return measureLoad(target, [request], {
    label: 'a load',
    arrival: { kind: 'closed', connectionCount: 2 },
    replyKind: 'json',
    times: { warmUpMs: 0, measureMs: 10_000, seed: 1 },
    requestCountMax: 200,
  });
}

test('a load of right replies is a figure', async () => {
  const point = await measure(0, () => new Response());
  expect(point).toMatchObject({ label: 'a load', residentBytes: null, batches: null });
  expect(point.result.requestCount).toBe(200);
});

test('one wrong reply of two hundred, and there is no figure', async () => {
  const measuring = measure(150, () => new Response(WRONG));
  await expect(measuring).rejects.toThrow(WrongReplyError);
  await expect(measuring).rejects.toThrow('a load: 1 wrong replies: short: row 0, value 1 is');
});

test('nor when one was refused', async () => {
  const measuring = measure(150, () => new Response('full', { status: 429 }));
  await expect(measuring).rejects.toThrow('a load: 1 failed: short: status 429 full');
});
