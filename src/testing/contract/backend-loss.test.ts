import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { legalTexts } from '../legal-texts.ts';
import { until } from '../until.ts';
import { encodeStand, hexOf, type JsonReply, MODEL } from './encode-stand.ts';

// Triton is killed and started again here.
setDefaultTimeout(60_000);

const stand = encodeStand();

describe('a backend that goes away', () => {
  test('503 until it is back, and back by itself', async () => {
    stand.triton.signal('SIGKILL');
    await until(
      '/ready notices, with nobody asking for rows',
      async () => !(await stand.isReady()),
    );
    const ready = await fetch(`${stand.server.url}/ready`);
    // Anybody may read this: no address, and nothing that Triton said.
    const reason = 'The backend is down or still loading.';
    expect(await ready.json()).toEqual({ ready: false, model: 'bge-m3', reason });
    const refused = await stand.post({ query: 'тест' });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).not.toBeNull();
    expect(await refused.json()).toMatchObject({
      error: { code: 'EMB_BACKEND_UNAVAILABLE', retryable: true },
    });
    expect((await fetch(`${stand.server.url}/health`)).status).toBe(200);
    await stand.triton.restart();
    await until('the server is ready again', stand.isReady);
    const { embedding } = (await (await stand.post({ query: 'тест' })).json()) as JsonReply;
    expect(hexOf(embedding)).toBe(await stand.rightHex('тест'));
  });

  test('killed under load, each request is answered once: its own row or 503', async () => {
    const texts = legalTexts(
      Array.from({ length: 120 }, (_, index) => 1 + index),
      7,
    );
    const before = (await stand.triton.statistics(MODEL)).executionCount;
    const replies = texts.map((text) => stand.post({ query: text }));
    await until('work is under way', async () => {
      return (await stand.triton.statistics(MODEL)).executionCount > before;
    });
    stand.triton.signal('SIGKILL');
    for (const [index, reply] of (await Promise.all(replies)).entries()) {
      const body = (await reply.json()) as JsonReply & { error?: { code: string } };
      if (reply.status === 200) {
        expect(hexOf(body.embedding)).toBe(await stand.rightHex(texts[index]));
      } else {
        expect(reply.status).toBe(503);
        expect(body.error?.code).toBe('EMB_BACKEND_UNAVAILABLE');
      }
    }
    expect(stand.server.parts.admission.admittedTextCount).toBe(0);
    await stand.triton.restart();
    await until('the server is ready again', stand.isReady);
    expect((await stand.post({ query: 'тест' })).status).toBe(200);
  });
});
