import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { legalTexts } from '../legal-texts.ts';
import { until } from '../until.ts';
import { encodeHarness, hexOf, type JsonReply, MODEL } from './encode-harness.ts';

// Triton is killed and started again here.
setDefaultTimeout(60_000);

const harness = encodeHarness();

describe('a backend that goes away', () => {
  test('503 until it is back, and back by itself', async () => {
    harness.triton.signal('SIGKILL');
    await until(
      '/ready notices, with nobody asking for rows',
      async () => !(await harness.isReady()),
    );
    const ready = await fetch(`${harness.server.url}/ready`);
    const readyFor = await fetch(`${harness.server.url}/.well-known/ready`);
    // Caught: these two alone of all 503s did not say when to come back.
    expect([ready, readyFor].map(({ headers }) => headers.get('retry-after'))).toEqual(['1', '1']);
    // Anybody may read this: no address, and nothing that Triton said.
    const reason = 'The backend is down or still loading.';
    expect(await ready.json()).toEqual({ ready: false, model: 'bge-m3', reason });
    const refused = await harness.post({ query: 'тест' });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).not.toBeNull();
    expect(await refused.json()).toMatchObject({
      error: { code: 'EMB_BACKEND_UNAVAILABLE', retryable: true },
    });
    expect((await fetch(`${harness.server.url}/health`)).status).toBe(200);
    await harness.triton.restart();
    await until('the server is ready again', harness.isReady);
    const { embedding } = (await (await harness.post({ query: 'тест' })).json()) as JsonReply;
    expect(hexOf(embedding)).toBe(await harness.rightHex('тест'));
  });

  test('killed under load, each request is answered once: its own row or 503', async () => {
    const texts = legalTexts(
      Array.from({ length: 120 }, (_, index) => 1 + index),
      7,
    );
    const before = (await harness.triton.statistics(MODEL)).executionCount;
    const replies = texts.map((text) => harness.post({ query: text }));
    await until('work is under way', async () => {
      return (await harness.triton.statistics(MODEL)).executionCount > before;
    });
    harness.triton.signal('SIGKILL');
    for (const [index, reply] of (await Promise.all(replies)).entries()) {
      const body = (await reply.json()) as JsonReply & { error?: { code: string } };
      if (reply.status === 200) {
        expect(hexOf(body.embedding)).toBe(await harness.rightHex(texts[index]));
      } else {
        expect(reply.status).toBe(503);
        expect(body.error?.code).toBe('EMB_BACKEND_UNAVAILABLE');
      }
    }
    expect(harness.server.parts.admission.admittedTextCount).toBe(0);
    await harness.triton.restart();
    await until('the server is ready again', harness.isReady);
    expect((await harness.post({ query: 'тест' })).status).toBe(200);
  });
});
